//! `murphy serve`: faults over HTTP, leases, who may ask, metrics; held against its `OpenAPI` document.

mod prometheus;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::{
    ChildGuard, Group, Outcome, Program, case, expect,
    http::{self, Answer},
    murphy, needs,
    net::Echo,
    program,
    report::count,
    victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

const REFUSED: &str = "connect:error=ECONNREFUSED";

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case("inject, look, renew, revert over the API", net(), whole),
        case("every answer is as the document says", net(), document),
        case("a client that dies loses its faults", net(), lease),
        case("SIGTERM reverts everything", net(), graceful),
        case("SIGKILL: the faults end by themselves", net(), killed),
        case("metrics count what the victim saw", net(), metrics),
        case(
            "a real Prometheus scrapes it, and alerts",
            needs![Root, Cgroup2, Atomics, Prometheus],
            prometheus::scrapes,
        ),
        case(
            "the alert rules do what they say",
            needs![Prometheus],
            prometheus::rules,
        ),
        case("happenings are told as they come", net(), events),
        case(
            "who may ask",
            needs![Root, Cgroup2, Atomics, Tool("setpriv")],
            access,
        ),
        case("TCP wants the token", net(), token),
        case(
            "a policy's refusal is 403, and who asks is no reason",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            policy,
        ),
        case(
            "who reverts is noted, by the kernel's word",
            needs![Root, Cgroup2, Atomics, Tool("setpriv"), Tool("python3")],
            reverts,
        ),
        case("every refusal is JSON", net(), refusals),
        case("malformed requests by the thousand", net(), malformed),
        case("one daemon at a socket", net(), second),
        case(
            "the Python client",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            python,
        ),
    ])
    // A daemon's API is no kernel's business.
    .host_only()
}

/// A daemon with a state folder of its own.
struct Daemon {
    folder: tempfile::TempDir,
    process: Option<ChildGuard>,
}

impl Daemon {
    fn start() -> anyhow::Result<Self> {
        Self::with(&[])
    }

    fn with(args: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let mut daemon = Self {
            folder,
            process: None,
        };
        let process = daemon.murphy(&["serve"]).args(args).spawn()?;
        daemon.process = Some(process);
        let there = || {
            daemon
                .ask("GET", "/healthz", "")
                .is_ok_and(|a| a.status == 200)
        };
        wait_until(PATIENCE, there).context("it does not serve")?;
        Ok(daemon)
    }

    /// With this policy of the machine, in a mount namespace with an /etc of its own.
    fn under(policy: &str, etc: &tempfile::TempDir) -> anyhow::Result<Self> {
        const SCRIPT: &str = "set -e; cp -a /etc/. \"$0\"; mkdir -p \"$0/murphy\"; \
            printf '%s' \"$1\" > \"$0/murphy/policy.toml\"; chmod 644 \"$0/murphy/policy.toml\"; \
            mount --bind \"$0\" /etc; shift; exec \"$@\"";
        let mut daemon = Self {
            folder: tempfile::tempdir()?,
            process: None,
        };
        let process = program("unshare")
            .args(["-m", "sh", "-c", SCRIPT])
            .args([etc.path().as_os_str(), policy.as_ref()])
            .args([tests::murphy_path()])
            .args(["serve"])
            .env("MURPHY_RUN_DIR", daemon.folder.path())
            .spawn()?;
        daemon.process = Some(process);
        let there = || daemon.ask("GET", "/healthz", "").is_ok();
        wait_until(PATIENCE, there).context("it does not serve")?;
        Ok(daemon)
    }

    fn murphy(&self, args: &[&str]) -> Program {
        murphy(args).env("MURPHY_RUN_DIR", self.folder.path())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.socket")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        http::ask(&self.socket(), method, path, body.as_bytes())
    }

    /// Injects into a process, and gives the id.
    fn inject(&self, fault: &str, pid: u32, lease: &str) -> anyhow::Result<String> {
        let body = json!({"faults": [fault], "target": {"pid": pid}, "for": "2m", "lease": lease});
        let answer = self.ask("POST", "/v1/faults", &body.to_string())?;
        ensure!(answer.status == 201, "{answer:?}");
        let id = answer.json()["id"].as_str().map(str::to_owned);
        id.context("no id")
    }

