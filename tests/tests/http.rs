//! `http:…`: responses get another status, those of a server that is a target or to such a client, and nobody else's.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Finished, Group, Need, Outcome, case, hosts::Hosts, murphy, murphy_path, needs,
    nginx::Nginx, program, report::count, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

const FILES: [(&str, &str); 2] = [("api/item", "hello"), ("health", "hello")];

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "the client is the target; a neighbour's answers are their own",
            least(),
            client,
        ),
        case(
            "the server is the target; a neighbour on another port is not",
            least(),
            server,
        ),
        case("paths on one connection", least(), paths),
        case("half of them, by both counts", least(), half),
        case(
            "a response is asked about once, on both ends",
            least(),
            once,
        ),
        case("sent again it is the same response", least(), again),
        case("what has no body is let be", least(), bodiless),
        case("IPv6", least(), ipv6),
        case(
            "another host, whose checksums are looked at",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("nginx"),
                Tool("curl"),
                Tool("ip"),
                Tool("nsenter"),
                Tool("ethtool")
            ],
            other_host,
        ),
    ])
    // Classifiers as those of `egress`, which runs everywhere. These take the longest: a kernel
    // with links has them, and `dns` runs in one without.
    .in_kernels(&["sid"])
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics, Tool("nginx"), Tool("curl")]
}

/// curl's words: of each answer its body and its status, a line each. One connection for all.
fn curl(urls: &[String]) -> Vec<String> {
    let words = ["curl", "-gsS", "--max-time", "20", "-w", " %{http_code}\\n"];
    words
        .map(str::to_owned)
        .into_iter()
        .chain(urls.iter().cloned())
        .collect()
}

/// `count` times the same.
fn times(url: &str, count: usize) -> Vec<String> {
    vec![url.to_owned(); count]
}

fn ask(urls: &[String]) -> Result<Finished> {
    let words = curl(urls);
    program(&words[0]).args(&words[1..]).run()
}

/// All answers are as the server meant them.
fn works(nginx: &Nginx) -> Outcome {
    let done = ask(&times(&nginx.url("api/item"), 2))?;
    ensure!(done.stdout == "hello 200\nhello 200\n", "{done}");
    Ok(())
}

/// How many answers had this status.
fn statuses(done: &Finished, status: &str) -> usize {
    let of = |line: &&str| {
        line.rsplit_once(' ')
            .is_some_and(|(_, said)| said == status)
    };
    done.stdout.lines().filter(of).count()
}

/// A command under faults, by `murphy`'s words: what it said, and the report.
fn under(murphy: tests::Program, faults: &[&str], command: &[String]) -> Result<(Finished, Value)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let faults = faults.iter().flat_map(|fault| ["-e", fault]);
    let done = murphy
        .args(["run", "--json", "-o"])
        .args([&output])
        .args(faults)
        .args(["--"])
        .args(command)
        .run()?;
    let text = std::fs::read_to_string(&output).with_context(|| format!("no report of {done}"))?;
    Ok((done, serde_json::from_str(&text)?))
}

/// The same here.
fn hit(faults: &[&str], command: &[String]) -> Result<(Finished, Value)> {
    under(program(murphy_path()), faults, command)
}

/// Matched and injected by the only fault.
fn counts(report: &Value) -> (u64, u64) {
    (count(report, 0, "matched"), count(report, 0, "injected"))
}

