//! What can be checked without running anything: form, lints, licences, freshness, the other architecture.

use std::{
    env,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::record::{Outcome, Record};
use crate::{
    cache::Cache,
    progress::Step,
    sh,
    vm::build::{target_dir, workspace},
};

/// The advisory database is asked for once, and not for long.
const FETCH: Duration = Duration::from_secs(30);

const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// Runs all checks, in the order of how soon they tell.
pub(crate) fn run(cache: &Cache) -> Result<Vec<Record>> {
    let mut records = vec![
        check(
            "cargo fmt",
            cargo(&["fmt", "--check", "--", "--color", "never"]),
        ),
        check(
            "clippy",
            cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]),
        ),
        check(
            "the committed eBPF objects are fresh",
            this(&["ebpf", "--check"]),
        ),
    ];
    for what in ["licenses", "bans", "sources"] {
        records.push(check(
            &format!("cargo deny {what}"),
            deny(cache, &["check", what]),
        ));
    }
    records.push(advisories(cache)?);
    Ok(records)
}

/// A command whose success is the test.
pub(crate) fn check(name: &str, mut command: Command) -> Record {
    let step = Step::start(name);
    let done = sh::output(command.current_dir(workspace()));
    let (outcome, text) = match done {
        Ok(done) if done.status.success() => (Outcome::Passed, String::new()),
        Ok(done) => {
            let all = format!("{}\n{}", done.stdout.trim(), done.stderr.trim());
            (
                Outcome::Failed,
                format!("{}\n{}", sh::shown(&command), sh::tail(&all, 60)),
            )
        }
        Err(error) => (Outcome::Failed, format!("{error:#}")),
    };
    end(step, name, outcome, text)
}

fn end(step: Step, name: &str, outcome: Outcome, text: String) -> Record {
    let (word, remark) = match outcome {
        Outcome::Passed => ("ok", ""),
        Outcome::Failed => ("FAILED", ""),
        Outcome::Skipped => ("skipped", text.as_str()),
    };
    let seconds = step.end(word, remark).as_secs_f64();
    let mut record = Record::new("host", format!("check: {name}"), outcome, text);
    record.seconds = seconds;
    record
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Another command of this very program.
fn this(args: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.args(args);
    command
}

fn deny(cache: &Cache, args: &[&str]) -> Command {
    let mut command = Command::new(cache.tool("cargo-deny"));
    command.args(["--log-level", "error"]).args(args);
    command
}

/// Known vulnerabilities, if the database can be had: without a network that is a skip, not a failure.
fn advisories(cache: &Cache) -> Result<Record> {
    const NAME: &str = "cargo deny advisories";
    let step = Step::start(format!("{NAME}: fetching the database"));
    let mut fetch = deny(cache, &["fetch", "db"])
        .current_dir(workspace())
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + FETCH;
    let fetched = loop {
        if let Some(status) = fetch.try_wait()? {
            break status.success();
        }
        if Instant::now() > until || sh::interrupted() {
            fetch.kill()?;
            fetch.wait()?;
            break false;
        }
        thread::sleep(Duration::from_millis(50));
    };
    if fetched {
        step.end("ok", "");
        return Ok(check(
            NAME,
            deny(cache, &["check", "--disable-fetch", "advisories"]),
        ));
    }
    Ok(end(
        step,
        NAME,
        Outcome::Skipped,
        "advisory database unreachable".to_owned(),
    ))
}

/// User space compiles for aarch64: with rustup's library, or with one built from Debian's source. It takes the time that
/// nobody else wants, so that it can run beside tests that measure.
pub(crate) fn aarch64() -> Record {
    const NAME: &str = "user space compiles for aarch64";
    let target = [
        "check",
        "--quiet",
        "-p",
        "chaos-userspace",
        "--target",
        AARCH64,
    ];
    let std_installed =
        sh::output(Command::new("rustc").args(["--print", "target-libdir", "--target", AARCH64]))
            .is_ok_and(|o| std::path::Path::new(o.stdout.trim()).is_dir());
    if std_installed {
        return check(NAME, idly(&cargo(&target)));
    }
    let source = std::path::Path::new("/usr/bin/rustc").is_file()
        && sh::output(Command::new("/usr/bin/rustc").args(["--print", "sysroot"])).is_ok_and(|o| {
            std::path::Path::new(o.stdout.trim())
                .join("lib/rustlib/src/rust/library/std")
                .is_dir()
        });
    if !source {
        let reason = format!("neither rustup's {AARCH64} nor Debian's rust-web-src is installed");
        return end(Step::start(NAME), NAME, Outcome::Skipped, reason);
    }
    let mut command = Command::new("/usr/bin/cargo");
    command
        .args(target)
        .arg("-Zbuild-std")
        // Another compiler: its own folder, or each throws the other's work away.
        .arg("--target-dir")
        .arg(target_dir().with_file_name("aarch64"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env_remove("RUSTUP_TOOLCHAIN");
    check(NAME, idly(&command))
}

/// The command, scheduled when no other program wants the processor (`SCHED_IDLE`).
fn idly(command: &Command) -> Command {
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => idle.env(name, value),
            None => idle.env_remove(name),
        };
    }
    idle
}
