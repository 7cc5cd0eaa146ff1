//! What murphy tells of its work: the result as a table or as JSON, notices, generated pages.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::CommandFactory as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::args::{Cli, FaultArgs};
use super::failure::Failure;
use super::listen::Listener;
use murphy_engine::{FaultReport, Report, Session};
use murphy_fault::plan::Plan;
use murphy_sys::printable;

/// The result of `run` and `inject`, for scripts.
#[derive(Debug, Serialize)]
pub(super) struct Outcome<'a> {
    /// What `run`'s command left as its exit status; absent for `inject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u8>,
    /// Why it ended.
    pub(super) ended: &'a str,
    /// Seed that repeats the run.
    pub(super) seed: u64,
    #[serde(flatten)]
    pub(super) report: &'a Report,
}

/// Writes text to standard error. A closed standard error is no reason to stop, as it
/// is for `eprintln!`. It waits for a reader that does not read: while faults are armed,
/// `Listener::notice` says things.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", printable::lines(text));
}

/// Writes text that murphy coloured itself to standard error.
pub(super) fn tell_coloured(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What a session has to say while it lasts. Nobody asked for it, and it must not go unnoticed.
pub(super) fn warnings(session: &mut Session, listener: &mut Listener) {
    for warning in session.take_warnings() {
        listener.notice(&format!("murphy: {warning}"));
    }
}

/// With `--verbose`: what is about to be attached, and for which faults.
pub(super) fn plan(args: &FaultArgs, plan: &Plan) {
    if args.verbose == 0 {
        return;
    }
    for rule in &plan.rules {
        tell(&format!("murphy: {} (seed {})", rule.fault, rule.wire.seed));
    }
    for condition in &plan.conditions {
        tell(&format!(
            "murphy: {}, while it is in force",
            condition.fault
        ));
    }
    for (name, addresses) in plan.names.iter() {
        tell(&format!("murphy: {name} is {}", listed(addresses)));
    }
    for (file, table) in plan.tables.iter() {
        let count = table.numbers().len();
        tell(&format!("murphy: {file} has {count} numbers"));
    }
    for (program, place) in plan.hooks.iter().flat_map(|hook| hook.programs()) {
        tell(&format!("murphy: attaching {program} to {place}"));
    }
}

/// Addresses, between commas.
pub(super) fn listed(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// Makes the file for the result, so that one that cannot be written is told before
/// anything is begun.
pub(super) fn file(args: &FaultArgs) -> Result<Option<File>, Failure> {
    let create = |path: &PathBuf| {
        File::create(path).map_err(|source| Failure::Output {
            path: path.clone(),
            source,
        })
    };
    args.output.as_ref().map(create).transpose()
}

/// Writes the result where the user wants it, and points out faults that never matched.
pub(super) fn result(
    args: &FaultArgs,
    file: Option<File>,
    outcome: &Outcome<'_>,
) -> Result<(), Failure> {
    // The exit status is about it, so that it is said in any case; JSON has it itself.
    for left in outcome.report.not_undone.iter().filter(|_| !args.json) {
        tell(&format!(
            "murphy: could not be undone: {}; `murphy recover` tries again",
            printable::line(left)
        ));
    }
    let text = if args.json {
        let text = serde_json::to_string(outcome).map_err(|error| Failure::Io {
            doing: "writing JSON",
            source: error.into(),
        })?;
        printable::json(&text).into_owned()
    } else {
        table(outcome)
    };
    let (path, written) = match (file, &args.output) {
        (Some(mut file), Some(path)) => (path.clone(), writeln!(file, "{text}")),
        _ if args.quiet && !args.json => return Ok(()),
        _ => {
            // Closed or full: that nobody reads it does not change what the command came to.
            tell(&text);
            return Ok(());
        }
    };
    written.map_err(|source| Failure::Output { path, source })
}

fn table(outcome: &Outcome<'_>) -> String {
    let report = outcome.report;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let observes = report.faults.iter().any(|fault| fault.observed.is_some());
    table.set_header(row(
        ["FAULT", "MATCHED", "INJECTED"],
        observes.then_some("OBSERVED"),
        ["SUPPRESSED", "EXPIRED", "FAILED", "BACKEND"],
    ));
    for fault in &report.faults {
        let observed = fault
            .observed
            .map_or("-".to_owned(), |count| count.to_string());
        table.add_row(row(
            [
                fault.fault.clone(),
                fault.matched.to_string(),
                fault.injected.to_string(),
            ],
            observes.then_some(observed),
            [
                fault.suppressed.total().to_string(),
                fault.expired.to_string(),
                fault.failed.to_string(),
                fault.backend.to_string(),
            ],
        ));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!(
        "murphy: {}; faults were armed for {:.1} s, seed {}",
        outcome.ended, report.seconds, outcome.seed,
    );
    if !report.faults.is_empty() || report.conditions.is_empty() {
        text.push('\n');
        text.push_str(&table.trim_fmt());
    }
    if !report.conditions.is_empty() {
        text.push('\n');
        text.push_str(&conditions(report));
    }
    for notice in notices(report) {
        text.push_str("\nmurphy: ");
        text.push_str(&notice);
    }
    text
}

/// The table of conditions.
fn conditions(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["CONDITION", "APPLIED", "SECONDS", "FAILED"]);
    for one in &report.conditions {
        table.add_row([
            one.condition.clone(),
            one.applied.to_string(),
            format!("{:.1}", one.seconds),
            one.failed.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// A row of the table; only who asked for it has the column in the middle.
fn row<T>(before: [T; 3], observed: Option<T>, after: [T; 4]) -> Vec<T> {
    before.into_iter().chain(observed).chain(after).collect()
}

/// What must not go unnoticed.
fn notices(report: &Report) -> Vec<String> {
    let lost = report.events_lost.filter(|lost| *lost > 0).map(|lost| {
        format!(
            "{lost} decisions are missing in the trace or the events file: they came faster than they could be written, or could not be written"
        )
    });
    let missed = report.missed.filter(|missed| *missed > 0).map(|missed| {
        format!(
            "the kernel skipped {missed} runs of murphy's programs: what they would have been asked about went through, uncounted"
        )
    });
    let observed = |fault: &FaultReport| Some(fault.observed? + fault.altered.unwrap_or(0));
    let lacking = report.faults.iter().filter_map(|fault| {
        let lacking = fault.injected.saturating_sub(observed(fault)?);
        (lacking > 0).then(|| {
            format!(
                "{lacking} calls that {} was injected into were not seen to come back",
                fault.fault
            )
        })
    });
    let altered = report.faults.iter().filter_map(|fault| {
        let altered = fault.altered.filter(|altered| *altered > 0)?;
        Some(format!(
            "{altered} calls that {} was injected into came back to their callers with another result",
            fault.fault
        ))
    });
    faults_notices(report)
        .into_iter()
        .chain(lacking)
        .chain(altered)
        .chain(missed)
        .chain(lost)
        .collect()
}

/// Faults that did nothing.
fn faults_notices(report: &Report) -> Vec<String> {
    if !report.armed {
        return vec!["the faults were never armed: nothing was injected".to_owned()];
    }
    let idle = report.conditions.iter().filter(|one| one.applied == 0);
    let idle = idle.map(|one| {
        format!(
            "{} held for no process: {}",
            one.condition,
            match one.failed {
                0 => "no target had a limit to lower",
                _ => "no limit could be lowered",
            }
        )
    });
    let quiet = |fault: &&FaultReport| fault.matched == 0;
    let quiet = report.faults.iter().filter(quiet).map(|fault| {
        format!(
            "{} matched nothing: no operation of a target passed its filters",
            fault.fault
        )
    });
    quiet.chain(idle).collect()
}

/// The man page of murphy or of one of its commands, on standard output.
pub(super) fn man(of: Option<&str>) -> Result<u8, Failure> {
    let mut page = Cli::command();
    page.build();
    if let Some(name) = of {
        page = page
            .find_subcommand(name)
            .ok_or(Failure::Io {
                doing: "finding the man page's command",
                source: io::ErrorKind::NotFound.into(),
            })?
            .clone();
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(Failure::io("writing the man page"))?;
    self::page(&text)
}

/// Writes a generated page to standard output. A reader that closes it has seen enough.
fn page(text: &[u8]) -> Result<u8, Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("writing a page")(error))
        }
        _ => Ok(0),
    }
}

/// Completions for a shell, on standard output.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "murphy", &mut text);
    page(&text)
}
