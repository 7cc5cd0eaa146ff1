//! A chaos monkey: at an interval, with a probability, in business hours, one experiment at random.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Weekday;

use super::{Clock, Event, Player, SuiteError, Values};

/// When a monkey may act, and how often it does.
#[derive(Clone, Debug)]
pub struct Monkey {
    /// Of each look, that it acts; 0 to 1.
    pub probability: f64,
    /// Between two looks.
    pub interval: Duration,
    /// Hours of the day, from the first to before the last, on weekdays; `None` is always.
    pub hours: Option<RangeInclusive<i8>>,
    /// Of its random numbers.
    pub seed: u64,
}

/// `9-17`.
///
/// # Errors
/// What is wrong with it.
pub fn hours(text: &str) -> Result<RangeInclusive<i8>, SuiteError> {
    let wrong = || {
        SuiteError::Hours(format!(
            "`{text}` are no hours: from 0 to 24, the first before the last, such as 9-17"
        ))
    };
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first.trim().parse::<i8>(), last.trim().parse::<i8>()) {
        (Ok(first), Ok(last)) if 0 <= first && first < last && last <= 24 => Ok(first..=last),
        _ => Err(wrong()),
    }
}

impl Monkey {
    /// Whether it may act at that time.
    pub fn is_time(&self, now: &Zoned) -> bool {
        let Some(hours) = &self.hours else {
            return true;
        };
        let weekend = matches!(now.weekday(), Weekday::Saturday | Weekday::Sunday);
        !weekend && (*hours.start()..*hours.end()).contains(&now.hour())
    }

    /// The nth random number, of the sequence that faults draw from too.
    fn draw(&self, n: u64) -> u64 {
        // SplitMix64.
        let mut z = self
            .seed
            .wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Which of several it plays at its nth look, if any.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // 53 bits; an index below `among`
    pub fn choose(&self, look: u64, among: usize) -> Option<usize> {
        let share = (self.draw(look * 2 + 1) >> 11) as f64 / (1u64 << 53) as f64;
        let among = u64::try_from(among).unwrap_or(u64::MAX).max(1);
        (share < self.probability).then(|| (self.draw(look * 2 + 2) % among) as usize)
    }

    /// Looks at most `looks` times; gives how many experiments did not hold.
    ///
    /// # Errors
    /// When an experiment cannot be started.
    pub fn play(
        &self,
        experiments: &[PathBuf],
        looks: Option<u64>,
        clock: &impl Clock,
        player: &mut impl Player,
        tell: &mut impl FnMut(&Event<'_>),
    ) -> Result<u64, SuiteError> {
        let mut missed = 0;
        let mut look = 0;
        while looks.is_none_or(|looks| look < looks) {
            if look > 0 {
                clock.sleep(self.interval);
            }
            if clock.is_over() {
                break;
            }
            let chosen = self
                .choose(look, experiments.len())
                .filter(|_| self.is_time(&clock.now()));
            look += 1;
            if let Some(experiment) = chosen.and_then(|index| experiments.get(index)) {
                tell(&Event::Look(look));
                tell(&Event::Begins(experiment));
                let played = player.play(experiment, &Values::new())?;
                tell(&Event::Ended(&played));
                missed += u64::from(played.outcome.counts_as_missed());
            }
        }
        Ok(missed)
    }
}
