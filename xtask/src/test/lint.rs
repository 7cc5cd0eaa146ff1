//! What can be checked without running anything: form, lints, licences, freshness, the other architecture.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::record::{Outcome, Record};
use crate::{
    cache::Cache,
    cost,
    progress::Step,
    sh, tools,
    vm::build::{target_dir, workspace},
};

const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// Runs all checks, in the order of how soon they tell.
pub(crate) fn run(cache: &Cache) -> Vec<Record> {
    let step = |cost: &str, name: &str, command| cost::step(cost, || check(name, command));
    let fmt = cargo(&["fmt", "--check", "--", "--color", "never"]);
    let clippy = cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]);
    let objects = "the committed eBPF objects are fresh";
    let mut records = vec![
        step("cargo fmt", "cargo fmt", fmt),
        step("clippy", "clippy", clippy),
        step("ebpf --check", objects, this(&["ebpf", "--check"])),
        step("packages", "each crate can be packaged", packages()),
    ];
    records.extend(cost::step("cargo deny", || dependencies(cache)));
    records
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

/// Packages what can be published. Building the packages would take as long as building murphy:
/// DEVELOPERS.md has the command that does.
fn packages() -> Command {
    let mut command = cargo(&["package", "--quiet", "--offline", "--allow-dirty"]);
    command.args(["--workspace", "--no-verify"]);
    for helper in ["chaos-ebpf", "tests", "xtask"] {
        command.args(["--exclude", helper]);
    }
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

/// Licences, forbidden crates, sources and known vulnerabilities, by cargo-deny. What is not in the
/// cache is not fetched or built for it: the check is skipped then.
fn dependencies(cache: &Cache) -> Vec<Record> {
    let missing = tools::version(cache, "cargo-deny")
        .is_none()
        .then_some("cargo-deny is not in the cache: `cargo xtask setup --only lint` builds it");
    let no_database = advisory_databases()
        .as_deref()
        .is_none_or(is_empty)
        .then_some("no advisory database: `cargo-deny fetch db` fetches it");
    let run = |what: &str, args: &[&str], missing: Option<&str>| {
        let name = format!("cargo deny {what}");
        match missing {
            None => check(&name, deny(cache, args)),
            Some(why) => end(Step::start(&name), &name, Outcome::Skipped, why.to_owned()),
        }
    };
    let mut records: Vec<_> = ["licenses", "bans", "sources"]
        .map(|what| run(what, &["check", what], missing))
        .into();
    let args = ["check", "--disable-fetch", "advisories"];
    records.push(run("advisories", &args, missing.or(no_database)));
    records
}

/// Where cargo-deny keeps advisory databases, unless deny.toml says otherwise.
fn advisory_databases() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(cargo.join("advisory-dbs"))
}

/// Whether a folder holds no folder, or cannot be read.
fn is_empty(folder: &Path) -> bool {
    !fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    })
}

/// User space compiles for aarch64: with rustup's library, or with one built from Debian's source. It takes the time that
/// nobody else wants, so that it can run beside tests that measure.
pub(crate) fn aarch64() -> Record {
    const NAME: &str = "user space compiles for aarch64";
    let target = ["check", "--quiet", "-p", "murphy", "--target", AARCH64];
    let std_installed =
        sh::output(Command::new("rustc").args(["--print", "target-libdir", "--target", AARCH64]))
            .is_ok_and(|o| Path::new(o.stdout.trim()).is_dir());
    if std_installed {
        return check(NAME, idly(&cargo(&target)));
    }
    let source = Path::new("/usr/bin/rustc").is_file()
        && sh::output(Command::new("/usr/bin/rustc").args(["--print", "sysroot"])).is_ok_and(|o| {
            Path::new(o.stdout.trim())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cargo_deny_its_checks_are_skipped_and_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let records = dependencies(&Cache::at(folder.path()));
        assert_eq!(records.len(), 4);
        for record in records {
            assert_eq!(record.outcome, Outcome::Skipped, "{record:?}");
            assert!(record.text.starts_with("cargo-deny is not in the cache"));
        }
    }
}
