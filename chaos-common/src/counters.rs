//! What became of each match. Every match ends in exactly one counter, so
//! *matched* is their sum and needs no counter of its own. What the caller saw is counted beside that.

use crate::decide::Verdict;
use crate::event::verdict;

/// Counters of one rule on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The effect took place.
    pub injected: u64,
    /// Left alone: the draw of `p` said no.
    pub probability: u64,
    /// Left alone: not one of the matches `when` names.
    pub when: u64,
    /// Left alone: `times` was used up.
    pub times: u64,
    /// Left alone: `after` was not over.
    pub after: u64,
    /// Left alone: `pulse` was in its quiet part.
    pub pulse: u64,
    /// Left alone: too soon after the last injection for `rate_limit`.
    pub rate_limit: u64,
    /// Left alone: the rule's time or the injector's lease was over.
    pub expired: u64,
    /// Left alone: the program could not do what was decided.
    pub failed: u64,
    /// Of those injected: system calls that came back with the result that was injected. Counted if somebody observes.
    pub observed: u64,
    /// Of those injected: system calls that came back with another result.
    pub altered: u64,
}

const _: () = assert!(size_of::<Counters>() == 88);

impl Counters {
    /// Where a decision is counted, and what it is called in events, one of [`crate::event::verdict`].
    #[inline(always)]
    pub const fn of(&mut self, decided: Verdict) -> (&mut u64, u32) {
        match decided {
            Verdict::Inject => (&mut self.injected, verdict::INJECTED),
            Verdict::Probability => (&mut self.probability, verdict::PROBABILITY),
            Verdict::When => (&mut self.when, verdict::WHEN),
            Verdict::Times => (&mut self.times, verdict::TIMES),
            Verdict::After => (&mut self.after, verdict::AFTER),
            Verdict::Pulse => (&mut self.pulse, verdict::PULSE),
            Verdict::RateLimit => (&mut self.rate_limit, verdict::RATE_LIMIT),
            Verdict::Expired => (&mut self.expired, verdict::EXPIRED),
        }
    }

    /// Matches that were left alone by a trigger.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.probability + self.when + self.times + self.after + self.pulse + self.rate_limit
    }

    /// All matches.
    #[must_use]
    pub const fn matched(&self) -> u64 {
        self.injected + self.suppressed() + self.expired + self.failed
    }

    /// The sum with another CPU's counters.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            injected: self.injected + other.injected,
            probability: self.probability + other.probability,
            when: self.when + other.when,
            times: self.times + other.times,
            after: self.after + other.after,
            pulse: self.pulse + other.pulse,
            rate_limit: self.rate_limit + other.rate_limit,
            expired: self.expired + other.expired,
            failed: self.failed + other.failed,
            observed: self.observed + other.observed,
            altered: self.altered + other.altered,
        }
    }
}

// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl crate::Plain for Counters {}
