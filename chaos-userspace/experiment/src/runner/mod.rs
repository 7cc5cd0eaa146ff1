//! The sequence of an experiment: gate, method, check, rollbacks, journal.

mod activity;
mod controls;
mod hypothesis;
mod method;
mod sampling;
mod signals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use self::controls::Level;
use self::sampling::Sampling;

use super::configuration::{self, Overrides};
use super::journal::{self, Runs, Secrets, Status};
use super::model::{Experiment, Invalid, Problem};
use super::progress::{Event, Observer, Phase, Redacted};
use super::providers::{Failure, Hosts};
use super::sample;
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
    names: Arc<Names>,
    hosts: Arc<Hosts>,
    settings: Settings,
    begun: Instant,
    /// When the first action began.
    fault_from: OnceLock<f64>,
    observer: Arc<dyn Observer>,
    /// Stops what the sequence waits for.
    stop: Stop,
    /// Stops what goes on in the background.
    background: Stop,
    status: Mutex<Option<Status>>,
    deviated: AtomicBool,
}

impl World {
    /// When the first action began, in seconds since the beginning.
    fn fault_from(&self) -> Option<f64> {
        self.fault_from.get().copied()
    }

    /// An action begins.
    fn acts(&self) {
        // Only the first one counts.
        let _ = self.fault_from.set(self.begun.elapsed().as_secs_f64());
    }

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
    let hosts = Arc::new(Hosts::default());
    let names = Arc::new(configuration::load(&experiment, overrides, &hosts, &stop)?);
    let mut problems = Vec::new();
    let plan = sample::plan(&experiment, &mut problems);
    let title = names.text(experiment.title());
    experiment.said.insert("title".to_owned(), title);
    // Whatever is told from here on goes to terminals and logs.
    let observer: Arc<dyn Observer> = Arc::new(Redacted::new(observer, Secrets::of(&names)));
    let world = Arc::new(World {
        experiment,
        names,
        hosts,
        settings,
        begun: Instant::now(),
        fault_from: OnceLock::new(),
        observer,
        stop,
        background,
        status: Mutex::new(None),
        deviated: AtomicBool::new(false),
    });
    let watch = signals::watch(&world).map_err(|error| trouble(&world.experiment, error))?;
    let finished = sequence(&world, plan.as_ref());
    drop(watch);
    Ok(finished)
}

fn sequence(world: &Arc<World>, plan: Option<&sample::Plan>) -> Finished {
    let started = SystemTime::now();
    let mut said = world.experiment.said.clone();
    let dry = world
        .settings
        .dry
        .map_or(Value::Null, |dry| dry.word().into());
    said.insert("dry".to_owned(), dry);
    let mut journal = journal::begin(&said, started);
    let title = world.experiment.title();
    world.observer.tell(&Event::Started { title });
    let (run, rollbacks) = (Arc::new(Runs::default()), Arc::new(Runs::default()));
    let mut states = json!({"before": null, "after": null, "during": []});
    let mut sampling = None;
    let whole = Value::Object(world.experiment.said.clone());
    controls::each(world, "configure_control");
    let early = controls::apply(
        world,
        Level::Experiment,
        "before",
        &whole,
        None,
        &world.stop,
    )
    .and_then(|()| until_rollbacks(world, plan, &mut sampling, &run, &mut states));
    if let Err(failure) = early {
        world.settle(&failure);
    }
    if let Some(sampling) = &mut sampling {
        sampling.method_over();
    }
    // What comes now can be stopped by a signal of its own.
    let reason = world.stop.take();
    world.background.take();
    let undoing = Instant::now();
    let faults = world.hosts.faults.end("the method is over");
    let rolls_back = rolls_back(world, reason.as_ref());
    if rolls_back {
        world.observer.tell(&Event::Phase(Phase::Rollback));
        if let Err(failure) = method::rollbacks(world, &rollbacks) {
            world.settle(&failure);
        }
    }
    let rollback_seconds = undoing.elapsed().as_secs_f64();
    let mut murphy = Map::new();
    murphy.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    murphy.insert("verdict".to_owned(), verdict(world, &states).into());
    if let Some(Reason::Breach(breach)) = &reason {
        murphy.insert("abort".to_owned(), json!(breach));
    }
    if rolls_back || !faults.is_empty() {
        murphy.insert("rollback_seconds".to_owned(), rollback_seconds.into());
    }
    if let Some(mut sampling) = sampling {
        sampling.undone(world);
        murphy.extend(sampling.figures(world, &faults));
    }
    let mut run = run.all();
    for came in &faults {
        let entries = run.as_array_mut().into_iter().flatten();
        for entry in entries.filter(|entry| entry["output"]["id"] == came["id"]) {
            entry["output"]["report"] = came["report"].clone();
        }
    }
    if !faults.is_empty() {
        murphy.insert("faults".to_owned(), faults.into());
    }
    let status = world.status().unwrap_or(Status::Completed);
    let deviated = world.deviated.load(Ordering::Relaxed);
    for (key, value) in [
        ("status", status.word().into()),
        ("deviated", deviated.into()),
        ("steady_states", states),
        ("run", run),
        ("rollbacks", rollbacks.all()),
        ("end", journal::timestamp(SystemTime::now()).into()),
        ("duration", world.begun.elapsed().as_secs_f64().into()),
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
    let state = Some(journal.clone());
    // Whatever a control wants now, the experiment is over.
    let _ = controls::apply(
        world,
        Level::Experiment,
        "after",
        &whole,
        state.as_ref(),
        &world.background,
    );
    controls::each(world, "cleanup_control");
    journal::redact(&mut journal, &world.names);
    Finished {
        journal,
        status,
        deviated,
    }
}

/// What became of the hypothesis.
fn verdict(world: &World, states: &Value) -> &'static str {
    let met = |state: &Value| state["steady_state_met"].as_bool();
    let during = states["during"].as_array().into_iter().flatten();
    match (met(&states["before"]), met(&states["after"])) {
        (Some(false), _) => "not tested: the steady state was not met before the method",
        (_, Some(false)) => "refuted: the steady state deviated",
        _ if world.ends_method() => "not tested to the end",
        _ if during.clone().any(|state| met(state) == Some(false)) => {
            "refuted for a time: the steady state deviated and returned"
        }
        (_, Some(true)) => "held",
        _ if during.count() > 0 => "held",
        _ => "not tested: nothing was asked after the method",
    }
}

/// Everything before the rollbacks.
fn until_rollbacks(
    world: &Arc<World>,
    plan: Option<&sample::Plan>,
    sampling: &mut Option<Sampling>,
    run: &Arc<Runs>,
    states: &mut Value,
) -> Result<(), Failure> {
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
    if let Some(plan) = plan {
        *sampling = Some(sampling::begin(world, plan)?);
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
