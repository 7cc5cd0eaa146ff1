//! Running cases: needs first, leftovers last, every outcome reported to the runner of many groups.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use libtest_mimic::{Arguments, Completion, Conclusion, Trial};
use serde_json::json;

use crate::{expect, group, leftovers, need::Need};

/// What a test function returns: its error is the failure's text.
pub type Outcome = anyhow::Result<()>;

/// The environments that a whole run has a case in, beside the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Every kernel but [`expect::ON_REQUEST`].
    #[default]
    All,
    /// These.
    Named(&'static [&'static str]),
}

impl Kernels {
    /// Whether a kernel is among them.
    pub(crate) fn include(self, kernel: &str) -> bool {
        match self {
            Self::All => kernel != expect::ON_REQUEST,
            Self::Named(names) => names.contains(&kernel),
        }
    }

    /// Returns a name that is no kernel's.
    pub(crate) fn unknown(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Named(names) => names.iter().copied().find(|name| !expect::is_kernel(name)),
        }
    }
}

/// A named test with what it needs.
pub struct Case {
    name: String,
    needs: Vec<Need>,
    test: Box<dyn Fn() -> Outcome + Send>,
    /// Whether the kernel is searched for leftovers before and after.
    watched: bool,
    /// `None`: those of its group.
    kernels: Option<Kernels>,
    /// Whether a failure is final, in whatever run.
    once: bool,
}

/// Makes a case; see the crate's example.
pub fn case(
    name: impl Into<String>,
    needs: Vec<Need>,
    test: impl Fn() -> Outcome + Send + 'static,
) -> Case {
    Case {
        name: name.into(),
        needs,
        test: Box::new(test),
        watched: true,
        kernels: None,
        once: false,
    }
}

impl Case {
    /// Limits a whole run to these kernels and the host, whatever the group says.
    #[must_use]
    pub fn in_kernels(mut self, kernels: &'static [&'static str]) -> Self {
        self.kernels = Some(Kernels::Named(kernels));
        self
    }

    /// Limits a whole run to the host, whatever the group says.
    #[must_use]
    pub fn host_only(self) -> Self {
        self.in_kernels(&[])
    }

    /// Makes a failure final: a whole run does not try the case a second time. For cases that look
    /// for one failure in a thousand.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn has_need(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }

    /// The kernels that the case names, or those of its group.
    pub(crate) fn kernels_or(&self, group: Kernels) -> Kernels {
        self.kernels.unwrap_or(group)
    }

    /// Fills in the attributes of the group.
    pub(crate) fn with_defaults(mut self, kernels: Kernels, once: bool) -> Self {
        self.kernels = Some(self.kernels_or(kernels));
        self.once |= once;
        self
    }

    /// Whether a whole run has the case in this environment.
    pub(crate) fn runs_in(&self, environment: &str) -> bool {
        environment == expect::HOST || self.kernels.unwrap_or_default().include(environment)
    }

    #[cfg(test)]
    pub(crate) fn is_once(&self) -> bool {
        self.once
    }

    /// A trial of the same name, for filters to judge.
    pub(crate) fn as_trial(&self) -> Trial {
        Trial::test(&*self.name, || Ok(()))
    }
}

