//! The integration tests: one set of static programs, run on the host and in every kernel.

use std::{
    fs,
    io::{Read as _, sink},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::record::{Collector, Outcome, Record};
use crate::{
    cache::Cache,
    cost, emulator, image,
    kernels::{self, Kernel},
    progress::Step,
    sh,
    vm::{
        self,
        build::{self, Artifact},
        console,
        initrd::{self, Job},
        qemu::{self, End, Machine, Streams},
    },
};

/// One test file may take so long, on the host or under emulation.
const PER_FILE: Duration = Duration::from_secs(600);
/// And a kernel altogether, after its boot.
const PER_KERNEL: Duration = Duration::from_secs(2400);
/// Rounds of what is repeated in a kernel; the host has the tests' own number.
const ROUNDS_IN_KERNEL: &str = "6";

/// Where a whole run has files that need not be in every kernel; the host has them all. An emulated kernel takes its time.
///
/// Formats, rules, a daemon's API and suites are no kernel's business. What murphy makes of its own side (the command line,
/// targets) is the same on every kernel: one of the newer ones has it. How murphy is attached, and what is left of it, differs between a kernel
/// with links for everything and those without: the oldest and the newest have that.
const SCOPE: [(&[&str], &[&str]); 11] = [
    (
        &[],
        &[
            "convert",
            "experiment",
            "golden",
            "guard",
            "harness",
            "hostile",
            "policy",
            "serve",
            "suites",
        ],
    ),
    (
        &["sid"],
        &[
            "events",
            "library",
            "own_targets",
            "privileges",
            "replace",
            "run",
            "uprobe",
        ],
    ),
    // Beside the newest, which has the most to do.
    (&["trixie"], &["lifecycle", "targets"]),
    // The oldest that has what it takes, and the newest; the host may be one where it is refused.
    (&["bookworm", "sid"], &["spin"]),
    // What takes long is in the newest alone, the rest in the older of the two that have what it takes, too.
    (&["sid", "trixie"], &["delay"]),
    // Classifiers as those of `egress`, which all have: with links as in the newest, or without as in the oldest. What
    // takes longest has one of them.
    (
        &["bookworm", "sid"],
        &["interface", "netem", "reset", "unreachable"],
    ),
    (&["bookworm"], &["dns"]),
    (&["sid"], &["http"]),
    // By seccomp, of which the oldest has all that is used.
    (&["sid", "bullseye"], &["names", "syscall"]),
    // What it is refused with is the same on every other kernel.
    (&["sid", kernels::build::NAME], &["override"]),
    (
        &["bookworm", "sid", "bullseye"],
        &[
            "bounded", "doctor", "guardian", "inject", "observe", "safety",
        ],
    ),
];

/// And all that a whole run has on the kernel with error injection, if it is in the cache; it is otherwise as trixie's.
const ON_OVERRIDE: [&str; 2] = ["override", "verifier"];

/// Tells tests that repeat something how often.
const ROUNDS: &str = "MURPHY_SAFETY_ROUNDS";

/// Tells tests that one that failed is tried once more (see the harness, `tests/src/case.rs`).
const SECOND_TRY: &str = "MURPHY_TEST_SECOND_TRY";

/// One file of tests.
#[derive(Clone)]
struct Program {
    /// The file's stem.
    name: String,
    path: PathBuf,
}

/// The test programs and what they contain.
pub(crate) struct Suite {
    programs: Vec<Program>,
    /// Whether this is all there is, and nobody asked for a part.
    whole: bool,
    murphy: PathBuf,
    filter: Option<String>,
    /// Ten times the rounds of what is repeated.
    full: bool,
    /// `FILE: NAME` of every test that the filter lets through.
    pub(crate) tests: Vec<String>,
    /// Programs of unit tests, if all tests were built.
    pub(crate) units: Vec<Artifact>,
    /// What did not compile.
    pub(crate) errors: String,
}

impl Suite {
    /// Builds murphy and the test programs, with those of unit tests if `units`, and lists the
    /// integration tests.
    pub(crate) fn build(
        filter: Option<&str>,
        files: &[String],
        full: bool,
        units: bool,
    ) -> Result<Self> {
        let step = Step::start("building murphy and the tests");
        let mut cargo = build::test_cargo();
        // One file that does not compile is one failure; the others run.
        cargo.args(["--keep-going", "--bin", "murphy"]);
        if units {
            cargo.arg("--tests");
        } else if files.is_empty() {
            cargo.args(["--test", "*"]);
        }
        for file in files {
            cargo.args(["--test", file]);
        }
        let built = build::artifacts(cargo)?;
        let murphy = built.artifacts.iter().find(|a| a.is_murphy());
        let Some(murphy) = murphy.map(|a| a.path.clone()) else {
            bail!("{}", built.errors);
        };
        let (integration, others): (Vec<_>, Vec<_>) = built
            .artifacts
            .into_iter()
            .filter(|a| a.is_test)
            .partition(|a| a.is_integration && a.package.ends_with(build::TESTS));
        let mut suite = Self {
            programs: Vec::new(),
            whole: filter.is_none() && files.is_empty(),
            murphy,
            filter: filter.map(str::to_owned),
            full,
            tests: Vec::new(),
            units: others,
            errors: built.errors,
        };
        for artifact in integration {
            let listed = sh::run(Command::new(&artifact.path).arg("--list").args(filter))?;
            let names: Vec<_> = listed
                .lines()
                .filter_map(|l| l.strip_suffix(": test"))
                .collect();
            if !names.is_empty() {
                suite
                    .tests
                    .extend(names.iter().map(|n| format!("{}: {n}", artifact.name)));
                suite.programs.push(Program {
                    name: artifact.name,
                    path: artifact.path,
                });
            }
        }
        step.end(
            if suite.errors.is_empty() {
                "done"
            } else {
                "FAILED"
            },
            &format!(
                "{} integration tests in {} files; {} crates compiled",
                suite.tests.len(),
                suite.programs.len(),
                built.compiled
            ),
        );
        Ok(suite)
    }

    /// The programs that a kernel is to run.
    fn programs_in(&self, kernel: &str) -> Vec<Program> {
        let elsewhere = |p: &&Program| {
            SCOPE
                .iter()
                .any(|(kernels, files)| files.contains(&&*p.name) && !kernels.contains(&kernel))
        };
        let few = kernel == kernels::build::NAME;
        let beside = |p: &&Program| few && !ON_OVERRIDE.contains(&&*p.name);
        self.programs
            .iter()
            .filter(|p| !self.whole || !(elsewhere(p) || beside(p)))
            .cloned()
            .collect()
    }

    /// The tests of some programs, as `FILE: NAME`.
    pub(crate) fn tests_in(&self, kernel: &str) -> Vec<String> {
        let programs = self.programs_in(kernel);
        let is_there = |test: &&String| {
            let file = test.split(": ").next();
            programs.iter().any(|p| Some(&*p.name) == file)
        };
        self.tests.iter().filter(is_there).cloned().collect()
    }

    /// Runs everything here.
    pub(crate) fn on_host(&self) -> Result<Vec<Record>> {
        let step = Step::start("integration tests on the host");
        let dir = tempfile::Builder::new().prefix("murphy-test-").tempdir()?;
        let mut collector = Collector::new("host");
        for program in &self.programs {
            if sh::interrupted() {
                break;
            }
            let events = dir.path().join("events");
            let output = dir.path().join("output");
            fs::write(&events, "")?;
            let log = fs::File::create(&output)?;
            let mut child = Command::new(&program.path)
                .envs(self.rounds())
                .envs(self.second_try())
                .args(&self.filter)
                .env("MURPHY_TEST_EVENTS", &events)
                .env("MURPHY_BIN", &self.murphy)
                .env("RUST_BACKTRACE", "0")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            let ended = wait(&mut child, self.limit())?;
            for line in fs::read_to_string(&events)?.lines() {
                collector.line(line);
            }
            let mut said = String::new();
            fs::File::open(&output)?.read_to_string(&mut said).ok();
            let stem = &*program.name;
            let mine: Vec<String> = self
                .tests
                .iter()
                .filter(|t| t.split(": ").next() == Some(stem))
                .cloned()
                .collect();
            collector.close(
                &mine,
                &format!(
                    "the test program ended early: {ended}\n{}",
                    sh::tail(&said, 20)
                ),
            );
        }
        finish(step, &collector.records, "");
        Ok(collector.records)
    }

    /// Boots a kernel once and runs everything in it.
    pub(crate) fn in_kernel(&self, cache: &Cache, kernel: &Kernel) -> Result<Vec<Record>> {
        let step = Step::start(format!(
            "integration tests in {} ({})",
            kernel.name, kernel.release
        ));
        let programs = self.programs_in(&kernel.name);
        let files = u32::try_from(programs.len()).unwrap_or(u32::MAX).max(1);
        let machine = Machine {
            emulator: emulator::find(cache)?,
            root_image: image::find(cache)?,
            memory: "2G".into(),
            cpus: 2,
            accel: "tcg,thread=multi".into(),
            timeout: vm::BOOT_TIMEOUT
                + self
                    .limit()
                    .saturating_mul(files)
                    .min(PER_KERNEL.max(self.limit())),
            boot_timeout: vm::BOOT_TIMEOUT,
            append: String::new(),
        };
        let mut payload: Vec<_> = programs.iter().map(|p| p.path.clone()).collect();
        payload.push(self.murphy.clone());
        let mut environment = vm::environment(kernel);
        environment.push(("MURPHY_TEST_EVENTS".into(), "/murphy/events".into()));
        let fewer = (ROUNDS.to_owned(), ROUNDS_IN_KERNEL.to_owned());
        environment.push(self.rounds().unwrap_or(fewer));
        environment.extend(self.second_try());
        let job = Job {
            command: self.script(&programs),
            environment,
            payload: &payload,
        };
        let collector = Arc::new(Mutex::new(Collector::new(&kernel.name)));
        let streams = || {
            let on_event = Arc::clone(&collector);
            Streams {
                // What tests print stands in their failures.
                stdout: Box::new(sink()),
                stderr: Box::new(sink()),
                events: Box::new(move |line| {
                    on_event
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .line(line);
                }),
            }
        };
        let mut outcome = qemu::boot(&machine, kernel, &job, streams(), None)?;
        // An emulator that died before the first test (an assertion of QEMU's own, seen once) says nothing of murphy.
        if let End::Runner(text) = &outcome.end
            && outcome.phases.command.is_zero()
        {
            eprintln!("   again    {} did not come up: {text}", kernel.name);
            vm::keep_console(cache, kernel, &outcome)?;
            outcome = qemu::boot(&machine, kernel, &job, streams(), None)?;
        }
        let why = match &outcome.end {
            End::Exit(_) => "the test program ended early".to_owned(),
            End::Panic(text) => format!("the kernel died: {}\n{text}", console::headline(text)),
            End::Timeout => "timed out".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Runner(text) => format!("the runner failed: {text}"),
        };
        if !matches!(outcome.end, End::Exit(_) | End::Interrupted) {
            vm::keep_console(cache, kernel, &outcome)?;
        }
        let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.close(&self.tests_in(&kernel.name), &why);
        finish(
            step,
            &collector.records,
            &format!("boot {:.1} s", outcome.phases.boot.as_secs_f64()),
        );
        Ok(collector.records.clone())
    }

    /// What tells tests that repeat something how often.
    fn rounds(&self) -> Option<(String, String)> {
        self.full.then(|| (ROUNDS.to_owned(), "200".to_owned()))
    }

    /// Who looks at one test wants to see it fail; a whole run on a busy machine does not hang on one moment of it.
    fn second_try(&self) -> Option<(String, String)> {
        (self.whole && !self.full).then(|| (SECOND_TRY.to_owned(), "1".to_owned()))
    }

    /// How long one test file may take.
    fn limit(&self) -> Duration {
        PER_FILE * if self.full { 10 } else { 1 }
    }

    fn script(&self, programs: &[Program]) -> String {
        let filter = self
            .filter
            .as_deref()
            .map(initrd::quote)
            .unwrap_or_default();
        let limit = self.limit().as_secs();
        let lines = programs.iter().map(|p| {
            let name = p.path.file_name().unwrap_or_default().to_string_lossy();
            format!("timeout {limit} /murphy/bin/{name} {filter} || status=1\n")
        });
        format!("status=0\n{}exit $status\n", lines.collect::<String>())
    }
}

fn finish(step: Step, records: &[Record], remark: &str) {
    let count = |outcome| records.iter().filter(|r| r.outcome == outcome).count();
    let failed = count(Outcome::Failed);
    let sep = if remark.is_empty() { "" } else { "; " };
    step.end(
        if failed == 0 { "ok" } else { "FAILED" },
        &format!(
            "{} passed, {failed} failed, {} skipped{sep}{remark}",
            count(Outcome::Passed),
            count(Outcome::Skipped)
        ),
    );
}

/// Waits for a child at most so long; says how it ended.
fn wait(child: &mut std::process::Child, limit: Duration) -> Result<String> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = cost::try_wait(child).context("waiting for a test program")? {
            return Ok(status.to_string());
        }
        if Instant::now() > until || sh::interrupted() {
            child.kill()?;
            cost::wait(child)?;
            return Ok(if sh::interrupted() {
                "interrupted".into()
            } else {
                format!("over {} s", limit.as_secs())
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test that needs the newest kernel would be skipped everywhere, and nobody notice.
    #[test]
    fn what_needs_the_newest_kernel_has_it_in_whole_runs() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        let mut found = 0;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !text.contains("Newest") {
                continue;
            }
            found += 1;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            for (kernels, files) in SCOPE {
                let there = !files.contains(&&*name) || kernels.contains(&"sid");
                assert!(there, "{name} is in {kernels:?} alone");
            }
        }
        assert!(found > 0);
    }
}
