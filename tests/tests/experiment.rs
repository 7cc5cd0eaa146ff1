//! Experiments: the same files under `chaos run` and under murphy come to the same, activity by activity.
//!
//! A case is a file in `tests/experiments`. Beside an experiment's own keys it may have a table `case`, which
//! both runners leave alone: `options` for both, `env`, `signal` (`name` is sent once the file `when` is there),
//! `exit` (expected of both), and where the two are meant to differ, `differs`, which says why.

mod compare;
mod native;
mod oracle;
mod server;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use tests::{Case, Group, Outcome, case, needs};

pub(crate) fn group() -> Group {
    let injects = || needs![Root, Cgroup2, Atomics];
    let cases: [Case; 9] = [
        case(
            "every case comes to the same under chaos run",
            needs![ChaosToolkit],
            cases,
        ),
        case("a fault of an experiment's own", injects(), native::fault),
        case(
            "a fault ends with an interrupted experiment",
            injects(),
            native::fault_interrupted,
        ),
        case("a limit stops it and rolls back", needs![], native::limit),
        case("a method that lasts too long", needs![], native::duration),
        case(
            "an operator's stop, and the lock",
            needs![],
            native::operator,
        ),
        case("every mistake at once", needs![], native::mistakes),
        case("secrets and --strict", needs![], native::secrets_and_strict),
        case(
            "probes of murphy's own",
            needs![Tool("redis-server"), Tool("redis-cli")],
            native::probes,
        ),
    ];
    tests::group(cases)
        // How an experiment is played is no kernel's business.
        .host_only()
}

/// All cases, or with `MURPHY_CASE` those whose names contain its value.
fn cases() -> Outcome {
    let wanted = std::env::var("MURPHY_CASE").unwrap_or_default();
    let name = |file: &Path| {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let files: Vec<_> = files()
        .into_iter()
        .filter(|file| name(file).contains(&wanted))
        .collect();
    ensure!(!files.is_empty(), "no case is called {wanted:?}");
    let mut wrong = Vec::new();
    for file in &files {
        if let Err(error) = compare::agree(file) {
            wrong.push(format!("=== {}\n{error:#}", name(file)));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} cases differ\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
    tests::note(&format!("{} experiments agree with chaos run", files.len()));
    Ok(())
}

/// The files of the cases. A guest has neither them nor Chaos Toolkit.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json" || e == "yaml"))
        .collect();
    files.sort();
    files
}
