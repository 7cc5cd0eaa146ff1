//! `cargo xtask bench start`: all of murphy's own time, from cold.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Faults whose start is measured, by what they load.
const FAULTS: [(&str, &str); 4] = [
    ("one network hook", "connect:error=ECONNREFUSED"),
    (
        "with filters",
        "connect:error=ECONNREFUSED:port=80:dst=10.0.0.0/8",
    ),
    ("packets, both ways", "net:loss=1%"),
    ("an LSM hook", "write:error=ENOSPC:on=blk"),
];

/// Runs `true` alone and under each fault in turn, so that what disturbs one disturbs all.
pub(super) fn run(runs: usize) -> Result<()> {
    ensure!(runs > 0, "--runs is at least 1");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "murphy"])
        .status()?;
    ensure!(status.success(), "murphy does not build");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let murphy = std::path::Path::new(&target).join("release/murphy");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!(
        "Linux {}, {} CPUs, {runs} runs each, interleaved",
        release.trim(),
        std::thread::available_parallelism()?
    );

    let alone = || Command::new("true");
    let under = |fault: &str| {
        let mut command = Command::new(&murphy);
        command.args(["run", "-q", "-e", fault, "--", "true"]);
        command
    };
    let mut usable = Vec::new();
    for (name, fault) in FAULTS {
        match time(under(fault)) {
            Ok(_) => usable.push((name, fault)),
            Err(_) => println!("{name:<22} not on this kernel (murphy doctor -e {fault})"),
        }
    }
    let mut bare = Vec::new();
    let mut measured = vec![Vec::new(); usable.len()];
    for _ in 0..runs {
        bare.push(time(alone())?);
        for ((_, fault), times) in usable.iter().zip(&mut measured) {
            times.push(time(under(fault))?);
        }
    }
    let own = median(&mut bare);
    println!(
        "{:<22} {:>9} {:>9} {:>9}",
        "ms of murphy's own", "median", "min", "max"
    );
    for ((name, _), times) in usable.iter().zip(&mut measured) {
        let middle = median(times);
        let ms = |time: Duration| (time.as_secs_f64() - own.as_secs_f64()) * 1e3;
        println!(
            "{name:<22} {:>9.1} {:>9.1} {:>9.1}",
            ms(middle),
            ms(times[0]),
            ms(times[times.len() - 1])
        );
    }
    Ok(())
}

fn time(mut command: Command) -> Result<Duration> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(begun.elapsed())
}

/// Sorts, and gives the middle.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
