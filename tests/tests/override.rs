//! System calls that are answered in the kernel's place, of running processes too: where the kernel has error injection.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::answered::{self, inject, sees};
use tests::calls::{all_fail, prepare};
use tests::probes::probes;
use tests::report::count;
use tests::victim::victim;
use tests::{Group, Hit, Need, Outcome, case, murphy, needs, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Calls that have no LSM hook; the last two are functions without arguments, which 32-bit calls have too.
const CALLS: [&str; 8] = [
    "fsync",
    "fdatasync",
    "nanosleep",
    "getrandom",
    "futex",
    "epoll_wait",
    "getppid",
    "sched_yield",
];

pub(crate) fn group() -> Group {
    let here = || needs![Root, Cgroup2, Atomics, ErrorInjection];
    let mut postgres = here();
    postgres.push(Need::Postgres);
    tests::group([
        case(
            "a running process, no neighbour, and over when murphy is",
            here(),
            running,
        ),
        case("calls without a hook fail in `run`", here(), || {
            all_fail(&CALLS, None)
        }),
        case(
            "made-up results, and errors that are drawn",
            here(),
            answered::values,
        ),
        case("a signal, and the call goes on", here(), signal),
        case(
            "forced for a call that has a hook, told and observed",
            here(),
            forced,
        ),
        case(
            "two backends on one call: each rule is asked once",
            needs![Root, Cgroup2, Atomics, BpfLsm, ErrorInjection],
            both,
        ),
        case(
            "of several descriptors the named one, and those of a kind",
            needs![Root, Cgroup2, Atomics, ErrorInjection, Tool("python3")],
            descriptors,
        ),
        case("SIGKILL of murphy leaves nothing", here(), killed),
        case(
            "PostgreSQL panics when it cannot sync, and has all that was committed",
            postgres,
            answered::database,
        ),
        case(
            "refused, with reason and remedy, where the kernel has it not",
            needs![Root, Cgroup2, Atomics],
            refused,
        ),
    ])
    // What it is refused with is the same on every kernel without error injection.
    .in_kernels(&["sid", "override"])
}

fn running() -> Outcome {
    answered::running("override", |_| {
        ensure!(probes()?.contains("_sys_fsync"), "{}", probes()?);
        Ok(())
    })?;
    ensure!(probes()?.is_empty(), "{}", probes()?);
    Ok(())
}

fn signal() -> Outcome {
    let folder = tempfile::tempdir()?;
    prepare(folder.path())?;
    let place = folder.path().to_string_lossy().into_owned();
    let steps = ["values:getppid", &place, "100", "10"];
    let args = ["--skip-loader", "-e", "getppid:signal=USR1:when=3"];
    let hit = Hit::run(&args, &steps)?;
    // Nobody handles it: it ends the victim.
    let status = 128 + libc::SIGUSR1;
    ensure!(hit.victim.code == Some(status), "{}", hit.victim);
    ensure!(hit.count(0, "injected") == 1, "{}", hit.report);
    Ok(())
}

fn forced() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, events) = (folder.path().join("f"), folder.path().join("events"));
    let (file, log) = (path.to_string_lossy(), events.to_string_lossy());
    let fault = "write:error=ENOSPC:when=2";
    let args = [
        "--backend",
        "override",
        "--skip-loader",
        "--observe",
        "--events",
        &log,
    ];
    let hit = Hit::run(
        &[&args[..], &["-e", fault]].concat(),
        &["write", &file, "3"],
    )?;
    let lines: Vec<_> = hit.victim.stdout.lines().collect();
    ensure!(lines == ["ok", "ENOSPC", "ok"], "{}", hit.victim);
    ensure!(
        hit.count(0, "injected") == 1
            && hit.count(0, "when") == 2
            && hit.count(0, "observed") == 1
            && hit.report["faults"][0]["backend"] == "override",
        "{}",
        hit.report
    );
    // What failed was not written.
    ensure!(fs::metadata(&path)?.len() == 2);
    let told = fs::read_to_string(&events)?;
    ensure!(told.contains("\"op\":\"write\""), "{told}");
    let replayed = murphy(["replay", &log]).run()?;
    ensure!(replayed.code == Some(0), "{replayed}");
    Ok(())
}

