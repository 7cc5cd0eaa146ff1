//! Experiments by the clock.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use jiff::Zoned;

use super::{Clock, Event, Player, SuiteError, Values};

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

/// The clock may be set, and the machine may sleep, while a time is awaited: it is looked at again and again.
const LOOK: Duration = Duration::from_secs(30);

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
    tell: &mut impl FnMut(&Event<'_>),
) -> Result<u64, SuiteError> {
    let mut missed = 0;
    let mut round = 0;
    while rounds.is_none_or(|rounds| round < rounds) {
        let next = times.next(&clock.now())?;
        tell(&Event::Next(&next));
        loop {
            let wait = Duration::try_from(next.duration_since(&clock.now())).unwrap_or_default();
            if wait.is_zero() || clock.is_over() {
                break;
            }
            clock.sleep(wait.min(LOOK));
        }
        for experiment in experiments {
            if clock.is_over() {
                return Ok(missed);
            }
            tell(&Event::Begins(experiment));
            let played = player.play(experiment, &Values::new())?;
            tell(&Event::Ended(&played));
            missed += u64::from(played.outcome.counts_as_missed());
        }
        round += 1;
    }
    Ok(missed)
}