/// Faults on a server that runs, and on whom else these words say.
fn inject(nginx: &Nginx, faults: &[&str], others: &[&str]) -> Result<ChildGuard> {
    let pid = nginx.pid().to_string();
    let murphy = murphy(["inject", "--json", "--pid", &pid])
        .args(faults.iter().flat_map(|fault| ["-e", fault]))
        .args(others)
        .spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

fn ended(murphy: ChildGuard) -> Result<Value> {
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

fn client() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    works(&nginx)?;
    let fault = format!("http:status=503:port={}", nginx.port());
    let (done, report) = hit(&[&fault], &curl(&times(&nginx.url("api/item"), 3)))?;
    // The body is the server's, and the connection goes on.
    ensure!(done.stdout == "hello 503\n".repeat(3), "{done}");
    ensure!(counts(&report) == (3, 3), "{report}");
    // The server's port is not the client's own.
    let fault = format!("http:status=503:sport={}", nginx.port());
    let (done, report) = hit(&[&fault], &curl(&[nginx.url("api/item")]))?;
    ensure!(
        statuses(&done, "200") == 1 && counts(&report) == (0, 0),
        "{report}"
    );
    // A neighbour asks the same server, while the target does.
    let url = nginx.url("api/item");
    let fault = format!("http:status=500:port={}", nginx.port());
    let folder = tempfile::tempdir()?;
    let enough = folder.path().join("enough");
    let script = format!(
        "until [ -e {} ]; do curl -s -o /dev/null -w '%{{http_code}}\\n' {url}; done",
        enough.display()
    );
    let target = murphy(["run", "-q", "-e", &fault, "--", "sh", "-c", &script]).spawn()?;
    wait_until(PATIENCE, || {
        target.stdout().is_ok_and(|said| said.lines().count() > 1)
    })?;
    for _ in 0..3 {
        works(&nginx)?;
    }
    std::fs::write(&enough, "")?;
    let target = target.finish(PATIENCE)?;
    ensure!(target.stdout.lines().all(|line| line == "500"), "{target}");
    works(&nginx)
}

fn server() -> Outcome {
    let (nginx, neighbour) = (Nginx::start(&FILES)?, Nginx::start(&FILES)?);
    works(&nginx)?;
    let murphy = inject(
        &nginx,
        &[&format!("http:status=500:sport={}", nginx.port())],
        &[],
    )?;
    let done = ask(&times(&nginx.url("health"), 3))?;
    ensure!(done.stdout == "hello 500\n".repeat(3), "{done}");
    works(&neighbour)?;
    let report = ended(murphy)?;
    ensure!(counts(&report) == (3, 3), "{report}");
    works(&nginx)
}

/// The server's answers by path, and the client's, on a connection that stays.
fn paths() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    let urls: Vec<_> = [
        "api/item",
        "health",
        "health?api/",
        "api/item?x=1",
        "healthy",
    ]
    .map(|path| nginx.url(path))
    .into();
    let wanted = |done: &Finished, statuses: [&str; 4]| {
        let said: Vec<_> = done
            .stdout
            .lines()
            .filter(|line| line.starts_with("hello "))
            .collect();
        let wanted = statuses.map(|status| format!("hello {status}"));
        // What is not there has a page of its own.
        said == wanted && done.stdout.ends_with(" 404\n")
    };
    for (path, statuses) in [
        ("/api/*", ["503", "200", "200", "503"]),
        ("/health", ["200", "503", "503", "200"]),
        ("/health,/api/item", ["503"; 4]),
        ("/API/*,/api", ["200"; 4]),
    ] {
        let hits = statuses.iter().filter(|status| **status == "503").count() as u64;
        let fault = format!("http:status=503:path={path}");
        let (done, report) = hit(&[&fault], &curl(&urls))?;
        ensure!(wanted(&done, statuses), "{path}, to the client: {done}");
        ensure!(counts(&report) == (hits, hits), "{path}: {report}");
    }
    let murphy = inject(&nginx, &["http:status=503:path=/api/*"], &[])?;
    let done = ask(&urls)?;
    let report = ended(murphy)?;
    ensure!(
        wanted(&done, ["503", "200", "200", "503"]),
        "from the server: {done}"
    );
    ensure!(counts(&report) == (2, 2), "{report}");
    // Each fault for its own path, and the first that hits.
    let faults = [
        "http:status=500:path=/health",
        "http:status=503:path=/*",
        "http:status=599",
    ];
    let (done, report) = hit(&faults, &curl(&urls[..2]))?;
    ensure!(done.stdout == "hello 503\nhello 500\n", "{done}");
    ensure!(count(&report, 2, "matched") == 0, "{report}");
    works(&nginx)
}

fn half() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    let words = curl(&times(&nginx.url("health"), 200));
    let (done, report) = hit(&["http:status=502:p=50%:seed=7"], &words)?;
    let (bad, good) = (statuses(&done, "502"), statuses(&done, "200"));
    ensure!(
        bad + good == 200 && (70..130).contains(&bad),
        "{bad} {good}"
    );
    ensure!(counts(&report) == (200, bad as u64), "{bad}: {report}");
    // The same seed, the same decisions.
    let (same, _) = hit(&["http:status=502:p=50%:seed=7"], &words)?;
    ensure!(same.stdout == done.stdout, "{same}");
    Ok(())
}

