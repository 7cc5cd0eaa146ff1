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
    time::Instant,
};

use anyhow::{Context, Result};

use self::{
    integration::Suite,
    record::{Outcome, Record},
};
use crate::{cache::Cache, kernels, setup, sh, vm::status};

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

/// Runs the command; the status to exit with.
pub(crate) fn run(args: &Args) -> u8 {
    let begun = Instant::now();
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
    let table = table::render(&columns, &records);
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
    if !setup::is_complete(&cache) {
        setup::run(&setup::Args::default()).context("setup")?;
    }
    let filter = args.filter.as_deref();
    let mut checks = false;
    if !args.host_only && !args.integration && !args.safety && args.file.is_empty() {
        checks = filter.is_none();
        if checks {
            records.extend(lint::run(&cache)?);
        }
        interruptible()?;
        records.extend(unit::run(filter)?);
    }
    interruptible()?;
    let mut files = args.file.clone();
    files.extend(args.safety.then(|| "safety".to_owned()));
    let suite = Suite::build(filter, &files, args.full)?;
    if !suite.errors.is_empty() {
        let errors = suite.errors.as_str();
        records.push(Record::new(
            "host",
            "building the integration tests",
            Outcome::Failed,
            errors,
        ));
    }
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
        let aarch64 = checks.then(|| scope.spawn(lint::aarch64));
        if !named {
            records.extend(suite.on_host()?);
        }
        if let Some(check) = aarch64 {
            let died = |_| anyhow::anyhow!("the check for aarch64 panicked");
            records.push(check.join().map_err(died)?);
        }
        Ok(())
    })?;
    for (name, heading, told) in side_by_side(&cache, &suite, &names, named) {
        columns.push((name, heading));
        records.extend(told?);
    }
    Ok(())
}

/// An environment, the heading of its column, and what was seen in it.
type Told = (String, String, Result<Vec<Record>>);

/// The kernels, as many at once as keep a core each busy: an emulated machine hardly uses a second one.
fn side_by_side(cache: &Cache, suite: &Suite, names: &[String], named: bool) -> Vec<Told> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    // The longest first.
    let mut queue: Vec<_> = names.iter().collect();
    queue.sort_by_key(|name| Reverse(suite.tests_in(name).len()));
    let next = AtomicUsize::new(0);
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..cores.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sh::interrupted() {
                        break;
                    }
                    let one = in_one(cache, suite, name, named);
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
    told
}

fn in_one(cache: &Cache, suite: &Suite, name: &str, named: bool) -> Told {
    match kernels::find(cache, name) {
        Ok(kernel) => (
            name.to_owned(),
            match name {
                kernels::build::NAME => name.to_owned(),
                _ => heading(&kernel.release),
            },
            suite.in_kernel(cache, &kernel),
        ),
        Err(error) => {
            // The oldest kernel is best effort: its suite moves to an archive one day.
            let outcome = if name == "bullseye" && !named {
                Outcome::Skipped
            } else {
                Outcome::Failed
            };
            let lost = |t: &String| Record::new(name, t, outcome, format!("{error:#}"));
            let records = suite.tests_in(name).iter().map(lost).collect();
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
