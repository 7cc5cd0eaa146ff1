//! Unit and property tests, counted one by one.
//!
//! Runs the test programs that were built together with murphy and the integration tests. Those of
//! xtask are built as xtask itself is. There are no documentation tests.

use std::process::Command;

use anyhow::Result;

use super::record::{Outcome, Record};
use crate::{
    cost,
    progress::Step,
    sh,
    vm::build::{self, Artifact, workspace},
};

/// The name of this crate and of its test program.
const XTASK: &str = "xtask";

/// Builds and runs xtask's tests, and runs the given test programs.
pub(crate) fn run(programs: &[Artifact], filter: Option<&str>) -> Result<Vec<Record>> {
    let own = cost::step("build of xtask's tests", xtask)?;
    let step = Step::start("unit and property tests");
    let mut records = Vec::new();
    if !own.errors.is_empty() {
        let test = format!("unit: {XTASK}");
        records.push(Record::new("host", test, Outcome::Failed, own.errors));
    }
    cost::step("unit tests", || {
        for program in programs.iter().chain(&own.artifacts) {
            records.extend(run_one(program, filter)?);
        }
        anyhow::Ok(())
    })?;
    let bad = records
        .iter()
        .filter(|r| r.outcome == Outcome::Failed)
        .count();
    step.end(
        if bad == 0 { "ok" } else { "FAILED" },
        &format!("{} tests, {bad} failed", records.len()),
    );
    Ok(records)
}

/// Builds xtask's tests with the profile that `cargo xtask` uses: the dependencies are there.
fn xtask() -> Result<build::Built> {
    let mut cargo = build::cargo("test");
    cargo.current_dir(workspace());
    cargo.args(["--no-run", "-p", XTASK]);
    build::artifacts(cargo)
}

/// Runs one test program in the folder of its package, as cargo does.
fn run_one(program: &Artifact, filter: Option<&str>) -> Result<Vec<Record>> {
    let mut command = Command::new(&program.path);
    command
        .current_dir(&program.package)
        .env("CARGO_MANIFEST_DIR", &program.package)
        .env("RUST_BACKTRACE", "0")
        .args(filter);
    let done = sh::output(&mut command)?;
    let mut records = parse(&program.name, &done.stdout);
    if !done.status.success() && !records.iter().any(|r| r.outcome == Outcome::Failed) {
        let text = format!(
            "the test program crashed: {}\n{}\n{}",
            done.status,
            sh::tail(&done.stdout, 20),
            sh::tail(&done.stderr, 60)
        );
        let test = format!("unit: {}", program.name);
        records.push(Record::new("host", test, Outcome::Failed, text));
    }
    Ok(records)
}

/// Reads libtest's lines `test NAME ... ok`. Stable has no machine-readable form.
fn parse(program: &str, stdout: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for line in stdout.lines() {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|l| l.rsplit_once(" ... "))
        else {
            continue;
        };
        let outcome = match result {
            "ok" => Outcome::Passed,
            r if r.starts_with("ignored") => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let text = match outcome {
            Outcome::Passed => String::new(),
            Outcome::Skipped => result.to_owned(),
            Outcome::Failed => sh::tail(&said_by(stdout, name), 30),
        };
        records.push(Record::new(
            "host",
            format!("unit: {program}::{name}"),
            outcome,
            text,
        ));
    }
    records
}

/// The block `---- NAME stdout ----`.
fn said_by(stdout: &str, name: &str) -> String {
    let head = format!("---- {name} stdout ----");
    let block = stdout.split_once(&head).map_or("", |(_, rest)| rest);
    let end = block
        .find("\n---- ")
        .or_else(|| block.find("\nfailures:"))
        .unwrap_or(block.len());
    block[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libtest() {
        let stdout = "\nrunning 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n\n\
                      ---- c stdout ----\nboom\n\nfailures:\n    c\n";
        let got = parse("chaos_common", stdout);
        assert_eq!(got[0].test, "unit: chaos_common::a::b");
        assert_eq!(
            (got[1].outcome, got[1].text.as_str()),
            (Outcome::Failed, "boom")
        );
    }
}
