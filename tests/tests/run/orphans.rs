//! `--orphans`: what becomes of processes that outlive CMD.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use serde_json::Value;
use tests::{
    Case, Finished, Outcome, Program, case, net::Echo, report::count, victim::seen, wait_until,
};

use super::{least, script};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("release: it goes on without faults", least(), release),
        case("wait: the faults go on for it", least(), wait),
        case("wait: a signal releases it", least(), wait_no_more),
        case("kill: it is gone", least(), kill),
    ]
}

/// A command that ends with status 7 and leaves a victim behind, which writes to `seen` and has made its
/// first connection by then.
fn leaves(how: &str, seen: &Path, echo: &Echo, times: u32) -> anyhow::Result<Program> {
    // Orphans become ours, so that it is we who see how they end.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let seen = seen.display();
    let address = echo.address;
    Ok(script(
        &["--json", "--orphans", how],
        &format!(
            "\"$0\" victim connect {address} {times} 10 > {seen} & echo $!
             i=0; while [ ! -s {seen} ] && [ $i -lt 1000 ]; do sleep 0.02; i=$((i+1)); done; exit 7"
        ),
    ))
}

/// The orphan's process id, which the command has printed.
fn orphan(printed: &str) -> anyhow::Result<Pid> {
    let id = printed.lines().next().context("it printed nothing")?;
    Pid::from_raw(id.parse()?).context("not a process id")
}

/// Waits for the orphan's end; the signal that ended it.
fn ended(orphan: Pid) -> anyhow::Result<Option<i32>> {
    let mut status = None;
    wait_until(PATIENCE, || {
        if let Ok(Some((_, ended))) = waitpid(Some(orphan), WaitOptions::NOHANG) {
            status = Some(ended);
        }
        status.is_some()
    })
    .context("the orphan does not end")?;
    Ok(status.and_then(rustix::process::WaitStatus::terminating_signal))
}

/// The last line is the result.
fn result(done: &Finished) -> anyhow::Result<Value> {
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

/// It lives, outside of any cgroup of murphy's, and its connections succeed again.
fn goes_on(orphan: Pid, file: &Path) -> Outcome {
    let cgroup = fs::read_to_string(format!("/proc/{orphan}/cgroup"))?;
    ensure!(!cgroup.contains("/murphy-"), "not moved out: {cgroup}");
    wait_until(PATIENCE, || {
        fs::read_to_string(file).is_ok_and(|text| text.lines().last() == Some("ok"))
    })
    .context("its faults go on")
}

fn release() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let file = folder.path().join("seen");
    let done = leaves("release", &file, &echo, 6000)?.run()?;
    let orphan = orphan(&done.stdout)?;
    ensure!(done.code == Some(7), "{done}");
    ensure!(done.stderr.contains("outlive"), "it was not told: {done}");
    goes_on(orphan, &file)?;
    ensure!(seen(&fs::read_to_string(&file)?, "ECONNREFUSED") > 0);
    kill_process(orphan, Signal::KILL)?;
    ended(orphan)?;
    Ok(())
}

fn wait() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let file = folder.path().join("seen");
    let done = leaves("wait", &file, &echo, 100)?.run()?;
    ensure!(done.code == Some(7), "not the command's status: {done}");
    let text = fs::read_to_string(&file)?;
    ensure!(
        seen(&text, "ECONNREFUSED") == 100,
        "not all refused: {text}"
    );
    let report = result(&done)?;
    ensure!(count(&report, 0, "injected") == 100, "{report}");
    ensure!(ended(orphan(&done.stdout)?)?.is_none(), "it was killed");
    Ok(())
}

fn wait_no_more() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let file = folder.path().join("seen");
    let murphy = leaves("wait", &file, &echo, 6000)?.spawn()?;
    wait_until(PATIENCE, || {
        murphy.stderr().is_ok_and(|text| text.contains("waiting"))
    })
    .context("it is not told that murphy waits")?;
    let orphan = orphan(&murphy.stdout()?)?;
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(7), "{done}");
    goes_on(orphan, &file)?;
    kill_process(orphan, Signal::KILL)?;
    ended(orphan)?;
    Ok(())
}

fn kill() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let file = folder.path().join("seen");
    let done = leaves("kill", &file, &echo, 6000)?.run()?;
    ensure!(done.code == Some(7), "{done}");
    let signal = ended(orphan(&done.stdout)?)?;
    ensure!(
        signal == Some(libc::SIGKILL),
        "ended by {signal:?}, not by murphy"
    );
    // It was hit until its end.
    let text = fs::read_to_string(&file)?;
    ensure!(seen(&text, "ok") == 0, "it went on without faults: {text}");
    Ok(())
}
