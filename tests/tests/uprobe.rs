//! System calls of running processes that are answered in their own code: where uprobes may write registers.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::answered::{self, inject, sees, stop};
use tests::report::count;
use tests::victim::{self, seen, victim};
use tests::{ChildGuard, Group, Need, Outcome, case, murphy, needs, program, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let here = || needs![Root, Cgroup2, Atomics, WritesRegisters];
    let mut postgres = here();
    postgres.push(Need::Postgres);
    tests::group([
        case(
            "a running process, no neighbour, and over when murphy is",
            here(),
            running,
        ),
        case(
            "made-up results, and errors that are drawn",
            here(),
            answered::values,
        ),
        case(
            "a call with a hook, for what the hook cannot",
            here(),
            beside_a_hook,
        ),
        case("a program that a target executes later", here(), later),
        case(
            "calls that are let be wait, fork and take signals as ever",
            here(),
            let_be,
        ),
        case(
            "many at the same places, and no processor to spare: nobody goes astray",
            here(),
            crowded,
        ),
        case(
            "two at the same places; SIGKILL of both leaves nothing",
            here(),
            killed,
        ),
        case(
            "PostgreSQL panics when it cannot sync, and has all that was committed",
            postgres,
            answered::database,
        ),
        case(
            "refused, with reason and remedy",
            needs![Root, Cgroup2, Atomics],
            refused,
        ),
    ])
    // Only the newest kernel has uprobes whose programs may write registers.
    .in_kernels(&["sid"])
}

/// How many bytes of the code that a process executes are not as in its files.
fn altered(process: &ChildGuard) -> anyhow::Result<usize> {
    let pid = process.pid();
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut altered = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [range, access, offset, _, inode, ..] = words[..] else {
            continue;
        };
        if !access.contains('x') || inode == "0" {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let mut now = vec![0; usize::try_from(end - start)?];
        memory.read_exact_at(&mut now, start)?;
        let mut file = vec![0; now.len()];
        let length = File::open(format!("/proc/{pid}/map_files/{range}"))?
            .read_at(&mut file, u64::from_str_radix(offset, 16)?)?;
        let pairs = now.iter().zip(&file[..length]);
        altered += pairs.filter(|(now, file)| now != file).count();
    }
    Ok(altered)
}

/// Waits until the code of a process is as in its files.
fn is_restored(process: &ChildGuard) -> Outcome {
    wait_until(PATIENCE, || altered(process).is_ok_and(|bytes| bytes == 0))
        .with_context(|| format!("{:?} bytes are not as they were", altered(process)))
}

fn running() -> Outcome {
    answered::running("uprobe", |process| {
        ensure!(altered(process)? > 0, "no probe is there");
        Ok(())
    })
}

fn beside_a_hook() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["write", &*path.to_string_lossy(), "100000", "10"];
    let own = victim(steps).spawn()?;
    sees(&own, "ok")?;
    let faults = [
        "-e",
        "write:error=ENOSPC,EDQUOT",
        "--backend",
        "uprobe",
        "-e",
        "write:error=EIO:when=1",
    ];
    let injected = inject(&faults, own.pid())?;
    sees(&own, "ENOSPC")?;
    sees(&own, "EDQUOT")?;
    let report = stop(injected)?;
    sees(&own, "ok")?;
    let said = own.stdout()?;
    let failed = seen(&said, "ENOSPC") + seen(&said, "EDQUOT");
    ensure!(
        count(&report, 0, "injected") == failed && report["faults"][0]["backend"] == "uprobe",
        "{failed} seen: {report}"
    );
    // Of two on one call the first is asked first; where it always says yes the other is asked for nothing.
    ensure!(
        count(&report, 1, "matched") == 0 && report["faults"][1]["backend"] == "uprobe",
        "{report}"
    );
    // What was answered was not written; the write under way may be there.
    let written = usize::try_from(fs::metadata(&path)?.len())?;
    let said = usize::try_from(seen(&own.stdout()?, "ok"))?;
    ensure!(written <= said + 1, "{written} written, {said} said");
    Ok(())
}

fn later() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (go, path) = (folder.path().join("go"), folder.path().join("f"));
    let script = r#"until [ -e "$0" ]; do sleep 0.1; done; exec "$@""#;
    let own = program("sh")
        .args(["-c", script])
        .args([&go])
        .args([victim::self_path()])
        .args(victim::words([
            "sync",
            &*path.to_string_lossy(),
            "100000",
            "10",
        ]))
        .spawn()?;
    let injected = inject(&["-e", "fsync:error=EIO"], own.pid())?;
    fs::write(&go, "")?;
    sees(&own, "EIO")?;
    stop(injected)?;
    sees(&own, "ok")?;
    is_restored(&own)
}

