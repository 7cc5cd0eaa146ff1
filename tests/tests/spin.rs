//! Short delays of calls at which no program may sleep: of running processes, by keeping a processor busy.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use tests::answered::{inject, stop};
use tests::probes::probes;
use tests::report::count;
use tests::{ChildGuard, Group, Need, Outcome, case, murphy, needs, program, wait_until};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a process that runs is late, its neighbour is not; over when murphy is",
            spins(),
            late,
        ),
        case("of several descriptors the named one", spins(), descriptors),
        case("SIGKILL of murphy leaves nothing", spins(), killed),
        case(
            "refused, with reason and remedy",
            needs![Root, Cgroup2, Atomics],
            refused,
        ),
    ])
    // The oldest kernel that can do it, and the newest. The host may be one that refuses it.
    .in_kernels(&["bookworm", "sid"])
}

fn spins() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics, Spins, Tool("python3")]
}

/// Calls without a hook, with one that may not sleep, and with one under the lock of a folder; how long each took, in µs.
const CALLS: &str = "
import os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
def timed(name, call):
    begun = time.monotonic_ns()
    try: call()
    except OSError: pass
    print(name, (time.monotonic_ns() - begun) // 1000, flush=True)
while True:
    timed('fsync', lambda: os.fsync(file))
    timed('read', lambda: os.read(file, 1))
    timed('unlink', lambda: os.unlink(sys.argv[1] + '.none'))
    time.sleep(0.02)
";

/// The wish, and what is far from it.
const WISH: u64 = 10_000;
const NEAR: u64 = WISH / 2;

/// A victim, which has begun.
fn start(path: &str) -> anyhow::Result<ChildGuard> {
    let victim = program("python3").args(["-c", CALLS, path]).spawn()?;
    wait_until(PATIENCE, || took(&victim, "unlink").len() > 2)
        .context("the victim does not begin")?;
    Ok(victim)
}

/// How long the calls of this name took, in µs.
fn took(victim: &ChildGuard, name: &str) -> Vec<u64> {
    let said = victim.stdout().unwrap_or_default();
    let of = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    said.lines().filter_map(of).collect()
}

fn late() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f").to_string_lossy().into_owned();
    fs::write(&path, "x")?;
    let (victim, neighbour) = (start(&path)?, start(&path)?);
    let calls = ["fsync", "read", "unlink"];
    let faults: Vec<_> = calls
        .iter()
        .flat_map(|call| ["-e".to_owned(), format!("{call}:delay_enter={WISH}us")])
        .collect();
    let faults: Vec<_> = faults.iter().map(String::as_str).collect();
    let before = calls.map(|call| took(&neighbour, call).len());
    let murphy = inject(&faults, victim.pid())?;
    let late = |call| {
        let all = took(&victim, call).into_iter();
        all.filter(|took| *took >= WISH).count()
    };
    for call in calls {
        wait_until(PATIENCE, || late(call) >= 10).with_context(|| format!("{call} is not late"))?;
    }
    ensure!(probes()?.contains("_sys_fsync"), "{}", probes()?);
    let beside: Vec<_> = (0..)
        .zip(calls)
        .map(|(at, call): (usize, _)| took(&neighbour, call).split_off(before[at]))
        .collect();
    let report = stop(murphy)?;
    for (rule, call) in calls.into_iter().enumerate() {
        let injected = count(&report, rule, "injected");
        // Emulated machines hold calls up, too, so that more may be late. One was under way, or is not told yet.
        ensure!(
            injected >= 10
                && injected == count(&report, rule, "matched")
                && injected <= late(call) as u64 + 1
                && report["faults"][rule]["backend"] == "spin",
            "{call}: {} late: {report}",
            late(call)
        );
        let soon = beside[rule].iter().filter(|took| **took < NEAR).count();
        ensure!(
            soon * 2 > beside[rule].len() && soon > 0,
            "the neighbour's {call}: {:?}",
            beside[rule]
        );
    }
    is_over(&victim)
}

/// No call of the victim's is late any more, and no probe is left.
fn is_over(victim: &ChildGuard) -> Outcome {
    let before = took(victim, "fsync").len();
    let soon = || {
        let since = took(victim, "fsync").split_off(before);
        since.into_iter().filter(|took| *took < NEAR).count()
    };
    wait_until(PATIENCE, || soon() > 3).context("still late when murphy is over")?;
    wait_until(PATIENCE, || probes().is_ok_and(|left| left.is_empty()))
        .with_context(|| probes().unwrap_or_default())
}

fn descriptors() -> Outcome {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let program = "
import os
for fd in (20, 21):
    os.dup2(os.open(str(fd), os.O_CREAT | os.O_WRONLY), fd)
for fd in (20, 21, 20):
    os.write(fd, b'x')
";
    let done = murphy(["run", "--backend", "spin", "--json", "-o"])
        .args([&output])
        .args(["-e", "write:delay_enter=5ms:jitter=1ms:fd=20", "-e"])
        .args(["write:delay_enter=5ms:fd=1000", "--", "env", "-C"])
        .args([folder.path()])
        .args(["python3", "-c", program])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let report = serde_json::from_str(&fs::read_to_string(&output)?)?;
    ensure!(
        (
            count(&report, 0, "matched"),
            count(&report, 0, "injected"),
            count(&report, 1, "matched")
        ) == (2, 2, 0),
        "{report}"
    );
    Ok(())
}

fn killed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f").to_string_lossy().into_owned();
    fs::write(&path, "x")?;
    let victim = start(&path)?;
    let murphy = inject(&["-e", "fsync:delay_enter=10ms"], victim.pid())?;
    let before = took(&victim, "fsync").len();
    let late = || {
        let since = took(&victim, "fsync").split_off(before);
        since.into_iter().filter(|took| *took >= WISH).count()
    };
    wait_until(PATIENCE, || late() > 3).context("not late")?;
    murphy.signal(libc::SIGKILL)?;
    murphy.finish(PATIENCE)?;
    is_over(&victim)
}

fn refused() -> Outcome {
    let sleep = program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let inject = |fault: &str| murphy(["inject", "--pid", &pid, "-e", fault]).run();
    for (fault, words) in [
        (
            "fsync:delay_enter=11ms",
            "spin: it keeps a processor busy, for 10 ms at most",
        ),
        (
            "fsync:delay_enter=1ms:path=/tmp/**",
            "spin: it has no `path`",
        ),
        ("fsync:delay_exit=1ms", "spin: it has no `delay_exit`"),
    ] {
        let done = inject(fault)?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{done}"
        );
    }
    if Need::Spins.check().is_ok() {
        let dry = murphy(["inject", "--dry-run", "--pid", &pid])
            .args(["-e", "fsync:delay_enter=1ms"])
            .run()?;
        ensure!(dry.stdout.contains("by spin"), "{dry}");
        return Ok(());
    }
    let done = inject("fsync:delay_enter=1ms")?;
    ensure!(
        done.code == Some(77) && done.stderr.contains("seccomp"),
        "{done}"
    );
    Ok(())
}
