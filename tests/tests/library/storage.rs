//! Files: sqlite3, and processes that were there before the fault.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{ChildGuard, Finished, Outcome, program, victim, wait_until};

use super::scene::{Apps, experiment, play};

const PATIENCE: Duration = Duration::from_secs(8);
const SIGTERM: i32 = 15;

/// What it says goes through a pipe: a test's output is a file, too.
fn sqlite(who: &Path, database: &Path, command: &str) -> Result<Finished> {
    program("sh")
        .args(["-c", "\"$@\" 2>&1 | cat", "sh"])
        .args([who, database])
        .args([command])
        .run()
}

pub(crate) fn full() -> Outcome {
    let apps = Apps::new()?;
    let app = apps.copy("sqlite3")?;
    let (own, other) = (apps.path().join("own"), apps.path().join("other"));
    for database in [&own, &other] {
        let made = sqlite(&app, database, "create table t (n)")?;
        ensure!(made.stdout.is_empty(), "{made}");
    }
    let insert = "insert into t values (1) returning n";
    play(
        experiment!("storage/disk-full"),
        &app,
        &[],
        || {
            let done = sqlite(&app, &own, insert)?;
            ensure!(done.stdout.trim() == "1", "{done}");
            Ok(())
        },
        || {
            let done = sqlite(&app, &own, insert)?;
            ensure!(done.stdout.contains("disk is full"), "{done}");
            let neighbour = sqlite(Path::new("sqlite3"), &other, insert)?;
            ensure!(neighbour.stdout.trim() == "1", "the neighbour: {neighbour}");
            Ok(())
        },
    )?;
    // One row before, none under the fault, one after it.
    let whole = "pragma integrity_check; select count(*) from t";
    let whole = sqlite(&app, &own, whole)?;
    ensure!(whole.stdout == "ok\n2\n", "{whole}");
    Ok(())
}

/// A victim that does one thing over and over, until it is told to end.
struct Steady(ChildGuard);

impl Steady {
    fn start(who: &Path, step: &str, path: &Path) -> Result<Self> {
        let path = path.to_str().context("a strange folder")?;
        let words = victim::words([step, path, "1000000", "20"]);
        // timeout(1) hands SIGTERM on to all of the pipe.
        let child = program("timeout")
            .args(["100", "sh", "-c", "\"$@\" | cat", "sh"])
            .args([who])
            .args(words)
            .spawn()?;
        Ok(Self(child))
    }

    fn seen(&self, word: &str) -> Result<u64> {
        Ok(victim::seen(&self.0.stdout()?, word))
    }

    /// Waits until it has seen this five times more.
    fn sees(&self, word: &str) -> Outcome {
        let already = self.seen(word)?;
        wait_until(PATIENCE, || {
            self.seen(word).is_ok_and(|seen| seen >= already + 5)
        })
        .with_context(|| {
            format!(
                "{word} was not seen: {}",
                self.0.stdout().unwrap_or_default()
            )
        })
    }

    fn end(self) -> Outcome {
        self.0.signal(SIGTERM)?;
        self.0.finish(PATIENCE)?;
        Ok(())
    }
}

/// What a running process sees of a file: `word` while the fault is there, and neither before nor afterwards; the
/// neighbour never.
fn running(file: (&str, &str), share: &str, step: &str, word: &str) -> Outcome {
    let apps = Apps::new()?;
    let app = apps.copy(victim::self_path())?;
    let path = apps.path().join("file");
    fs::write(&path, "x")?;
    let ours = Steady::start(&app, step, &path)?;
    let others = Steady::start(&victim::self_path(), step, &path)?;
    let injected = play(
        file,
        &app,
        &[("FAULT_SHARE", share)],
        || ours.sees("ok"),
        || {
            ours.sees(word)?;
            others.sees("ok")
        },
    )?;
    let seen = ours.seen(word)?;
    ours.sees("ok")?;
    ensure!(
        ours.seen(word)? == seen && injected == seen,
        "seen {seen}, counted {injected}, later {}",
        ours.seen(word)?
    );
    ensure!(others.seen(word)? == 0, "the neighbour was hit");
    ours.end()?;
    others.end()
}

pub(crate) fn denied() -> Outcome {
    running(
        experiment!("storage/permission-denied"),
        "100%",
        "open",
        "EACCES",
    )
}

pub(crate) fn unsynced() -> Outcome {
    running(experiment!("storage/fsync-error"), "100%", "sync", "EIO")
}

pub(crate) fn broken() -> Outcome {
    running(experiment!("storage/io-error"), "30%", "read", "EIO")
}
