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
    let never = format!("{fault}:when=1000000000");
    // The greatest number that strace takes; it is slow enough never to get there.
    let inject = format!("inject={call}:error=EIO:when=65535");
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
    // One that leaves it running.
    beside.beside = Some(never.clone());
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
            &["--backend", "bpf", "-e", &fault],
            ALL,
        ),
        ours(
            "murphy, suppressed: seccomp",
            &["--backend", "seccomp", "-e", &never],
            0,
        ),
        ours(
            "murphy, injecting: seccomp",
            &["--backend", "seccomp", "-e", &fault],
            ALL,
        ),
        case("strace, suppressed", &strace, 0),
        case("strace --seccomp-bpf, suppressed", &filtered, 0),
    ];
    compare(call, &cases, repetitions, |under| load(under, &[call]));
    Ok(())
}

/// The same call of a program that shares its C library, as libfiu's wrappers in it want: it is preloaded before that, and a
/// program of murphy's tests is linked statically.
pub(crate) fn preload(repetitions: usize) -> Result<()> {
    /// It says its figures by a way that no wrapper sees.
    const PERL: &str = r#"
use Time::HiRes;
open(my $null, ">", "/dev/null") or die;
my ($calls, $failed, $begun, $took) = (0, 0, Time::HiRes::time());
do {
    for (1..64) { defined(syswrite($null, "x")) or $failed++ }
    $calls += 64;
    $took = Time::HiRes::time() - $begun;
} while ($took < 0.3);
my $said = sprintf("%f %d\n", $took * 1e9 / $calls, $failed * 1e6 / $calls);
syscall(1, 1, $said, length($said));
"#;
    const FAULT: &str = "write:error=EIO:on=chr";
    let never = format!("{FAULT}:when=1000000000");
    let point = format!("name=posix/io/rw/write,failinfo={}", libc::EIO);
    let always = format!("enable {point}");
    let rarely = format!("enable_random {point},probability=0");
    let cases = [
        case("alone", &[], 0),
        ours(
            "murphy, suppressed: bpf",
            &["--backend", "bpf", "-e", &never],
            0,
        ),
        ours(
            "murphy, injecting: bpf",
            &["--backend", "bpf", "-e", FAULT],
            ALL,
        ),
        ours(
            "murphy, suppressed: seccomp",
            &["--backend", "seccomp", "-e", &never],
            0,
        ),
        ours(
            "murphy, injecting: seccomp",
            &["--backend", "seccomp", "-e", FAULT],
            ALL,
        ),
        case("fiu-run, suppressed", &["fiu-run", "-x", "-c", &rarely], 0),
        case("fiu-run, injecting", &["fiu-run", "-x", "-c", &always], ALL),
    ];
    compare("write by perl", &cases, repetitions, |under| {
        let mut words = under.to_vec();
        words.extend(["perl", "-e", PERL].map(str::to_owned));
        program(&words[0]).args(&words[1..])
    });
    Ok(())
}

/// Each case in turn, again and again, so that what else the machine does is everybody's.
fn compare(
    group: &str,
    cases: &[Case],
    repetitions: usize,
    command: impl Fn(&[String]) -> Program,
) {
    let mut values = vec![Vec::new(); cases.len()];
    for turn in 0..repetitions {
        for (case, values) in cases.iter().zip(&mut values) {
            // What cannot be done here is said once.
            if values.len() < turn {
                continue;
            }
            match once(case, command(&case.under)) {
                Ok(value) => values.push(value),
                Err(error) => eprintln!("no row for {group}, {}: {error:#}", case.name),
            }
        }
    }
    for (case, values) in cases.iter().zip(&values) {
        if !values.is_empty() {
            row(group, case.name, "time of a call", "ns", values);
        }
    }
}

fn once(case: &Case, command: Program) -> Result<f64> {
    let other = case.beside.as_deref().map(Other::under).transpose()?;
    let done = command.run()?;
    drop(other);
    let why = done.stderr.lines().next().unwrap_or_default();
    ensure!(done.code == Some(0), "{why}");
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
        let why = child.stderr()?;
        ensure!(there(), "{}", why.lines().next().unwrap_or_default());
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
    // Not /proc/self/exe: a wrapper's own is another.
    let this = std::env::current_exe().unwrap_or_default();
    words.push(this.display().to_string());
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
