//! The method and the rollbacks: activities one after the other, some in the background.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use serde_json::Value;

use super::World;
use super::activity::execute;
use super::controls::{self, Level};
use crate::journal::Runs;
use crate::model::Activity;
use crate::providers::Failure;
use crate::stop::Reason;

/// Plays the method; what went to the background is waited for, unless somebody wants to leave at once.
///
/// # Errors
///
/// An activity could not be carried out at all, or the experiment is to stop.
pub(super) fn play(world: &Arc<World>, runs: &Arc<Runs>) -> Result<(), Failure> {
    around(world, Level::Method, runs, || activities(world, runs))
}

/// Does something between the controls of its level.
fn around(
    world: &World,
    level: Level,
    runs: &Runs,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let context = Value::Object(world.experiment.said.clone());
    controls::apply(world, level, "before", &context, None, &world.stop)?;
    let done = work();
    let after = controls::apply(
        world,
        level,
        "after",
        &context,
        Some(&runs.all()),
        &world.stop,
    );
    done.and(after)
}

fn activities(world: &Arc<World>, runs: &Arc<Runs>) -> Result<(), Failure> {
    let mut background = Vec::new();
    let played = world.experiment.method().iter().try_for_each(|activity| {
        // A failure of the hypothesis ends the method.
        if world.ends_method() {
            return Ok(());
        }
        step(world, activity, runs, &mut background)
    });
    if !matches!(&played, Err(Failure::Stopped(Reason::Ungraceful))) {
        wait(background);
    }
    played.and_then(|()| match world.stop.reason() {
        Some(reason) => Err(Failure::Stopped(reason)),
        None => Ok(()),
    })
}

/// Plays the rollbacks.
///
/// # Errors
///
/// As the method's.
pub(super) fn rollbacks(world: &Arc<World>, runs: &Arc<Runs>) -> Result<(), Failure> {
    around(world, Level::Rollback, runs, || undo(world, runs))
}

fn undo(world: &Arc<World>, runs: &Arc<Runs>) -> Result<(), Failure> {
    let mut background = Vec::new();
    let rollbacks = world.experiment.rollbacks();
    let played = rollbacks
        .iter()
        .try_for_each(|activity| step(world, activity, runs, &mut background));
    wait(background);
    played
}

fn step(
    world: &Arc<World>,
    activity: &Activity,
    runs: &Arc<Runs>,
    background: &mut Vec<JoinHandle<()>>,
) -> Result<(), Failure> {
    if !activity.background() {
        return execute(world, activity, &world.stop, runs, None).map(drop);
    }
    let (world, activity, runs) = (Arc::clone(world), activity.clone(), Arc::clone(runs));
    let (begun, is_begun) = channel();
    let work = move || {
        // What goes wrong is in its entry; nobody waits for more.
        let _ = execute(&world, &activity, &world.background, &runs, Some(begun));
    };
    let thread = std::thread::Builder::new()
        .name("background".to_owned())
        .spawn(work);
    background
        .push(thread.map_err(|error| Failure::Broken(format!("starting a thread: {error}")))?);
    // Entries stand in the order of the method. Nothing is ever sent: the other end goes.
    let _ = is_begun.recv();
    Ok(())
}

fn wait(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A thread that panicked has said so.
        let _ = thread.join();
    }
}