    fn end(mut self) -> Outcome {
        let process = self.process.take().context("it has ended")?;
        process.signal(libc::SIGTERM)?;
        let done = process.finish(PATIENCE)?;
        ensure!(done.code == Some(0), "{done}");
        self.is_empty()
    }

    fn is_empty(&self) -> Outcome {
        let files = || -> Vec<PathBuf> {
            let entries = fs::read_dir(self.folder.path()).into_iter().flatten();
            entries.flatten().map(|entry| entry.path()).collect()
        };
        wait_until(PATIENCE, || files().is_empty()).with_context(|| format!("left: {:?}", files()))
    }
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

fn connecting(echo: &Echo) -> anyhow::Result<ChildGuard> {
    victim::victim(["connect", &echo.address.to_string(), "6000", "10"]).spawn()
}

fn whole() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let (victim, neighbour) = (connecting(&echo)?, connecting(&echo)?);
    sees(&victim, "ok")?;
    let id = daemon.inject(REFUSED, victim.pid(), "20s")?;
    sees(&victim, "ECONNREFUSED")?;
    let one = daemon.ask("GET", &format!("/v1/faults/{id}"), "")?.json();
    ensure!(one["faults"][0] == REFUSED, "{one}");
    ensure!(count(&one["report"], 0, "injected") > 0, "{one}");
    let reason = one["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("user 0 over the API"), "{one}");
    let all = daemon.ask("GET", "/v1/faults", "")?.json();
    ensure!(all["faults"][0]["id"] == id.as_str(), "{all}");
    let renewed = daemon.ask("POST", &format!("/v1/faults/{id}/renew"), "")?;
    ensure!(renewed.json()["renewed"] == 20.0, "{renewed:?}");
    let ended = daemon.ask("DELETE", &format!("/v1/faults/{id}?reason=enough"), "")?;
    ensure!(ended.status == 200, "{ended:?}");
    // Reverted by the time it answers, and both views agree.
    sees(&victim, "ok")?;
    let ended = ended.json();
    let said = ended["ended"].as_str().unwrap_or_default();
    ensure!(said.contains("enough"), "{ended}");
    let seen = victim::seen(&victim.stdout()?, "ECONNREFUSED");
    let injected = count(&ended["report"], 0, "injected");
    ensure!(injected == seen, "{injected} injected, {seen} seen");
    let spared = victim::seen(&neighbour.stdout()?, "ECONNREFUSED") == 0;
    ensure!(spared, "the neighbour was hit");
    daemon.end()
}

/// The document that the daemon serves, as schemas.
struct Document(Value);

impl Document {
    /// Whether an answer is one that the document knows for this path and method.
    fn check(&self, path: &str, method: &str, answer: &Answer) -> Outcome {
        let what = format!("{method} {path} → {}", answer.status);
        let of_path = &self.0["paths"][path][method];
        let mut response = &of_path["responses"][answer.status.to_string()];
        if let Some(at) = response["$ref"].as_str() {
            response = self.0.pointer(&at[1..]).context("a dead reference")?;
        }
        ensure!(
            !response.is_null(),
            "{what} is not in the document: {}",
            answer.body
        );
        let Some(content) = response["content"].as_object() else {
            return Ok(());
        };
        let content = content.get(&answer.media);
        let content = content.with_context(|| format!("{what}: {} is not there", answer.media))?;
        let value = match answer.media.as_str() {
            "text/plain" => Value::from(answer.body.as_str()),
            _ => answer.json(),
        };
        let mut schema = content["schema"].clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&schema)?;
        let wrong: Vec<_> = validator
            .iter_errors(&value)
            .map(|e| e.to_string())
            .collect();
        ensure!(wrong.is_empty(), "{what}: {wrong:?} in {value}");
        Ok(())
    }

    fn all(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let methods = |(path, of): (&String, &Value)| {
            let words = of
                .as_object()
                .into_iter()
                .flatten()
                .map(|(word, _)| word.clone());
            let path = path.clone();
            words
                .filter(|word| word != "parameters")
                .map(move |word| (path.clone(), word))
                .collect::<Vec<_>>()
        };
        paths.flat_map(methods).collect()
    }
}