fn let_be() -> Outcome {
    let target = program("sleep").args(["600"]).spawn()?;
    let faults = "wait4,clone,clone3,vfork,read,rt_sigsuspend:retval=0:p=1ppm";
    let injected = inject(&["-e", faults], target.pid())?;
    // A shell forks, waits for its child by a call that is probed, and is interrupted.
    let script =
        "trap 'echo caught; kill $!; exit 7' USR1; sleep 600 & echo ready; while :; do wait; done";
    let shell = program("sh").args(["-c", script]).spawn()?;
    wait_until(PATIENCE, || {
        shell.stdout().is_ok_and(|said| said.contains("ready"))
    })?;
    ensure!(altered(&shell)? > 0, "the neighbour's code is not probed");
    shell.signal(libc::SIGUSR1)?;
    let done = shell.finish(PATIENCE)?;
    ensure!(
        done.code == Some(7) && done.stdout.contains("caught"),
        "{done}"
    );
    let report = stop(injected)?;
    ensure!(count(&report, 0, "injected") == 0, "{report}");
    is_restored(&target)
}

/// A kernel that puts one run of the program aside for another's must not mix them up: a thread would go on at an address of another process.
fn crowded() -> Outcome {
    const NEIGHBOURS: usize = 3;
    const ENOUGH: u64 = 600;
    let folder = tempfile::tempdir()?;
    let victim = |name: &str| {
        let path = folder.path().join(name);
        victim(["sync", &*path.to_string_lossy(), "10000000"]).spawn()
    };
    let own = victim("own")?;
    let names: Vec<_> = (0..NEIGHBOURS).map(|number| number.to_string()).collect();
    let mut neighbours = Vec::new();
    for name in &names {
        neighbours.push(victim(name)?);
    }
    sees(&own, "ok")?;
    let injected = inject(&["-e", "fsync:error=EIO,ENOSPC:p=50%"], own.pid())?;
    let failed = || {
        own.stdout()
            .map_or(0, |said| seen(&said, "EIO") + seen(&said, "ENOSPC"))
    };
    let before = failed();
    wait_until(PATIENCE, || failed() >= before + ENOUGH)
        .with_context(|| format!("{} of {ENOUGH}", failed() - before))?;
    let report = stop(injected)?;
    ensure!(report["ended"] == "stopped by a signal", "{report}");
    for neighbour in &mut neighbours {
        ensure!(neighbour.is_running()?, "a neighbour has ended");
        let said = neighbour.stdout()?;
        ensure!(seen(&said, "EIO") + seen(&said, "ENOSPC") == 0 && seen(&said, "ok") > 0);
    }
    sees(&own, "ok")
}

fn killed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["sync", &*path.to_string_lossy(), "100000", "10"];
    let own = victim(steps).spawn()?;
    // Two at the same places: one of them answers a call, and the other lets it be.
    let first = inject(&["-e", "fsync,fdatasync:error=EIO"], own.pid())?;
    sees(&own, "EIO")?;
    let second = inject(&["-e", "fsync:error=ENOSPC"], own.pid())?;
    let failed = || {
        own.stdout()
            .map_or(0, |said| seen(&said, "EIO") + seen(&said, "ENOSPC"))
    };
    let before = failed();
    wait_until(PATIENCE, || failed() >= before + 5)?;
    for injected in [first, second] {
        injected.signal(libc::SIGKILL)?;
        injected.finish(PATIENCE)?;
    }
    sees(&own, "ok")?;
    is_restored(&own)
}

fn refused() -> Outcome {
    let forced = ["run", "--backend", "uprobe", "-e", "fsync:error=EIO"];
    let run = murphy(forced).args(["--", "true"]).run()?;
    ensure!(
        run.code == Some(125) && run.stderr.contains("by `murphy inject`"),
        "{run}"
    );
    let sleep = program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let inject = |fault: &str| murphy(["inject", "--pid", &pid, "-e", fault]).run();
    for (fault, words) in [
        ("fsync:error=EIO:path=/tmp/**", "uprobe: it has no `path`"),
        ("fsync:delay_enter=1s", "uprobe: it has no `delay_enter`"),
        ("kill:retval=0", "uprobe: not for `kill`"),
    ] {
        let done = inject(fault)?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{done}"
        );
    }
    if Need::WritesRegisters.check().is_ok() || Need::ErrorInjection.check().is_ok() {
        let dry = murphy([
            "inject",
            "--dry-run",
            "--pid",
            &pid,
            "-e",
            "fsync:error=EIO",
        ])
        .run()?;
        let by = ["by uprobe", "by override"];
        ensure!(by.iter().any(|by| dry.stdout.contains(by)), "{dry}");
        return Ok(());
    }
    let done = inject("fsync:error=EIO")?;
    ensure!(
        done.code == Some(77) && done.stderr.contains("uprobes may write registers"),
        "{done}"
    );
    Ok(())
}
