//! A rule as the kernel programs read it.

/// The only effect of the program that meets the rule: it fails the operation with the negative
/// errno in [`Rule::value`], loses the packet, sends it through netem, resets its connection, and so
/// on.
pub const EFFECT_OWN: u32 = 0;
/// The calling thread waits for [`Rule::delay_ns`]; then the call is done, or fails with the negative
/// errno in [`Rule::value`] if that is not 0.
pub const EFFECT_DELAY: u32 = 5;
/// The query is answered with a response code, which is the value.
pub const EFFECT_DNS_RCODE: u32 = 34;
/// The query is answered with the address in the map `ANSWERS`; the value is the record's type, 1 (A)
/// or 28 (AAAA).
pub const EFFECT_DNS_ANSWER: u32 = 35;

/// Everything certain, in parts per million.
pub const PPM: u32 = 1_000_000;

/// One rule. Durations are in ns since the rule was armed.
///
/// Unused triggers have the value that never suppresses, see [`Rule::ALWAYS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Seed of the rule's random numbers.
    pub seed: u64,
    /// Nothing is injected earlier than this.
    pub after_ns: u64,
    /// The rule is over from here on; `u64::MAX`: never.
    pub until_ns: u64,
    /// First match to inject at, counted from 1.
    pub when_first: u64,
    /// Last match to inject at; `u64::MAX`: no last.
    pub when_last: u64,
    /// Every how many matches, at least 1.
    pub when_step: u64,
    /// How many injections at most; `u64::MAX`: no limit. Together with
    /// [`Rule::rate_interval_ns`] at most [`crate::decide::MAX_TIMES`].
    pub times: u64,
    /// How long the rule is active at the beginning of each period.
    pub pulse_on_ns: u64,
    /// Length of a period, the first one begins with arming; 0: always active.
    pub pulse_period_ns: u64,
    /// How far injections are apart at least; 0: no limit. With [`Rule::burst`] how far the matches that are spared are
    /// apart on average.
    pub rate_interval_ns: u64,
    /// The effect's value: a negative errno, ICMP's code and eight bits above it `ICMPv6`'s, the status
    /// of a response.
    pub value: i64,
    /// One of `EFFECT_…`.
    pub effect: u32,
    /// Probability in parts per million.
    pub p_ppm: u32,
    /// Where it remembers and counts. It keeps the place when other rules come and go.
    pub slot: u32,
    /// 0: the rate limits injections. Else it limits what is spared: so many matches at once, and what comes over the rate
    /// is injected. [`Rule::times`] is `u64::MAX` then.
    pub burst: u32,
    /// When the rule joined the others, in ns since these were armed.
    pub since_ns: u64,
    /// Connections that are let be at once; 0: no limit. A connect within it is no match.
    pub connections: u64,
    /// How long the thread waits, for [`EFFECT_DELAY`] and the program that spins.
    pub delay_ns: u64,
    /// How much longer or shorter that is at most.
    pub jitter_ns: u64,
}

const _: () = assert!(size_of::<Rule>() == 136);

impl Rule {
    /// Injects at every match; effect and value are yet to be set.
    pub const ALWAYS: Self = Self {
        seed: 0,
        after_ns: 0,
        until_ns: u64::MAX,
        when_first: 1,
        when_last: u64::MAX,
        when_step: 1,
        times: u64::MAX,
        pulse_on_ns: 0,
        pulse_period_ns: 0,
        rate_interval_ns: 0,
        value: 0,
        effect: 0,
        p_ppm: PPM,
        slot: 0,
        burst: 0,
        since_ns: 0,
        connections: 0,
        delay_ns: 0,
        jitter_ns: 0,
    };
}

/// What a rule remembers between matches. Both fields are changed atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleState {
    /// Matches decided so far.
    pub matches: u64,
    /// The state that [`crate::decide::decide`] hands on.
    pub state: u64,
}

const _: () = assert!(size_of::<RuleState>() == 16);

// SAFETY: repr(C), integers only, without padding (sizes asserted above).
unsafe impl crate::Plain for Rule {}
// SAFETY: as for `Rule`.
unsafe impl crate::Plain for RuleState {}
