//! `cargo xtask test`: every check and every test, here and in every kernel, and one table at the end.

mod integration;
mod lint;
mod record;
mod table;
mod unit;

use std::{
    cmp::Reverse,
    fs,
    num::NonZero,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::{
    integration::Suite,
    record::{Outcome, Record},
};
use crate::{cache::Cache, cost, kernels, setup, sh, vm::status};

/// Run all checks and tests, on this machine and in every kernel
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only in these kernels (may be repeated)
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Only the integration tests, only here
    #[arg(long)]
    host_only: bool,
    /// Boot no kernel
    #[arg(long)]
    no_vm: bool,
    /// Only tests whose name contains this; skips the checks
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only the integration tests
    #[arg(long)]
    integration: bool,
    /// Only this file of integration tests (may be repeated)
    #[arg(long, value_name = "NAME")]
    file: Vec<String>,
    /// Only the safety suite: signals at random moments, deadlines, full disks
    #[arg(long)]
    safety: bool,
    /// With ten times the rounds
    #[arg(long)]
    full: bool,
    /// Write all outcomes to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a whole run may cost, of CPU time.
const BUDGET: Duration = Duration::from_secs(130 * 60);

impl Args {
    /// Whether unit tests are run, too.
    fn has_units(&self) -> bool {
        !self.host_only && !self.integration && !self.safety && self.file.is_empty()
    }

    /// Whether this is all that there is to run.
    fn is_whole(&self) -> bool {
        self.has_units()
            && self.kernel.is_empty()
            && !self.no_vm
            && !self.full
            && self.filter.is_none()
    }
}

/// Compares what a whole run has cost with what it may cost.
fn within_budget(cpu: Duration) -> Record {
    let (minutes, budget) = (cost::minutes(cpu), cost::minutes(BUDGET));
    let text = format!("the run cost {minutes:.1} CPU-minutes, more than {budget:.0}");
    let (outcome, text) = if cpu > BUDGET {
        (Outcome::Failed, text)
    } else {
        (Outcome::Passed, String::new())
    };
    let name = format!("check: a whole run costs at most {budget:.0} CPU-minutes");
    Record::new("host", name, outcome, text)
}

/// Runs the command; the status to exit with.
pub(crate) fn run(args: &Args) -> u8 {
    let begun = Instant::now();
    let before = cost::since_start("cargo and the build of xtask");
    let mut records = Vec::new();
    let mut columns = vec![("host".to_owned(), "host".to_owned())];
    if let Err(error) = all(args, &mut records, &mut columns) {
        // Whatever stops the run is a failure among the others: the last line stays what it is.
        records.push(Record::new(
            "host",
            "the test run itself",
            Outcome::Failed,
            format!("{error:#}"),
        ));
    }
    let cost = cost::so_far(before);
    if args.is_whole() {
        records.push(within_budget(cost.cpu()));
    }
    let table = table::render(&columns, &records, &cost.render(BUDGET));
    eprintln!("\n{} s in all", begun.elapsed().as_secs());
    println!("{table}");
    if let Some(file) = &args.json {
        let all: Vec<_> = records.iter().map(Record::json).collect();
        let text = serde_json::Value::from(all).to_string();
        if let Err(error) = fs::write(file, text) {
            eprintln!("test: cannot write {}: {error}", file.display());
            return 1;
        }
    }
    if sh::interrupted() {
        return status::INTERRUPTED;
    }
    u8::from(records.iter().any(|r| r.outcome == Outcome::Failed))
}

fn all(args: &Args, records: &mut Vec<Record>, columns: &mut Vec<(String, String)>) -> Result<()> {
    let cache = Cache::open()?;
    cost::step("setup", || -> Result<()> {
        if !setup::is_complete(&cache) {
            setup::run(&setup::Args::for_tests()).context("setup")?;
        }
        Ok(())
    })?;
    let filter = args.filter.as_deref();
    let units = args.has_units();
    let checks = units && filter.is_none();
    if checks {
        records.extend(lint::run(&cache));
    }
    interruptible()?;
    let mut files = args.file.clone();
    files.extend(args.safety.then(|| "safety".to_owned()));
    let suite = cost::step("build", || Suite::build(filter, &files, args.full, units))?;
    if !suite.errors.is_empty() {
        let errors = suite.errors.as_str();
        records.push(Record::new(
            "host",
            "building the tests",
            Outcome::Failed,
            errors,
        ));
    }
    interruptible()?;
    if units {
        records.extend(unit::run(&suite.units, filter)?);
    }
    interruptible()?;
    let named = !args.kernel.is_empty();
    let names = if args.no_vm || args.host_only {
        Vec::new()
    } else if named {
        args.kernel.clone()
    } else {
        let suites = kernels::SUITES.iter().map(|s| s.name);
        let built = kernels::build::is_cached(&cache).then_some(kernels::build::NAME);
        suites.chain(built).map(str::to_owned).collect()
    };
    // Not beside the machines: some of its tests measure, and most of its time is waiting.
    thread::scope(|scope| -> Result<()> {
        let check = || cost::step("check for aarch64", lint::aarch64);
        let aarch64 = checks.then(|| scope.spawn(check));
        if !named {
            let here = cost::step("integration on the host", || suite.on_host());
            records.extend(here?);
        }
        if let Some(check) = aarch64 {
            let died = |_| anyhow::anyhow!("the check for aarch64 panicked");
            records.push(check.join().map_err(died)?);
        }
        Ok(())
    })?;
    for (name, heading, told) in side_by_side(&cache, &suite, &names, named)? {
        columns.push((name, heading));
        records.extend(told?);
    }
    Ok(())
}

/// An environment, the heading of its column, and what was seen in it.
type Told = (String, String, Result<Vec<Record>>);

/// The kernels, as many at once as keep a core each busy: an emulated machine hardly uses a second one.
fn side_by_side(cache: &Cache, suite: &Suite, names: &[String], named: bool) -> Result<Vec<Told>> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut queue = Vec::new();
    for name in names {
        let tests = suite.tests_in(name)?;
        // A kernel with nothing to run is not worth its boot.
        if !tests.is_empty() {
            queue.push((name, tests));
        }
    }
    // The longest first.
    queue.sort_by_key(|(_, tests)| Reverse(tests.len()));
    let next = AtomicUsize::new(0);
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..cores.min(names.len()) {
            scope.spawn(|| {
                while let Some((name, tests)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sh::interrupted() {
                        break;
                    }
                    let one = in_one(cache, suite, (name, tests), named);
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(one);
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    // In the order asked for, whichever was ready first.
    told.sort_by_key(|(name, ..)| names.iter().position(|n| n == name));
    Ok(told)
}

fn in_one(cache: &Cache, suite: &Suite, (name, tests): (&str, &[String]), named: bool) -> Told {
    match kernels::find(cache, name) {
        Ok(kernel) => (
            name.to_owned(),
            match name {
                kernels::build::NAME => name.to_owned(),
                _ => heading(&kernel.release),
            },
            cost::step(&format!("kernel {name}"), || {
                suite.in_kernel(cache, &kernel, tests)
            }),
        ),
        Err(error) => {
            // The oldest kernel is best effort: its suite moves to an archive one day.
            let outcome = if name == "bullseye" && !named {
                Outcome::Skipped
            } else {
                Outcome::Failed
            };
            let lost = |t: &String| Record::new(name, t, outcome, format!("{error:#}"));
            let records = tests.iter().map(lost).collect();
            (name.to_owned(), name.to_owned(), Ok(records))
        }
    }
}

fn interruptible() -> Result<()> {
    anyhow::ensure!(!sh::interrupted(), "interrupted");
    Ok(())
}

/// `6.12.107+deb13-cloud-amd64` → `6.12`.
fn heading(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_above_the_budget_is_a_failure() {
        assert_eq!(within_budget(BUDGET).outcome, Outcome::Passed);
        let over = within_budget(BUDGET + Duration::from_secs(60));
        assert_eq!(over.outcome, Outcome::Failed);
        assert_eq!(over.text, "the run cost 131.0 CPU-minutes, more than 130");
    }
}
