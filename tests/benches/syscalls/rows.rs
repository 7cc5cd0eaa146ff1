//! The cases, each under one tool.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{ChildGuard, Program, murphy, murphy_path, program};

/// One way to be under a fault, or not.
struct Case {
    name: &'static str,
    /// What the load's command is put behind.
    under: Vec<String>,
    /// Which of a million calls fail.
    fail: u64,
    /// In force beside it, for somebody else.
    beside: Option<String>,
}

fn case(name: &'static str, under: &[&str], fail: u64) -> Case {
    Case {
        name,
        under: under.iter().map(|&word| word.to_owned()).collect(),
        fail,
        beside: None,
    }
}

/// The same, under murphy.
fn ours(name: &'static str, words: &[&str], fail: u64) -> Case {
    let path = murphy_path().display().to_string();
    let mut under = vec![path.as_str(), "run", "-q"];
    under.extend(words);
    under.push("--");
    case(name, &under, fail)
}

const ALL: u64 = 1_000_000;

/// A system call's own time: alone, beside a fault of somebody else's, and under each tool.
pub(crate) fn calls(call: &'static str, repetitions: usize) -> Result<()> {
    // What the load's own output is written to is no character device.
    let on = if call == "write" { ":on=chr" } else { "" };
    let fault = format!("{call}:error=EIO{on}");
    let path = if call == "openat" {
        ":path=/dev/null"
    } else {
        ""
    };
    let never = format!("{fault}:when=1000000000");
    let here = format!("{call}:error=EIO{path}{on}");
    let inject = format!("inject={call}:error=EIO:when=1000000000");
    let trace = format!("trace={call}");
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    let filtered = [&["strace", "--seccomp-bpf"][..], &strace[1..]].concat();
    let mut beside = case("murphy, for another process: bpf", &[], 0);
    beside.beside = Some(fault.clone());
    let cases = [
        case("alone", &[], 0),
        beside,
        ours(
            "murphy, suppressed: bpf",
            &["--backend", "bpf", "-e", &never],
            0,
        ),
        ours(
            "murphy, injecting: bpf",
            &["--backend", "bpf", "-e", &here],
            ALL,
        ),
        ours(
            "murphy, suppressed: seccomp",
            &["--backend", "seccomp", "-e", &never],
            0,
        ),
        ours(
            "murphy, injecting: seccomp",
            &["--backend", "seccomp", "-e", &here],
            ALL,
        ),
        case("strace, suppressed", &strace, 0),
        case("strace --seccomp-bpf, suppressed", &filtered, 0),
    ];
    let mut values = vec![Vec::new(); cases.len()];
    for _ in 0..repetitions {
        for (case, values) in cases.iter().zip(&mut values) {
            match once(case, call) {
                Ok(value) => values.push(value),
                Err(error) => eprintln!("{call}, {}: {error:#}", case.name),
            }
        }
    }
    for (case, values) in cases.iter().zip(&values) {
        if !values.is_empty() {
            row(call, case.name, "time of a call", "ns", values);
        }
    }
    Ok(())
}

fn once(case: &Case, call: &str) -> Result<f64> {
    let other = case.beside.as_deref().map(Other::under).transpose()?;
    let done = load(&case.under, &[call]).run()?;
    drop(other);
    ensure!(done.code == Some(0), "{done}");
    let figures = numbers(&done.stdout)?;
    let [time, failed] = figures[..] else {
        anyhow::bail!("{done}");
    };
    ensure!(failed as u64 == case.fail, "{failed} of a million failed");
    Ok(time)
}

/// Somebody else, who is under a fault for as long as this lives.
struct Other(Option<ChildGuard>);

impl Other {
    fn under(fault: &str) -> Result<Self> {
        let run = ["run", "-q", "--backend", "bpf", "-e", fault, "--"];
        let child = murphy(run)
            .args(["sh", "-c", "echo there; sleep 60"])
            .spawn()?;
        let there = || child.stdout().is_ok_and(|said| said.contains("there"));
        let patience = std::time::Duration::from_secs(30);
        tests::wait_until(patience, || {
            there() || !child.stderr().unwrap_or_default().is_empty()
        })?;
        ensure!(there(), "{}", child.stderr()?);
        Ok(Self(Some(child)))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            // Whatever it says, the next case finds out whether it is gone.
            let _ = child.signal(libc::SIGTERM);
            let _ = child.finish(std::time::Duration::from_secs(30));
        }
    }
}

/// How late delayed calls come back, eight threads at once, beside a sleep of the same length.
pub(crate) fn delay(repetitions: usize) -> Result<()> {
    const MICROS: &str = "10000";
    const FAULT: &str = "getppid:delay_enter=10ms";
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=getppid",
    ];
    let strace = [&strace[..], &["-e", "inject=getppid:delay_enter=10ms"]].concat();
    let cases = [
        (case("nanosleep", &[], 0), "nanosleep"),
        (ours("murphy: seccomp", &["-e", FAULT], 0), "getppid"),
        (case("strace", &strace, 0), "getppid"),
    ];
    let mut values = vec![(Vec::new(), Vec::new()); cases.len()];
    for _ in 0..repetitions {
        for ((case, what), (medians, tails)) in cases.iter().zip(&mut values) {
            let done = load(&case.under, &[what, "8", "50", MICROS]).run()?;
            if done.code != Some(0) {
                eprintln!("delay, {}: {done}", case.name);
                continue;
            }
            let mut times = numbers(&done.stdout)?;
            times.sort_by(f64::total_cmp);
            ensure!(!times.is_empty(), "{done}");
            medians.push(times[times.len() / 2]);
            tails.push(times[times.len() * 99 / 100]);
        }
    }
    for ((case, _), (medians, tails)) in cases.iter().zip(&values) {
        if !medians.is_empty() {
            row(
                "a delay of 10 ms",
                case.name,
                "lateness, p50",
                "µs",
                medians,
            );
            row("a delay of 10 ms", case.name, "lateness, p99", "µs", tails);
        }
    }
    Ok(())
}

/// This program as a load, under something or under nothing.
fn load(under: &[String], what: &[&str]) -> Program {
    let mut words = under.to_vec();
    words.push("/proc/self/exe".to_owned());
    // A wrapper's own /proc/self is another.
    if let Ok(path) = std::env::current_exe() {
        words.pop();
        words.push(path.display().to_string());
    }
    words.push("load".to_owned());
    words.extend(what.iter().map(|&word| word.to_owned()));
    program(&words[0]).args(&words[1..])
}

fn numbers(text: &str) -> Result<Vec<f64>> {
    let words = text.split_whitespace().map(str::parse::<f64>);
    words
        .collect::<Result<_, _>>()
        .with_context(|| text.to_owned())
}

fn row(group: &str, case: &str, what: &str, unit: &str, values: &[f64]) {
    println!(
        "{}",
        json!({"group": group, "case": case, "what": what, "unit": unit, "values": values})
    );
}
