//! The steady state, continuously: probes are asked at an interval, from before the fault until after it.

pub mod measure;
mod sampler;

use std::time::Duration;

use serde_json::{Map, Value};

pub use sampler::{Hosting, Sampler};

use super::limits::{self, Limits};
use super::model::{Activity, Experiment, Problem, join};
use super::providers::check_activity;
use super::tolerance;

/// The name of the extension that asks for it.
pub const EXTENSION: &str = "murphy";

/// What is sampled, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The probes, with tolerances.
    pub probes: Vec<Probe>,
    /// From one question to the next.
    pub interval: Duration,
    /// How long the normal state is measured before the method.
    pub baseline: Duration,
    /// How long it is waited at most for the normal state to return.
    pub recovery: Duration,
    /// How many good answers in a row mean that it has returned.
    pub steady: usize,
    /// When the experiment is stopped.
    pub limits: Limits,
}

/// A probe that is sampled.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What is asked.
    pub activity: Activity,
    /// The service it stands for: the key `service`, or its name.
    pub service: String,
    /// Whether the whole depends on it: unless the key `critical` is false.
    pub critical: bool,
}

impl Probe {
    fn new(activity: Activity) -> Self {
        let text = activity.fields().get("service").and_then(Value::as_str);
        Self {
            service: text.unwrap_or(activity.name()).to_owned(),
            critical: activity.fields().get("critical") != Some(&Value::Bool(false)),
            activity,
        }
    }
}

/// What the extension of an experiment asks for; nothing if it has none. Probes are the hypothesis's unless it names
/// its own.
pub fn plan(experiment: &Experiment, problems: &mut Vec<Problem>) -> Option<Plan> {
    let table = experiment.extension(EXTENSION)?;
    let index = experiment.said.get("extensions")?.as_array()?.iter();
    let at = index.take_while(|one| one["name"] != EXTENSION).count();
    let field = format!("extensions[{at}]");
    for key in table.keys() {
        if !["name", "sample", "limits"].contains(&key.as_str()) {
            problems.push(Problem::new(join(&field, key), "expected sample or limits"));
        }
    }
    let none = Map::new();
    let part = |key: &str, problems: &mut Vec<Problem>| match table.get(key) {
        None | Some(Value::Null) => &none,
        Some(Value::Object(part)) => part,
        Some(other) => {
            problems.push(Problem::new(
                join(&field, key),
                format!("expected a table, not {other}"),
            ));
            &none
        }
    };
    let limits = Limits::read(part("limits", problems), &join(&field, "limits"), problems);
    let sample = part("sample", problems);
    let below = join(&field, "sample");
    let mut plan = Plan {
        probes: experiment.probes().into_iter().map(Probe::new).collect(),
        interval: Duration::from_secs(1),
        baseline: Duration::from_secs(3),
        recovery: Duration::from_secs(60),
        steady: 3,
        limits,
    };
    for (key, said) in sample {
        let time = limits::seconds(said).and_then(|said| Duration::try_from_secs_f64(said).ok());
        let wanted = match (key.as_str(), time) {
            ("interval", Some(time)) if time >= Duration::from_millis(10) => {
                plan.interval = time;
                continue;
            }
            ("baseline", Some(time)) => {
                plan.baseline = time;
                continue;
            }
            ("recovery", Some(time)) => {
                plan.recovery = time;
                continue;
            }
            ("steady", _) if said.as_u64().is_some_and(|n| (1..=1000).contains(&n)) => {
                plan.steady = said
                    .as_u64()
                    .and_then(|n| usize::try_from(n).ok())
                    .unwrap_or(3);
                continue;
            }
            ("probes", _) if said.is_array() => {
                plan.probes = probes(said, &join(&below, "probes"), problems);
                continue;
            }
            ("interval", _) => "a duration of at least 10ms",
            ("baseline" | "recovery", _) => "a duration such as 10s",
            ("steady", _) => "a number of good answers in a row, 1 to 1000",
            ("probes", _) => "a list of probes",
            _ => "one of interval, baseline, recovery, steady, probes",
        };
        problems.push(Problem::new(
            join(&below, key),
            format!("expected {wanted}, not {said}"),
        ));
    }
    Some(plan)
}

fn probes(said: &Value, field: &str, problems: &mut Vec<Problem>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (i, probe) in said.as_array().into_iter().flatten().enumerate() {
        let field = format!("{field}[{i}]");
        check_activity(probe, &field, problems);
        match probe.get("tolerance") {
            Some(said) => tolerance::check(said, &join(&field, "tolerance"), problems),
            None => problems.push(Problem::new(
                join(&field, "tolerance"),
                "a probe has a tolerance: what it must give",
            )),
        }
        if let Some(fields) = probe.as_object() {
            probes.push(Probe::new(Activity::new(fields.clone())));
        }
    }
    probes
}