fn descriptors() -> Outcome {
    let folder = tempfile::tempdir()?;
    let program = "
import errno, os, sys
open('a', 'w'), open('b', 'w')
for name, fd in (('a', 20), ('b', 21), ('.', 22)):
    os.dup2(os.open(name, os.O_RDONLY), fd)
for fd in (20, 21, 22, 23):
    try:
        os.fsync(fd)
        print(fd, 'ok')
    except OSError as error:
        print(fd, errno.errorcode[error.errno])
";
    let output = folder.path().join("report.json");
    let named = ["-e", "fsync:error=EIO:fd=20,1023", "-e"];
    let done = murphy(["run", "--backend", "override", "--json", "-o"])
        .args([&output])
        .args(named)
        .args(["fsync:error=ENOSPC:on=dir", "--"])
        .args(["env", "-C"])
        .args([folder.path()])
        .args(["python3", "-c", program])
        .run()?;
    // The last is not open.
    ensure!(
        done.stdout == "20 EIO\n21 ok\n22 ENOSPC\n23 EBADF\n",
        "{done}"
    );
    let report = serde_json::from_str(&fs::read_to_string(&output)?)?;
    for rule in [0, 1] {
        ensure!(
            count(&report, rule, "matched") == 1 && count(&report, rule, "injected") == 1,
            "{report}"
        );
    }
    Ok(())
}

fn both() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let faults = [
        "-e",
        "write:error=EIO:when=1",
        "-e",
        "write:retval=1:when=2",
    ];
    let hit = Hit::run(
        &[&["--skip-loader"][..], &faults].concat(),
        &["write", &file, "4"],
    )?;
    let lines: Vec<_> = hit.victim.stdout.lines().collect();
    ensure!(lines == ["EIO", "ok", "ok", "ok"], "{}", hit.victim);
    let backend = |fault: usize| &hit.report["faults"][fault]["backend"];
    ensure!(
        backend(0) == "bpf" && backend(1) == "override",
        "{}",
        hit.report
    );
    // The call that was answered came to no hook.
    ensure!(
        hit.count(0, "matched") == 3 && hit.count(1, "matched") == 4,
        "{}",
        hit.report
    );
    ensure!(
        hit.count(0, "injected") == 1 && hit.count(1, "injected") == 1,
        "{}",
        hit.report
    );
    ensure!(fs::metadata(&path)?.len() == 2);
    Ok(())
}

fn killed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["sync", &*path.to_string_lossy(), "100000", "10"];
    let own = victim(steps).spawn()?;
    let injected = inject(&["-e", "fsync,fdatasync:error=EIO"], own.pid())?;
    sees(&own, "EIO")?;
    injected.signal(libc::SIGKILL)?;
    injected.finish(PATIENCE)?;
    sees(&own, "ok")?;
    wait_until(PATIENCE, || probes().is_ok_and(|left| left.is_empty()))
        .with_context(|| probes().unwrap_or_default())?;
    Ok(())
}

fn refused() -> Outcome {
    let sleep = tests::program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let inject = |fault: &str| murphy(["inject", "--pid", &pid, "-e", fault]).run();
    for (fault, words) in [
        ("fsync:error=EIO:path=/tmp/**", "override: it has no `path`"),
        ("fsync:error=EIO:fd=5000", "override: `fd=5000`: it knows"),
        ("kill:retval=0", "override: not for `kill`"),
        ("fsync:delay_enter=1s", "override: it has no `delay_enter`"),
    ] {
        let done = inject(fault)?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{done}"
        );
    }
    if Need::ErrorInjection.check().is_ok() || Need::WritesRegisters.check().is_ok() {
        return Ok(());
    }
    let done = inject("fsync:error=EIO")?;
    ensure!(
        done.code == Some(77) && done.stderr.contains("CONFIG_BPF_KPROBE_OVERRIDE"),
        "{done}"
    );
    // A command's supervisor can.
    let run = murphy(["run", "-e", "fsync:error=EIO:when=1000", "--", "true"]).run()?;
    ensure!(run.code == Some(0), "{run}");
    let forced = ["run", "--backend", "override", "-e", "fsync:error=EIO"];
    let run = murphy(forced).args(["--", "true"]).run()?;
    ensure!(
        run.code == Some(125) && run.stderr.contains("CONFIG_BPF_KPROBE_OVERRIDE"),
        "{run}"
    );
    Ok(())
}