/// Both server and client are targets: over the loopback interface a response passes two hooks.
fn once() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    let urls = times(&nginx.url("health"), 4);
    let curl = ["/usr/bin/curl", "/bin/curl"];
    let curl = curl.into_iter().find(|path| Path::new(path).exists());
    let curl = ["--exe", curl.context("no curl")?];
    let murphy = inject(&nginx, &["http:status=503:when=2+2"], &curl)?;
    let done = ask(&urls)?;
    let report = ended(murphy)?;
    let wanted = "hello 200\nhello 503\nhello 200\nhello 503\n";
    ensure!(done.stdout == wanted, "{done}");
    ensure!(counts(&report) == (4, 2), "{report}");
    // Each end by its own port: what one leaves alone, the other is asked about.
    let ours = format!("http:status=500:sport={}:when=2+2", nginx.port());
    let theirs = format!("http:status=501:port={}", nginx.port());
    let murphy = inject(&nginx, &[&ours, &theirs], &curl)?;
    let done = ask(&urls)?;
    let report = ended(murphy)?;
    let wanted = "hello 501\nhello 500\nhello 501\nhello 500\n";
    ensure!(done.stdout == wanted, "{done}");
    ensure!(
        counts(&report) == (4, 2) && count(&report, 1, "matched") == 2,
        "{report}"
    );
    Ok(())
}

/// A response that is lost behind our hook comes by again.
fn again() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    let port = nginx.port();
    let status = format!("http:status=503:port={port}:p=50%:seed=3");
    let words = curl(&times(&nginx.url("health"), 12));
    let (calm, _) = hit(&[&status], &words)?;
    let loss = format!("ingress:loss=100%:when=4+5:times=2:port={port}");
    let (done, report) = hit(&[&status, &loss], &words)?;
    ensure!(done.stdout == calm.stdout, "{calm}\n{done}");
    ensure!(
        count(&report, 0, "matched") == 12 && count(&report, 1, "injected") == 2,
        "{report}"
    );
    Ok(())
}

/// Another status would have the client wait for a body.
fn bodiless() -> Outcome {
    let nginx = Nginx::start(&FILES)?;
    let urls = [nginx.url("gone"), nginx.url("health")];
    let (done, report) = hit(&["http:status=503"], &curl(&urls))?;
    ensure!(done.stdout == " 204\nhello 503\n", "{done}");
    ensure!(counts(&report) == (1, 1), "{report}");
    Ok(())
}

fn ipv6() -> Outcome {
    let address = match std::net::TcpListener::bind("[::1]:0") {
        Ok(socket) => socket.local_addr()?,
        Err(_) => return tests::skip("no IPv6 on the loopback interface"),
    };
    let nginx = Nginx::at(address, &[], &FILES)?;
    let urls = [nginx.url("api/item"), nginx.url("health")];
    let (done, report) = hit(&["http:status=503:path=/api/*:dst=[::1]"], &curl(&urls))?;
    ensure!(done.stdout == "hello 503\nhello 200\n", "{done}");
    ensure!(counts(&report) == (1, 1), "{report}");
    let murphy = inject(&nginx, &["http:status=429:path=/health"], &[])?;
    let done = ask(&urls)?;
    ensure!(done.stdout == "hello 200\nhello 429\n", "{done}");
    ensure!(counts(&ended(murphy)?) == (1, 1), "injected once");
    works(&nginx)
}

/// Without offload the sender makes whole checksums, and the receiver looks at them.
fn other_host() -> Outcome {
    let hosts = Hosts::new()?;
    let [first, rest @ ..] = hosts.way_there();
    let done = program(&first)
        .args(&rest)
        .args(["ethtool", "-K", "cable", "tx", "off"])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let done = hosts
        .here("ethtool")
        .args(["-K", "cable", "rx", "off"])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    for address in [hosts.there(), hosts.there6()] {
        let nginx = Nginx::at(SocketAddr::new(address, 8080), &hosts.way_there(), &FILES)?;
        let urls = [nginx.url("api/item"), nginx.url("health")];
        let words = curl(&urls);
        let works = || -> Outcome {
            let done = hosts.here(&words[0]).args(&words[1..]).run()?;
            ensure!(done.stdout == "hello 200\nhello 200\n", "{done}");
            Ok(())
        };
        works()?;
        // As they arrive.
        let fault = "http:status=503:path=/api/*:port=8080";
        let here = hosts.here(&murphy_path().to_string_lossy());
        let (done, report) = under(here, &[fault], &words)?;
        ensure!(done.stdout == "hello 503\nhello 200\n", "{address}: {done}");
        ensure!(counts(&report) == (1, 1), "{report}");
        if address.is_ipv6() {
            continue;
        }
        // As they leave.
        let murphy = inject(&nginx, &["http:status=500:sport=8080:path=/api/*"], &[])?;
        let done = hosts.here(&words[0]).args(&words[1..]).run()?;
        ensure!(done.stdout == "hello 500\nhello 200\n", "{address}: {done}");
        ensure!(counts(&ended(murphy)?) == (1, 1), "injected once");
        works()?;
    }
    Ok(())
}