fn document() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let document = Document(daemon.ask("GET", "/openapi.json", "")?.json());
    let victim = connecting(&echo)?;
    let pid = victim.pid();
    let create = |more: Value| {
        let mut body = json!({"faults": [REFUSED], "target": {"pid": pid}, "for": "2m"});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        body.to_string()
    };
    let structure = json!([{"ops": ["connect"], "effect": {"error": 1}}]);
    let large = "x".repeat(600 * 1024);
    let asked: Vec<(&str, &str, &str, String, u16)> = vec![
        ("/v1/faults", "get", "/v1/faults", String::new(), 200),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"name": "a"})),
            201,
        ),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"name": "a"})),
            409,
        ),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"name": "b", "faults": structure})),
            201,
        ),
        ("/v1/faults", "post", "/v1/faults", "{".to_owned(), 400),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"colour": 1})),
            400,
        ),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"faults": ["write:error=EWRONG"]})),
            422,
        ),
        (
            "/v1/faults",
            "post",
            "/v1/faults",
            create(json!({"target": {"pid": 4_000_000}})),
            422,
        ),
        ("/v1/faults", "post", "/v1/faults", large, 413),
        ("/v1/faults/{id}", "get", "/v1/faults/a", String::new(), 200),
        (
            "/v1/faults/{id}",
            "get",
            "/v1/faults/nobody",
            String::new(),
            404,
        ),
        (
            "/v1/faults/{id}/renew",
            "post",
            "/v1/faults/a/renew",
            String::new(),
            200,
        ),
        (
            "/v1/faults/{id}/renew",
            "post",
            "/v1/faults/nobody/renew",
            String::new(),
            404,
        ),
        (
            "/v1/faults/{id}",
            "delete",
            "/v1/faults/a",
            String::new(),
            200,
        ),
        (
            "/v1/faults/{id}",
            "delete",
            "/v1/faults/a",
            String::new(),
            404,
        ),
        ("/v1/doctor", "get", "/v1/doctor", String::new(), 200),
        ("/metrics", "get", "/metrics", String::new(), 200),
        ("/healthz", "get", "/healthz", String::new(), 200),
        ("/openapi.json", "get", "/openapi.json", String::new(), 200),
    ];
    let mut tried: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, method, real, body, status) in asked {
        let answer = daemon.ask(&method.to_uppercase(), real, &body)?;
        ensure!(answer.status == status, "{method} {real}: {answer:?}");
        document.check(path, method, &answer)?;
        tried.insert((path.to_owned(), method.to_owned()));
    }
    // A stream, which has a test of its own.
    tried.insert(("/v1/events".to_owned(), "get".to_owned()));
    let all = document.all();
    ensure!(tried == all, "not tried: {:?}", all.difference(&tried));
    let nowhere = daemon.ask("GET", "/v2", "")?;
    ensure!(nowhere.status == 404 && nowhere.media == "application/problem+json");
    let not_so = daemon.ask("PUT", "/v1/faults", "")?;
    ensure!(not_so.status == 405 && not_so.media == "application/problem+json");
    daemon.end()
}

fn lease() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    let id = daemon.inject(REFUSED, victim.pid(), "2s")?;
    sees(&victim, "ECONNREFUSED")?;
    // Nobody renews it.
    sees(&victim, "ok")?;
    let gone = || {
        let answer = daemon.ask("GET", &format!("/v1/faults/{id}"), "");
        answer.is_ok_and(|answer| answer.status == 404)
    };
    wait_until(PATIENCE, gone).context("it is still active")?;
    daemon.end()
}

fn graceful() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    daemon.inject(REFUSED, victim.pid(), "0")?;
    daemon.inject("net:loss=1ppm", victim.pid(), "60s")?;
    sees(&victim, "ECONNREFUSED")?;
    daemon.end()?;
    sees(&victim, "ok")
}

fn killed() -> Outcome {
    let (mut daemon, echo) = (Daemon::start()?, Echo::start()?);
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    daemon.inject(REFUSED, victim.pid(), "0")?;
    sees(&victim, "ECONNREFUSED")?;
    let process = daemon.process.take().context("it has ended")?;
    process.signal(libc::SIGKILL)?;
    process.finish(PATIENCE)?;
    sees(&victim, "ok")?;
    // What it leaves is its socket; the next one takes that place.
    daemon.process = Some(daemon.murphy(&["serve"]).spawn()?);
    let there = || {
        daemon
            .ask("GET", "/healthz", "")
            .is_ok_and(|a| a.status == 200)
    };
    wait_until(PATIENCE, there).context("the next one does not serve")?;
    daemon.end()
}

