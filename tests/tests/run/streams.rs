//! Standard input, output and error are CMD's; the result is told where it is asked for.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;
use tests::{Case, Outcome, case, murphy_path, net::Echo, program, report::count};

use super::{REFUSED, least, run, script};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("as a filter between two pipes", least(), filter),
        case("streams that are closed", least(), closed),
        case("nobody reads standard error", least(), broken),
        case("-q: not a word", least(), quiet),
        case("-v: what is attached", least(), verbose),
        case("--json: one line, and the sums are right", least(), json),
        case("-o: to a file, truncated", least(), to_file),
        case(
            "-o that cannot be written is told before the command runs",
            least(),
            unwritable,
        ),
        case(
            "OTEL_…: a collector is told, and its absence changes nothing",
            least(),
            spans,
        ),
    ]
}

/// A collector that takes one request, and gives its body.
fn collect(listener: &TcpListener) -> io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let mut said = String::new();
    let mut bytes = [0; 4096];
    while !said.ends_with("}]}]}") {
        let length = stream.read(&mut bytes)?;
        if length == 0 {
            break;
        }
        said.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    Ok(said)
}

fn spans() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let collector = std::thread::spawn(move || collect(&listener));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let echo = Echo::start()?;
    let under = |endpoint: &str| {
        script(&[], "\"$0\" victim connect \"$1\" 3")
            .args([echo.address.to_string()])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("TRACEPARENT", parent)
            .run()
    };
    let done = under(&endpoint)?;
    ensure!(done.code == Some(0), "{done}");
    let said = collector.join().map_err(|_| anyhow!("no collector"))??;
    let body = said.split("\r\n\r\n").nth(1).context("no body")?;
    let body: Value = serde_json::from_str(body)?;
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    ensure!(
        spans[0]["name"] == "murphy run"
            && spans[0]["parentSpanId"] == "b7ad6b7169203331"
            && spans[0]["traceId"] == "0af7651916cd43dd8448eb211c80319c",
        "{spans}"
    );
    let window = &spans[1];
    let injected = window["attributes"].as_array().into_iter().flatten();
    let injected = injected
        .filter(|pair| pair["key"] == "murphy.fault.injected")
        .map(|pair| pair["value"]["intValue"].as_str());
    ensure!(
        window["name"] == format!("fault {REFUSED}") && injected.eq([Some("3")]),
        "{window}"
    );
    // Nobody listens there now.
    let done = under(&endpoint)?;
    ensure!(
        done.code == Some(0) && done.stderr.contains("spans were not sent"),
        "{done}"
    );
    Ok(())
}

fn filter() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    // Every byte there is, in more than one pipe's buffer.
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    fs::write(&before, &bytes)?;
    let line = "cat \"$1\" | \"$0\" run -e connect:error=ECONNREFUSED -- cat | cat > \"$2\"";
    let done = program("sh")
        .args(["-c", line])
        .args([murphy_path(), before, after.clone()])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(fs::read(&after)? == bytes, "the bytes have changed");
    // The result is on standard error, and on nothing else.
    ensure!(
        done.stderr.contains("MATCHED") && done.stdout.is_empty(),
        "{done}"
    );
    Ok(())
}

fn closed() -> Outcome {
    let folder = tempfile::tempdir()?;
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"] {
        let seen = folder.path().join("seen");
        let line = format!(
            "\"$0\" run -e connect:error=ECONNREFUSED -- sh -c 'echo ran > \"$0\"; exit 3' \"$1\" {closed}"
        );
        let done = program("sh")
            .args(["-c", &line])
            .args([murphy_path(), seen.clone()])
            .run()?;
        ensure!(done.code == Some(3), "{closed}: {done}");
        ensure!(fs::read_to_string(&seen)? == "ran\n", "{closed}: {done}");
        fs::remove_file(&seen)?;
    }
    Ok(())
}

/// What murphy has to say is nobody's then; CMD's status is not.
fn broken() -> Outcome {
    for options in [&["--orphans", "kill"], &["--orphans", "release"]] {
        let (reader, writer) = io::pipe()?;
        drop(reader);
        // A process that outlives it, so that there is something to be told.
        let status = Command::new(murphy_path())
            .args(["run", "-e", REFUSED])
            .args(options)
            .args(["--", "sh", "-c", "sleep 0.5 & exit 3"])
            .stdin(Stdio::null())
            .stderr(writer)
            .status()?;
        ensure!(status.code() == Some(3), "{options:?}: {status}");
    }
    Ok(())
}

