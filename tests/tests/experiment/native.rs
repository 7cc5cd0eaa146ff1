//! What is murphy's own: faults, sampling, limits, the score, its probes, refusals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::net::Echo;
use tests::redis::Redis;
use tests::{Finished, Outcome, Program, chaos_toolkit, murphy, murphy_path, victim, wait_until};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with an experiment in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(experiment: &Value) -> Result<Self> {
        let place = Self(tempfile::tempdir()?);
        fs::write(place.path("experiment.json"), format!("{experiment:#}"))?;
        Ok(place)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `murphy experiment ARGS…` in the folder.
    fn murphy(&self, args: &[&str]) -> Program {
        let mut program = murphy(["experiment"])
            .args(args)
            .env("MURPHY_RUN_DIR", self.path("run"));
        program.command().current_dir(self.0.path());
        program.limit(PATIENCE)
    }

    fn run(&self, args: &[&str]) -> Result<Finished> {
        let done = self.murphy(&["run", "experiment.json"]).args(args).run()?;
        ensure!(!done.stderr.contains("panicked"), "{done}");
        Ok(done)
    }

    fn journal(&self) -> Result<Value> {
        let text = fs::read_to_string(self.path("journal.json")).context("no journal")?;
        Ok(serde_json::from_str(&text)?)
    }
}

fn process(name: &str, path: &str, arguments: &Value) -> Value {
    json!({"type": "action", "name": name, "provider": {"type": "process", "path": path, "arguments": arguments}})
}

fn probe(name: &str, tolerance: &Value, provider: &Value) -> Value {
    json!({"type": "probe", "name": name, "tolerance": tolerance, "provider": provider})
}