/// The value of a metric with exactly these labels.
fn metric(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(-1.0)
}

fn metrics() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    let id = daemon.inject("connect:error=ECONNREFUSED:times=7", victim.pid(), "60s")?;
    let page = || Ok::<_, anyhow::Error>(daemon.ask("GET", "/metrics", "")?.body);
    const INJECTED: &str = r#"murphy_injections_total{effect="error",fault="connect"}"#;
    let seven = || page().is_ok_and(|page| metric(&page, INJECTED) == 7.0);
    wait_until(PATIENCE, seven).with_context(|| format!("{:?}", page()))?;
    ensure!(
        metric(&page()?, "murphy_active_faults") == 1.0,
        "{}",
        page()?
    );
    daemon.ask("DELETE", &format!("/v1/faults/{id}"), "")?;
    const REVERTS: &str = r#"murphy_reverts_total{reason="request"}"#;
    let ended = || page().is_ok_and(|page| metric(&page, REVERTS) == 1.0);
    wait_until(PATIENCE, ended).with_context(|| format!("{:?}", page()))?;
    let page = page()?;
    ensure!(metric(&page, "murphy_active_faults") == 0.0, "{page}");
    // Counted to the end, and once.
    ensure!(metric(&page, INJECTED) == 7.0, "{page}");
    let seen = victim::seen(&victim.stdout()?, "ECONNREFUSED");
    ensure!(seen == 7, "the victim saw {seen}");
    daemon.end()
}

fn events() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let victim = connecting(&echo)?;
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: murphy\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    // Subscribed once the head has come.
    ensure!(
        lines
            .next()
            .transpose()?
            .is_some_and(|line| line.contains("200"))
    );
    let id = daemon.inject(REFUSED, victim.pid(), "60s")?;
    daemon.ask("DELETE", &format!("/v1/faults/{id}"), "")?;
    let mut happenings = lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .filter(Value::is_object);
    let started = happenings.next().context("nothing came")?;
    ensure!(
        started["event"] == "started" && started["id"] == id.as_str(),
        "{started}"
    );
    let ended = happenings.next().context("nothing more came")?;
    ensure!(
        ended["event"] == "ended" && ended["report"]["armed"] == true,
        "{ended}"
    );
    // A reader does not keep the daemon.
    daemon.end()?;
    ensure!(happenings.next().is_none());
    Ok(())
}

fn access() -> Outcome {
    let daemon = Daemon::with(&["--group", "4242"])?;
    let mode = fs::metadata(daemon.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "mode {mode:o}");
    let ask = |gid: &str| {
        let code = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ntry: s.connect(sys.argv[1])\nexcept PermissionError: print('closed'); sys.exit()\ns.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: m\\r\\n\\r\\n')\nprint(s.recv(99).split()[1].decode())";
        program("setpriv")
            .args([
                "--reuid=65534",
                "--clear-groups",
                "--regid",
                gid,
                "/usr/bin/python3",
                "-c",
                code,
            ])
            .args([daemon.socket()])
            .run()
    };
    ensure!(ask("4242")?.stdout.trim() == "200", "{}", ask("4242")?);
    ensure!(ask("65534")?.stdout.trim() == "closed", "{}", ask("65534")?);
    // Even where the file would let them in.
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666))?;
    ensure!(ask("65534")?.stdout.trim() == "403", "{}", ask("65534")?);
    daemon.end()
}

