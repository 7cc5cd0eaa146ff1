//! The sequence of an experiment: gate, method, check, rollbacks, journal.

mod activity;
mod hypothesis;
mod method;
mod signals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::configuration::{self, Overrides};
use super::journal::{self, Runs, Status};
use super::model::{Experiment, Invalid, Problem};
use super::progress::{Event, Observer, Phase};
use super::providers::Failure;
use super::stop::{Reason, Stop};
use super::strategy::{Dry, Hypothesis, Rollbacks};
use super::substitute::Names;

/// How an experiment is to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When the hypothesis is checked.
    pub hypothesis: Hypothesis,
    /// The pause between two checks while the method goes on.
    pub frequency: Duration,
    /// Whether the method ends at the first check that is missed.
    pub fail_fast: bool,
    /// When rollbacks are played.
    pub rollbacks: Rollbacks,
    /// What is only written down.
    pub dry: Option<Dry>,
}

/// What an experiment came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The journal, without secrets.
    pub journal: Value,
    /// How it ended.
    pub status: Status,
    /// Whether the hypothesis was missed after the method.
    pub deviated: bool,
}

impl Finished {
    /// Whether all went as it should, as `chaos run` sees it.
    pub fn is_good(&self) -> bool {
        self.status == Status::Completed && !self.deviated
    }

    /// What `--strict` takes exception to, beyond that.
    pub fn strictly(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let states = &self.journal["steady_states"];
        if states["before"]["steady_state_met"] == false {
            wrong.push("the steady state was not met before the method".to_owned());
        }
        let during = states["during"].as_array().into_iter().flatten();
        let missed = during
            .filter(|state| state["steady_state_met"] == false)
            .count();
        if missed > 0 {
            wrong.push(format!(
                "the steady state was missed {missed} times during the method"
            ));
        }
        for part in ["run", "rollbacks"] {
            for run in self.journal[part].as_array().into_iter().flatten() {
                if run["status"] != "succeeded" {
                    wrong.push(format!(
                        "activity {} did not succeed",
                        run["activity"]["name"]
                    ));
                }
            }
        }
        wrong
    }
}

/// An experiment under way: what all its threads share.
pub struct World {
    experiment: Experiment,
    names: Names,
    settings: Settings,
    observer: Arc<dyn Observer>,
    /// Stops what the sequence waits for.
    stop: Stop,
    /// Stops what goes on in the background.
    background: Stop,
    status: Mutex<Option<Status>>,
    deviated: AtomicBool,
}

