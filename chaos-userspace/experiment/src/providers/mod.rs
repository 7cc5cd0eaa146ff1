//! What carries an activity out.

mod activity;
pub mod http;
pub mod murphy;
pub mod probes;
pub mod process;
pub mod python;

use std::time::Duration;

use serde_json::{Map, Value};

use super::model::{Activity, Problem, join};
use super::stop::{Reason, Stop};
use super::substitute::Names;
pub use activity::check as check_activity;

/// Why an activity gave no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It failed as activities may: the experiment goes on.
    #[error("{0}")]
    Failed(String),
    /// It could not be carried out as it stands: the experiment is aborted.
    #[error("{0}")]
    Broken(String),
    /// The experiment is to stop.
    #[error("stopped")]
    Stopped(Reason),
}

/// What providers keep from one activity to the next.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Python, once something needs it.
    pub python: python::Host,
    /// The faults that are injected.
    pub faults: murphy::Faults,
}

/// What a provider has at hand.
pub struct Call<'a> {
    /// The activity.
    pub activity: &'a Activity,
    /// Its provider's table.
    pub provider: &'a Map<String, Value>,
    /// Values for its placeholders.
    pub names: &'a Names,
    /// What providers live on.
    pub hosts: &'a Hosts,
    /// By which it can be stopped.
    pub stop: &'a Stop,
}

impl Call<'_> {
    /// A field with its placeholders filled in.
    fn field(&self, name: &str) -> Option<Value> {
        let value = self.provider.get(name).filter(|value| !value.is_null())?;
        Some(self.names.substitute(value))
    }

    /// `arguments`; placeholders are looked at only if there is anything to fill in.
    fn arguments(&self) -> Option<Value> {
        let value = self.provider.get("arguments")?;
        Some(match self.names.is_empty() {
            true => value.clone(),
            false => self.names.substitute(value),
        })
    }
}

/// Carries an activity out.
///
/// # Errors
///
/// See [`Failure`].
pub fn run(
    activity: &Activity,
    names: &Names,
    hosts: &Hosts,
    stop: &Stop,
) -> Result<Value, Failure> {
    let provider = activity.provider().ok_or_else(|| {
        Failure::Broken(format!("activity '{}' has no provider", activity.name()))
    })?;
    let call = Call {
        activity,
        provider,
        names,
        hosts,
        stop,
    };
    match activity.provider_type() {
        "process" => process::run(&call),
        "http" => http::run(&call),
        "python" => python::run(&call),
        "murphy" => murphy::run(&call),
        kind if probes::is_kind(kind) => probes::run(kind, &call),
        other => Err(Failure::Broken(format!("unknown provider type '{other}'"))),
    }
}

/// Checks a provider's table.
pub fn check(provider: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let wrong = |key: &str, text: String| Problem::new(join(field, key), text);
    match provider.get("type").and_then(Value::as_str) {
        Some("process") => process::check(provider, field, problems),
        Some("http") => http::check(provider, field, problems),
        Some("python") => python::check(provider, field, problems),
        Some("murphy") => murphy::check(provider, field, problems),
        Some(kind) if probes::is_kind(kind) => probes::check(kind, provider, field, problems),
        Some(other) => problems.push(wrong(
            "type",
            format!("no provider is called `{other}`; expected process, http, python, murphy, tcp, file, prometheus, redis or postgres"),
        )),
        None => problems.push(wrong(
            "type",
            "a provider has a type: process, http, python or murphy".to_owned(),
        )),
    }
}

/// Seconds as a duration; anything that is no such number is a mistake that aborts.
fn seconds(value: &Value, what: &str) -> Result<Duration, Failure> {
    value
        .as_f64()
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| Failure::Broken(format!("{what} is no number of seconds: {value}")))
}
