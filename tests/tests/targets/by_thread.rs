//! By thread: one of a process is hit, the others and other processes are not.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use tests::{
    ChildGuard, Outcome,
    report::count,
    victim::{self, seen},
    wait_until,
};

use super::{PATIENCE, ended, folder, inject, refused, stop};

const FAULT: &str = "write:error=EIO:on=file";

fn writing(file: &Path) -> anyhow::Result<ChildGuard> {
    let file = file.to_str().context("UTF-8")?;
    victim::victim(["threads", file, "12000", "5"]).spawn()
}

/// The id of a victim's thread.
fn id(of: &ChildGuard, name: &str) -> anyhow::Result<String> {
    let tasks = format!("/proc/{}/task", of.pid());
    for task in fs::read_dir(tasks)?.flatten() {
        if fs::read_to_string(task.path().join("comm"))?.trim() == name {
            return Ok(task.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no thread {name}")
}

/// Waits until the thread has said this twice more.
fn sees(of: &ChildGuard, thread: &str, word: &str) -> Outcome {
    let line = format!("{thread} {word}");
    let lines = || seen(&of.stdout().unwrap_or_default(), &line);
    let before = lines();
    wait_until(PATIENCE, || lines() > before + 1)
        .with_context(|| format!("{line} is not seen {}", of.stderr().unwrap_or_default()))
}

pub(super) fn thread() -> Outcome {
    let folder = folder()?;
    let file = folder.path().join("target");
    let target = writing(&file)?;
    let neighbour = writing(&folder.path().join("neighbour"))?;
    let all = [(&target, "a"), (&target, "b"), (&neighbour, "b")];
    for (one, thread) in all {
        sees(one, thread, "ok")?;
    }
    let b = id(&target, "b")?;

    let murphy = inject(&["-e", FAULT, "--tid", &b])?;
    let said = murphy.stderr()?;
    ensure!(said.contains("1 process "), "{said}");
    sees(&target, "b", "EIO")?;
    sees(&target, "a", "ok")?;
    sees(&neighbour, "b", "ok")?;
    let report = stop(murphy)?;
    let hit = seen(&target.stdout()?, "b EIO");
    ensure!(count(&report, 0, "injected") == hit, "{hit}: {report}");
    sees(&target, "b", "ok")?;
    ensure!(seen(&target.stdout()?, "a EIO") == 0, "a was hit");

    // All of the process but that one.
    let pid = target.pid().to_string();
    let but = format!("!{b}");
    let murphy = inject(&["-e", FAULT, "--pid", &pid, "--tid", &but])?;
    sees(&target, "a", "EIO")?;
    sees(&target, "b", "ok")?;
    stop(murphy)?;
    sees(&target, "a", "ok")?;

    // It ends with the thread, whose process goes on.
    let murphy = inject(&["-e", &format!("{FAULT}:tid={b}")])?;
    sees(&target, "b", "EIO")?;
    fs::write(format!("{}.stop-b", file.display()), "")?;
    ended(murphy, "all targets have ended")?;
    sees(&target, "a", "ok")?;
    ensure!(
        seen(&neighbour.stdout()?, "b EIO") == 0,
        "a neighbour was hit"
    );
    Ok(())
}

pub(super) fn refusals() -> Outcome {
    refused(
        &["--tid", "4194305"],
        &["no thread has the id 4194305", "ps -eL"],
    )?;
    refused(&["--tid", "1"], &["PID 1"])?;
    let packets = ["--tid", "1", "-e", "egress:loss=1%"];
    refused(&packets, &["`egress:loss=1%`", "packets", "pid"])
}
