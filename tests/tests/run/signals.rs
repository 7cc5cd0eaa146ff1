//! Signals: each reaches CMD once, and it is CMD that decides.

use std::{
    fs::File,
    io::Write as _,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tests::{Case, ChildGuard, Outcome, Program, case, wait_until};

use super::{least, run};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("signals to murphy reach the command", least(), forwarded),
        case("a signal that the command does not catch", least(), deadly),
        case("Ctrl-C reaches the command once", least(), terminal),
        case("the command reads from the terminal", least(), reads),
        case(
            "signal mask, dispositions and descriptors are as without murphy",
            least(),
            inherited,
        ),
    ]
}

/// Tells every signal it gets; ends on SIGUSR2, or by itself some day.
const TELL: &str = "for s in INT HUP QUIT TERM USR1; do trap \"echo got $s\" $s; done
    trap 'echo got USR2; exit 9' USR2
    echo ready
    i=0; while [ $i -lt 4000 ]; do sleep 0.01; i=$((i+1)); done";

fn says(murphy: &ChildGuard, line: &str) -> Outcome {
    wait_until(PATIENCE, || {
        murphy
            .stdout()
            .is_ok_and(|text| text.lines().any(|l| l == line))
    })
    .with_context(|| format!("no {line} in {:?}", murphy.stdout()))
}

fn forwarded() -> Outcome {
    let murphy = run(&["-q"], &["sh", "-c", TELL]).spawn()?;
    says(&murphy, "ready")?;
    for (number, name) in [
        (libc::SIGTERM, "TERM"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGINT, "INT"),
        (libc::SIGHUP, "HUP"),
        (libc::SIGQUIT, "QUIT"),
        // The last, which ends it.
        (libc::SIGUSR2, "USR2"),
    ] {
        murphy.signal(number)?;
        says(&murphy, &format!("got {name}"))?;
    }
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(9), "not the command's status: {done}");
    let wanted = "ready got TERM got USR1 got INT got HUP got QUIT got USR2";
    let got = done.stdout.lines().collect::<Vec<_>>().join(" ");
    ensure!(got == wanted, "{done}");
    Ok(())
}

fn deadly() -> Outcome {
    let murphy = run(&[], &["sh", "-c", "echo ready; exec sleep 60"]).spawn()?;
    says(&murphy, "ready")?;
    murphy.signal(libc::SIGTERM)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(
        done.code == Some(128 + libc::SIGTERM) && done.signal.is_none(),
        "{done}"
    );
    // murphy has lived on to tell the result.
    ensure!(done.stderr.contains("MATCHED"), "{done}");
    Ok(())
}

/// A terminal: the end where a person types, and the one that programs have.
fn terminal_pair() -> anyhow::Result<(File, OwnedFd)> {
    let (mut person, mut programs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: the first two point to ints, and the others may be null.
    let made = unsafe {
        libc::openpty(
            &raw mut person,
            &raw mut programs,
            none,
            none.cast(),
            none.cast(),
        )
    };
    if made != 0 {
        return Err(std::io::Error::last_os_error()).context("openpty");
    }
    // SAFETY: both were opened just now, and are owned by nobody else.
    let (person, programs) = unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(programs)) };
    // Else the command would have them too, and keep the terminal open.
    rustix::io::fcntl_setfd(&person, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&programs, rustix::io::FdFlags::CLOEXEC)?;
    Ok((person, programs))
}

/// Makes a program the leader of a session whose terminal is its standard input.
fn on(mut program: Program, terminal: OwnedFd) -> Program {
    let command = program.command().stdin(terminal);
    let lead = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: two system calls, which may be made between fork and exec.
    unsafe { command.pre_exec(lead) };
    program
}

fn terminal() -> Outcome {
    let (mut person, programs) = terminal_pair()?;
    let murphy = on(run(&["-q"], &["sh", "-c", TELL]), programs).spawn()?;
    says(&murphy, "ready")?;
    person.write_all(b"\x03")?;
    says(&murphy, "got INT")?;
    // murphy reads SIGINT before SIGUSR2: once this is through, no second SIGINT can follow.
    murphy.signal(libc::SIGUSR2)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(9), "{done}");
    ensure!(done.stdout.matches("got INT").count() == 1, "{done}");
    Ok(())
}

fn reads() -> Outcome {
    let (mut person, programs) = terminal_pair()?;
    let script = "test -t 0 && echo ready; read line; echo \"read $line\"";
    let murphy = on(run(&["-q"], &["sh", "-c", script]), programs).spawn()?;
    says(&murphy, "ready")?;
    person.write_all(b"a line\n")?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(
        done.code == Some(0) && done.stdout.contains("read a line"),
        "{done}"
    );
    Ok(())
}

fn inherited() -> Outcome {
    let script =
        "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; pwd; umask; env | cksum";
    let look = ["sh", "-c", script];
    let alone = tests::program(look[0]).args(&look[1..]).run()?;
    let under = run(&["-q"], &look).run()?;
    let seen = without_libcs_own;
    ensure!(
        seen(&under.stdout) == seen(&alone.stdout),
        "{under}\nbut {alone}"
    );
    Ok(())
}

/// glibc keeps signals 32 and 33 to itself, and sets them as it likes.
fn without_libcs_own(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once(":\t") {
        Some((set, mask)) => match u64::from_str_radix(mask, 16) {
            Ok(mask) => format!("{set} {:x}", mask & !(0b11 << 31)),
            Err(_) => line.to_owned(),
        },
        None => line.to_owned(),
    };
    text.lines().map(line).collect()
}
