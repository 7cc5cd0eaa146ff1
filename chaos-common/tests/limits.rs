//! Properties of the triggers that read the clock or remember: `pulse`, `rate_limit`, `times`, and any mixture.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use chaos_common::decide::{MAX_TIMES, RATE_HORIZON_NS, Verdict, decide, needs_state};
use chaos_common::rule::{PPM, Rule};
use proptest::prelude::*;

/// Times in ns, small ones and any.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_000u64, 0..5_000_000_000u64, any::<u64>()]
}

/// Rules with any of the triggers, in any mixture; every value the wire format can hold.
fn rules() -> impl Strategy<Value = Rule> {
    let or = |unused: u64, used: BoxedStrategy<u64>| prop_oneof![Just(unused), used];
    (
        (
            any::<u64>(),
            1..9u64,
            or(u64::MAX, (9..200u64).boxed()),
            1..5u64,
            or(u64::MAX, (0..40u64).boxed()),
        ),
        (or(0, time().boxed()), or(u64::MAX, time().boxed())),
        (time(), or(0, time().boxed()), or(0, time().boxed())),
        prop_oneof![Just(PPM), 0..=PPM],
    )
        .prop_map(
            |(
                (seed, when_first, when_last, when_step, times),
                (after_ns, until_ns),
                (on, period, rate),
                p_ppm,
            )| Rule {
                seed,
                when_first,
                when_last,
                when_step,
                times,
                after_ns,
                until_ns,
                pulse_on_ns: on,
                pulse_period_ns: period,
                rate_interval_ns: rate,
                p_ppm,
                ..Rule::ALWAYS
            },
        )
}

/// Increasing times: gaps of nothing, of about a tick, of about a second.
fn times(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![Just(0), 0..3_000u64, 0..20_000_000u64, 0..2_000_000_000u64];
    (
        prop_oneof![Just(0), 0..RATE_HORIZON_NS],
        prop::collection::vec(gap, 1..most),
    )
        .prop_map(|(start, gaps)| {
            gaps.iter()
                .scan(start, |now: &mut u64, gap| {
                    *now = now.saturating_add(*gap);
                    Some(*now)
                })
                .collect()
        })
}

/// The verdicts on matches at these times.
fn verdicts(rule: &Rule, times: &[u64]) -> Vec<Verdict> {
    let mut state = 0;
    (1..)
        .zip(times)
        .map(|(n, &now)| {
            let (verdict, next) = decide(rule, state, n, now);
            state = next;
            verdict
        })
        .collect()
}

/// The times of the injections among matches at these times.
fn injected(rule: &Rule, times: &[u64]) -> Vec<u64> {
    let hit = |(verdict, now): (Verdict, &u64)| (verdict == Verdict::Inject).then_some(*now);
    verdicts(rule, times)
        .into_iter()
        .zip(times)
        .filter_map(hit)
        .collect()
}

