//! `--trace` and `--events`: what is told of each decision, and whether it is all of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Case, Finished, Group, Hit, Outcome, case, murphy, needs, net::Echo, victim, wait_until,
};

pub(crate) fn group() -> Group {
    tests::group(cases())
        // murphy's own side of events is the same on every kernel: one of the newer ones has it.
        .in_kernels(&["sid"])
}

fn cases() -> Vec<Case> {
    let net = || needs![Root, Cgroup2, Atomics];
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    vec![
        case("a trace line for each injection", net(), trace),
        case("a trace goes to a file if told so", net(), trace_file),
        case("-v traces what was left alone too", net(), trace_all),
        case(
            "a file call names call, kind of file and error",
            lsm(),
            trace_file_call,
        ),
        case("a packet is nobody's by name", net(), packets),
        case(
            "a line for each match; sums are the report's",
            net(),
            every_match,
        ),
        case(
            "flooded: what is written and what is lost are all there was",
            lsm(),
            flood,
        ),
        case("inject tells too", net(), inject),
        case(
            "a reader that does not read shortens nothing",
            net(),
            stalled_reader,
        ),
        case(
            "an events file that cannot be written: nothing is run",
            net(),
            unwritable,
        ),
        case(
            "replay agrees, and says so when a line is altered",
            net(),
            replay,
        ),
        case("replay -- CMD repeats the decisions", net(), replay_command),
        case("without a listener no word of events", net(), silent),
    ]
}

/// A pipe for the trace that is full before long, and a FIFO for the events that is never read.
fn stalled_reader() -> Outcome {
    let patience = Duration::from_secs(60);
    let folder = tempfile::tempdir()?;
    let fifo = folder.path().join("events");
    let made = tests::program("mkfifo").args([&fifo]).run()?;
    ensure!(made.code == Some(0), "{made}");
    // Both ends, so that it can be opened and is never read.
    let _reader = fs::File::options().read(true).write(true).open(&fifo)?;
    let (mut from, to) = std::io::pipe()?;
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "2000000", "0"];
    let own = victim::victim(steps).spawn()?;
    let fault = "connect:error=ECONNREFUSED";
    let pid = own.pid().to_string();
    let mut inject = std::process::Command::new(tests::murphy_path())
        .args(["inject", "--trace", "--name", "stalled", "--pid", &pid])
        .args(["--lease", "1s", "-e", fault, "--for", "10m", "--events"])
        .arg(&fifo)
        .stdin(std::process::Stdio::null())
        .stderr(to)
        .spawn()?;
    let injected = || -> Option<u64> {
        let status = murphy(["status", "--id", "stalled", "--json"]).run().ok()?;
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        let found = status.to_string();
        let (_, rest) = found.split_once("\"injected\":")?;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    // Far more lines than the pipe and the FIFO take, and then more for longer than a lease.
    wait_until(patience, || injected().is_some_and(|count| count > 20_000))
        .context("not hit any more, or no status")?;
    let (before, begun) = (injected().unwrap_or(0), Instant::now());
    wait_until(patience, || begun.elapsed() > Duration::from_secs(3))?;
    wait_until(patience, || {
        injected().is_some_and(|count| count > before + 100)
    })
    .context("the fault ended with its reader")?;
    let asked = Instant::now();
    let stopped = murphy(["stop", "stalled"]).run()?;
    ensure!(stopped.code == Some(0), "{stopped}");
    ensure!(asked.elapsed() < Duration::from_secs(20), "{stopped}");
    ensure!(!stopped.stdout.contains("was killed"), "{stopped}");
    // The reader comes back: it reads what there was room for, and what was lost is said.
    drop(_reader);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut from, &mut text)?;
    inject.wait()?;
    ensure!(text.contains("(INJECTED)"), "{text}");
    Ok(())
}

/// All lines of an events file.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn matches(lines: &[Value]) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| line["event"] == "match")
        .collect()
}

/// How many lines of a rule have this verdict.
fn told(lines: &[Value], rule: u64, verdict: &str) -> u64 {
    matches(lines)
        .iter()
        .filter(|line| line["rule"] == rule && line["verdict"] == verdict)
        .count() as u64
}

/// Every counter of every fault of the last line is the number of its lines.
fn sums_agree(lines: &[Value]) -> Result<()> {
    let end = lines.last().context("no line")?;
    ensure!(end["event"] == "end" && end["lost"] == 0, "{end}");
    let faults = end["report"]["faults"].as_array().context("no faults")?;
    for (rule, fault) in (0..).zip(faults) {
        for (verdict, counter) in [
            ("injected", &fault["injected"]),
            ("probability", &fault["suppressed"]["probability"]),
            ("when", &fault["suppressed"]["when"]),
            ("times", &fault["suppressed"]["times"]),
            ("after", &fault["suppressed"]["after"]),
            ("failed", &fault["failed"]),
        ] {
            let told = told(lines, rule, verdict);
            ensure!(
                *counter == told,
                "{told} lines say {verdict} of fault {rule}, but {fault}"
            );
        }
        let expired = told(lines, rule, "expired") + told(lines, rule, "lease");
        ensure!(fault["expired"] == expired, "{expired}: {fault}");
    }
    Ok(())
}

