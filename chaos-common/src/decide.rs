//! The decision: pure, used by the kernel programs as it is, and proven on the
//! host by properties (`tests/decide.rs`, `tests/limits.rs`).
//!
//! The conditions are asked in a fixed order, and the first that says no is the
//! match's verdict:
//!
//! 1. `for`, `after`, `pulse`: what the clock says. A function of the time alone.
//! 2. `when`, `p`: what the match's number says. It counts every match since
//!    arming, those outside `after` and `pulse` among them, so neither of the two
//!    depends on what was injected before.
//! 3. `times`, `rate_limit`: what the rule remembers. They come last because the
//!    memory changes with an injection and with nothing else: a match that any
//!    condition leaves alone uses up neither of the two. `times` is asked first,
//!    so that a rule which is through with its injections says so for good.
//!    `over` stands in their place: it remembers what it spared.
//!
//! # The memory
//! A rule without a rate limit remembers how many injections it has made, in all
//! 64 bits. A rule with one remembers two things:
//!
//! | bits | what | range |
//! |---|---|---|
//! | 0..20 | injections made, if `times` is limited (else 0) | up to [`MAX_TIMES`] = 1 048 575 |
//! | 20..64 | when the next injection is allowed, in 2¹⁰ ns since arming | up to [`RATE_HORIZON_NS`], 208 days |
//!
//! Either way every injection makes the number greater, so that a compare-exchange
//! cannot mistake an old memory for a new one.
//!
//! # The rate limit
//! GCRA (ITU-T I.371) with a tolerance of 0, that is a token bucket of one token:
//! with `N` injections a `unit` allowed, two injections are at least
//! `I` = ⌈`unit` / `N`⌉ ns apart. An injection at `t` allows the next from
//! 2¹⁰ ⌈(`t` + `I`) / 2¹⁰⌉ on, less than 1024 ns later than it could be.
//!
//! So no half-open interval of length `unit`, wherever it begins, holds more than
//! `N` injections: `k` of them span at least (`k` − 1) `I` < `unit`, hence
//! `k` − 1 < `unit` / `I` ≤ `N`. The times are those at which the matches were
//! seen; whoever comes later with an earlier time finds the limit not over.

//!
//! # What is over a rate
//! With `over=N/unit` a bucket of `N` tokens gets one every `I` ns. A match that finds
//! one takes it and is spared; one that does not is injected. As GCRA with a
//! tolerance of (`N` − 1) `I`: the memory is the theoretical arrival time `T`, 0 at
//! first; a match at `t` is spared if max(`T`, `t`) − `t` ≤ (`N` − 1) `I`, and makes `T`
//! max(`T`, `t`) + `I`. So `N` are spared at once, and `N` a unit in the long run.

use crate::rule::{PPM, Rule};

/// The greatest `times` of a rule that has a rate limit.
pub const MAX_TIMES: u64 = (1 << USED_BITS) - 1;
/// The end of the memory of a rule with a rate limit, in ns since arming. An
/// injection that would allow the next one only from here on is not made.
pub const RATE_HORIZON_NS: u64 = 1 << (u64::BITS - USED_BITS + TICK_SHIFT);

const USED_BITS: u32 = 20;
const TICK_SHIFT: u32 = 10;

/// What becomes of one match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let the effect take place.
    Inject,
    /// The draw of `p` said no.
    Probability,
    /// Not one of the matches `when` names.
    When,
    /// `times` is used up.
    Times,
    /// `after` is not over.
    After,
    /// `pulse` is in its quiet part.
    Pulse,
    /// Too soon after the last injection for `rate_limit`, or not over `over`.
    RateLimit,
    /// The rule's time is over.
    Expired,
}

