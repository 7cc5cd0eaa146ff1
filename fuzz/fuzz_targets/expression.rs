//! Any text: no panic; what parses prints to something that parses to the same; a mistake has a place in the text.
//!
//! Run: `cargo fuzz run expression` with a nightly toolchain; with the stable one,
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none expression`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use murphy_fault::Fault;

fuzz_target!(|text: &str| match text.parse::<Fault>() {
    Ok(fault) => assert_eq!(fault.to_string().parse(), Ok(fault)),
    Err(error) => {
        assert!(error.expression().get(error.span()).is_some());
        assert!(!error.to_string().chars().any(char::is_control));
        assert!(!error.render(false).is_empty());
    }
});