/// `murphy run ARGS… -- victim STEPS…`
fn run(args: &[&str], steps: &[&str]) -> Result<Finished> {
    murphy(["run"])
        .args(args)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words(steps.iter().copied()))
        .run()
}

fn trace() -> Outcome {
    let echo = Echo::start()?;
    let hit = Hit::run(
        &["--trace", "-e", "connect:error=ECONNREFUSED:p=50%"],
        &["connect", &echo.address.to_string(), "40"],
    )?;
    let injected = hit.count(0, "injected");
    ensure!(injected > 0 && injected < 40, "{}", hit.report);
    let line = format!(
        "connect({}) = -1 ECONNREFUSED (Connection refused) (INJECTED)",
        echo.address
    );
    let traced = hit.victim.stderr.lines().filter(|l| l.ends_with(&line));
    ensure!(traced.count() as u64 == injected, "{}", hit.victim);
    ensure!(
        hit.victim.stderr.lines().count() as u64 == injected,
        "{}",
        hit.victim
    );
    // Who: the test program's name, as the kernel cuts it, and a process id.
    let comm: String = victim::self_path()
        .file_name()
        .context("no name")?
        .to_string_lossy()
        .chars()
        .take(15)
        .collect();
    ensure!(
        hit.victim
            .stderr
            .lines()
            .all(|line| line.contains(&format!(" {comm}["))),
        "{}",
        hit.victim
    );
    Ok(())
}

fn trace_file() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("trace");
    let to = format!("--trace={}", path.display());
    let done = run(
        &[&to, "-q", "-e", "connect:error=EPERM"],
        &["connect", &echo.address.to_string(), "3"],
    )?;
    ensure!(done.stderr.is_empty(), "{done}");
    let text = fs::read_to_string(&path)?;
    ensure!(text.matches("= -1 EPERM ").count() == 3, "{text}");
    Ok(())
}

fn trace_all() -> Outcome {
    let echo = Echo::start()?;
    let done = run(
        &["--trace", "-v", "-e", "connect:error=EPERM:when=2"],
        &["connect", &echo.address.to_string(), "3"],
    )?;
    let count = |word: &str| done.stderr.matches(word).count();
    ensure!(count("(INJECTED)") == 1, "{done}");
    ensure!(count("(let be: not named by when)") == 2, "{done}");
    Ok(())
}

fn trace_file_call() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file").display().to_string();
    let done = run(
        &["--trace", "-e", "write:error=ENOSPC"],
        &["both", &path, "1"],
    )?;
    ensure!(
        done.stderr
            .contains("write(<file>) = -1 ENOSPC (No space left on device) (INJECTED)"),
        "{done}"
    );
    Ok(())
}

fn packets() -> Outcome {
    let echo = Echo::start()?;
    let done = run(
        &["--trace", "-e", "egress:loss=100%:proto=udp"],
        &["udp", &echo.address.to_string(), "3"],
    )?;
    // One byte behind an IPv4 and a UDP header.
    let line = " - egress lost (IPv4 29 bytes) (INJECTED)";
    ensure!(done.stderr.matches(line).count() == 3, "{done}");
    Ok(())
}

fn every_match() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events");
    let events = path.display().to_string();
    let args = [
        "--events",
        &events,
        "--seed",
        "7",
        "-e",
        "connect:error=EPERM:when=2..20+2:times=5",
        "-e",
        "connect:error=EACCES:p=30%",
        "-e",
        "ingress:loss=10%:proto=udp",
    ];
    let hit = Hit::run(&args, &["connect", &echo.address.to_string(), "50"])?;
    let lines = lines(&path)?;
    ensure!(
        lines[0]["event"] == "plan" && lines[0]["seed"] == 7,
        "{}",
        lines[0]
    );
    sums_agree(&lines)?;
    ensure!(told(&lines, 0, "injected") == 5 && told(&lines, 0, "times") > 0);
    ensure!(told(&lines, 1, "injected") == hit.seen("EACCES"));
    // Numbered from 1 without a gap, and never back in time.
    for rule in 0..2 {
        let of_rule: Vec<_> = matches(&lines)
            .into_iter()
            .filter(|line| line["rule"] == rule)
            .collect();
        let numbers: Vec<_> = of_rule
            .iter()
            .filter_map(|line| line["n"].as_u64())
            .collect();
        ensure!(numbers == (1..=of_rule.len() as u64).collect::<Vec<_>>());
        ensure!(of_rule.is_sorted_by_key(|line| line["time_ns"].as_u64()));
    }
    for line in matches(&lines) {
        ensure!(
            line["op"] == "connect"
                && line["address"] == "127.0.0.1"
                && line["port"] == echo.port()
                && line["pid"] == line["tid"],
            "{line}"
        );
    }
    Ok(())
}

