//! Calls of running processes that are answered before the kernel does them, by whatever backend: what all have in common.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::calls::prepare;
use crate::postgres::Postgres;
use crate::report::count;
use crate::victim::{seen, victim};
use crate::{ChildGuard, Outcome, murphy, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// `murphy inject --json ARGS… --pid PID`, armed.
pub fn inject(args: &[&str], pid: u32) -> anyhow::Result<ChildGuard> {
    let pid = pid.to_string();
    let murphy = murphy(["inject", "--json"])
        .args(args)
        .args(["--pid", &pid])
        .spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

/// Its result, after it was ended as a person does.
pub fn stop(murphy: ChildGuard) -> anyhow::Result<Value> {
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

/// Waits until a victim has seen this five times more.
pub fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let now = || victim.stdout().map_or(0, |said| seen(&said, word));
    let before = now();
    wait_until(PATIENCE, || now() >= before + 5).with_context(|| {
        let said = victim.stdout().unwrap_or_default();
        format!("{word} was not seen: {said}")
    })
}

/// A running process is hit, its neighbour is not, and it is over when murphy is. `meanwhile` looks while it is in force, given
/// the process.
pub fn running(backend: &str, meanwhile: impl FnOnce(&ChildGuard) -> Outcome) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["sync", &*path.to_string_lossy(), "100000", "10"];
    let (own, neighbour) = (victim(steps).spawn()?, victim(steps).spawn()?);
    sees(&own, "ok")?;
    let injected = inject(&["-e", "fsync:error=EIO"], own.pid())?;
    sees(&own, "EIO")?;
    sees(&neighbour, "ok")?;
    meanwhile(&own)?;
    let report = stop(injected)?;
    sees(&own, "ok")?;
    let failed = seen(&own.stdout()?, "EIO");
    ensure!(
        count(&report, 0, "injected") == failed && count(&report, 0, "matched") == failed,
        "{failed} seen: {report}"
    );
    ensure!(report["faults"][0]["backend"] == backend, "{report}");
    ensure!(seen(&neighbour.stdout()?, "EIO") == 0);
    Ok(())
}

/// Made-up results, and errors that are drawn.
pub fn values() -> Outcome {
    let folder = tempfile::tempdir()?;
    prepare(folder.path())?;
    let place = folder.path().to_string_lossy().into_owned();
    let steps = [
        "values:getrandom,epoll_wait,nanosleep,fsync",
        &place,
        "100000",
        "10",
    ];
    let own = victim(steps).spawn()?;
    sees(&own, "getrandom 8")?;
    let faults = [
        "-e",
        "getrandom:retval=7",
        "-e",
        // Beyond 32 bits, and no errno.
        "nanosleep:retval=0x123456789",
        "-e",
        "fsync:error=EIO,ENOSPC:p=50%:seed=3",
        "-e",
        "epoll_wait:retval=0",
    ];
    let injected = inject(&faults, own.pid())?;
    for line in [
        "getrandom 7",
        "nanosleep 4886718345",
        "epoll_wait 0",
        "fsync EIO",
        "fsync ENOSPC",
        "fsync 0",
    ] {
        if let Err(error) = sees(&own, line) {
            let report = stop(injected)?;
            return Err(error.context(format!("{report}")));
        }
    }
    let report = stop(injected)?;
    for line in ["getrandom 8", "nanosleep 0", "epoll_wait EBADF", "fsync 0"] {
        sees(&own, line)?;
    }
    let said = own.stdout()?;
    let drawn = seen(&said, "fsync EIO") + seen(&said, "fsync ENOSPC");
    ensure!(
        count(&report, 0, "injected") == seen(&said, "getrandom 7")
            && count(&report, 1, "injected") == seen(&said, "nanosleep 4886718345")
            && count(&report, 2, "injected") == drawn
            && count(&report, 2, "probability") > 0,
        "{report}"
    );
    Ok(())
}

/// `PostgreSQL` panics when it cannot sync, and has all that was committed.
pub fn database() -> Outcome {
    let mut postgres = Postgres::start()?;
    let made = postgres.sql("create table t (n int); insert into t values (1)")?;
    ensure!(made.code == Some(0), "{made}");
    let injected = inject(&["-e", "fsync,fdatasync:error=EIO"], postgres.pid())?;
    let lost = postgres.sql("insert into t values (2)")?;
    ensure!(lost.code != Some(0), "{lost}");
    let panics = || postgres.said().is_ok_and(|said| said.contains("PANIC"));
    wait_until(PATIENCE, panics).with_context(|| postgres.said().unwrap_or_default())?;
    let report = stop(injected)?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    postgres.restart()?;
    let kept = postgres.sql("select n from t where n = 1")?;
    ensure!(kept.stdout.trim() == "1", "{kept}");
    Ok(())
}
