//! The integration tests: one static program, run on the host and in every kernel, once for each
//! group of tests. The program itself knows which tests a whole run has in which environment.

use std::{
    fs,
    io::{Read as _, sink},
    path::{Path, PathBuf},
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
    kernels::Kernel,
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

/// One group of tests may take so long, on the host or under emulation.
const PER_FILE: Duration = Duration::from_secs(600);
/// And a kernel altogether, after its boot.
const PER_KERNEL: Duration = Duration::from_secs(2400);
/// Rounds of what is repeated in a kernel; the host has the tests' own number.
const ROUNDS_IN_KERNEL: &str = "6";

/// The test program of all integration tests.
const PROGRAM: &str = "behaviour";

/// The environment that is no kernel.
const HOST: &str = "host";

/// Tells tests that repeat something how often.
const ROUNDS: &str = "MURPHY_SAFETY_ROUNDS";

/// Tells tests of many cases to have them all, not a part that stands for them.
const FULL: &str = "MURPHY_TEST_FULL";

/// Tells tests that one that failed is tried once more (see the harness, `tests/src/case.rs`).
const SECOND_TRY: &str = "MURPHY_TEST_SECOND_TRY";

/// Tells tests that this is a whole run, which has only some of them in each environment.
const WHOLE: &str = "MURPHY_TEST_WHOLE";

/// The test program and what is to be run of it.
pub(crate) struct Suite {
    /// `None` if it did not compile.
    program: Option<PathBuf>,
    /// The groups that were named; empty for all.
    groups: Vec<String>,
    murphy: PathBuf,
    filter: Option<String>,
    /// Ten times the rounds of what is repeated.
    full: bool,
    /// Programs of unit tests, if all tests were built.
    pub(crate) units: Vec<Artifact>,
    /// What did not compile.
    pub(crate) errors: String,
}

impl Suite {
    /// Builds murphy and the test program, with those of unit tests if `units`.
    pub(crate) fn build(
        filter: Option<&str>,
        files: &[String],
        full: bool,
        units: bool,
    ) -> Result<Self> {
        let step = Step::start("building murphy and the tests");
        let mut cargo = build::test_cargo();
        // A program that does not compile is one failure; the others run.
        cargo.args(["--keep-going", "--bin", "murphy"]);
        if units {
            cargo.arg("--tests");
        } else {
            cargo.args(["--test", PROGRAM]);
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
            .partition(|a| a.name == PROGRAM && a.package.ends_with(build::TESTS));
        let suite = Self {
            program: integration.into_iter().next().map(|a| a.path),
            groups: files.to_vec(),
            murphy,
            filter: filter.map(str::to_owned),
            full,
            units: others,
            errors: built.errors,
        };
        let tests = suite.tests_in(HOST)?;
        step.end(
            if suite.errors.is_empty() {
                "done"
            } else {
                "FAILED"
            },
            &format!(
                "{} integration tests in {} files; {} crates compiled",
                tests.len(),
                groups(&tests).len(),
                built.compiled
            ),
        );
        Ok(suite)
    }

    /// Returns `FILE: NAME` of every test for an environment, as the test program lists them. A
    /// file name that the program does not know is an error.
    pub(crate) fn tests_in(&self, environment: &str) -> Result<Vec<String>> {
        let Some(program) = &self.program else {
            return Ok(Vec::new());
        };
        let mut list = Command::new(program);
        list.arg("--list")
            .args(self.groups.iter().flat_map(|group| ["--group", group]))
            .args(&self.filter)
            .env("MURPHY_VM_KERNEL", environment)
            .envs(self.whole());
        let listed = sh::run(&mut list)?;
        let names = listed.lines().filter_map(|l| l.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs everything here.
    pub(crate) fn on_host(&self) -> Result<Vec<Record>> {
        let Some(program) = &self.program else {
            return Ok(Vec::new());
        };
        let step = Step::start("integration tests on the host");
        let dir = tempfile::Builder::new().prefix("murphy-test-").tempdir()?;
        let mut collector = Collector::new(HOST);
        let tests = self.tests_in(HOST)?;
        for group in groups(&tests) {
            if sh::interrupted() {
                break;
            }
            let events = dir.path().join("events");
            let output = dir.path().join("output");
            fs::write(&events, "")?;
            let log = fs::File::create(&output)?;
            let mut child = Command::new(program)
                .args(["--group", group])
                .args(&self.filter)
                .envs(self.rounds())
                .envs(self.all_cells())
                .envs(self.whole())
                .envs(self.second_try())
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
            let is_mine = |test: &&String| group_of(test) == group;
            let mine: Vec<String> = tests.iter().filter(is_mine).cloned().collect();
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

    /// Boots a kernel once and runs these tests in it.
    pub(crate) fn in_kernel(
        &self,
        cache: &Cache,
        kernel: &Kernel,
        tests: &[String],
    ) -> Result<Vec<Record>> {
        let Some(program) = &self.program else {
            return Ok(Vec::new());
        };
        let step = Step::start(format!(
            "integration tests in {} ({})",
            kernel.name, kernel.release
        ));
        let groups = groups(tests);
        let files = u32::try_from(groups.len()).unwrap_or(u32::MAX).max(1);
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
        let payload = [program.clone(), self.murphy.clone()];
        let mut environment = vm::environment(kernel);
        environment.push(("MURPHY_TEST_EVENTS".into(), "/murphy/events".into()));
        let fewer = (ROUNDS.to_owned(), ROUNDS_IN_KERNEL.to_owned());
        environment.push(self.rounds().unwrap_or(fewer));
        environment.extend(self.whole());
        environment.extend(self.all_cells());
        environment.extend(self.second_try());
        let job = Job {
            command: self.script(program, &groups),
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
        collector.close(tests, &why);
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

    /// What tells tests of many cases to have them all.
    fn all_cells(&self) -> Option<(String, String)> {
        self.full.then(|| (FULL.to_owned(), "1".to_owned()))
    }

    /// Who looks at one test wants to see it fail; a whole run on a busy machine does not hang on one moment of it.
    fn second_try(&self) -> Option<(String, String)> {
        (self.is_whole() && !self.full).then(|| (SECOND_TRY.to_owned(), "1".to_owned()))
    }

    /// Whether this is all tests, and not a part that was named.
    fn is_whole(&self) -> bool {
        self.filter.is_none() && self.groups.is_empty()
    }

    /// With `--file` or `--filter`, what is named runs wherever it is wanted.
    fn whole(&self) -> Option<(String, String)> {
        self.is_whole().then(|| (WHOLE.to_owned(), "1".to_owned()))
    }

    /// How long one group of tests may take.
    fn limit(&self) -> Duration {
        PER_FILE * if self.full { 10 } else { 1 }
    }

    fn script(&self, program: &Path, groups: &[&str]) -> String {
        let filter = self
            .filter
            .as_deref()
            .map(initrd::quote)
            .unwrap_or_default();
        let limit = self.limit().as_secs();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let lines = groups.iter().map(|group| {
            format!("timeout {limit} /murphy/bin/{name} --group {group} {filter} || status=1\n")
        });
        format!("status=0\n{}exit $status\n", lines.collect::<String>())
    }
}

/// The group of a test `GROUP: NAME`.
fn group_of(test: &str) -> &str {
    test.split(": ").next().unwrap_or_default()
}

/// The groups of tests, in their order.
fn groups(tests: &[String]) -> Vec<&str> {
    let mut groups: Vec<_> = tests.iter().map(|test| group_of(test)).collect();
    groups.dedup();
    groups
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

    fn suite(filter: Option<&str>, groups: &[&str]) -> Suite {
        Suite {
            program: None,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            murphy: PathBuf::new(),
            filter: filter.map(str::to_owned),
            full: false,
            units: Vec::new(),
            errors: String::new(),
        }
    }

    #[test]
    fn each_group_is_a_process_with_a_limit() {
        let tests = ["a: x", "a: y: z", "b: x"].map(str::to_owned);
        assert_eq!(groups(&tests), ["a", "b"]);
        let script = suite(Some("it's"), &[]).script(Path::new("/x/behaviour-0"), &groups(&tests));
        let line = |group| {
            format!(r"timeout 600 /murphy/bin/behaviour-0 --group {group} 'it'\''s' || status=1")
        };
        let lines: Vec<_> = script.lines().map(str::to_owned).collect();
        assert_eq!(lines[1..3], [line("a"), line("b")]);
    }

    #[test]
    fn a_part_that_was_named_is_no_whole_run() {
        assert!(suite(None, &[]).whole().is_some());
        assert!(suite(Some("x"), &[]).whole().is_none());
        assert!(suite(None, &["a"]).second_try().is_none());
    }
}
