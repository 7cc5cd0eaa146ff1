//! What is drawn at random beyond whether something happens: which of several errors, how long a delay is, which bytes are others.
//!
//! Pure functions of the rule's seed and the match's number, as the decision itself is.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use chaos_common::answer::drawn;
use chaos_common::decide::mix;
use chaos_common::delay::drawn as drawn_delay;

use crate::{CallEffect, Nanos};

/// Each draw of a match has a sequence of its own, as that among errors; the decision has that of the seed itself.
const BYTES: u64 = 0x6279_7465_7300_0001;

impl CallEffect {
    /// What the `n`th match of a rule gives instead of being done: a value, or a negative errno. `None`: it is done.
    pub fn answer(&self, seed: u64, n: u64) -> Option<i64> {
        if self.error.is_empty() {
            return self.retval;
        }
        let drawn = drawn(seed, n, u32::try_from(self.error.len()).ok()?);
        let errno = self.error.get(usize::try_from(drawn).ok()?)?;
        Some(-i64::from(errno.get()))
    }

    /// How long the thread of the `n`th match sleeps, both delays together.
    pub fn delay(&self, seed: u64, n: u64) -> Nanos {
        let delays = [self.delay_enter, self.delay_exit].into_iter().flatten();
        let sum = (0..).zip(delays).map(|(which, Nanos(delay))| {
            let Some(Nanos(jitter)) = self.jitter else {
                return delay;
            };
            // The kernel programs draw alike.
            drawn_delay(seed ^ which, n, delay, jitter)
        });
        Nanos(sum.sum())
    }

    /// Which of so many bytes that the `n`th match reads are others, each place once and in order, and which of their bits are
    /// turned over, never none. All bytes if there are no more than `corrupt`; none if nothing is corrupted.
    pub fn flips(&self, seed: u64, n: u64, length: usize) -> Vec<(usize, u8)> {
        let asked = self.corrupt.map_or(0, NonZeroU32::get);
        let count = usize::try_from(asked).unwrap_or(length).min(length);
        let match_seed = mix(seed ^ BYTES, n);
        let mut drawn = (1..).map(|i| mix(match_seed, i) >> 32);
        let mut below = |limit: usize| {
            let random = drawn.next().unwrap_or(0);
            let scaled = (u128::from(random) * limit as u128) >> 32;
            usize::try_from(scaled).unwrap_or(0)
        };
        // Robert Floyd's sample: each set of places is as likely as any other.
        let mut places = BTreeSet::new();
        for last in length - count..length {
            let place = below(last + 1);
            if !places.insert(place) {
                places.insert(last);
            }
        }
        let mask = |random: usize| u8::try_from(random + 1).unwrap_or(u8::MAX);
        let places = places.into_iter();
        places.map(|place| (place, mask(below(255)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use chaos_common::delay::DRAW;
    use proptest::prelude::*;

    use super::*;
    use crate::{Effect, Fault};

    /// In ns, of any backend.
    const LONGEST: u64 = CallEffect::LONGEST.0;

    fn effect(text: &str) -> CallEffect {
        let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{error}"));
        let Effect::Call(call) = fault.effect else {
            panic!("{text}");
        };
        call
    }

    #[test]
    fn each_error_is_drawn_as_often_as_the_others() {
        let effect = effect("fsync:error=EIO,ENOSPC,EINTR");
        let mut counts = [0_u32; 3];
        for n in 1..=3000 {
            let answer = effect.answer(7, n).unwrap();
            counts[[-5, -28, -4].iter().position(|e| *e == answer).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_value_is_itself_and_nothing_is_nothing() {
        assert_eq!(effect("fsync:retval=3").answer(1, 1), Some(3));
        assert_eq!(effect("fsync:signal=9").answer(1, 1), None);
    }

    #[test]
    fn each_byte_is_drawn_as_often_as_the_others() {
        let effect = effect("read:corrupt=2");
        let mut counts = [0_u32; 5];
        let mut masks = [0_u32; 256];
        for n in 1..=5000 {
            for (place, mask) in effect.flips(7, n, 5) {
                counts[place] += 1;
                masks[usize::from(mask)] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (1850..2150).contains(count)),
            "{counts:?}"
        );
        assert!(masks[0] == 0 && masks[1..].iter().all(|count| *count > 5));
        assert!(self::effect("read:short=2").flips(7, 1, 5).is_empty());
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_jitter(seed: u64, n in 1..u64::MAX) {
            let Nanos(delay) = effect("fsync:delay_enter=10ms:jitter=3ms").delay(seed, n);
            prop_assert!((7_000_000..=13_000_000).contains(&delay), "{}", delay);
            let both = effect("fsync:delay_enter=1ms:delay_exit=2ms:retval=0");
            prop_assert_eq!(both.delay(seed, n), Nanos(3_000_000));
        }

        /// Without 128 bits.
        #[test]
        fn a_delay_is_drawn_evenly(seed: u64, n: u64, delay in 1..LONGEST, jitter in 1..LONGEST) {
            let jitter = jitter.min(delay);
            let drawn = u128::from(mix(seed ^ DRAW, n) >> 32) * u128::from(2 * jitter + 1);
            let expected = u128::from(delay - jitter) + (drawn >> 32);
            prop_assert_eq!(u128::from(drawn_delay(seed, n, delay, jitter)), expected);
        }

        #[test]
        fn so_many_bytes_are_others(seed: u64, n in 1..u64::MAX, corrupt in 1..300_u32, length in 0..400_usize) {
            let effect = effect(&format!("read:corrupt={corrupt}"));
            let flips = effect.flips(seed, n, length);
            prop_assert_eq!(flips.len(), length.min(corrupt as usize));
            prop_assert!(flips.is_sorted_by(|a, b| a.0 < b.0), "{:?}", flips);
            prop_assert!(flips.iter().all(|(place, mask)| *place < length && *mask != 0));
            prop_assert_eq!(&flips, &effect.flips(seed, n, length));
        }
    }
}
