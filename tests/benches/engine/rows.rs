//! The cases of each group.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{ChildGuard, bpf, murphy, wait_until};

use crate::kernel::{self, Runs};
use crate::load::Load;

/// Operations a repetition.
const PACKETS: u32 = 200_000;
const CALLS: u32 = 50_000;
const WRITES: u32 = 100_000;

/// One case: faults, against whom, and what it gave so far.
pub(crate) struct Row {
    name: String,
    faults: Vec<String>,
    targets: Vec<String>,
    /// ns of the program, by the kernel's statistics.
    program: Vec<f64>,
    /// ns of the whole operation, as the load saw it.
    whole: Vec<f64>,
    /// ns of a test run.
    test: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, faults: Vec<String>, targets: &[&str]) -> Self {
        Self {
            name: name.into(),
            faults,
            targets: targets.iter().map(|&word| word.to_owned()).collect(),
            program: Vec::new(),
            whole: Vec::new(),
            test: Vec::new(),
        }
    }

    /// Puts the faults in force; without any, nothing.
    pub(crate) fn arm(&self) -> Result<Option<ChildGuard>> {
        if self.faults.is_empty() {
            return Ok(None);
        }
        let mut args = vec!["inject", "--lease", "60s"];
        for fault in &self.faults {
            args.extend(["-e", fault]);
        }
        args.extend(self.targets.iter().map(String::as_str));
        let murphy = murphy(args).spawn()?;
        wait_until(Duration::from_secs(60), || {
            murphy.stderr().is_ok_and(|text| text.contains("armed"))
        })
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
        Ok(Some(murphy))
    }

    fn print(&self, group: &str) {
        line(group, "program", &self.name, "ns", &self.program);
        line(group, "operation", &self.name, "ns", &self.whole);
        line(group, "test run", &self.name, "ns", &self.test);
    }
}

pub(crate) fn line(group: &str, what: &str, case: &str, unit: &str, values: &[f64]) {
    if !values.is_empty() {
        println!(
            "{}",
            json!({"group": group, "case": case, "what": what, "unit": unit, "values": values})
        );
    }
}

pub(crate) fn end(murphy: Option<ChildGuard>) -> Result<()> {
    if let Some(murphy) = murphy {
        murphy.signal(libc::SIGINT)?;
        murphy.finish(Duration::from_secs(60))?;
    }
    Ok(())
}

fn many(count: u16, fault: impl Fn(u16) -> String) -> Vec<String> {
    (0..count).map(fault).collect()
}

/// Packets: the classifier on the way out.
pub(crate) fn packets(repetitions: usize) -> Result<()> {
    let mut load = Load::start("udp", 0)?;
    let other = Load::start("wait", 0)?;
    let (own, foreign) = (load.pid(), other.pid());
    let hit = ["--pid", own.as_str()];
    let not = ["--pid", foreign.as_str()];
    let on_port = |n: u16| format!("egress:loss=100%:port={}", 1 + n);
    let port = load.port;
    let one = |text: &str| vec![text.to_owned()];
    let mut rows = vec![
        Row::new("no rule, no hook", vec![], &[]),
        Row::new("1 rule, for another process", many(1, on_port), &not),
        Row::new("64 rules, for another process", many(64, on_port), &not),
        Row::new("1 rule, not matching by port", many(1, on_port), &hit),
        Row::new("8 rules, not matching by port", many(8, on_port), &hit),
        Row::new("64 rules, not matching by port", many(64, on_port), &hit),
        Row::new(
            "64 rules, not matching by address",
            many(64, |n| format!("egress:loss=100%:dst=192.0.2.{n}")),
            &hit,
        ),
        Row::new(
            "64 rules, not matching by protocol",
            many(64, |n| format!("egress:loss=100%:proto={}", 100 + n)),
            &hit,
        ),
        Row::new(
            "64 rules, not matching by four filters",
            many(64, |n| {
                format!(
                    "egress:loss=100%:port={p}:sport={p}:dst=192.0.2.{n}:proto=6",
                    p = 1 + n
                )
            }),
            &hit,
        ),
        Row::new(
            "1 rule, suppressed (when)",
            one("egress:loss=100%:when=1000000000"),
            &hit,
        ),
        Row::new("1 rule, suppressed (p)", one("egress:loss=1ppm"), &hit),
        Row::new("1 rule, injecting", one("egress:loss=100%"), &hit),
        Row::new(
            "1 rule of 64, injecting",
            many(64, |n| {
                if n == 63 {
                    format!("egress:loss=100%:port={port}")
                } else {
                    on_port(n)
                }
            }),
            &hit,
        ),
    ];
    let mut empty = Row::new("an empty program", vec![], &[]);
    let mut clock = Vec::new();
    for _ in 0..repetitions {
        let (bare, reading) = kernel::empty(|| load.run(PACKETS).map(drop))?;
        empty.test.push(bare);
        clock.push(reading);
        for row in &mut rows {
            let murphy = row.arm()?;
            if murphy.is_some() {
                row.test.push(kernel::test_run("murphy_egress")?);
            }
            load.run(PACKETS / 20)?;
            row.whole.push(load.run(PACKETS)?);
            if murphy.is_some() {
                let _on = kernel::statistics()?;
                let before = Runs::of("murphy_egress")?;
                load.run(PACKETS)?;
                let after = Runs::of("murphy_egress")?;
                // Fewer runs than packets: something else took them before us.
                let mean = after.since(before, reading, u64::from(PACKETS));
                row.program
                    .push(mean.context("the classifier did not run")?);
            }
            end(murphy)?;
        }
    }
    // The statistics of the others are without it.
    line("packets", "clock", &empty.name, "ns", &clock);
    empty.print("packets");
    rows.iter().for_each(|row| row.print("packets"));
    Ok(())
}

