//! Coming, changing, going, and waiting.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use murphy_engine::{Session, Settings};
use murphy_fault::plan::{Options, Plan, Selector, Target, Who};
use serde_json::json;
use tests::{http, murphy, murphy_path, wait_until};

use crate::{by::By, row};

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks; the figures are no finer.
const LOOK: Duration = Duration::from_micros(100);
/// Nobody has this user, so rules for it match nothing.
const NOBODY: u32 = 54_321;

/// Whether this process's own connect fails: it is the target.
fn is_hit(port: u16) -> Result<bool> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    match socket.connect(("127.0.0.1", port)) {
        Ok(()) => Ok(false),
        Err(error) => {
            ensure!(error.raw_os_error() == Some(libc::EPERM), "{error}");
            Ok(true)
        }
    }
}

/// Waits until this process is hit, or is not any more.
fn until(port: u16, hit: bool) -> Result<()> {
    let begun = Instant::now();
    while is_hit(port)? != hit {
        ensure!(begun.elapsed() < PATIENCE, "the faults do not change");
        sleep(LOOK);
    }
    Ok(())
}

/// From the start of the injector's program to its first injected fault, and from SIGTERM to the last; and to its end.
pub(crate) fn times(repetitions: usize) -> Result<()> {
    const PORT: u16 = 47;
    let mut all = By::ALL.map(|by| (by, [const { Vec::new() }; 3]));
    for _ in 0..repetitions {
        for (by, [first, last, end]) in &mut all {
            let begun = Instant::now();
            let injector = by.start(PORT)?;
            until(PORT, true).with_context(|| injector.stderr().unwrap_or_default())?;
            first.push(millis(begun));
            let begun = Instant::now();
            injector.signal(libc::SIGTERM)?;
            until(PORT, false)?;
            last.push(millis(begun));
            injector.finish(PATIENCE)?;
            end.push(millis(begun));
        }
    }
    let whats = [
        "cold start to first fault",
        "SIGTERM to last fault",
        "SIGTERM to its end",
    ];
    for (place, what) in whats.iter().enumerate() {
        for (by, values) in &all {
            row("inject", by.name(), what, "ms", &values[place]);
        }
    }
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn plan(rules: u16) -> Result<Plan> {
    let faults = (1..=rules).map(|port| format!("connect:error=EPERM:port={port}").parse());
    let who = Who {
        hit: vec![Selector::Uid(NOBODY)],
        ..Who::default()
    };
    let faults = faults.collect::<Result<_, _>>()?;
    Ok(Plan::new(
        faults,
        Target::Running(who),
        &Options::default(),
    )?)
}

/// Rules that come and go while others are in force. The plan is made beforehand, as its user has it.
pub(crate) fn rules(repetitions: usize) -> Result<()> {
    let settings = Settings {
        lease: Duration::from_secs(600),
        ..Settings::default()
    };
    let mut session = Session::for_running(plan(1)?, settings, None)?;
    let cases = [
        ("add 1 to 1", 1, 2),
        ("take 1 of 2", 2, 1),
        ("add 1 to 63", 63, 64),
        ("replace 64", 64, 64),
    ];
    let mut values = vec![Vec::new(); cases.len()];
    for _ in 0..repetitions {
        for ((_, before, after), values) in cases.iter().zip(&mut values) {
            session.replace(plan(*before)?)?;
            let next = plan(*after)?;
            // A change soon after another waits for it; that is the last row's.
            sleep(Duration::from_millis(100));
            let begun = Instant::now();
            session.replace(next)?;
            values.push(millis(begun));
        }
    }
    // As fast as it goes: each waits until nobody judges by the plan before it.
    let mut each = Vec::new();
    for _ in 0..repetitions {
        let plans = (0..20).map(|_| plan(64)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        for plan in plans {
            session.replace(plan)?;
        }
        each.push(20.0 * 64.0 / begun.elapsed().as_secs_f64());
    }
    session.end()?;
    for ((name, ..), values) in cases.iter().zip(&values) {
        row("rules", name, "time to replace", "ms", values);
    }
    row(
        "rules",
        "64 at once, again and again",
        "rules changed",
        "a second",
        &each,
    );
    Ok(())
}

/// What `serve` takes while nothing happens, without and with a fault in force; and the size of the program.
pub(crate) fn idle(repetitions: usize) -> Result<()> {
    const SECONDS: u64 = 5;
    let size = fs::metadata(murphy_path())?.len() as f64 / 1e6;
    row("murphy", "the program", "size", "MB", &[size]);
    let mut values = vec![(Vec::new(), Vec::new(), Vec::new()); 2];
    for _ in 0..repetitions {
        let folder = tempfile::tempdir()?;
        let daemon = murphy(["serve"])
            .env("MURPHY_RUN_DIR", folder.path())
            .spawn()?;
        let socket = folder.path().join("api.socket");
        let there = || http::ask(&socket, "GET", "/healthz", b"").is_ok_and(|a| a.status == 200);
        wait_until(PATIENCE, there).with_context(|| daemon.stderr().unwrap_or_default())?;
        for (with, (memory, wakes, busy)) in values.iter_mut().enumerate() {
            if with == 1 {
                let body = json!({"faults": ["connect:error=EPERM:port=47"], "target": {"pid": std::process::id()}, "for": "5m", "lease": "5m"});
                let answer = http::ask(&socket, "POST", "/v1/faults", body.to_string().as_bytes())?;
                ensure!(answer.status == 201, "{answer:?}");
            }
            // What starting leaves to do is not idling.
            sleep(Duration::from_secs(1));
            let before = Use::now()?;
            sleep(Duration::from_secs(SECONDS));
            let after = Use::now()?;
            memory.push(after.memory);
            wakes.push((after.wakes - before.wakes) / SECONDS as f64);
            busy.push((after.busy - before.busy) / SECONDS as f64);
        }
        daemon.signal(libc::SIGTERM)?;
        daemon.finish(PATIENCE)?;
    }
    let cases = [
        "serve, nothing injected",
        "serve, injector and guardian, one fault",
    ];
    for (case, (memory, ..)) in cases.iter().zip(&values) {
        row("idle", case, "memory (RSS)", "MB", memory);
    }
    for (case, (_, wakes, _)) in cases.iter().zip(&values) {
        row("idle", case, "wake-ups", "a second", wakes);
    }
    for (case, (.., busy)) in cases.iter().zip(&values) {
        row("idle", case, "CPU", "ms a second", busy);
    }
    Ok(())
}

/// What murphy's processes of this machine have used.
#[derive(Default)]
struct Use {
    /// MB now.
    memory: f64,
    /// Voluntary context switches: each ends with a wake-up.
    wakes: f64,
    /// ms of CPU.
    busy: f64,
}

impl Use {
    /// The daemon, injectors and guardians: whoever runs the program under test.
    fn now() -> Result<Self> {
        let program = murphy_path().canonicalize()?;
        let mut total = Self::default();
        for process in fs::read_dir("/proc")?.flatten() {
            let process = process.path();
            if fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program) {
                total.add(&process)?;
            }
        }
        Ok(total)
    }

    fn add(&mut self, process: &Path) -> Result<()> {
        let field = |status: &str, name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|number| number.parse::<f64>().ok())
                .with_context(|| format!("no {name} in {status}"))
        };
        let status = fs::read_to_string(process.join("status"))?;
        self.memory += field(&status, "VmRSS:")? / 1e3;
        for thread in fs::read_dir(process.join("task"))? {
            let thread = thread?.path();
            let status = fs::read_to_string(thread.join("status"))?;
            self.wakes += field(&status, "voluntary_ctxt_switches:")?;
            // ns on a CPU come first (the kernel's Documentation/scheduler/sched-stats.rst).
            let spent = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
            let spent = spent
                .split(' ')
                .next()
                .and_then(|ns| ns.parse::<f64>().ok());
            self.busy += spent.unwrap_or(0.0) / 1e6;
        }
        Ok(())
    }
}
