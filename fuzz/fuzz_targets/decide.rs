//! Any rule, any state, any match: no overflow, and the state grows with an injection and with nothing else.
//!
//! Run: `cargo fuzz run decide` with a nightly toolchain; with the stable one,
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none decide`.
#![no_main]

use chaos_common::decide::{Verdict, decide, needs_state};
use chaos_common::rule::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|words: [u64; 14]| {
    let [
        seed,
        after_ns,
        until_ns,
        when_first,
        when_last,
        when_step,
        times,
        on,
        period,
        rate,
        p,
        state,
        n,
        elapsed,
    ] = words;
    let rule = Rule {
        seed,
        after_ns,
        until_ns,
        when_first,
        when_last,
        when_step,
        times,
        pulse_on_ns: on,
        pulse_period_ns: period,
        rate_interval_ns: rate,
        p_ppm: p as u32,
        burst: (p >> 32) as u32,
        ..Rule::ALWAYS
    };
    let (verdict, next) = decide(&rule, state, n, elapsed);
    if rule.burst != 0 && rule.rate_interval_ns != 0 {
        assert!(next == state || verdict == Verdict::RateLimit);
    } else if verdict == Verdict::Inject {
        assert!(next > state);
    } else {
        assert_eq!(next, state);
    }
    if !needs_state(&rule) && state != u64::MAX {
        assert_eq!(verdict, decide(&rule, 0, n, elapsed).0);
    }
});