/// Raised by [`skip`].
#[derive(Debug)]
struct Skipped(String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// Ends a test that finds out on its way that it cannot run here: `return tests::skip("no IPv6")`.
///
/// Use a [`Need`] where one exists: those are held against the table of expectations.
pub fn skip(reason: impl Into<String>) -> Outcome {
    Err(Skipped(reason.into()).into())
}

/// Reports what a test counted: prints it here, and tells the runner of many groups.
pub fn note(text: &str) {
    println!("note: {text}");
    tell(json!({"event": "note", "file": group::running(), "text": text}));
}

/// Runs the cases with given arguments, for tests of the harness. The runner of many groups is not
/// told of them.
pub fn run_with(args: Arguments, cases: impl IntoIterator<Item = Case>) -> Conclusion {
    conclude(args, cases, false, false)
}

/// Runs cases; `reported` tells the runner of many groups, `again` allows second tries.
pub(crate) fn conclude(
    mut args: Arguments,
    cases: impl IntoIterator<Item = Case>,
    reported: bool,
    again: bool,
) -> Conclusion {
    // They share one kernel, and each is held responsible for what is left in it.
    args.test_threads = Some(1);
    let trials = cases
        .into_iter()
        .map(|case| trial(case, reported, again))
        .collect();
    libtest_mimic::run(&args, trials)
}

fn trial(case: Case, reported: bool, again: bool) -> Trial {
    let report = move |event| {
        if reported {
            tell(event);
        }
    };
    let name = case.name.clone();
    Trial::ignorable_test(name.clone(), move || {
        report(json!({"event": "start", "file": group::running(), "test": name}));
        let begun = Instant::now();
        let done = tried(&case, again, |text| {
            report(json!({"event": "again", "file": group::running(), "test": name, "text": text}));
        });
        let (outcome, text) = match &done {
            Ok(Completion::Completed) => ("passed", None),
            Ok(Completion::Ignored { reason }) => ("skipped", reason.clone()),
            Err(failure) => ("failed", Some(failure.to_string())),
        };
        report(json!({
            "event": "end", "file": group::running(), "test": name, "outcome": outcome,
            "text": text, "seconds": begun.elapsed().as_secs_f64(),
        }));
        done.map_err(|failure| failure.to_string().into())
    })
}

/// Judges a case, and once more if it failed and `again` allows it; `told` hears how it failed at first.
fn tried(case: &Case, again: bool, told: impl FnOnce(&str)) -> Result<Completion, Failure> {
    match judge(case) {
        Err(failure) if again && !case.once && failure.left.is_empty() => {
            told(&failure.to_string());
            judge(case)
        }
        done => done,
    }
}

/// Why a case failed.
struct Failure {
    text: String,
    /// What it left in the kernel. That is never excused by a second try.
    left: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = self.left.join(", ");
        match (self.text.is_empty(), self.left.is_empty()) {
            (false, true) => write!(f, "{}", self.text),
            (true, _) => write!(f, "left behind: {left}"),
            (false, false) => write!(f, "{}\nleft behind: {left}", self.text),
        }
    }
}

fn judge(case: &Case) -> Result<Completion, Failure> {
    for need in &case.needs {
        if let Err(reason) = need.check() {
            let here = expect::environment();
            if expect::must_have(&here, need) {
                return Err(Failure {
                    text: format!("{need} is expected on {here}, but: {reason}"),
                    left: Vec::new(),
                });
            }
            return Ok(Completion::ignored_with(reason));
        }
    }
    let before = case.watched.then(leftovers::Snapshot::take);
    let result = catch_unwind(AssertUnwindSafe(&case.test));
    // What a failed test leaves would otherwise be blamed on the next one; so it is waited for too.
    let left = before.map_or_else(Vec::new, |b| b.settle());
    let failed = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => match error.downcast_ref::<Skipped>() {
            Some(Skipped(reason)) if left.is_empty() => {
                return Ok(Completion::ignored_with(reason));
            }
            _ => Some(format!("{error:#}")),
        },
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked")
                .to_owned(),
        ),
    };
    if failed.is_none() && left.is_empty() {
        return Ok(Completion::Completed);
    }
    Err(Failure {
        text: failed.unwrap_or_default(),
        left,
    })
}

/// Appends a line to the file that the runner of many groups reads, if there is one.
#[allow(clippy::needless_pass_by_value)] // json!() makes a value
fn tell(event: serde_json::Value) {
    let Some(path) = env::var_os("MURPHY_TEST_EVENTS") else {
        return;
    };
    let written = OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{event}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot report to the runner: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// How often it was tried, whether it passed, and how it failed at first.
    fn tries(failing: u32, again: bool, once: bool) -> (u32, bool, String) {
        static DONE: AtomicU32 = AtomicU32::new(0);
        DONE.store(0, Ordering::Relaxed);
        let mut case = case("fails at first", Vec::new(), move || {
            let nth = DONE.fetch_add(1, Ordering::Relaxed);
            anyhow::ensure!(nth >= failing, "try {nth}");
            Ok(())
        });
        case.once = once;
        let first = RefCell::default();
        let passed = tried(&case, again, |text| {
            text.clone_into(&mut first.borrow_mut());
        })
        .is_ok();
        (DONE.load(Ordering::Relaxed), passed, first.into_inner())
    }

    #[test]
    fn a_second_try_is_the_last_and_is_told() {
        assert_eq!(tries(0, true, false), (1, true, String::new()));
        assert_eq!(tries(1, true, false), (2, true, "try 0".to_owned()));
        assert_eq!(tries(2, true, false), (2, false, "try 0".to_owned()));
        assert_eq!(tries(1, false, false), (1, false, String::new()));
        assert_eq!(tries(1, true, true), (1, false, String::new()));
    }
}