/// Decides the `n`th match (counted from 1) of a rule, `elapsed_ns` after arming.
///
/// `state` is the rule's memory, 0 at first; the second value is the state to
/// keep. It changes when the verdict is [`Verdict::Inject`] and only then, with a
/// [`Rule::burst`] when it is [`Verdict::RateLimit`] and only then. Equal
/// arguments give equal decisions, so a seed and an order of operations are all
/// it takes to repeat a run whose triggers do not read the clock.
#[inline(always)]
#[must_use]
pub fn decide(rule: &Rule, state: u64, n: u64, elapsed_ns: u64) -> (Verdict, u64) {
    if elapsed_ns >= rule.until_ns {
        return (Verdict::Expired, state);
    }
    if elapsed_ns < rule.after_ns {
        return (Verdict::After, state);
    }
    if rule.pulse_period_ns != 0 && elapsed_ns % rule.pulse_period_ns >= rule.pulse_on_ns {
        return (Verdict::Pulse, state);
    }
    if n < rule.when_first || n > rule.when_last {
        return (Verdict::When, state);
    }
    // A step of 1, by far the most frequent, needs no division.
    if rule.when_step > 1 && !(n - rule.when_first).is_multiple_of(rule.when_step) {
        return (Verdict::When, state);
    }
    if rule.p_ppm < PPM && draw_ppm(rule.seed, n) >= rule.p_ppm {
        return (Verdict::Probability, state);
    }
    if rule.rate_interval_ns != 0 {
        return match rule.burst {
            0 => limited(rule, state, elapsed_ns),
            burst => over(rule.rate_interval_ns, u64::from(burst), state, elapsed_ns),
        };
    }
    if state >= rule.times {
        return (Verdict::Times, state);
    }
    (Verdict::Inject, state + 1)
}

/// The part of [`decide`] that remembers, for a rule with a rate limit.
#[inline(always)]
fn limited(rule: &Rule, state: u64, elapsed_ns: u64) -> (Verdict, u64) {
    let mut used = state & MAX_TIMES;
    if rule.times != u64::MAX {
        // A greater limit is refused before it comes here; if it does, it ends where the count does.
        if used >= rule.times || used == MAX_TIMES {
            return (Verdict::Times, state);
        }
        used += 1;
    }
    let allowed_ns = (state >> USED_BITS) << TICK_SHIFT;
    // Both terms are bounded first, so that nothing below wraps around.
    if elapsed_ns < allowed_ns
        || elapsed_ns >= RATE_HORIZON_NS
        || rule.rate_interval_ns >= RATE_HORIZON_NS
    {
        return (Verdict::RateLimit, state);
    }
    let next = (elapsed_ns + rule.rate_interval_ns).div_ceil(1 << TICK_SHIFT);
    if next >> (u64::BITS - USED_BITS) != 0 {
        return (Verdict::RateLimit, state);
    }
    (Verdict::Inject, next << USED_BITS | used)
}

/// The part of [`decide`] for a rule that injects what is over a rate.
#[inline(always)]
fn over(interval: u64, burst: u64, state: u64, elapsed_ns: u64) -> (Verdict, u64) {
    let due = if state > elapsed_ns {
        state
    } else {
        elapsed_ns
    };
    if due - elapsed_ns > interval.wrapping_mul(burst - 1) {
        return (Verdict::Inject, state);
    }
    // A memory that wrapped around would spare one match too many after 584 years.
    (Verdict::RateLimit, due.wrapping_add(interval))
}

/// Whether [`decide`] reads or changes the state of this rule at all. Where it
/// does not, the atomic exchange is spared.
#[inline(always)]
#[must_use]
pub fn needs_state(rule: &Rule) -> bool {
    rule.times != u64::MAX || rule.rate_interval_ns != 0
}

/// A number uniform in `0..PPM`, drawn for the `n`th match of a rule.
///
/// The upper half of the hash is scaled by multiplication (Lemire 2019, "Fast
/// Random Integer Generation in an Interval"); the bias is below 10⁶/2³².
#[inline(always)]
#[must_use]
pub fn draw_ppm(seed: u64, n: u64) -> u32 {
    (((mix(seed, n) >> 32) * u64::from(PPM)) >> 32) as u32
}

/// The `n`th number of the `SplitMix64` sequence of `seed` (Steele, Lea and
/// Flood 2014, "Fast Splittable Pseudorandom Number Generators").
#[inline(always)]
#[must_use]
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
