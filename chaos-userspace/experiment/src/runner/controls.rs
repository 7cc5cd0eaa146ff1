//! Controls: functions of Python modules that are called before and after what an experiment does.

use serde_json::{Value, json};

use super::World;
use crate::providers::Failure;
use crate::python_like;
use crate::stop::Stop;

/// What a control can stand around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Experiment,
    Hypothesis,
    Method,
    Rollback,
    Activity,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Hypothesis => "hypothesis",
            Self::Method => "method",
            Self::Rollback => "rollback",
            Self::Activity => "activity",
        }
    }
}

/// Calls `configure_control` and `cleanup_control` around an experiment; each control once.
pub(super) fn each(world: &World, function: &str) {
    let mut seen = Vec::new();
    for control in declared(world) {
        let name = python_like::str(&control["name"]);
        if seen.contains(&name) || control["provider"]["type"] != "python" {
            continue;
        }
        seen.push(name);
        let offers = match function {
            "configure_control" => offers(world, None),
            _ => json!({}),
        };
        let arguments = match function {
            "configure_control" => arguments(world, &control),
            _ => json!({}),
        };
        // A control that fails is no reason not to experiment.
        let _ = world.hosts.python.control(
            &control["provider"],
            function,
            &arguments,
            &offers,
            &world.background,
        );
    }
}

/// Calls the controls of a level.
///
/// # Errors
///
/// One interrupts the experiment.
pub(super) fn apply(
    world: &World,
    level: Level,
    scope: &str,
    context: &Value,
    state: Option<&Value>,
    stop: &Stop,
) -> Result<(), Failure> {
    for control in chosen(world, level, context) {
        let own = control["scope"].as_str().unwrap_or_default();
        if (!own.is_empty() && own != scope) || control["provider"]["type"] != "python" {
            continue;
        }
        let mut offers = offers(world, state);
        offers["context"] = context.clone();
        let done = world.hosts.python.control(
            &control["provider"],
            &format!("{scope}_{}_control", level.word()),
            &arguments(world, &control),
            &offers,
            stop,
        );
        if let Err(failure @ Failure::Stopped(_)) = done {
            return Err(failure);
        }
    }
    Ok(())
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// All controls of a file.
fn declared(world: &World) -> Vec<Value> {
    let said = &world.experiment.said;
    let mut all = list(said.get("controls"));
    let hypothesis = said.get("steady-state-hypothesis");
    all.extend(list(hypothesis.and_then(|table| table.get("controls"))));
    let mut activities = world.experiment.probes();
    activities.extend(world.experiment.method());
    activities.extend(world.experiment.rollbacks());
    for activity in activities {
        all.extend(list(activity.fields().get("controls")));
    }
    all
}

/// Those of a level: its own, and the experiment's that are not kept for those who name them.
fn chosen(world: &World, level: Level, context: &Value) -> Vec<Value> {
    let top = list(world.experiment.said.get("controls"));
    let automatic = || {
        let automatic = |control: &&Value| control.get("automatic").is_none_or(python_like::truthy);
        top.iter().filter(automatic).cloned().collect::<Vec<_>>()
    };
    let own = list(context.get("controls"));
    if top.is_empty() {
        return own;
    }
    if own.is_empty() || matches!(level, Level::Method | Level::Rollback) {
        return automatic();
    }
    let mut chosen = own.clone();
    for control in &own {
        if let Some(name) = control.get("ref") {
            chosen.extend(top.iter().find(|control| control["name"] == *name).cloned());
        } else if level != Level::Experiment {
            for other in automatic().into_iter().rev() {
                if other["name"] != control["name"] {
                    chosen.insert(0, other);
                }
            }
        }
    }
    chosen
}

fn arguments(world: &World, control: &Value) -> Value {
    match control["provider"].get("arguments") {
        Some(arguments) if !world.names.is_empty() => world.names.substitute(arguments),
        Some(arguments) => arguments.clone(),
        None => json!({}),
    }
}

/// What a function gets if it has a parameter of that name.
fn offers(world: &World, state: Option<&Value>) -> Value {
    let said = &world.experiment.said;
    let mut offers = json!({
        "experiment": said,
        "configuration": world.names.configuration,
        "secrets": world.names.secrets,
        "settings": {},
        "extensions": said.get("extensions"),
    });
    offers["state"] = state.cloned().unwrap_or_default();
    offers
}
