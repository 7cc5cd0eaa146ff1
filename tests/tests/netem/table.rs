//! Delays that vary as a table of the user's says.

use anyhow::{Context as _, ensure};
use tests::{Outcome, murphy, net::Echo, program, report::count, victim::self_path};

use super::travel::{least, times, travel};

/// How often the victim travels: 24 draws of two numbers give less than three of one once in 28 000 times.
const TRIPS: usize = 24;

/// A table of two numbers gives two delays, and none between them.
pub(crate) fn two_delays() -> Outcome {
    let folder = tempfile::tempdir()?;
    // What has a meaning in an expression is written with a backslash, also in a file's name.
    let file = folder.path().join("two,ways.dist");
    std::fs::write(&file, "# one jitter early, or one late\n-8192 8192\n")?;
    let path = file.to_str().context("a path")?.replace(',', "\\,");
    let fault = format!("egress:delay=100ms:jitter=80ms:distribution={path}");
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = program(self_path())
        .args(["trips", "udp", &address, "5000", "20"])
        .spawn()?;
    let late = travel(&[&fault], &["udp", &address, &TRIPS.to_string()])?;
    let within = |from: f64, to: f64| {
        late.times
            .iter()
            .filter(|time| (from..to).contains(*time))
            .count()
    };
    ensure!(
        late.times.len() == TRIPS && least(&late.times) >= 20.0,
        "{:?}",
        late.times
    );
    ensure!(
        within(0.0, 100.0) >= 3 && within(180.0, f64::INFINITY) >= 3,
        "not two delays: {:?}",
        late.times
    );
    // Even ones would be there three times out of four.
    ensure!(
        within(60.0, 180.0) <= TRIPS / 2,
        "delays between the two: {:?}",
        late.times
    );
    for counter in ["matched", "injected"] {
        let counted = count(&late.report, 0, counter);
        ensure!(counted == TRIPS as u64, "{counter}: {}", late.report);
    }
    let others = times(&neighbour.stdout()?);
    let early = others.iter().filter(|time| **time < 20.0).count();
    ensure!(early > others.len() / 2, "a neighbour is late: {others:?}");
    let works = program(self_path())
        .args(["trips", "udp", &address, "5"])
        .run()?;
    ensure!(
        least(&times(&works.stdout)) < 20.0,
        "still late afterwards: {works}"
    );
    refused(&fault, &file)
}

/// The same fault with another file: nothing runs.
fn refused(fault: &str, file: &std::path::Path) -> Outcome {
    std::fs::write(file, "0 1\n2 three\n")?;
    let done = murphy(["run", "-e", fault, "--", "echo", "ran"]).run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    for phrase in [
        "two,ways.dist",
        "line 2: `three` is no whole number",
        "help: whole numbers",
    ] {
        ensure!(done.stderr.contains(phrase), "{phrase}: {done}");
    }
    Ok(())
}
