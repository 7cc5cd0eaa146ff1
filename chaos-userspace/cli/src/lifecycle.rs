//! `murphy status`, `stop`, `renew` and `recover`: the injections of this machine, seen and ended from outside.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::args::{RecoverArgs, RenewArgs, StatusArgs, StopArgs};
use super::control::{print, print_json};
use super::failure::Failure;
use super::output::tell;
use super::status as code;
use murphy_engine::Report;
use murphy_state::client::{self, Ended};
use murphy_state::recover::Recovered;
use murphy_state::{Live, Record, StateDir, StateError, Stopped, Unread, halt, recover};
use murphy_sys::clock::boot_ns;
use murphy_sys::printable;

/// An active injection, and how it is if its injector says so.
struct Seen {
    record: Record,
    live: Result<Live, StateError>,
}

/// Shows what is active. With `--id`, the status says whether that is.
pub(super) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let survey = client::survey(args.id.as_deref());
    let unread = survey.unread;
    let mut seen: Vec<Seen> = survey
        .found
        .into_iter()
        .map(client::Asked::into_live)
        .map(|(record, live)| Seen { record, live })
        .collect();
    seen.sort_by_key(|seen| seen.record.started_boot_ns);
    let halt = halt::now(StateDir::trusted().first());
    let leftovers = leftovers(args.id.as_deref());
    if args.json {
        let injections: Vec<Value> = seen.iter().map(Seen::json).collect::<Result<_, _>>()?;
        let mut shown = json!({ "injections": injections, "panic": halt, "unread": unread });
        if let (Some(shown), false) = (shown.as_object_mut(), leftovers.is_empty()) {
            let leftovers: Vec<Value> = leftovers
                .iter()
                .map(|one| json!({ "id": one.id, "what": one.what, "left": one.undone }))
                .collect();
            shown.insert("leftovers".to_owned(), leftovers.into());
        }
        print_json(&shown)?;
    } else {
        if let Some(halt) = &halt {
            print(&format!(
                "nothing may be started: {}",
                printable::line(&halt.to_string())
            ))?;
        }
        match (&seen[..], &args.id) {
            ([], Some(id)) => print(&format!("{id} is not active"))?,
            ([], None) => print("nothing is active")?,
            (seen, _) => print(&table(seen))?,
        }
        for one in &leftovers {
            let left: Vec<_> = one
                .undone
                .iter()
                .map(|left| printable::line(left))
                .collect();
            print(&format!(
                "{} died and left behind: {}; it was {}; `murphy recover` undoes it",
                one.id,
                left.join(", "),
                printable::line(&one.what)
            ))?;
        }
        tell_unread(&unread);
    }
    Ok(match &args.id {
        Some(_) if seen.is_empty() => code::FAILED,
        _ => 0,
    })
}

/// What injectors that died together with their guardians left behind.
fn leftovers(id: Option<&str>) -> Vec<Recovered> {
    let dirs = StateDir::trusted().into_iter();
    let dead = dirs.flat_map(|dir| recover::dead(&dir, true));
    dead.filter(|one| id.is_none_or(|id| id == one.id) && !one.undone.is_empty())
        .collect()
}

/// Says what was passed over, and why.
pub(super) fn tell_unread(unread: &[Unread]) {
    for one in unread {
        let path = one.path.display().to_string();
        tell(&format!(
            "murphy: passed over {} of user {}: {}",
            printable::line(&path),
            one.uid,
            printable::line(&one.why)
        ));
    }
}

impl Seen {
    fn json(&self) -> Result<Value, Failure> {
        let value = match &self.live {
            Ok(live) => serde_json::to_value(live),
            Err(error) => serde_json::to_value(&self.record).map(|mut value| {
                value["unknown"] = error.to_string().into();
                value
            }),
        };
        value.map_err(|error| Failure::io("writing JSON")(error.into()))
    }

    /// What is left of its time: by the injector's word, else at most by the record's.
    fn left(&self) -> Option<Duration> {
        match &self.live {
            Ok(live) => Duration::try_from_secs_f64(live.left_s?).ok(),
            Err(_) => self.record.left(boot_ns()),
        }
    }
}

fn table(seen: &[Seen]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "ID", "COMMAND", "FAULTS", "AGAINST", "INJECTED", "LEFT", "LEASE", "USER", "PID",
    ]);
    for one in seen {
        let record = &one.record;
        let user = match record.sudo_uid {
            Some(id) => format!("{id} (sudo)"),
            None => record.uid.to_string(),
        };
        let several = |texts: &[String]| {
            let lines: Vec<_> = texts.iter().map(|text| printable::line(text)).collect();
            lines.join("\n")
        };
        table.add_row([
            record.id.clone(),
            printable::line(&record.command).into_owned(),
            several(&record.faults),
            several(&record.targets),
            one.live
                .as_ref()
                .map_or_else(|_| "?".to_owned(), |live| counted(&live.report)),
            one.left()
                .map_or_else(|| "-".to_owned(), |left| format!("{}s", left.as_secs())),
            one.live.as_ref().map_or_else(
                |_| "?".to_owned(),
                |live| format!("{:.1}s", live.lease_left_s),
            ),
            user,
            record.owner.pid.to_string(),
        ]);
    }
    let mut text = table.trim_fmt();
    for one in seen {
        if let Err(error) = &one.live {
            let said = said_of(&one.record.id, error);
            text.push_str(&format!("\nmurphy: {}", printable::line(&said)));
        }
    }
    text
}

/// How often all faults of an injection were injected; `None` if it has only conditions.
fn injected(report: &Report) -> Option<u64> {
    let injected = report.faults.iter().map(|fault| fault.injected);
    (!report.faults.is_empty()).then(|| injected.sum())
}

