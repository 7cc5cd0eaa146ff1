//! Memory cannot be mapped or protected.
//!
//! By `inject`, because no program starts without both.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::{
    ChildGuard, Group, Outcome, calls, case, murphy, needs, report::count, victim, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([case(
        "calls fail, a neighbour's do not, and all work when murphy is over",
        lsm(),
        fail,
    )])
}

fn fail() -> Outcome {
    const CALLS: &str = "mmap,mprotect,pkey_mprotect";
    let folder = tempfile::tempdir()?;
    calls::prepare(folder.path())?;
    let place = folder.path().to_string_lossy();
    let step = format!("calls:{CALLS}");
    let start = || victim::victim([step.as_str(), &place, "100000", "50"]).spawn();
    let (hit, neighbour) = (start()?, start()?);
    let lines = |victim: &ChildGuard, line: &str| {
        victim.stdout().map_or(0, |said| victim::seen(&said, line))
    };
    let goes_on = |victim: &ChildGuard| {
        let before = lines(victim, "done");
        wait_until(PATIENCE, || lines(victim, "done") > before + 1)
    };
    goes_on(&hit).context("the victim does not run")?;
    for (call, errno) in [
        ("mprotect", "EXFULL"),
        ("pkey_mprotect", "EXDEV"),
        ("mmap", "EBADE"),
    ] {
        let fault = format!("{call}:error={errno}");
        let murphy = murphy(["inject", "--json", "-e", &fault, "--pid"])
            .args([hit.pid().to_string()])
            .spawn()?;
        let failed = format!("{call} {errno}");
        wait_until(PATIENCE, || lines(&hit, &failed) > 1)
            .with_context(|| format!("{failed}: {}", murphy.stderr().unwrap_or_default()))?;
        goes_on(&neighbour)?;
        murphy.signal(libc::SIGINT)?;
        let done = murphy.finish(PATIENCE)?;
        let line = done.stderr.lines().last().unwrap_or_default();
        let report = serde_json::from_str(line).with_context(|| done.to_string())?;
        let seen = lines(&hit, &failed);
        ensure!(
            count(&report, 0, "injected") >= seen && seen > 1,
            "{seen}: {done}"
        );
        let works = format!("{call} ok");
        let before = lines(&hit, &works);
        wait_until(PATIENCE, || lines(&hit, &works) > before)
            .with_context(|| format!("{call} does not work again"))?;
        ensure!(lines(&neighbour, &failed) == 0, "the neighbour was hit");
    }
    Ok(())
}
