//! Unit, property and documentation tests, counted one by one.

use anyhow::Result;

use super::record::{Outcome, Record};
use crate::{
    progress::Step,
    sh,
    vm::build::{Profile, static_cargo},
};

/// Runs them for all crates; the integration tests are not among them.
pub(crate) fn run(filter: Option<&str>) -> Result<Vec<Record>> {
    let step = Step::start("unit and property tests");
    let mut records = Vec::new();
    let groups: [&[&str]; 2] = [
        &[
            "--workspace",
            "--exclude",
            "chaos-ebpf",
            "--exclude",
            "tests",
            "--no-fail-fast",
        ],
        &["-p", "tests", "--lib"],
    ];
    for args in groups {
        // As the integration tests are built: what both use is compiled once.
        let mut command = static_cargo("test", Profile::Vm);
        command.args(args).env("RUST_BACKTRACE", "0").args(filter);
        let done = sh::output(&mut command)?;
        let found = parse(&done.stdout, &done.stderr);
        let failed = found.iter().any(|r| r.outcome == Outcome::Failed);
        records.extend(found);
        if !done.status.success() && !failed {
            // It did not compile, or a test program crashed.
            let text = format!(
                "{}\n{}",
                sh::tail(&done.stdout, 20),
                sh::tail(&done.stderr, 60)
            );
            records.push(Record::new(
                "host",
                format!("unit: {}", args.join(" ")),
                Outcome::Failed,
                text,
            ));
        }
    }
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

/// Reads libtest's lines `test NAME ... ok`. Stable has no machine-readable form.
fn parse(stdout: &str, stderr: &str) -> Vec<Record> {
    // Which program is running is said on stderr, in the same order as the programs' headers on stdout.
    let programs: Vec<String> = stderr
        .lines()
        .filter_map(|l| {
            let l = l.trim_start();
            l.strip_prefix("Running ")
                .or_else(|| l.strip_prefix("Doc-tests "))
        })
        .map(|l| {
            let path = l
                .rsplit_once('(')
                .map_or(l, |(_, p)| p.trim_end_matches(')'));
            let name = path.rsplit('/').next().unwrap_or(path);
            name.rsplit_once('-')
                .map_or(name, |(stem, _)| stem)
                .to_owned()
        })
        .collect();
    let mut next = programs.into_iter();
    let mut program = String::new();
    let mut records = Vec::new();
    for line in stdout.lines() {
        if line.starts_with("running ") && line.contains(" test") {
            program = next.next().unwrap_or_default();
        }
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
        let stderr = "   Compiling x\n     Running unittests src/lib.rs (target/debug/deps/chaos_common-0123456789abcdef)\n";
        let stdout = "\nrunning 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n\n\
                      ---- c stdout ----\nboom\n\nfailures:\n    c\n";
        let got = parse(stdout, stderr);
        assert_eq!(got[0].test, "unit: chaos_common::a::b");
        assert_eq!(
            (got[1].outcome, got[1].text.as_str()),
            (Outcome::Failed, "boom")
        );
    }
}