/// To how many processes its conditions were applied; `None` if it has none.
fn applied(report: &Report) -> Option<String> {
    let applied: u64 = report.conditions.iter().map(|one| one.applied).sum();
    let processes = if applied == 1 { "process" } else { "processes" };
    (!report.conditions.is_empty()).then(|| format!("applied to {applied} {processes}"))
}

/// The counts of an injection for the table of `status`: faults and conditions have a line each.
fn counted(report: &Report) -> String {
    let injected = injected(report).map(|times| times.to_string());
    let lines: Vec<_> = injected.into_iter().chain(applied(report)).collect();
    lines.join("\n")
}

/// An error about an injection, with its id in front once.
fn said_of(id: &str, error: &StateError) -> String {
    match error {
        StateError::Refused { .. } => error.to_string(),
        other => format!("{id}: {other}"),
    }
}

/// Ends injections and waits until they are reverted.
pub(super) fn stop(args: &StopArgs) -> Result<u8, Failure> {
    let ended = if args.all {
        client::stop_all(args.reason.as_deref(), args.timeout)
    } else {
        client::stop_ids(&args.ids, args.reason.as_deref(), None, args.timeout)?
    };
    if args.json {
        let failed = said_of_all(&ended);
        print_json(&json!({ "stopped": ended.stopped, "failed": failed, "unread": ended.unread }))?;
    } else {
        if ended.stopped.is_empty() && ended.failed.is_empty() {
            print("nothing is active")?;
        }
        show(&ended)?;
    }
    Ok(if ended.failed.is_empty() && is_clean(&ended) {
        0
    } else {
        code::FAILED
    })
}

/// Whether all that has ended was undone.
fn is_clean(ended: &Ended) -> bool {
    let mut reports = ended.stopped.iter().filter_map(|one| one.report.as_ref());
    reports.all(|report| report.not_undone.is_empty())
}

/// The errors, for JSON.
pub(super) fn said_of_all(ended: &Ended) -> Vec<String> {
    ended.failed.iter().map(ToString::to_string).collect()
}

/// Shows what came of ending injections: on standard output what has ended, on standard error what has not.
pub(super) fn show(ended: &Ended) -> Result<(), Failure> {
    for stopped in &ended.stopped {
        print(&line(stopped))?;
    }
    for error in &ended.failed {
        tell(&format!("murphy: {}", printable::line(&error.to_string())));
        if let Some(remedy) = error.remedy() {
            tell(&format!("  help: {remedy}"));
        }
    }
    tell_unread(&ended.unread);
    Ok(())
}

/// What was ended, in a line, and what went wrong meanwhile in lines of their own.
fn line(stopped: &Stopped) -> String {
    let Some(report) = &stopped.report else {
        let ended = printable::line(&stopped.ended);
        return format!("{}: {ended}; reverted", stopped.id);
    };
    let mut done = Vec::new();
    let mut reverted = Vec::new();
    if let Some(injected) = injected(report) {
        done.push(format!("injected {injected} times"));
        reverted.push("programs detached".to_owned());
    }
    done.extend(applied(report));
    if !report.undone.is_empty() {
        let undone = report.undone.join(", ");
        reverted.push(format!("undone: {}", printable::line(&undone)));
    }
    if reverted.is_empty() {
        reverted.push("nothing was left to undo".to_owned());
    }
    let mut line = format!(
        "{}: {} in {:.1} s; {}",
        stopped.id,
        done.join(", "),
        report.seconds,
        reverted.join(", ")
    );
    for warning in &report.warnings {
        line += "\n  ";
        line += &printable::line(warning);
    }
    line
}

/// Lets an injection with `--keepalive` go on.
pub(super) fn renew(args: &RenewArgs) -> Result<u8, Failure> {
    let seconds = client::renew_any(&args.id)?;
    if args.json {
        print_json(&json!({ "id": args.id, "keepalive_left_s": seconds }))?;
    } else {
        print(&format!("{}: goes on for {seconds} s", args.id))?;
    }
    Ok(0)
}

/// Undoes what injectors left that died together with their guardians.
pub(super) fn recover(args: &RecoverArgs) -> Result<u8, Failure> {
    let dir = StateDir::own()?;
    let lock = if args.dry_run {
        None
    } else {
        Some(dir.lock()?)
    };
    let done = recover::dead(&dir, args.dry_run);
    // What cannot be read cannot be undone.
    let unread = dir.list().unread;
    drop(lock);
    if args.json {
        print_json(&json!({ "dry_run": args.dry_run, "recovered": done, "unread": unread }))?;
    } else if done.is_empty() && unread.is_empty() {
        print("nothing to recover: every injection there is has a living injector")?;
    }
    if !args.json {
        tell_unread(&unread);
    }
    for one in done.iter().filter(|_| !args.json) {
        let verb = if args.dry_run { "would undo" } else { "undone" };
        print(&format!("{}: {}; its injector is dead", one.id, one.what))?;
        for what in &one.undone {
            print(&format!("  {verb}: {what}"))?;
        }
        for what in &one.gone {
            print(&format!("  gone already: {what}"))?;
        }
        for what in &one.failed {
            print(&format!("  not undone: {what}"))?;
        }
        if one.failed.is_empty() {
            print(if args.dry_run {
                "  would remove its record"
            } else {
                "  removed its record"
            })?;
        }
    }
    let everything = unread.is_empty() && done.iter().all(|one| one.failed.is_empty());
    Ok(if everything { 0 } else { code::FAILED })
}