fn quiet() -> Outcome {
    let done = run(
        &["-q"],
        &["sh", "-c", "echo out; echo err >&2; sleep 0.1 & exit 4"],
    )
    .run()?;
    ensure!(done.code == Some(4), "{done}");
    ensure!(done.stdout == "out\n" && done.stderr == "err\n", "{done}");
    Ok(())
}

fn verbose() -> Outcome {
    let done = run(&["-v"], &["true"]).run()?;
    ensure!(done.code == Some(0) && done.stdout.is_empty(), "{done}");
    for word in [REFUSED, "cgroup/connect4", "cgroup/connect6", "seed"] {
        ensure!(done.stderr.contains(word), "no {word} in {done}");
    }
    Ok(())
}

/// Every fault's matches are accounted for.
fn sums(report: &Value) -> Outcome {
    for (number, fault) in report["faults"]
        .as_array()
        .context("no faults")?
        .iter()
        .enumerate()
    {
        let parts = [
            "injected",
            "probability",
            "when",
            "times",
            "after",
            "pulse",
            "rate_limit",
            "expired",
            "failed",
        ];
        let sum: u64 = parts.iter().map(|part| count(report, number, part)).sum();
        ensure!(count(report, number, "matched") == sum, "{fault}");
    }
    Ok(())
}

fn json() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let done = script(
        &[
            "--json",
            "--seed",
            "11",
            "-e",
            "connect:error=EPERM:p=50%:when=2+1:times=5",
            "-e",
            "connect:error=EACCES:after=1h",
        ],
        &format!("\"$0\" victim connect {address} 30; exit 6"),
    )
    .run()?;
    ensure!(
        done.code == Some(6) && done.stderr.lines().count() == 1,
        "{done}"
    );
    let report: Value = serde_json::from_str(&done.stderr)?;
    ensure!(report["status"] == 6, "{report}");
    ensure!(report["seed"] == 11, "{report}");
    ensure!(report["armed"] == true, "{report}");
    ensure!(report["ended"] == "the command ended", "{report}");
    ensure!(
        report["seconds"].as_f64().is_some_and(|s| s > 0.0),
        "{report}"
    );
    let faults: Vec<_> = report["faults"]
        .as_array()
        .context("no faults")?
        .iter()
        .map(|fault| fault["fault"].as_str().unwrap_or_default())
        .collect();
    ensure!(faults.len() == 3 && faults[0] == REFUSED, "{report}");
    // The first takes all, so that the others are not asked.
    ensure!(count(&report, 0, "injected") == 30, "{report}");
    sums(&report)?;

    let alone = super::murphy([
        "run",
        "--json",
        "-e",
        "connect:error=EPERM:p=50%:when=2+1:times=5",
    ])
    .args(["-e", "connect:error=EACCES:after=1h", "--"])
    .args([tests::victim::self_path()])
    .args(["victim", "connect", &address, "30"])
    .run()?;
    let report: Value = serde_json::from_str(&alone.stderr)?;
    sums(&report)?;
    ensure!(count(&report, 0, "matched") == 30, "{report}");
    ensure!(count(&report, 0, "when") == 1, "{report}");
    // What the first lets through is the second's.
    let left = 30 - count(&report, 0, "injected");
    ensure!(count(&report, 1, "after") == left, "{report}");
    Ok(())
}

fn to_file() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("result");
    let name = path.display().to_string();
    fs::write(&path, "old and long\n".repeat(100))?;
    let done = run(&["-o", &name], &["true"]).run()?;
    ensure!(done.code == Some(0) && done.stderr.is_empty(), "{done}");
    let text = fs::read_to_string(&path)?;
    ensure!(
        text.contains("MATCHED") && !text.contains("old and long"),
        "{text}"
    );

    let done = run(&["--json", "-q", "-o", &name], &["true"]).run()?;
    ensure!(done.code == Some(0) && done.stderr.is_empty(), "{done}");
    let text = fs::read_to_string(&path)?;
    let report: Value = serde_json::from_str(&text).context(text)?;
    ensure!(report["status"] == 0, "{report}");
    Ok(())
}

fn unwritable() -> Outcome {
    let folder = tempfile::tempdir()?;
    let ran = folder.path().join("ran").display().to_string();
    let path = folder.path().join("nonesuch/result").display().to_string();
    let done = run(&["-o", &path], &["touch", &ran]).run()?;
    ensure!(
        done.code == Some(125) && done.stderr.contains(&path),
        "{done}"
    );
    ensure!(
        !fs::exists(&ran)?,
        "the command was run for a result that cannot be told"
    );
    Ok(())
}