impl World {
    fn status(&self) -> Option<Status> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_status(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn ends_method(&self) -> bool {
        self.status().is_some_and(Status::ends_method)
    }

    /// Why the sequence ended early.
    fn settle(&self, failure: &Failure) {
        match failure {
            Failure::Stopped(Reason::Breach(breach)) => {
                self.set_status(Status::Aborted);
                self.observer.tell(&Event::Safety {
                    limit: breach.limit,
                    text: &breach.text,
                });
            }
            Failure::Stopped(reason) => {
                self.set_status(Status::Interrupted);
                let text = match reason {
                    Reason::Signal(name) => format!("stopped by {name}"),
                    Reason::Ungraceful => "stopped by SIGUSR2, without rollbacks".to_owned(),
                    Reason::Control(text) => format!("interrupted by a control: {text}"),
                    Reason::Breach(breach) => breach.text.clone(),
                };
                self.observer.tell(&Event::Notice(&text));
            }
            Failure::Broken(text) | Failure::Failed(text) => {
                self.set_status(Status::Aborted);
                self.observer.tell(&Event::Notice(text));
            }
        }
    }
}

/// Blocks the signals that stop an experiment, on this thread and those it starts. To be called before any
/// other thread is started.
///
/// # Errors
///
/// The kernel's.
pub fn block_signals() -> std::io::Result<()> {
    signals::block()
}

/// Runs an experiment to its end, which may be early: the journal says how.
///
/// # Errors
///
/// The configuration cannot be resolved; nothing was begun.
pub fn run(
    mut experiment: Experiment,
    settings: Settings,
    overrides: &Overrides,
    observer: Arc<dyn Observer>,
) -> Result<Finished, Invalid> {
    let trouble = |file: &Experiment, error: std::io::Error| {
        Invalid::one(
            &file.file,
            Problem::new("", format!("it cannot be begun: {error}")),
        )
    };
    let stop = Stop::new().map_err(|error| trouble(&experiment, error))?;
    let background = Stop::new().map_err(|error| trouble(&experiment, error))?;
    let names = configuration::load(&experiment, overrides, &stop)?;
    let title = names.text(experiment.title());
    experiment.said.insert("title".to_owned(), title);
    let world = Arc::new(World {
        experiment,
        names,
        settings,
        observer,
        stop,
        background,
        status: Mutex::new(None),
        deviated: AtomicBool::new(false),
    });
    let watch = signals::watch(&world).map_err(|error| trouble(&world.experiment, error))?;
    let finished = sequence(&world);
    drop(watch);
    Ok(finished)
}

fn sequence(world: &Arc<World>) -> Finished {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mut said = world.experiment.said.clone();
    said.insert(
        "dry".to_owned(),
        world
            .settings
            .dry
            .map_or(Value::Null, |dry| dry.word().into()),
    );
    let mut journal = journal::begin(&said, started);
    let title = world.experiment.title();
    world.observer.tell(&Event::Started { title });
    let (run, rollbacks) = (Arc::new(Runs::default()), Arc::new(Runs::default()));
    let mut states = json!({"before": null, "after": null, "during": []});
    if let Err(failure) = until_rollbacks(world, &run, &mut states) {
        world.settle(&failure);
    }
    // What comes now can be stopped by a signal of its own.
    let reason = world.stop.take();
    world.background.take();
    let mut murphy = Map::new();
    murphy.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    if let Some(Reason::Breach(breach)) = &reason {
        murphy.insert(
            "abort".to_owned(),
            json!({"limit": breach.limit, "text": breach.text}),
        );
    }
    if rolls_back(world, reason.as_ref()) {
        let begun = Instant::now();
        world.observer.tell(&Event::Phase(Phase::Rollback));
        if let Err(failure) = method::rollbacks(world, &rollbacks) {
            world.settle(&failure);
        }
        murphy.insert(
            "rollback_seconds".to_owned(),
            begun.elapsed().as_secs_f64().into(),
        );
    }
    let status = world.status().unwrap_or(Status::Completed);
    let deviated = world.deviated.load(Ordering::Relaxed);
    for (key, value) in [
        ("status", status.word().into()),
        ("deviated", deviated.into()),
        ("steady_states", states),
        ("run", run.all()),
        ("rollbacks", rollbacks.all()),
        ("end", journal::timestamp(SystemTime::now()).into()),
        ("duration", clock.elapsed().as_secs_f64().into()),
        ("murphy", murphy.into()),
    ] {
        journal.insert(key.to_owned(), value);
    }
    world.observer.tell(&Event::Ended {
        status: status.word(),
        deviated,
        measured: journal.get("murphy"),
    });
    let mut journal = Value::Object(journal);
    journal::redact(&mut journal, &world.names);
    Finished {
        journal,
        status,
        deviated,
    }
}

/// Everything before the rollbacks.
fn until_rollbacks(world: &Arc<World>, run: &Arc<Runs>, states: &mut Value) -> Result<(), Failure> {
    let strategy = match world.experiment.probes().is_empty() {
        true => Hypothesis::Skip,
        false => world.settings.hypothesis,
    };
    if strategy.before() {
        world.observer.tell(&Event::Phase(Phase::Before));
        let state = hypothesis::check(world, &world.stop)?;
        let met = state.met;
        let status = state.status();
        states["before"] = state.into();
        if !met {
            world.set_status(status);
            return Ok(());
        }
    }
    let during = match strategy.during() {
        true => Some(hypothesis::continuously(world)?),
        false => None,
    };
    world.observer.tell(&Event::Phase(Phase::Method));
    let played = method::play(world, run);
    if let Err(failure) = &played {
        // The thread sees from the status that it is over.
        world.settle(failure);
    }
    if let Some(during) = during {
        states["during"] = during.finish();
    }
    // It has been settled already.
    if played.is_err() || matches!(world.status(), Some(Status::Interrupted | Status::Aborted)) {
        return Ok(());
    }
    if strategy.after() {
        world.observer.tell(&Event::Phase(Phase::After));
        let state = hypothesis::check(world, &world.stop)?;
        if !state.met {
            world.deviated.store(true, Ordering::Relaxed);
            world.set_status(state.status());
        }
        states["after"] = state.into();
    }
    Ok(())
}

fn rolls_back(world: &World, reason: Option<&Reason>) -> bool {
    if reason == Some(&Reason::Ungraceful) {
        return false;
    }
    let breached = matches!(reason, Some(Reason::Breach(_)));
    match world.settings.rollbacks {
        Rollbacks::Always => true,
        Rollbacks::Never => false,
        Rollbacks::Default => !matches!(world.status(), Some(Status::Failed | Status::Interrupted)),
        Rollbacks::Deviated => breached || world.deviated.load(Ordering::Relaxed),
    }
}
