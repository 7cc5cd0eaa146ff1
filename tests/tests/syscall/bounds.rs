//! Bounded: whatever is killed or stopped, the command's calls are answered, and nothing is left.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tests::{ChildGuard, Outcome, murphy, victim, wait_until};

use super::{run, sh};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

fn sees(victim: &ChildGuard, word: &str) -> anyhow::Result<()> {
    let last = || {
        victim
            .stdout()
            .unwrap_or_default()
            .lines()
            .last()
            .map(str::to_owned)
    };
    wait_until(PATIENCE, || last().as_deref() == Some(word)).with_context(|| {
        format!(
            "the victim does not see {word}: {:?}; {:?}",
            last(),
            victim.stderr()
        )
    })
}

/// A victim that opens a file every 10 ms, which fails.
fn opening(args: &[&str], count: &str) -> anyhow::Result<ChildGuard> {
    let fault = "openat:error=EMFILE:path=/etc/hostname";
    let murphy = murphy(["run", "--backend", "seccomp", "-e", fault])
        .args(args)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words(["open", "/etc/hostname", count, "10"]))
        .spawn()?;
    sees(&murphy, "EMFILE")?;
    Ok(murphy)
}

fn lines(murphy: &ChildGuard) -> usize {
    murphy.stdout().unwrap_or_default().lines().count()
}

pub(super) fn killed() -> Outcome {
    let murphy = opening(&["--lease", "20s"], "200")?;
    murphy.signal(libc::SIGKILL)?;
    sees(&murphy, "ok")?;
    wait_until(PATIENCE, || lines(&murphy) == 200).context("the command does not live on")?;
    Ok(())
}

pub(super) fn stopped() -> Outcome {
    let murphy = opening(&["--lease", "1s"], "3000")?;
    murphy.signal(libc::SIGSTOP)?;
    sees(&murphy, "ok")?;
    murphy.signal(libc::SIGCONT)?;
    sees(&murphy, "EMFILE")?;
    murphy.signal(libc::SIGTERM)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(128 + libc::SIGTERM), "{done}");
    Ok(())
}

pub(super) fn woken() -> Outcome {
    let folder = tempfile::tempdir()?;
    let begun = folder.path().join("begun");
    let script = format!("touch {}; sleep 0.01; echo awake", begun.display());
    let murphy = murphy([
        "run",
        "-q",
        "-e",
        "nanosleep,clock_nanosleep:delay_enter=30m",
        "--",
    ])
    .args(sh(&script))
    .spawn()?;
    wait_until(PATIENCE, || begun.exists())?;
    thread::sleep(Duration::from_millis(300));
    ensure!(murphy.stdout()?.is_empty(), "it does not sleep");
    murphy.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || {
        murphy.stdout().is_ok_and(|said| said == "awake\n")
    })
    .context("it sleeps on")
}

/// murphy's child of that name.
fn helper(murphy: &ChildGuard, name: &str) -> anyhow::Result<i32> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let of_murphy = format!(") S {} ", murphy.pid());
        if stat.contains(&format!("({name}{of_murphy}"))
            || stat.contains(&format!("({name}) R {} ", murphy.pid()))
        {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("murphy has no {name}")
}

fn signal(pid: i32, signal: i32) -> anyhow::Result<()> {
    // SAFETY: numbers only, of a process that is a child of the test's own.
    let sent = unsafe { libc::kill(pid, signal) };
    ensure!(sent == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

pub(super) fn supervisor() -> Outcome {
    for (what, args) in [(libc::SIGKILL, "5s"), (libc::SIGSTOP, "1s")] {
        let murphy = opening(&["--lease", args], "1000")?;
        let pid = helper(&murphy, "murphy-seccomp")?;
        signal(pid, what)?;
        sees(&murphy, "ok")?;
        if what == libc::SIGSTOP {
            signal(pid, libc::SIGCONT)?;
            sees(&murphy, "EMFILE")?;
        } else {
            let said = || {
                murphy
                    .stderr()
                    .is_ok_and(|text| text.contains("its supervisor was killed"))
            };
            wait_until(PATIENCE, said).context("it is not said")?;
        }
        murphy.signal(libc::SIGTERM)?;
        let done = murphy.finish(PATIENCE)?;
        ensure!(done.code == Some(128 + libc::SIGTERM), "{done}");
    }
    Ok(())
}

pub(super) fn abandoned() -> Outcome {
    let murphy = opening(&["--lease", "1s"], "100000")?;
    // The holder first: it would take over.
    signal(helper(&murphy, "murphy-holder")?, libc::SIGKILL)?;
    signal(helper(&murphy, "murphy-seccomp")?, libc::SIGKILL)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(
        done.code == Some(125) && done.stderr.contains("it was ended"),
        "{done}"
    );
    Ok(())
}

/// The harness looks for what is left.
pub(super) fn any_moment() -> Outcome {
    for round in 0..40 {
        let murphy = murphy([
            "run",
            "-q",
            "-e",
            "write,openat,futex,nanosleep:error=EINTR:p=30%",
            "--",
        ])
        .args(sh("for i in 1 2 3; do echo $i; sleep 0.01; done"))
        .spawn()?;
        thread::sleep(Duration::from_millis(round * 3 / 2));
        // It may be done already.
        let _ = murphy.signal(libc::SIGKILL);
    }
    Ok(())
}

/// The child, until it executes its command, and murphy's own processes make these calls too.
pub(super) fn own_calls() -> Outcome {
    let at = Instant::now();
    let all = "read,write,futex,close,ioctl,poll,ppoll,nanosleep,clock_nanosleep,prctl,rt_sigprocmask,\
               execve,exit_group,getpid,clock_gettime:delay_enter=1ms";
    let (done, report) = run(&["-e", all], &sh("echo one; sleep 0.01; echo two"))?;
    ensure!(
        done.stdout == "one\ntwo\n" && done.code == Some(0),
        "{done}"
    );
    ensure!(tests::report::count(&report, 0, "injected") > 5, "{report}");
    ensure!(at.elapsed() < PATIENCE);
    // Everything at once, and nothing hangs.
    let (done, _) = run(&["-e", "all:error=ENOSYS:when=5+"], &sh("echo one"))?;
    ensure!(done.code != Some(125), "{done}");
    Ok(())
}