fn token() -> Outcome {
    let secret = tempfile::NamedTempFile::new()?;
    fs::write(secret.path(), "correct horse battery\n")?;
    let file = secret.path().display().to_string();
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let address = format!("127.0.0.1:{port}");
    let args = ["--tcp", &address, "--token-file", &file];
    let daemon = Daemon::with(&args)?;
    let ask = |headers: &str| http::ask_tcp(&address, "GET", "/v1/faults", headers);
    let right = ask("Authorization: Bearer correct horse battery\r\n")?;
    ensure!(right.status == 200, "{right:?}");
    for wrong in [
        "",
        "Authorization: Bearer correct horse batterx\r\n",
        "Authorization: Basic x\r\n",
    ] {
        let answer = ask(wrong)?;
        ensure!(answer.status == 401, "{wrong}: {answer:?}");
    }
    // The kernel does not know who has the token.
    let sleep = program("sleep").args(["600"]).spawn()?;
    let id = daemon.inject(REFUSED, sleep.pid(), "60s")?;
    let small = "authorization: bearer correct horse battery\r\n";
    let ended = http::ask_tcp(&address, "DELETE", &format!("/v1/faults/{id}"), small)?.json();
    let said = ended["ended"].as_str().unwrap_or_default();
    let by = "stopped by a holder of the token at 127.0.0.1:";
    ensure!(said.starts_with(by), "{ended}");
    daemon.end()?;
    // A token that others can read is none.
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o644))?;
    let refused = murphy(["serve"]).args(args).run()?;
    ensure!(
        refused.code == Some(2) && refused.stderr.contains("others can read it"),
        "{refused}"
    );
    let alone = murphy(["serve", "--tcp", &address]).run()?;
    ensure!(
        alone.code == Some(2) && alone.stderr.contains("--token-file"),
        "{alone}"
    );
    Ok(())
}

