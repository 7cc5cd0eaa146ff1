//! The hypothesis: its probes in their order, up to the first that is missed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use super::World;
use super::activity::{exception, execute};
use super::controls::{self, Level};
use crate::journal::{Runs, Status};
use crate::model::Activity;
use crate::progress::Event;
use crate::providers::{self, Failure};
use crate::stop::Stop;
use crate::strategy::Dry;
use crate::tolerance;

/// What the hypothesis came to.
pub(super) struct State {
    pub(super) met: bool,
    probes: Value,
}

impl State {
    /// As it stands in the journal.
    fn journalled(&self) -> Value {
        json!({"steady_state_met": self.met, "probes": self.probes})
    }

    /// The experiment's status where the hypothesis is missed: failed if a probe could not tell.
    pub(super) fn status(&self) -> Status {
        let mut probes = self.probes.as_array().into_iter().flatten();
        match probes.any(|probe| probe["status"] != "succeeded") {
            true => Status::Failed,
            false => Status::Completed,
        }
    }
}

impl From<State> for Value {
    fn from(state: State) -> Self {
        state.journalled()
    }
}

/// Asks the probes.
///
/// # Errors
///
/// A probe could not be asked at all, or is to stop.
pub(super) fn check(world: &World, stop: &Stop) -> Result<State, Failure> {
    let context = world
        .experiment
        .hypothesis()
        .cloned()
        .unwrap_or_default()
        .into();
    controls::apply(world, Level::Hypothesis, "before", &context, None, stop)?;
    let state = probe(world, stop);
    let told = state.as_ref().ok().map(State::journalled);
    let after = controls::apply(
        world,
        Level::Hypothesis,
        "after",
        &context,
        told.as_ref(),
        stop,
    );
    let state = state?;
    after.map(|()| state)
}

fn probe(world: &World, stop: &Stop) -> Result<State, Failure> {
    let runs = Runs::default();
    let mut met = true;
    for probe in world.experiment.probes() {
        let at = execute(world, &probe, stop, &runs, None)?;
        let entry = runs.get(at);
        let mut fields = Map::new();
        let mut failed = None;
        if entry["status"] == "failed" {
            failed = Some("the probe failed".to_owned());
        } else if !matches!(world.settings.dry, Some(Dry::Probes | Dry::Activities)) {
            match within(world, &probe, &entry["output"], stop) {
                Ok(within) => met = within,
                Err(text) => {
                    fields.insert("status".to_owned(), "failed".into());
                    fields.insert("exception".to_owned(), exception(&text));
                    failed = Some(text);
                }
            }
        }
        met &= failed.is_none();
        fields.insert("tolerance_met".to_owned(), met.into());
        runs.extend(at, fields);
        world.observer.tell(&Event::Done {
            name: probe.name(),
            failed: failed.as_deref(),
            tolerance_met: Some(met),
        });
        if !met {
            break;
        }
    }
    Ok(State {
        met,
        probes: runs.all(),
    })
}

/// Whether a probe's output is within its tolerance.
fn within(world: &World, probe: &Activity, output: &Value, stop: &Stop) -> Result<bool, String> {
    let tolerance = probe.tolerance().unwrap_or(&Value::Null);
    let ask = |probe: &Map<String, Value>| {
        providers::run(
            &Activity::new(probe.clone()),
            &world.names,
            &world.hosts,
            stop,
        )
        .ok()
    };
    tolerance::within(tolerance, output, &world.names, &ask)
}

/// The hypothesis, checked again and again on a thread of its own.
pub(super) struct During {
    thread: JoinHandle<Vec<Value>>,
    /// Dropped when it is over.
    over: Sender<()>,
}

/// Begins to check.
///
/// # Errors
///
/// No thread can be started.
pub(super) fn continuously(world: &Arc<World>) -> Result<During, Failure> {
    let (over, is_over) = channel::<()>();
    let world = Arc::clone(world);
    let watch = move || {
        let mut states = Vec::new();
        while !world.ends_method() {
            let state = match check(&world, &world.background) {
                Ok(state) => state,
                Err(failure) => {
                    world.settle(&failure);
                    break;
                }
            };
            let met = state.met;
            states.push(state.into());
            if !met && world.settings.fail_fast {
                world.set_status(Status::Failed);
                break;
            }
            match is_over.recv_timeout(world.settings.frequency) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        states
    };
    let thread = std::thread::Builder::new()
        .name("hypothesis".to_owned())
        .spawn(watch);
    let thread = thread.map_err(|error| Failure::Broken(format!("starting a thread: {error}")))?;
    Ok(During { thread, over })
}

impl During {
    /// Ends it; gives the states.
    pub(super) fn finish(self) -> Value {
        drop(self.over);
        self.thread.join().unwrap_or_default().into()
    }
}
