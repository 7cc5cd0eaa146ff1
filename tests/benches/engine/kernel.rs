//! The kernel's own figures: what a program's runs took, and test runs.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use murphy_kernel::inspect::{
    ProgramInfo, SchedClassifier, Stats, TestRun as _, TestRunOptions, enable_stats,
    loaded_programs,
};
use tests::bpf;

/// How often a program ran, and how long that took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    count: u64,
    time: Duration,
}

impl Runs {
    /// Of the program of that name that is loaded now.
    pub(crate) fn of(program: &str) -> Result<Self> {
        let info = find(program)?;
        Ok(Self {
            count: info.run_count(),
            time: info.run_time(),
        })
    }

    /// Mean ns of the runs since then, without what reading the clock takes; `None` if
    /// there were fewer than `least`.
    pub(crate) fn since(self, before: Self, clock: f64, least: u64) -> Option<f64> {
        let count = self.count - before.count;
        let time = (self.time - before.time).as_nanos() as f64;
        (count >= least).then(|| time / count as f64 - clock)
    }
}

fn find(program: &str) -> Result<ProgramInfo> {
    loaded_programs()
        .flatten()
        .find(|info| info.name_as_str() == Some(program))
        .with_context(|| format!("{program} is not loaded"))
}

/// Switches the statistics on until this goes.
pub(crate) fn statistics() -> Result<impl Drop> {
    Ok(enable_stats(Stats::RunTime)?)
}

/// How often a test run repeats the program.
const TEST_RUNS: u32 = 1_000_000;

/// A UDP datagram from 127.0.0.1:1 to 127.0.0.1:2, behind an Ethernet header.
const PACKET: [u8; 46] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, // IPv4
    0, 1, 0, 2, 0, 12, 0, 0, 1, 2, 3, 4, // UDP
];

/// Mean ns of a test run. The packet's socket is the kernel's dummy, which nobody owns.
pub(crate) fn test_run(program: &str) -> Result<f64> {
    test(find(program)?)
}

fn test(info: ProgramInfo) -> Result<f64> {
    let program = SchedClassifier::from_program_info(info, Cow::Borrowed("bench"))?;
    let done = program.test_run(TestRunOptions {
        data_in: Some(&PACKET),
        repeat: TEST_RUNS,
        ..TestRunOptions::new()
    })?;
    Ok(done.duration.as_nanos() as f64)
}

/// An empty classifier: mean ns of a test run, and of its runs under the load. The
/// latter is what reading the clock takes there, and what calling a program does to it.
pub(crate) fn empty(load: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let _link = bpf::attach_egress()?;
    let bare = test_run("probe")?;
    let _on = statistics()?;
    let before = Runs::of("probe")?;
    load()?;
    let clock = Runs::of("probe")?
        .since(before, 0.0, 1)
        .context("the empty program did not run")?;
    Ok((bare, clock))
}
