//! One activity: pauses, the provider, the journal's entry.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::World;
use super::controls::{self, Level};
use crate::journal::{Runs, timestamp};
use crate::model::{Activity, Kind};
use crate::progress::Event;
use crate::providers::{self, Failure};
use crate::python_like;
use crate::stop::Stop;
use crate::strategy::Dry;

/// Carries an activity out; gives the place of its entry. `begun` is dropped once the entry is there, or when
/// that has to wait for a pause.
///
/// # Errors
///
/// It could not be carried out as it stands, or is to stop. That it failed is in its entry.
pub(super) fn execute(
    world: &World,
    activity: &Activity,
    stop: &Stop,
    runs: &Runs,
    begun: Option<Sender<()>>,
) -> Result<usize, Failure> {
    let referenced;
    let activity = match activity.reference() {
        None => activity,
        Some(name) => {
            referenced = world
                .experiment
                .referenced(name)
                .ok_or_else(|| Failure::Broken(format!("no activity is called '{name}'")))?;
            &referenced
        }
    };
    let context = Value::Object(activity.fields().clone());
    controls::apply(world, Level::Activity, "before", &context, None, stop)?;
    let done = carry_out(world, activity, stop, runs, begun);
    let state = done.as_ref().ok().map(|at| Value::Object(runs.get(*at)));
    let after = controls::apply(
        world,
        Level::Activity,
        "after",
        &context,
        state.as_ref(),
        stop,
    );
    let at = done?;
    after.map(|()| at)
}

fn carry_out(
    world: &World,
    activity: &Activity,
    stop: &Stop,
    runs: &Runs,
    begun: Option<Sender<()>>,
) -> Result<usize, Failure> {
    let own = activity
        .fields()
        .get("dry")
        .and_then(Value::as_str)
        .and_then(Dry::of);
    let dry = own.or(world.settings.dry);
    let skipped = match dry {
        None | Some(Dry::Pause) => false,
        Some(Dry::Activities) => true,
        Some(Dry::Actions) => activity.kind() == Kind::Action,
        Some(Dry::Probes) => activity.kind() == Kind::Probe,
    };
    let rests = !skipped && dry != Some(Dry::Pause);
    let pauses = world
        .names
        .substitute(activity.fields().get("pauses").unwrap_or(&Value::Null));
    let begun = begun.filter(|_| !python_like::truthy(&pauses["before"]));
    pause(&pauses["before"], rests, stop)?;
    if activity.kind() == Kind::Action && !skipped {
        world.acts();
    }
    let (started, clock) = (SystemTime::now(), Instant::now());
    let at = runs.begin(entry(activity, started));
    drop(begun);
    world.observer.tell(&Event::Activity {
        name: activity.name(),
        background: activity.background(),
    });
    let result = match skipped {
        true => Ok(Value::Null),
        false => providers::run(activity, &world.names, &world.hosts, stop),
    };
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    let failed = match &result {
        Ok(output) => {
            set("output", output.clone());
            set("status", "succeeded".into());
            None
        }
        Err(Failure::Failed(text)) => {
            set("status", "failed".into());
            set("exception", exception(text));
            Some(text.as_str())
        }
        // As in Chaos Toolkit there is no status then.
        Err(Failure::Broken(text)) => {
            set("exception", exception(text));
            Some(text.as_str())
        }
        Err(Failure::Stopped(_)) => Some("stopped"),
    };
    set("end", timestamp(SystemTime::now()).into());
    set("duration", clock.elapsed().as_secs_f64().into());
    runs.extend(at, fields);
    if activity.tolerance().is_none() {
        world.observer.tell(&Event::Done {
            name: activity.name(),
            failed,
            tolerance_met: None,
        });
    }
    match result {
        Err(failure @ (Failure::Broken(_) | Failure::Stopped(_))) => Err(failure),
        _ => {
            pause(&pauses["after"], rests, stop)?;
            Ok(at)
        }
    }
}

fn entry(activity: &Activity, started: SystemTime) -> Map<String, Value> {
    let entry = json!({
        "activity": activity.fields(),
        "output": null,
        "start": timestamp(started),
    });
    match entry {
        Value::Object(entry) => entry,
        _ => Map::new(),
    }
}

/// As Python writes it, which is what readers of journals know.
pub(super) fn exception(text: &str) -> Value {
    json!([format!("chaoslib.exceptions.ActivityFailed: {text}\n")])
}

fn pause(said: &Value, rests: bool, stop: &Stop) -> Result<(), Failure> {
    if !python_like::truthy(said) || !rests {
        return Ok(());
    }
    let seconds = said.as_f64().or_else(|| said.as_bool().map(|_| 1.0));
    let time = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Failure::Broken(format!("a pause is a number of seconds, not {said}")))?;
    match stop.sleep(time) {
        Some(reason) => Err(Failure::Stopped(reason)),
        None => Ok(()),
    }
}