proptest! {
    /// The phases one after the other, without a division.
    #[test]
    fn pulse_equals_its_enumeration(on in 1..50u64, off in 1..50u64, now in 0..2_000u64) {
        let rule = Rule { pulse_on_ns: on, pulse_period_ns: on + off, ..Rule::ALWAYS };
        let phases = std::iter::repeat_n(true, on as usize).chain(std::iter::repeat_n(false, off as usize));
        let active = phases.cycle().nth(now as usize).unwrap();
        let verdict = if active { Verdict::Inject } else { Verdict::Pulse };
        prop_assert_eq!(decide(&rule, 0, 1, now).0, verdict);
    }

    /// As many as allowed at most in every interval of a unit's length, wherever it begins; it is enough to look at those
    /// that begin with an injection.
    #[test]
    fn never_more_than_the_rate_in_any_interval(
        rule in rules(),
        allowed in prop_oneof![1..10u64, 1..100_000u64],
        unit in prop::sample::select(vec![1_000_000_000u64, 60_000_000_000, 3_600_000_000_000]),
        times in times(200),
    ) {
        let rule = Rule { rate_interval_ns: unit.div_ceil(allowed), ..rule };
        let injected = injected(&rule, &times);
        for (i, &first) in injected.iter().enumerate() {
            let within = injected[i..].iter().filter(|&&now| now - first < unit).count();
            prop_assert!(within as u64 <= allowed, "{within} within a unit from {first}");
        }
    }

    /// The same for dense traffic, where the limit is what decides: a match every `step` ns for a unit and more.
    #[test]
    fn dense_traffic_gets_nearly_the_rate(allowed in 1..100_000u64, step in 1..5_000_000u64, start in 0..RATE_HORIZON_NS / 2) {
        const UNIT: u64 = 1_000_000_000;
        let interval = UNIT.div_ceil(allowed);
        let rule = Rule { rate_interval_ns: interval, ..Rule::ALWAYS };
        let times: Vec<_> = (0..2_000).map(|i| start + i * step).collect();
        let injected = injected(&rule, &times);
        prop_assert_eq!(injected[0], start);
        for pair in injected.windows(2) {
            let gap = pair[1] - pair[0];
            prop_assert!(gap >= interval && gap < interval + 1024 + step, "{gap}");
        }
    }

    /// Dense traffic: what is spared is a bucket's worth at once and the rate ever after; whatever else comes is injected.
    #[test]
    fn what_is_over_a_rate_is_injected(
        allowed in 1..1_000u64,
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..3_000u64, 0..20_000_000u64, 0..2_000_000_000u64], 1..400),
    ) {
        const UNIT: u64 = 1_000_000_000;
        let interval = UNIT.div_ceil(allowed);
        let rule = Rule { rate_interval_ns: interval, burst: allowed as u32, ..Rule::ALWAYS };
        prop_assert!(needs_state(&rule));
        // The bucket itself, in ns that it has gathered.
        let (mut now, mut state, mut gathered) = (0, 0, interval * allowed);
        for (n, gap) in (1..).zip(gaps) {
            now += gap;
            gathered = (gathered + gap).min(interval * allowed);
            let (verdict, next) = decide(&rule, state, n, now);
            if gathered >= interval {
                gathered -= interval;
                prop_assert_eq!(verdict, Verdict::RateLimit);
                prop_assert!(next > state);
            } else {
                prop_assert_eq!((verdict, next), (Verdict::Inject, state));
            }
            state = next;
        }
    }

    /// Times that do not increase, as several CPUs see them: what is injected is still spaced.
    #[test]
    fn unordered_times_are_spaced_too(interval in 1..1_000_000u64, times in prop::collection::vec(0..10_000_000u64, 1..200)) {
        let rule = Rule { rate_interval_ns: interval, ..Rule::ALWAYS };
        let injected = injected(&rule, &times);
        prop_assert!(injected.windows(2).all(|pair| pair[0] + interval <= pair[1]));
    }

    #[test]
    fn never_more_than_times_in_any_mixture(rule in rules(), times in times(200)) {
        prop_assert!(injected(&rule, &times).len() as u64 <= rule.times);
    }

    /// A match that the rate limit leaves alone uses up nothing of `times`: limited, the first ones are the same.
    #[test]
    fn times_takes_the_first_ones_in_any_mixture(rule in rules(), times in times(200)) {
        let free = injected(&Rule { times: u64::MAX, ..rule }, &times);
        let most = usize::try_from(rule.times).unwrap_or(usize::MAX).min(free.len());
        prop_assert_eq!(&injected(&rule, &times), &free[..most]);
    }

    /// Injected is what every trigger but the remembering ones lets through, at the rate: a model of its own.
    #[test]
    fn a_mixture_is_all_its_conditions(rule in rules(), times in times(200)) {
        let clocked = Rule { p_ppm: PPM, times: u64::MAX, rate_interval_ns: 0, ..rule };
        let drawn = Rule { seed: rule.seed, p_ppm: rule.p_ppm, ..Rule::ALWAYS };
        let (mut used, mut next) = (0, 0);
        let mut wanted = Vec::new();
        for (n, &now) in (1..).zip(&times) {
            let passes = |rule: &Rule| decide(rule, 0, n, now).0 == Verdict::Inject;
            if !passes(&clocked) || !passes(&drawn) || used >= rule.times {
                continue;
            }
            if rule.rate_interval_ns > 0 {
                let then = (u128::from(now) + u128::from(rule.rate_interval_ns)).div_ceil(1024) * 1024;
                if u128::from(now) < next || then >= u128::from(RATE_HORIZON_NS) {
                    continue;
                }
                next = then;
            }
            used += 1;
            wanted.push(now);
        }
        prop_assert_eq!(injected(&rule, &times), wanted);
    }

    /// For any state at all, and never backwards.
    #[test]
    fn an_injection_and_nothing_else_makes_the_state_greater(rule in rules(), state: u64, n: u64, now in time()) {
        let (verdict, next) = decide(&rule, state, n, now);
        prop_assert_eq!(verdict == Verdict::Inject, next > state);
        prop_assert_eq!(verdict != Verdict::Inject, next == state);
    }

    /// Where the state is said not to matter it does not.
    #[test]
    fn a_state_that_is_not_needed_does_not_matter(rule in rules(), state in 0..u64::MAX, n: u64, now in time()) {
        let rule = Rule { times: u64::MAX, rate_interval_ns: 0, ..rule };
        prop_assert!(!needs_state(&rule));
        prop_assert_eq!(decide(&rule, state, n, now).0, decide(&rule, 0, n, now).0);
    }

    #[test]
    fn same_seed_and_times_same_decisions(rule in rules(), times in times(100)) {
        prop_assert_eq!(verdicts(&rule, &times), verdicts(&rule.clone(), &times));
    }

    /// Each cause is named only by a rule that has it, in the order that the module promises.
    #[test]
    fn the_first_condition_that_says_no_is_the_verdict(rule in rules(), state: u64, n: u64, now in time()) {
        let order = [
            (Verdict::Expired, Rule { until_ns: rule.until_ns, ..Rule::ALWAYS }),
            (Verdict::After, Rule { after_ns: rule.after_ns, ..Rule::ALWAYS }),
            (Verdict::Pulse, Rule { pulse_on_ns: rule.pulse_on_ns, pulse_period_ns: rule.pulse_period_ns, ..Rule::ALWAYS }),
            (Verdict::When, Rule { when_first: rule.when_first, when_last: rule.when_last, when_step: rule.when_step, ..Rule::ALWAYS }),
            (Verdict::Probability, Rule { seed: rule.seed, p_ppm: rule.p_ppm, ..Rule::ALWAYS }),
        ];
        let no = order.into_iter().find(|(_, alone)| decide(alone, 0, n, now).0 != Verdict::Inject);
        let verdict = decide(&rule, state, n, now).0;
        match no {
            Some((first, alone)) => {
                prop_assert_eq!(decide(&alone, 0, n, now).0, first);
                prop_assert_eq!(verdict, first);
            }
            None => prop_assert!(matches!(verdict, Verdict::Inject | Verdict::Times | Verdict::RateLimit)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// As the gate does it, from several threads: numbers are taken in one order, states exchanged in another, times seen
    /// in a third. Limits hold, and every state was handed on once.
    #[test]
    fn limits_hold_for_whoever_decides_at_once(limit in 1..60u64, interval in prop_oneof![Just(0), 1..200_000u64], p in 1..=PPM) {
        let rule = Rule { times: limit, rate_interval_ns: interval, p_ppm: p, ..Rule::ALWAYS };
        let (matches, memory) = (AtomicU64::new(0), AtomicU64::new(0));
        let decide_some = |thread: u64| {
            let mut injected = BTreeMap::new();
            for turn in 0..300 {
                let n = matches.fetch_add(1, Ordering::Relaxed) + 1;
                let now = turn * 10_000 + thread * 1_500;
                let mut old = memory.load(Ordering::Relaxed);
                loop {
                    let (verdict, new) = decide(&rule, old, n, now);
                    if new == old {
                        assert_ne!(verdict, Verdict::Inject);
                        break;
                    }
                    match memory.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => {
                            assert_eq!(injected.insert(new, now), None);
                            break;
                        }
                        Err(seen) => old = seen,
                    }
                }
            }
            injected
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || decide_some(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let ordered: BTreeMap<u64, u64> = all.iter().copied().collect();
        prop_assert_eq!(ordered.len(), all.len(), "a state was handed on twice");
        prop_assert!(all.len() as u64 <= limit);
        let times: Vec<_> = ordered.into_values().collect();
        prop_assert!(times.windows(2).all(|pair| interval == 0 || pair[0] + interval <= pair[1]), "{:?}", times);
    }
}

/// The last state there is: neither limit wraps around into the other's bits.
#[test]
fn the_ends_of_the_memory() {
    let rule = Rule {
        times: MAX_TIMES,
        rate_interval_ns: 1,
        ..Rule::ALWAYS
    };
    assert_eq!(
        decide(&rule, MAX_TIMES - 1, 1, 0),
        (Verdict::Inject, 1 << 20 | MAX_TIMES)
    );
    assert_eq!(decide(&rule, MAX_TIMES, 1, 0).0, Verdict::Times);
    // A limit that does not fit, which no plan has, ends where the count does.
    let beyond = Rule {
        times: MAX_TIMES + 1,
        ..rule
    };
    assert_eq!(decide(&beyond, MAX_TIMES, 1, 0).0, Verdict::Times);
    let last = RATE_HORIZON_NS - 1024;
    assert_eq!(decide(&rule, 0, 1, last - 1).0, Verdict::Inject);
    for late in [last, last + 1, RATE_HORIZON_NS, u64::MAX - 1] {
        assert_eq!(decide(&rule, 0, 1, late), (Verdict::RateLimit, 0), "{late}");
    }
    let never = Rule {
        rate_interval_ns: u64::MAX,
        ..rule
    };
    assert_eq!(decide(&never, 0, 1, 0), (Verdict::RateLimit, 0));
}