/// A probe hits the fault and its neighbour does not; the kernel counted it; afterwards it works again.
pub(crate) fn fault() -> Outcome {
    let echo = Echo::start()?;
    let (address, port) = (echo.address.to_string(), echo.port());
    let folder = tempfile::tempdir()?;
    let prober = folder.path().join("prober");
    fs::copy(victim::self_path(), &prober)?;
    let connects = |name: &str, path: &Path| {
        let words = victim::words(["connect", address.as_str(), "1"]);
        json!({"type": "probe", "name": name, "provider": {"type": "process", "path": path, "arguments": words}})
    };
    let mut gate = connects("connects", &prober);
    gate["tolerance"] = json!({"type": "regex", "pattern": "^ok", "target": "stdout"});
    let place = Place::new(&json!({
        "title": "Connections are refused", "description": "To the prober, and to nobody else.",
        "configuration": {"port": port},
        "steady-state-hypothesis": {"title": "it connects", "probes": [gate]},
        "method": [
            {"type": "action", "name": "refuse", "provider": {
                "type": "murphy", "faults": ["connect:error=ECONNREFUSED:port=${port}"],
                "target": {"exe": prober}, "for": "60s", "observe": true}},
            connects("neighbour", &victim::self_path())
        ],
        "rollbacks": [connects("again", &prober)]
    }))?;
    let done = place.run(&[])?;
    ensure!(done.code == Some(1), "{done}");
    let journal = place.journal()?;
    let said = |entry: &Value| {
        entry["output"]["stdout"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    ensure!(
        journal["deviated"] == true && journal["status"] == "completed",
        "{journal:#}"
    );
    let after = &journal["steady_states"]["after"]["probes"][0];
    ensure!(said(after).contains("ECONNREFUSED"), "{journal:#}");
    ensure!(
        said(&journal["run"][1]) == "ok",
        "the neighbour was hit: {journal:#}"
    );
    ensure!(
        said(&journal["rollbacks"][0]) == "ok",
        "it does not work again: {journal:#}"
    );
    let fault = &journal["murphy"]["faults"][0];
    let counted = &fault["report"]["faults"][0];
    ensure!(
        counted["injected"] == 1 && counted["observed"] == 1 && counted["altered"] == 0,
        "{journal:#}"
    );
    ensure!(
        journal["run"][0]["output"]["report"] == fault["report"],
        "{journal:#}"
    );
    ensure!(
        journal["murphy"]["rollback_seconds"].is_number(),
        "{journal:#}"
    );
    Ok(())
}

/// Interrupted or not, what it injected ends with the experiment.
pub(crate) fn fault_interrupted() -> Outcome {
    let folder = tempfile::tempdir()?;
    let nobody = folder.path().join("nobody");
    fs::copy(victim::self_path(), &nobody)?;
    let place = Place::new(&json!({
        "title": "Stopped", "description": "In the middle.",
        "method": [
            {"type": "action", "name": "refuse", "provider": {
                "type": "murphy", "faults": ["connect:error=ECONNREFUSED:port=1"], "target": {"exe": nobody}}},
            process("wait", "sh", &json!(["-c", "touch ready; exec sleep 100"]))
        ]
    }))?;
    let running = place.murphy(&["run", "experiment.json"]).spawn()?;
    wait_until(PATIENCE, || place.path("ready").exists())?;
    running.signal(libc::SIGTERM)?;
    let done = running.finish(PATIENCE)?;
    ensure!(done.code == Some(1), "{done}");
    let journal = place.journal()?;
    ensure!(journal["status"] == "interrupted", "{journal:#}");
    ensure!(
        journal["murphy"]["faults"][0]["report"]["faults"][0]["matched"] == 0,
        "{journal:#}"
    );
    Ok(())
}

fn breaking(limits: &Value) -> Value {
    let unbroken = json!({"type": "process", "path": "test", "arguments": ["!", "-e", "broken"]});
    json!({
        "title": "It breaks", "description": "And is mended.",
        "extensions": [{"name": "murphy", "limits": limits,
            "sample": {"interval": "50ms", "baseline": "500ms", "recovery": "60s"}}],
        "steady-state-hypothesis": {"title": "unbroken", "probes": [probe("unbroken", &json!(0), &unbroken)]},
        "method": [process("break", "touch", &json!(["broken"])), process("wait", "sleep", &json!(["100"]))],
        "rollbacks": [process("mend", "rm", &json!(["broken"]))]
    })
}

/// A limit is crossed: stopped, rolled back, and everything said.
pub(crate) fn limit() -> Outcome {
    let place = Place::new(&breaking(
        &json!({"services": false, "cascade": false, "availability": false}),
    ))?;
    let done = place.run(&[])?;
    ensure!(done.code == Some(1), "{done}");
    let journal = place.journal()?;
    let own = &journal["murphy"];
    ensure!(journal["status"] == "aborted", "{journal:#}");
    ensure!(own["abort"]["limit"] == "error_rate_at_once", "{journal:#}");
    ensure!(
        own["abort"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("50.0 %")),
        "{journal:#}"
    );
    ensure!(
        journal["rollbacks"][0]["status"] == "succeeded" && !place.path("broken").exists(),
        "{journal:#}"
    );
    ensure!(
        done.stderr.contains("chaos_safety_error_rate_at_once"),
        "{done}"
    );
    let all = &own["sampling"]["all"];
    ensure!(all["baseline"]["availability"] == 1.0, "{journal:#}");
    ensure!(all["fault"]["failures"].as_u64() > Some(4), "{journal:#}");
    ensure!(
        all["recovered"] == true && all["time_to_recover"].is_number(),
        "{journal:#}"
    );
    ensure!(all["time_to_detect"].is_number(), "{journal:#}");
    let score = own["score"]["total"].as_f64().context("no score")?;
    ensure!((20.0..=100.0).contains(&score), "{journal:#}");
    ensure!(
        own["insights"]
            .as_array()
            .is_some_and(|said| !said.is_empty()),
        "{journal:#}"
    );
    Ok(())
}

/// A method that lasts too long.
pub(crate) fn duration() -> Outcome {
    let mut experiment = breaking(&json!({"duration": "1s"}));
    experiment["extensions"][0]["sample"]["probes"] = json!([]);
    let place = Place::new(&experiment)?;
    let done = place.run(&[])?;
    let journal = place.journal()?;
    ensure!(
        done.code == Some(1) && journal["murphy"]["abort"]["limit"] == "duration",
        "{journal:#}"
    );
    ensure!(!place.path("broken").exists(), "{journal:#}");
    Ok(())
}

/// SIGHUP: an operator wants it stopped and rolled back; and meanwhile no other begins.
pub(crate) fn operator() -> Outcome {
    let place = Place::new(&json!({
        "title": "Long", "description": "Until somebody has enough.",
        "method": [process("wait", "sh", &json!(["-c", "touch ready; exec sleep 100"]))],
        "rollbacks": [process("undo", "touch", &json!(["undone"]))]
    }))?;
    let running = place.murphy(&["run", "experiment.json"]).spawn()?;
    wait_until(PATIENCE, || place.path("ready").exists())?;
    let second = place.run(&[])?;
    ensure!(
        second.code == Some(75) && second.stderr.contains("\"Long\""),
        "{second}"
    );
    running.signal(libc::SIGHUP)?;
    let done = running.finish(PATIENCE)?;
    let journal = place.journal()?;
    ensure!(
        done.code == Some(1) && journal["status"] == "aborted",
        "{done}"
    );
    ensure!(
        journal["murphy"]["abort"]["limit"] == "operator" && place.path("undone").exists(),
        "{journal:#}"
    );
    Ok(())
}

/// Every mistake at once, with its line, and nothing was begun.
pub(crate) fn mistakes() -> Outcome {
    let place = Place::new(&json!({}))?;
    fs::write(
        place.path("bad.yaml"),
        "title: t\nmethod:\n  - type: thing\n    name: x\n    provider: {type: process, path: no-such-program}\n  \
         - {type: action, name: y, provider: {type: murphy, faults: [\"connect:eror=EIO\"], target: {pit: 1}}}\n\
         extensions:\n  - {name: murphy, limits: {error_rate: lots}}\n",
    )?;
    for command in ["run", "validate"] {
        let done = place.murphy(&[command, "bad.yaml"]).run()?;
        ensure!(done.code == Some(1), "{done}");
        for said in [
            "description: an experiment has a description",
            "bad.yaml:3:",
            "method[0].type",
            "bad.yaml:5:",
            "`no-such-program`",
            "method[1].provider.faults[0]",
            "eror",
            "method[1].provider.target.pit",
            "extensions[0].limits.error_rate",
            "5%",
        ] {
            ensure!(done.stderr.contains(said), "no `{said}` in {done}");
        }
    }
    ensure!(!place.path("journal.json").exists(), "something was begun");
    Ok(())
}

/// No secret stands in the journal, and `--strict` is.
pub(crate) fn secrets_and_strict() -> Outcome {
    let place = Place::new(&json!({
        "title": "Secrets", "description": "Are kept.",
        "secrets": {"db": {"password": "swordfish", "user": {"type": "env", "key": "CASE_USER"}}},
        "method": [
            process("say", "echo", &json!(["${password}", "for", "${user}"])),
            json!({"type": "action", "name": "slow", "provider": {"type": "process", "path": "sleep", "arguments": ["9"], "timeout": 0.1}})
        ]
    }))?;
    let run = |args: &[&str]| {
        place
            .murphy(&["run", "experiment.json"])
            .args(args)
            .env("CASE_USER", "captain")
            .run()
    };
    let done = run(&[])?;
    ensure!(done.code == Some(0), "{done}");
    let journal = place.journal()?;
    ensure!(
        journal["run"][0]["output"]["stdout"] == "[redacted] for [redacted]\n",
        "{journal:#}"
    );
    let text = journal.to_string();
    ensure!(
        !text.contains("swordfish") && !text.contains("captain"),
        "{text}"
    );
    let done = run(&["--strict"])?;
    ensure!(
        done.code == Some(1) && done.stderr.contains("\"slow\" did not succeed"),
        "{done}"
    );
    Ok(())
}

/// A server that answers as Prometheus does.
fn prometheus() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let asked = String::from_utf8_lossy(&head[..length]).contains("/api/v1/query?query=up");
            let body = match asked {
                true => {
                    "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"0.25\"]}]}}"
                }
                false => "{\"status\":\"error\",\"error\":\"what?\"}",
            };
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Ok(url)
}

/// Each of murphy's own probes, good and bad; the same exported.
pub(crate) fn probes() -> Outcome {
    let redis = Redis::start([])?;
    let url = prometheus()?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), "all is well\n")?;
    let range = json!({"type": "range", "range": [0.2, 0.3], "target": "stdout"});
    let pong = json!({"type": "regex", "pattern": "PONG", "target": "stdout"});
    let rows = [
        (
            "tcp",
            json!(0),
            json!({"type": "tcp", "host": "127.0.0.1", "port": redis.port()}),
        ),
        (
            "no tcp",
            json!(1),
            json!({"type": "tcp", "host": "127.0.0.1", "port": 1}),
        ),
        (
            "redis",
            pong,
            json!({"type": "redis", "port": redis.port()}),
        ),
        ("no redis", json!(1), json!({"type": "redis", "port": 1})),
        (
            "file",
            json!(0),
            json!({"type": "file", "path": file.path(), "contains": "well"}),
        ),
        (
            "no file",
            json!(1),
            json!({"type": "file", "path": "/nonexistent"}),
        ),
        (
            "prometheus",
            range,
            json!({"type": "prometheus", "url": url, "query": "up"}),
        ),
        (
            "no prometheus",
            json!(1),
            json!({"type": "prometheus", "url": url, "query": "nothing"}),
        ),
        (
            "no postgres",
            json!({"type": "range", "range": [0, 2], "target": "status"}),
            json!({"type": "postgres", "host": "127.0.0.1", "port": 1, "user": "nobody", "database": "none"}),
        ),
    ];
    // psql may not be installed; what it says of a server that is not there is a status then.
    let psql = tests::Need::Tool("psql").check().is_ok();
    let list: Vec<Value> = rows
        .iter()
        .filter(|row| psql || row.0 != "no postgres")
        .map(|(name, tolerance, provider)| probe(name, tolerance, provider))
        .collect();
    let place = Place::new(&json!({
        "title": "Probes", "description": "Of murphy's own.",
        "steady-state-hypothesis": {"title": "they tell", "probes": list}, "method": []
    }))?;
    let done = place.run(&["--strict"])?;
    ensure!(done.code == Some(0), "{done}\n{:#}", place.journal()?);
    let done = place
        .murphy(&["export", "experiment.json", "-o", "exported.json"])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let exported = fs::read_to_string(place.path("exported.json"))?;
    ensure!(
        exported.contains("\"process\"") && !exported.contains("\"type\": \"redis\""),
        "{exported}"
    );
    let Some(chaos) = chaos_toolkit() else {
        return Ok(());
    };
    let folder = murphy_path()
        .parent()
        .context("murphy has no folder")?
        .display()
        .to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let mut run = tests::program(chaos.join("bin/chaos"))
        .args([
            "--no-version-check",
            "--no-log-file",
            "run",
            "exported.json",
        ])
        .env("PATH", path);
    run.command().current_dir(place.0.path());
    let done = run.run()?;
    let journal = place.journal()?;
    ensure!(
        done.code == Some(0) && journal["steady_states"]["after"]["steady_state_met"] == true,
        "{done}\n{journal:#}"
    );
    Ok(())
}
