//! Running cases: needs first, leftovers last, every outcome told to whoever runs many files.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use libtest_mimic::{Arguments, Completion, Conclusion, Trial};
use serde_json::json;

use crate::{expect, leftovers, need::Need};

/// What a test function returns: its error is the failure's text.
pub type Outcome = anyhow::Result<()>;

/// Set where a case that failed is tried once more: in whole runs, whose emulated machines are held up at times. Both tries are told.
const SECOND_TRY: &str = "MURPHY_TEST_SECOND_TRY";

/// A named test with what it needs.
pub struct Case {
    name: String,
    needs: Vec<Need>,
    test: Box<dyn Fn() -> Outcome + Send>,
    /// Whether the kernel is searched for leftovers before and after.
    watched: bool,
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

/// Says what a test counted: printed here, and by whoever runs many files.
pub fn note(text: &str) {
    println!("note: {text}");
    tell(json!({"event": "note", "file": file(), "text": text}));
}

/// Runs the cases with the arguments of the command line (`FILTER`, `--list`, `--exact`, …).
///
/// Called with `victim` as the first argument, it is the victim of another test instead.
pub fn run(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    start(cases, env::var_os(SECOND_TRY).is_some())
}

/// A shell starts what it runs in the background with signals from the terminal ignored, and a program passes that on to
/// all it starts: no shell in a test could trap them.
fn hear_signals() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        // SAFETY: there is one thread yet, and the default disposition calls nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// [`run`] for cases that are never tried again, in whatever run: one failure in a thousand is what they look for.
pub fn run_once(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    start(cases, false)
}

fn start(cases: impl IntoIterator<Item = Case>, again: bool) -> ExitCode {
    if let Some(code) = crate::victim::run_if_asked() {
        return code;
    }
    hear_signals();
    leftovers::mark_descendants();
    conclude(Arguments::from_args(), cases, true, again).exit_code()
}

/// Runs the cases with given arguments, for tests of the harness: no runner of many files hears of them.
pub fn run_with(args: Arguments, cases: impl IntoIterator<Item = Case>) -> Conclusion {
    conclude(args, cases, false, false)
}

fn conclude(
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
        report(json!({"event": "start", "file": file(), "test": name}));
        let begun = Instant::now();
        let done = tried(&case, again, |text| {
            report(json!({"event": "again", "file": file(), "test": name, "text": text}));
        });
        let (outcome, text) = match &done {
            Ok(Completion::Completed) => ("passed", None),
            Ok(Completion::Ignored { reason }) => ("skipped", reason.clone()),
            Err(failure) => ("failed", Some(failure.to_string())),
        };
        report(json!({
            "event": "end", "file": file(), "test": name, "outcome": outcome, "text": text,
            "seconds": begun.elapsed().as_secs_f64(),
        }));
        done.map_err(|failure| failure.to_string().into())
    })
}

/// Judges a case, and once more if it failed and `again` allows it; `told` hears how it failed at first.
fn tried(case: &Case, again: bool, told: impl FnOnce(&str)) -> Result<Completion, Failure> {
    match judge(case) {
        Err(failure) if again && failure.left.is_empty() => {
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

/// The test file's stem: the program's name without cargo's hash.
fn file() -> String {
    let program = env::args().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('-') {
        Some((stem, hash)) if hash.len() == 16 => stem.to_owned(),
        _ => name.to_owned(),
    }
}

/// Appends a line to the file that the runner of many test files reads, if there is one.
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
    fn tries(failing: u32, again: bool) -> (u32, bool, String) {
        static DONE: AtomicU32 = AtomicU32::new(0);
        DONE.store(0, Ordering::Relaxed);
        let case = case("fails at first", Vec::new(), move || {
            let nth = DONE.fetch_add(1, Ordering::Relaxed);
            anyhow::ensure!(nth >= failing, "try {nth}");
            Ok(())
        });
        let first = RefCell::default();
        let passed = tried(&case, again, |text| {
            text.clone_into(&mut first.borrow_mut());
        })
        .is_ok();
        (DONE.load(Ordering::Relaxed), passed, first.into_inner())
    }

    #[test]
    fn a_second_try_is_the_last_and_is_told() {
        assert_eq!(tries(0, true), (1, true, String::new()));
        assert_eq!(tries(1, true), (2, true, "try 0".to_owned()));
        assert_eq!(tries(2, true), (2, false, "try 0".to_owned()));
        assert_eq!(tries(1, false), (1, false, String::new()));
    }
}
