//! A gameday: an experiment step by step, harder and with more to hit, as long as the hypothesis holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Clock, Event, Outcome, Player, SuiteError, Values};
use murphy_fault::expr;

/// A gameday as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gameday {
    /// What it is about.
    pub title: String,
    /// The experiment of steps that name none; relative to the file.
    pub experiment: Option<PathBuf>,
    /// Between two steps.
    #[serde(default)]
    pub pause: Option<String>,
    /// From the mildest to the hardest.
    pub step: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// Its experiment.
    pub experiment: Option<PathBuf>,
    /// Values for the experiment's configuration: intensity, target, duration.
    #[serde(default)]
    pub vars: Values,
}

/// What can be played: every step with its experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is about.
    pub title: String,
    /// Between two steps.
    pub pause: Duration,
    /// The steps.
    pub steps: Vec<Planned>,
}

/// A step that can be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What it is called.
    pub name: String,
    /// Its experiment.
    pub experiment: PathBuf,
    /// Values for the experiment's configuration.
    pub values: Values,
}

/// Between two steps, unless the file says otherwise.
const PAUSE: Duration = Duration::from_secs(30);

impl Plan {
    /// Reads a gameday; `folder` is where its file is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str, folder: &Path) -> Result<Self, SuiteError> {
        let file: Gameday = toml::from_str(text)
            .map_err(|error| SuiteError::File(error.to_string().trim_end().to_owned()))?;
        let pause = match &file.pause {
            None => PAUSE,
            Some(text) => expr::duration(text)
                .map(Duration::from)
                .map_err(|mistake| {
                    SuiteError::File(format!("pause: {mistake}; for example 30s"))
                })?,
        };
        if file.step.is_empty() {
            return Err(SuiteError::File(
                "a gameday has at least one [[step]]".to_owned(),
            ));
        }
        let steps = file.step.into_iter().map(|step| {
            let experiment = step.experiment.or_else(|| file.experiment.clone());
            let experiment = experiment.ok_or_else(|| {
                SuiteError::File(format!(
                    "the step `{}` has no experiment, and neither has the file",
                    step.name
                ))
            })?;
            let experiment = folder.join(experiment);
            if !experiment.is_file() {
                return Err(SuiteError::File(format!(
                    "the step `{}`: there is no file {}",
                    step.name,
                    experiment.display()
                )));
            }
            Ok(Planned {
                name: step.name,
                experiment,
                values: step.vars,
            })
        });
        Ok(Self {
            title: file.title,
            pause,
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

/// Plays the steps until one does not hold, or somebody wants an end; gives how many held.
///
/// # Errors
/// When an experiment cannot be started.
pub fn play(
    plan: &Plan,
    clock: &impl Clock,
    player: &mut impl Player,
    tell: &mut impl FnMut(&Event<'_>),
) -> Result<usize, SuiteError> {
    for (index, step) in plan.steps.iter().enumerate() {
        if index > 0 {
            clock.sleep(plan.pause);
        }
        if clock.is_over() {
            return Ok(index);
        }
        tell(&Event::Step {
            number: index + 1,
            of: plan.steps.len(),
            name: &step.name,
        });
        tell(&Event::Begins(&step.experiment));
        let played = player.play(&step.experiment, &step.values)?;
        tell(&Event::Ended(&played));
        if played.outcome != Outcome::Held {
            return Ok(index);
        }
    }
    Ok(plan.steps.len())
}