/// `dd` writes a byte a call, which is as fast as matches come.
fn flood() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events");
    let report = folder.path().join("report");
    let done = murphy(["run", "--json", "-o"])
        .args([&report])
        .args(["--events"])
        .args([&path])
        .args(["-e", "write:error=EIO:on=chr:when=1000000000", "--", "dd"])
        .args(["if=/dev/zero", "of=/dev/null", "bs=1", "count=100000"])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let lines = lines(&path)?;
    let end = lines.last().context("no line")?;
    let lost = end["lost"].as_u64().context("lost")?;
    let matched = tests::report::count(&end["report"], 0, "matched");
    let written = matches(&lines).len() as u64;
    ensure!(matched == 100_000, "{end}");
    ensure!(
        written + lost == matched,
        "{written} written, {lost} lost, {matched} matched"
    );
    let numbers: BTreeSet<_> = matches(&lines)
        .iter()
        .filter_map(|l| l["n"].as_u64())
        .collect();
    ensure!(numbers.len() as u64 == written, "a number twice");
    let report: Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
    ensure!(report["events_lost"] == lost, "{report}");
    println!("{written} events written, {lost} lost");
    Ok(())
}

fn inject() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events");
    let victim = victim::victim(["connect", &echo.address.to_string(), "100000", "2"]).spawn()?;
    let done = murphy(["inject", "-e", "connect:error=EPERM:p=50%", "--for", "1s"])
        .args(["--trace", "--pid", &victim.pid().to_string(), "--events"])
        .args([&path])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let lines = lines(&path)?;
    sums_agree(&lines)?;
    let injected = told(&lines, 0, "injected");
    ensure!(injected > 0, "{done}");
    ensure!(
        done.stderr.matches("(INJECTED)").count() as u64 == injected,
        "{done}"
    );
    let pid = u64::from(victim.pid());
    ensure!(matches(&lines).iter().all(|line| line["pid"] == pid));
    Ok(())
}

fn unwritable() -> Outcome {
    for path in ["/dev/full", "/nowhere/events"] {
        let done = murphy(["run", "-e", "connect:error=EPERM", "--events", path])
            .args(["--", "echo", "ran"])
            .run()?;
        ensure!(
            done.code == Some(125) && done.stdout.is_empty() && done.stderr.contains(path),
            "{done}"
        );
    }
    let done = murphy(["run", "-e", "connect:error=EPERM", "--trace=/nowhere/trace"])
        .args(["--", "echo", "ran"])
        .run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    Ok(())
}

fn replay() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events");
    let events = path.display().to_string();
    let args = ["-q", "--events", &events];
    let faults = [
        "-e",
        "connect:error=EPERM:p=40%:when=2+3:times=4",
        "-e",
        "connect:error=EACCES:p=50%:after=20ms",
        "-e",
        "net:loss=1%",
    ];
    let steps = ["connect", &echo.address.to_string(), "50", "2"];
    run(&[&args[..], &faults[..]].concat(), &steps)?;
    let honest = murphy(["replay", &events]).run()?;
    ensure!(
        honest.code == Some(0) && honest.stdout.contains("all agree"),
        "{honest}"
    );
    let text = fs::read_to_string(&path)?;
    // One that was let be by the draw is said to have been injected.
    let line = (1..)
        .zip(text.lines())
        .find(|(_, line)| line.contains("\"verdict\":\"probability\""));
    let (number, line) = line.context("no draw said no")?;
    let altered = text.replace(line, &line.replace("\"probability\"", "\"injected\""));
    fs::write(&path, altered)?;
    let done = murphy(["replay", &events]).run()?;
    ensure!(
        done.code == Some(1) && done.stdout.contains(&format!("line {number}: ")),
        "{done}"
    );
    fs::write(&path, "no events file\n")?;
    let done = murphy(["replay", &events]).run()?;
    ensure!(
        done.code == Some(2) && done.stderr.contains("line 1"),
        "{done}"
    );
    Ok(())
}

fn replay_command() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events");
    let events = path.display().to_string();
    let steps = ["connect", &echo.address.to_string(), "64"];
    let first = run(
        &["-q", "--events", &events, "-e", "connect:error=EPERM:p=50%"],
        &steps,
    )?;
    let again = murphy(["replay", &events, "--"])
        .args([victim::self_path()])
        .args(victim::words(steps))
        .run()?;
    ensure!(again.code == Some(0), "{again}");
    ensure!(first.stdout == again.stdout, "{first} and {again}");
    ensure!(victim::seen(&again.stdout, "EPERM") > 0, "{again}");
    Ok(())
}

fn silent() -> Outcome {
    let echo = Echo::start()?;
    let hit = Hit::run(
        &["-e", "connect:error=EPERM"],
        &["connect", &echo.address.to_string(), "3"],
    )?;
    ensure!(hit.victim.stderr.is_empty(), "{}", hit.victim);
    ensure!(hit.report.get("events_lost").is_none(), "{}", hit.report);
    Ok(())
}
