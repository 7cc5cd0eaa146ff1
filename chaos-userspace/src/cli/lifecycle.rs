//! `murphy status`, `stop`, `renew` and `recover`: the injections of this machine, seen and ended from outside.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::args::{RecoverArgs, RenewArgs, StatusArgs, StopArgs};
use super::control::{print, print_json};
use super::failure::Failure;
use super::output::tell;
use super::status as code;
use crate::engine::boot_ns;
use crate::state::{Live, Record, StateDir, StateError, Stopped, client, halt, recover};

/// An active injection, and how it is if its injector says so.
struct Seen {
    record: Record,
    live: Result<Live, StateError>,
}

/// Shows what is active. With `--id`, the status says whether that is.
pub(super) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let mut seen: Vec<Seen> = client::active()
        .into_iter()
        .filter(|(_, record)| args.id.as_ref().is_none_or(|id| *id == record.id))
        .map(|(dir, record)| Seen {
            live: client::status(&dir, &record.id),
            record,
        })
        .collect();
    seen.sort_by_key(|seen| seen.record.started_boot_ns);
    let halt = halt::now(StateDir::visible().first());
    if args.json {
        let injections: Vec<Value> = seen.iter().map(Seen::json).collect::<Result<_, _>>()?;
        print_json(&json!({ "injections": injections, "panic": halt }))?;
    } else {
        if let Some(halt) = &halt {
            print(&format!("nothing may be started: {halt}"))?;
        }
        match (&seen[..], &args.id) {
            ([], Some(id)) => print(&format!("{id} is not active"))?,
            ([], None) => print("nothing is active")?,
            (seen, _) => print(&table(seen))?,
        }
    }
    Ok(match &args.id {
        Some(_) if seen.is_empty() => code::FAILED,
        _ => 0,
    })
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
        let counted =
            |live: &Live| -> u64 { live.report.faults.iter().map(|fault| fault.injected).sum() };
        let user = match record.sudo_uid {
            Some(id) => format!("{id} (sudo)"),
            None => record.uid.to_string(),
        };
        table.add_row([
            record.id.clone(),
            record.command.clone(),
            record.faults.join("\n"),
            record.targets.join("\n"),
            one.live
                .as_ref()
                .map_or_else(|_| "?".to_owned(), |live| counted(live).to_string()),
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
            text.push_str(&format!("\nmurphy: {}", said_of(&one.record.id, error)));
        }
    }
    text
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
    let wanted = if args.all {
        client::active()
    } else {
        let found = args.ids.iter().map(|id| client::find(id));
        found.collect::<Result<Vec<_>, _>>()?
    };
    let (stopped, failed) = end(&wanted, args.reason.as_deref(), args.timeout);
    if args.json {
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        print_json(&json!({ "stopped": stopped, "failed": failed }))?;
    } else {
        if wanted.is_empty() {
            print("nothing is active")?;
        }
        for stopped in &stopped {
            print(&line(stopped))?;
        }
        for error in &failed {
            tell(&format!("murphy: {error}"));
        }
    }
    Ok(if failed.is_empty() { 0 } else { code::FAILED })
}

/// Ends several at once: nobody's faults go on because another's injector is slow.
pub(super) fn end(
    wanted: &[(StateDir, Record)],
    reason: Option<&str>,
    patience: Duration,
) -> (Vec<Stopped>, Vec<StateError>) {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .iter()
            .map(|(dir, record)| scope.spawn(move || client::stop(dir, record, reason, patience)))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let (mut stopped, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => stopped.push(one),
            Err(error) => failed.push(error),
        }
    }
    (stopped, failed)
}

/// What was ended, in a line, and what went wrong meanwhile in lines of their own.
pub(super) fn line(stopped: &Stopped) -> String {
    let Some(report) = &stopped.report else {
        return format!("{}: {}; reverted", stopped.id, stopped.ended);
    };
    let injected: u64 = report.faults.iter().map(|fault| fault.injected).sum();
    let undone = match &report.undone[..] {
        [] => "programs detached".to_owned(),
        undone => format!("programs detached, undone: {}", undone.join(", ")),
    };
    let mut line = format!(
        "{}: injected {injected} times in {:.1} s; {undone}",
        stopped.id, report.seconds
    );
    for warning in &report.warnings {
        line += "\n  ";
        line += warning;
    }
    line
}

/// Lets an injection with `--keepalive` go on.
pub(super) fn renew(args: &RenewArgs) -> Result<u8, Failure> {
    let (dir, record) = client::find(&args.id)?;
    let seconds = client::renew(&dir, &record.id)?;
    if args.json {
        print_json(&json!({ "id": record.id, "keepalive_left_s": seconds }))?;
    } else {
        print(&format!("{}: goes on for {seconds} s", record.id))?;
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
    drop(lock);
    if args.json {
        print_json(&json!({ "dry_run": args.dry_run, "recovered": done }))?;
    } else if done.is_empty() {
        print("nothing to recover: every injection there is has a living injector")?;
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
    Ok(if done.iter().all(|one| one.failed.is_empty()) {
        0
    } else {
        code::FAILED
    })
}
