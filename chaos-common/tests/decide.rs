//! Properties of the decision.

use chaos_common::decide::{Verdict, decide, draw_ppm, mix};
use chaos_common::rule::{PPM, Rule};
use proptest::prelude::*;

/// Runs `count` matches and gives the numbers (from 1) of those injected.
fn injected(rule: &Rule, count: u64) -> Vec<u64> {
    let mut state = 0;
    (1..=count)
        .filter(|&n| {
            let (verdict, next) = decide(rule, state, n, 0);
            state = next;
            verdict == Verdict::Inject
        })
        .collect()
}

/// strace's `when=F..L+S` by enumeration: F, F+S, F+2S … up to L.
fn enumerated(first: u64, last: u64, step: u64, count: u64) -> Vec<u64> {
    let mut all = Vec::new();
    let mut n = first;
    while n <= last && n <= count {
        all.push(n);
        n += step;
    }
    all
}

fn rules() -> impl Strategy<Value = Rule> {
    (
        any::<u64>(),
        1..200u64,
        0..200u64,
        1..20u64,
        0..50u64,
        0..=PPM,
    )
        .prop_map(|(seed, first, more, step, times, p)| Rule {
            seed,
            when_first: first,
            when_last: first + more,
            when_step: step,
            times,
            p_ppm: p,
            ..Rule::ALWAYS
        })
}

proptest! {
    #[test]
    fn when_equals_its_enumeration(first in 1..100u64, more in 0..300u64, step in 1..17u64) {
        let last = first + more;
        let rule = Rule { when_first: first, when_last: last, when_step: step, ..Rule::ALWAYS };
        prop_assert_eq!(injected(&rule, 500), enumerated(first, last, step, 500));
    }

    #[test]
    fn never_more_than_times(rule in rules()) {
        prop_assert!(injected(&rule, 1000).len() as u64 <= rule.times);
    }

    #[test]
    fn times_takes_the_first_ones(rule in rules()) {
        let free = injected(&Rule { times: u64::MAX, ..rule }, 500);
        let limited = injected(&rule, 500);
        prop_assert_eq!(&free[..limited.len()], &limited[..]);
        prop_assert_eq!(limited.len() as u64, rule.times.min(free.len() as u64));
    }

    #[test]
    fn same_seed_same_decisions(rule in rules()) {
        prop_assert_eq!(injected(&rule, 500), injected(&rule.clone(), 500));
    }

    #[test]
    fn only_an_injection_changes_the_state(rule in rules(), state: u64, n: u64, elapsed: u64) {
        let (verdict, next) = decide(&rule, state, n, elapsed);
        prop_assert_eq!(verdict == Verdict::Inject, next != state);
    }

    #[test]
    fn nothing_outside_its_time(rule in rules(), after in 0..1000u64, length in 0..1000u64, now in 0..3000u64) {
        let rule = Rule { after_ns: after, until_ns: after + length, ..rule };
        let (verdict, _) = decide(&rule, 0, rule.when_first, now);
        prop_assert_eq!(verdict == Verdict::Expired, now >= after + length);
        prop_assert_eq!(verdict == Verdict::After, now < after && now < after + length);
    }

    /// Within 5 standard deviations of the binomial: one wrong alarm in 1.7 million.
    #[test]
    fn share_within_the_binomial_bound(seed: u64, p in 1..PPM) {
        const N: u64 = 20_000;
        let rule = Rule { seed, p_ppm: p, ..Rule::ALWAYS };
        let share = f64::from(p) / f64::from(PPM);
        let mean = N as f64 * share;
        let bound = 5.0 * (mean * (1.0 - share)).sqrt() + 1.0;
        let seen = injected(&rule, N).len() as f64;
        prop_assert!((seen - mean).abs() <= bound, "{} of {N} at p = {share}", seen);
    }
}

#[test]
fn certainty_is_certain() {
    assert_eq!(injected(&Rule::ALWAYS, 100).len(), 100);
    assert!(
        injected(
            &Rule {
                p_ppm: 0,
                ..Rule::ALWAYS
            },
            100
        )
        .is_empty()
    );
}

#[test]
fn draws_stay_below_a_million() {
    assert!((0..100_000).all(|n| draw_ppm(7, n) < PPM));
}

/// First outputs of `SplitMix64` for seed 0, as published with the algorithm.
#[test]
fn splitmix_reference_values() {
    assert_eq!(mix(0, 1), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mix(0, 2), 0x6e78_9e6a_a1b9_65f4);
    assert_eq!(mix(0, 3), 0x06c4_5d18_8009_454f);
}
