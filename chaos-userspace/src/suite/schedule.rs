//! Experiments by the clock.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use jiff::Zoned;

use super::{Clock, Outcome, Player, SuiteError};

/// When, as cron says it: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    pattern: String,
}

impl Times {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(pattern: &str) -> Result<Self, SuiteError> {
        let cron = Cron::from_str(pattern).map_err(|error| SuiteError::Cron {
            pattern: pattern.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self {
            cron,
            pattern: pattern.to_owned(),
        })
    }

    /// The next time after `now`.
    ///
    /// # Errors
    /// When there is none.
    pub fn next(&self, now: &Zoned) -> Result<Zoned, SuiteError> {
        self.cron
            .find_next_occurrence(now, false)
            .map_err(|error| SuiteError::Cron {
                pattern: self.pattern.clone(),
                why: error.to_string(),
            })
    }
}

/// Plays all experiments at each of the times, at most `rounds` times; gives how many did not hold.
///
/// # Errors
/// When an experiment cannot be started.
pub fn play(
    times: &Times,
    experiments: &[PathBuf],
    rounds: Option<u64>,
    clock: &impl Clock,
    player: &mut impl Player,
    tell: &mut impl FnMut(&str),
) -> Result<u64, SuiteError> {
    let mut missed = 0;
    let mut round = 0;
    while rounds.is_none_or(|rounds| round < rounds) {
        let now = clock.now();
        let next = times.next(&now)?;
        tell(&format!(
            "next at {}",
            next.strftime("%Y-%m-%d %H:%M:%S %Z")
        ));
        let wait = next.duration_since(&now);
        clock.sleep(Duration::try_from(wait).unwrap_or_default());
        for experiment in experiments {
            tell(&experiment.display().to_string());
            let outcome = player.play(experiment, &[])?;
            tell(&format!("  {}", outcome.words()));
            missed += u64::from(!matches!(outcome, Outcome::Held | Outcome::Locked));
        }
        round += 1;
    }
    Ok(missed)
}