/// Sockets: who owns one, and `connect(2)`, by number and kind of targets.
pub(crate) fn sockets(repetitions: usize) -> Result<()> {
    let mut rows = Vec::new();
    for (what, program) in [("socket", "murphy_socket"), ("connect", "murphy_connect4")] {
        let fault = vec![match what {
            "socket" => "egress:loss=100%:port=1".to_owned(),
            _ => "connect:error=EPERM:port=1".to_owned(),
        }];
        for (name, children, by) in [
            ("1 process", 0, "pid"),
            ("100 processes", 99, "pid"),
            ("10 000 processes", 9_999, "pid"),
            ("a user", 0, "uid"),
            ("a name", 0, "comm"),
            ("none", 0, "nobody"),
        ] {
            let load = Load::start(what, children)?;
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", load.pid()))?;
            let target = match by {
                "pid" => ["--pid".to_owned(), load.pid()],
                "uid" => ["--uid".to_owned(), "0".to_owned()],
                "comm" => ["--comm".to_owned(), comm.trim().to_owned()],
                _ => ["--uid".to_owned(), "54321".to_owned()],
            };
            let words: Vec<_> = target.iter().map(String::as_str).collect();
            let row = Row::new(format!("{what}, target {name}"), fault.clone(), &words);
            rows.push((row, load, program));
        }
    }
    let mut packets = Load::start("udp", 0)?;
    for _ in 0..repetitions {
        let (_, clock) = kernel::empty(|| packets.run(CALLS).map(drop))?;
        for (row, load, program) in &mut rows {
            let murphy = row.arm()?;
            let _on = kernel::statistics()?;
            load.run(CALLS / 20)?;
            let before = Runs::of(program)?;
            load.run(CALLS)?;
            let mean = Runs::of(program)?.since(before, clock, u64::from(CALLS));
            row.program.push(mean.context("the program did not run")?);
            end(murphy)?;
        }
    }
    rows.iter().for_each(|(row, ..)| row.print("sockets"));
    Ok(())
}

/// A process that is no target, beside an armed hook: `write(2)` of one byte to /dev/null.
pub(crate) fn writes(repetitions: usize) -> Result<()> {
    let mut load = Load::start("write", 0)?;
    let other = Load::start("wait", 0)?;
    let foreign = other.pid();
    let fault = || vec!["write:error=ENOSPC".to_owned()];
    let mut rows = [
        Row::new("no program", vec![], &[]),
        Row::new("an empty LSM program", vec![], &[]),
        Row::new("armed for another process", fault(), &["--pid", &foreign]),
        Row::new("armed for another user", fault(), &["--uid", "54321"]),
        Row::new(
            "another operation, armed for it",
            vec!["read:error=EIO:when=1000000000".to_owned()],
            &["--pid", &load.pid()],
        ),
    ];
    for _ in 0..repetitions {
        for (number, row) in rows.iter_mut().enumerate() {
            let empty = (number == 1)
                .then(|| bpf::attach_lsm("file_permission"))
                .transpose()?;
            let murphy = row.arm()?;
            load.run(WRITES / 20)?;
            row.whole.push(load.run(WRITES)?);
            end(murphy)?;
            drop(empty);
        }
    }
    rows.iter().for_each(|row| row.print("writes"));
    Ok(())
}
