//! System calls that are answered in the kernel's place, of running processes too: where the kernel has error injection.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::calls::{all_fail, prepare};
use tests::postgres::Postgres;
use tests::report::count;
use tests::victim::{seen, victim};
use tests::{ChildGuard, Hit, Need, Outcome, case, murphy, needs, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Calls that have no LSM hook; the last two are functions without arguments, which 32-bit calls have too.
const CALLS: [&str; 9] = [
    "fsync",
    "fdatasync",
    "close",
    "nanosleep",
    "getrandom",
    "futex",
    "epoll_wait",
    "getppid",
    "sched_yield",
];

fn main() -> ExitCode {
    let here = || needs![Root, Cgroup2, Atomics, ErrorInjection];
    let mut postgres = here();
    postgres.push(Need::Postgres);
    tests::run([
        case(
            "a running process, no neighbour, and over when murphy is",
            here(),
            running,
        ),
        case("calls without a hook fail in `run`", here(), || {
            all_fail(&CALLS, None)
        }),
        case("made-up results, and errors that are drawn", here(), values),
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
        case("SIGKILL of murphy leaves nothing", here(), killed),
        case(
            "PostgreSQL panics when it cannot sync, and has all that was committed",
            postgres,
            database,
        ),
        case(
            "refused, with reason and remedy, where the kernel has it not",
            needs![Root, Cgroup2, Atomics],
            refused,
        ),
    ])
}

/// `murphy inject --json ARGS… --pid PID`, armed.
fn inject(args: &[&str], pid: u32) -> anyhow::Result<ChildGuard> {
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
fn stop(murphy: ChildGuard) -> anyhow::Result<Value> {
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

/// Waits until a victim has seen this five times more.
fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let now = || victim.stdout().map_or(0, |said| seen(&said, word));
    let before = now();
    wait_until(PATIENCE, || now() >= before + 5).with_context(|| {
        let said = victim.stdout().unwrap_or_default();
        format!("{word} was not seen: {said}")
    })
}

/// The kernel's own lists of probes on system calls; the first of those made by a name, which nobody's end removes.
fn probes() -> anyhow::Result<String> {
    let named = fs::read_to_string("/sys/kernel/tracing/kprobe_events")?;
    let all = fs::read_to_string("/sys/kernel/debug/kprobes/list")?;
    let mut left: Vec<_> = named.lines().collect();
    left.extend(all.lines().filter(|line| line.contains("_sys_")));
    Ok(left.join("\n"))
}

fn running() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["sync", &*path.to_string_lossy(), "100000", "10"];
    let (own, neighbour) = (victim(steps).spawn()?, victim(steps).spawn()?);
    sees(&own, "ok")?;
    let injected = inject(&["-e", "fsync:error=EIO"], own.pid())?;
    sees(&own, "EIO")?;
    sees(&neighbour, "ok")?;
    ensure!(probes()?.contains("_sys_fsync"), "{}", probes()?);
    let report = stop(injected)?;
    sees(&own, "ok")?;
    let failed = seen(&own.stdout()?, "EIO");
    ensure!(
        count(&report, 0, "injected") == failed && count(&report, 0, "matched") == failed,
        "{failed} seen: {report}"
    );
    ensure!(report["faults"][0]["backend"] == "override", "{report}");
    ensure!(seen(&neighbour.stdout()?, "EIO") == 0);
    ensure!(probes()?.is_empty(), "{}", probes()?);
    Ok(())
}

fn values() -> Outcome {
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
        sees(&own, line)?;
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
    let injected = inject(&["-e", "fsync,close:error=EIO"], own.pid())?;
    sees(&own, "EIO")?;
    injected.signal(libc::SIGKILL)?;
    injected.finish(PATIENCE)?;
    sees(&own, "ok")?;
    wait_until(PATIENCE, || probes().is_ok_and(|left| left.is_empty()))
        .with_context(|| probes().unwrap_or_default())?;
    Ok(())
}

fn database() -> Outcome {
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

fn refused() -> Outcome {
    let sleep = tests::program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let inject = |fault: &str| murphy(["inject", "--pid", &pid, "-e", fault]).run();
    for (fault, words) in [
        ("fsync:error=EIO:path=/tmp/**", "override: it has no `path`"),
        ("fsync:error=EIO:fd=3", "override: it has no `fd`"),
        ("kill:retval=0", "override: not for `kill`"),
        ("fsync:delay_enter=1s", "override: it has no `delay_enter`"),
    ] {
        let done = inject(fault)?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{done}"
        );
    }
    if Need::ErrorInjection.check().is_ok() {
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