fn policy() -> Outcome {
    let etc = tempfile::tempdir()?;
    let rules = "[limits]\nrequire_reason = true\n[faults]\nforbid = [\"fsync\"]\n";
    let daemon = Daemon::under(rules, &etc)?;
    let sleep = program("sleep").args(["600"]).spawn()?;
    let inject = |fault: &str, reason: Option<&str>| {
        let mut body = json!({"faults": [fault], "target": {"pid": sleep.pid()}, "for": "1m"});
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        daemon.ask("POST", "/v1/faults", &body.to_string())
    };
    for (fault, reason, words) in [
        (REFUSED, None, &["require_reason"][..]),
        (REFUSED, Some(" "), &["require_reason"]),
        ("fsync:error=EIO", Some("lunch"), &["forbid"]),
        // All refusals are told at once.
        ("fsync:error=EIO", None, &["require_reason", "forbid"]),
    ] {
        let refused = inject(fault, reason)?;
        ensure!(
            refused.status == 403 && refused.media == "application/problem+json",
            "{fault}, {reason:?}: {refused:?}"
        );
        let detail = refused.json()["detail"].to_string();
        for word in words {
            ensure!(detail.contains(word), "{fault}: no `{word}` in {detail}");
        }
    }
    let armed = inject(REFUSED, Some("lunch"))?;
    ensure!(armed.status == 201, "{armed:?}");
    let id = armed.json()["id"].as_str().unwrap_or_default().to_owned();
    let one = daemon.ask("GET", &format!("/v1/faults/{id}"), "")?.json();
    ensure!(
        one["reason"] == "lunch (asked by user 0 over the API)",
        "{one}"
    );
    let page = daemon.ask("GET", "/metrics", "")?.body;
    let refused = metric(&page, r#"murphy_refusals_total{status="403"}"#);
    ensure!(refused == 4.0, "{page}");
    daemon.end()
}

fn reverts() -> Outcome {
    let daemon = Daemon::with(&["--group", "4242"])?;
    let sleep = program("sleep").args(["600"]).spawn()?;
    let id = daemon.inject(REFUSED, sleep.pid(), "60s")?;
    let code = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
        s.sendall(f'DELETE /v1/faults/{sys.argv[2]}?reason=enough HTTP/1.1\\r\\nHost: m\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n\
        print(s.makefile().read())";
    let done = program("setpriv")
        .args(["--reuid=65534", "--clear-groups", "--regid=4242"])
        .args(["/usr/bin/python3", "-c", code])
        .args([daemon.socket().as_os_str(), id.as_ref()])
        .run()?;
    let said = "stopped by user 65534 over the API: enough";
    ensure!(done.stdout.contains(said), "{done}");
    const REVERTS: &str = r#"murphy_reverts_total{reason="request"}"#;
    let counted = || {
        let page = daemon.ask("GET", "/metrics", "");
        page.is_ok_and(|page| metric(&page.body, REVERTS) == 1.0)
    };
    wait_until(PATIENCE, counted).context("it is not counted as a request")?;
    daemon.end()
}

/// Also those that the HTTP library makes.
fn refusals() -> Outcome {
    let daemon = Daemon::start()?;
    let large = "x".repeat(600 * 1024);
    for (method, path, body, status) in [
        ("GET", "/v1/faults/%ff", "", 400),
        ("DELETE", "/v1/faults/a?reason=a&reason=b", "", 400),
        ("DELETE", "/v1/faults/nobody", "", 404),
        ("POST", "/v1/faults", &large, 413),
        ("POST", "/v1/faults", "{", 400),
        ("PATCH", "/healthz", "", 405),
        ("GET", "/", "", 404),
    ] {
        let answer = daemon.ask(method, path, body)?;
        ensure!(
            answer.status == status && answer.media == "application/problem+json",
            "{method} {path}: {answer:?}"
        );
        ensure!(answer.json()["status"] == status, "{answer:?}");
        let detail = answer.json()["detail"].as_str().map(str::is_empty);
        ensure!(detail == Some(false), "{answer:?}");
    }
    daemon.end()
}

/// Pseudo-random numbers (xorshift64*), the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// Bodies that are nearly right, over one connection after another; none may be taken, none may end the daemon.
fn malformed() -> Outcome {
    let daemon = Daemon::start()?;
    let whole = json!({
        "faults": ["connect:error=ECONNREFUSED:port=6379:p=5%"],
        "target": {"pid": 99_999_999_999_u64, "comm": ["a", "!b"], "all": false},
        "for": "5s", "lease": "2s", "name": "x", "reason": "y", "seed": 3,
    });
    let whole = whole.to_string().into_bytes();
    let mut random = Random(1);
    let mut stream: Option<BufReader<UnixStream>> = None;
    // Emulation is some twenty times slower.
    let rounds = if expect::environment() == "host" {
        10_000
    } else {
        1_000
    };
    for round in 0..rounds {
        let mut body = whole.clone();
        for _ in 0..=random.below(4) {
            if body.is_empty() {
                break;
            }
            let at = random.below(body.len());
            match random.below(4) {
                0 => drop(body.remove(at)),
                1 => body[at] = random.below(256) as u8,
                2 => body.insert(at, b"{}[]\",:\\0n-"[random.below(11)]),
                _ => body.truncate(at.max(1)),
            }
        }
        // Over one connection as long as the daemon keeps it.
        let reader = match &mut stream {
            Some(reader) => reader,
            none => none.insert(BufReader::new(UnixStream::connect(daemon.socket())?)),
        };
        let head = format!(
            "POST /v1/faults HTTP/1.1\r\nHost: m\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let socket = reader.get_mut();
        socket.write_all(head.as_bytes())?;
        socket.write_all(&body)?;
        let (mut length, mut status) = (0, String::new());
        reader.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::Read::read_exact(reader, &mut vec![0; length])?;
        // The number is too long for a process, even with some digits less: nothing can be injected.
        let refused = status.contains(" 4");
        ensure!(
            refused,
            "round {round}: {status:?} for {:?}",
            String::from_utf8_lossy(&body)
        );
    }
    let page = daemon.ask("GET", "/metrics", "")?.body;
    ensure!(metric(&page, "murphy_active_faults") == 0.0, "{page}");
    daemon.end()
}

fn second() -> Outcome {
    let daemon = Daemon::start()?;
    let other = daemon.murphy(&["serve"]).run()?;
    ensure!(
        other.code == Some(75) && other.stderr.contains("already"),
        "{other}"
    );
    daemon.end()
}

/// The example of the documentation, used as a test would.
fn python() -> Outcome {
    let (daemon, echo) = (Daemon::start()?, Echo::start()?);
    let module = tempfile::tempdir()?;
    fs::write(
        module.path().join("murphy.py"),
        include_str!("../../examples/python/murphy.py"),
    )?;
    let port = echo.address.port();
    let code = format!(
        "import murphy, os, socket
def hit():
    try: socket.create_connection(('127.0.0.1', {port})).close()
    except ConnectionRefusedError: return True
assert not hit()
with murphy.faults('connect:error=ECONNREFUSED:port={port}', pid=os.getpid()) as fault:
    assert hit() and hit()
    assert fault.report()['faults'][0]['injected'] == 2
assert not hit()
try:
    with murphy.faults('connect:error=EWRONG', all=True): pass
except murphy.Refused as refused: print(refused)
"
    );
    let done = program("python3")
        .args(["-c", &code])
        .env("MURPHY_SOCKET", daemon.socket())
        .env("PYTHONPATH", module.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()?;
    ensure!(
        done.code == Some(0) && done.stdout.contains("faults[0]: "),
        "{done}"
    );
    daemon.end()
}
