//! Numbers in expressions: whole ones, probabilities, durations and strace's `when`.
//!
//! All arithmetic is on integers, so that `0.1` is exactly 100 000 ppm and nothing depends on how floats are rounded.

use std::num::NonZeroU32;

use winnow::ascii::digit1;
use winnow::combinator::{alt, opt, preceded};
use winnow::error::EmptyError;
use winnow::{Parser, Result};

use super::keys::Key;
use super::mistake::Mistake;
use crate::limit::{Level, USED};
use crate::netem::Share;
use crate::values::{Nanos, Ppm, Pulse, RateLimit, RateUnit, When};

/// Nanoseconds per unit, the longest first.
pub(super) const UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A whole number without a sign.
pub(super) fn whole(text: &str) -> std::result::Result<u64, Mistake> {
    let digits = all(digit1, text).ok_or_else(|| Mistake::NotNumber(text.to_owned()))?;
    to_u64(digits)
}

/// A whole number that is at least 1.
pub(super) fn positive(key: Key, text: &str) -> std::result::Result<u64, Mistake> {
    match whole(text)? {
        0 => Err(Mistake::Zero(key)),
        number => Ok(number),
    }
}

/// What a limit is set to.
pub(super) fn level(text: &str) -> std::result::Result<Level, Mistake> {
    if text == USED {
        return Ok(Level::Used);
    }
    let number = whole(text).map_err(|_| Mistake::NotLevel(text.to_owned()))?;
    Ok(Level::Number(number))
}

/// How many connections, at least 1.
pub(super) fn connections(key: Key, text: &str) -> std::result::Result<NonZeroU32, Mistake> {
    let small = u32::try_from(positive(key, text)?).ok();
    let small = small.and_then(NonZeroU32::new);
    small.ok_or(Mistake::TooBig(u32::MAX.into()))
}

/// How many bytes, at least 1.
pub(super) fn bytes(key: Key, text: &str) -> std::result::Result<NonZeroU32, Mistake> {
    let number = match whole(text) {
        Err(Mistake::NotNumber(text)) => return Err(Mistake::NotBytes(text)),
        Ok(0) => return Err(Mistake::Zero(key)),
        other => other?,
    };
    let small = u32::try_from(number).ok().and_then(NonZeroU32::new);
    small.ok_or(Mistake::TooBig(u32::MAX.into()))
}

/// How many bytes of all, at least 1: none is the end of the file.
pub(super) fn short(key: Key, text: &str) -> std::result::Result<NonZeroU32, Mistake> {
    match bytes(key, text) {
        Err(Mistake::Zero(_)) => Err(Mistake::ShortOfAll),
        other => other,
    }
}

/// `5%`, `0.05` or `500ppm`, rounded to whole parts per million.
pub(super) fn probability(text: &str) -> std::result::Result<Ppm, Mistake> {
    let unit = alt(("%".value(10_000), "ppm".value(1), "".value(1_000_000)));
    let (number, scale) =
        all((decimal, unit), text).ok_or_else(|| Mistake::NotProbability(text.to_owned()))?;
    let ppm = number.scaled(scale).ok_or(Mistake::ProbabilityRange)?;
    if ppm == 0 && !number.is_zero() {
        return Err(Mistake::ProbabilityTooSmall);
    }
    u32::try_from(ppm)
        .ok()
        .and_then(Ppm::new)
        .ok_or(Mistake::ProbabilityRange)
}

/// Like [`probability`], but it may be none.
pub(super) fn share(text: &str) -> std::result::Result<Share, Mistake> {
    match probability(text) {
        Ok(ppm) => Ok(ppm.into()),
        Err(Mistake::ProbabilityRange)
            if all(decimal, text.trim_end_matches(['%', 'p', 'm']))
                .is_some_and(|number| number.is_zero()) =>
        {
            Share::new(0).ok_or(Mistake::ProbabilityRange)
        }
        Err(mistake) => Err(mistake),
    }
}

/// Bits a second per unit, as tc has them (tc(8)): `k` is 1000, `ki` 1024, `bit` bits and `bps` bytes a second.
const RATES: [(&str, u64); 18] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
    ("tibit", 1 << 40),
    ("gibit", 1 << 30),
    ("mibit", 1 << 20),
    ("kibit", 1 << 10),
    ("tbps", 8_000_000_000_000),
    ("gbps", 8_000_000_000),
    ("mbps", 8_000_000),
    ("kbps", 8_000),
    ("bps", 8),
    ("tibps", 8 << 40),
    ("gibps", 8 << 30),
    ("mibps", 8 << 20),
    ("kibps", 8 << 10),
];

/// `1mbit`: bits a second, rounded. A bare number has no unit here: tc takes it for bits, many for bytes.
pub(super) fn bits(text: &str) -> std::result::Result<u64, Mistake> {
    let not = || Mistake::NotRate(text.to_owned());
    let unit = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(not)?;
    let (number, unit) = text.split_at(unit);
    let number = all(decimal, number).ok_or_else(not)?;
    let unit = unit.to_ascii_lowercase();
    let (_, scale) = RATES
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(not)?;
    number.scaled(*scale).ok_or(Mistake::TooBig(u64::MAX))
}

/// A rate in the greatest decimal unit that divides it.
pub(super) fn rate(bits: u64) -> String {
    let unit = RATES[..5]
        .iter()
        .find(|(_, scale)| bits > 0 && bits.is_multiple_of(*scale));
    match unit {
        Some((name, scale)) => format!("{}{name}", bits / scale),
        None => format!("{bits}bit"),
    }
}

/// A number with a unit, `1.5s`; rounded to whole nanoseconds.
pub(super) fn duration(text: &str) -> std::result::Result<Nanos, Mistake> {
    let unit = alt((
        "us".value(Some("us")),
        "ms".value(Some("ms")),
        "s".value(Some("s")),
        "m".value(Some("m")),
        "h".value(Some("h")),
        "".value(None),
    ));
    let (number, unit) =
        all((decimal, unit), text).ok_or_else(|| Mistake::NotDuration(text.to_owned()))?;
    let unit = UNITS.iter().find(|(name, _)| Some(*name) == unit);
    let (_, nanos) = unit.ok_or_else(|| Mistake::NoUnit(text.to_owned()))?;
    number
        .scaled(*nanos)
        .map(Nanos)
        .ok_or(Mistake::DurationTooLong)
}

/// A duration of strace's: without a unit it is in microseconds, and `ns` is one.
pub(super) fn delay(text: &str) -> std::result::Result<Nanos, Mistake> {
    if let Some(digits) = text.strip_suffix("ns").and_then(|n| all(digit1, n)) {
        return to_u64(digits).map(Nanos);
    }
    match duration(text) {
        Err(Mistake::NoUnit(_)) => duration(&format!("{text}us")),
        other => other,
    }
}

/// What a call gives: a number as C writes it, decimal or hexadecimal, signed, of 64 bits.
pub(super) fn retval(text: &str) -> std::result::Result<i64, Mistake> {
    let not = || Mistake::NotRetval(text.to_owned());
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((digits, 10), |digits| (digits, 16));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(not());
    }
    let bits = u64::from_str_radix(digits, radix).map_err(|_| not())?;
    // As in C, an unsigned number of 64 bits is the same value as the negative one.
    Ok(if negative { bits.wrapping_neg() } else { bits }.cast_signed())
}

/// `ON/OFF`, two durations.
pub(super) fn pulse(text: &str) -> std::result::Result<Pulse, Mistake> {
    let (on, off) = match text.split_once('/') {
        Some((on, off)) if !on.is_empty() && !off.is_empty() && !off.contains('/') => (on, off),
        _ => return Err(Mistake::NotPulse(text.to_owned())),
    };
    let (on, off) = (duration(on)?, duration(off)?);
    if on.0 == 0 || off.0 == 0 {
        return Err(Mistake::PulseRange);
    }
    Pulse::new(on, off).ok_or(Mistake::DurationTooLong)
}

/// `N/s`, `N/m` or `N/h`.
pub(super) fn rate_limit(key: Key, text: &str) -> std::result::Result<RateLimit, Mistake> {
    let not = || Mistake::NotRateLimit(text.to_owned());
    let (count, unit) = text.split_once('/').ok_or_else(not)?;
    let per = RateUnit::ALL.into_iter().find(|per| per.name() == unit);
    let (count, per) = (all(digit1, count).ok_or_else(not)?, per.ok_or_else(not)?);
    let most = || Mistake::TooBig(RateLimit::most(per));
    match to_u64(count).map_err(|_| most())? {
        0 => Err(Mistake::Zero(key)),
        count => RateLimit::new(count, per).ok_or_else(most),
    }
}

/// `F`, `F+`, `F+S`, `F..L`, `F..L+` or `F..L+S`, as strace reads them.
pub(super) fn when(text: &str) -> std::result::Result<When, Mistake> {
    let last = opt(preceded("..", digit1));
    let step = opt(preceded('+', opt(digit1)));
    let (first, last, step) =
        all((digit1, last, step), text).ok_or_else(|| Mistake::NotWhen(text.to_owned()))?;
    let first = to_u64(first)?;
    let last = last.map(to_u64).transpose()?;
    // A step, even an empty one, makes it a series; a series without `..` has no end.
    let (last, step) = match step {
        None => (last.or(Some(first)), 1),
        Some(None) => (last, 1),
        Some(Some(step)) => (last, to_u64(step)?),
    };
    When::new(first, last, step).ok_or(Mistake::WhenRange)
}

/// The whole of `text` by that parser.
fn all<'i, T>(mut parser: impl Parser<&'i str, T, EmptyError>, text: &'i str) -> Option<T> {
    parser.parse(text).ok()
}

/// Digits only, so the one thing that can go wrong is their number.
fn to_u64(digits: &str) -> std::result::Result<u64, Mistake> {
    digits.parse().map_err(|_| Mistake::TooBig(u64::MAX))
}

/// A decimal as it was written.
#[derive(Clone, Copy)]
struct Decimal<'i> {
    whole: &'i str,
    fraction: &'i str,
}

fn decimal<'i>(input: &mut &'i str) -> Result<Decimal<'i>, EmptyError> {
    let fraction = opt(preceded('.', digit1)).map(Option::unwrap_or_default);
    (digit1, fraction)
        .map(|(whole, fraction)| Decimal { whole, fraction })
        .parse_next(input)
}

impl Decimal<'_> {
    fn is_zero(&self) -> bool {
        [self.whole, self.fraction]
            .iter()
            .all(|digits| digits.bytes().all(|b| b == b'0'))
    }

    /// The number times `scale`, rounded to the nearest whole; `None` if that does not fit.
    fn scaled(&self, scale: u64) -> Option<u64> {
        // Nineteen digits times the greatest scale (3.6e12) fit into 128 bits; what follows them is below a nanosecond.
        const DIGITS: usize = 19;
        let scale = u128::from(scale);
        let whole = u128::from(self.whole.parse::<u64>().ok()?).checked_mul(scale)?;
        let fraction = self.fraction.get(..DIGITS).unwrap_or(self.fraction);
        let mut unit = 1;
        let mut part: u128 = 0;
        for digit in fraction.bytes() {
            part = part * 10 + u128::from(digit - b'0');
            unit *= 10;
        }
        let part = (part * scale + unit / 2) / unit;
        u64::try_from(whole.checked_add(part)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::TriggerKey;
    use super::*;

    #[test]
    fn probabilities() {
        for (text, ppm) in [
            ("5%", 50_000),
            ("0.05", 50_000),
            ("500ppm", 500),
            ("100%", 1_000_000),
            ("1", 1_000_000),
            ("1.0", 1_000_000),
            ("0.1", 100_000),
            ("0.0001%", 1),
            ("33.33335%", 333_334),
            ("0.00000149999999999999999999999999", 1),
        ] {
            assert_eq!(probability(text).map(Ppm::get), Ok(ppm), "{text}");
        }
        for text in [
            "0",
            "0%",
            "0.0ppm",
            "100.001%",
            "1.1",
            "5",
            "99999999999999999999999999%",
        ] {
            assert_eq!(probability(text), Err(Mistake::ProbabilityRange), "{text}");
        }
        assert_eq!(probability("0.4ppm"), Err(Mistake::ProbabilityTooSmall));
        for text in ["", "%", ".5", "5.", "-1%", "1e-3", "5 %", "5%%", "٥%"] {
            assert_eq!(
                probability(text),
                Err(Mistake::NotProbability(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.001us", 1),
            ("250ms", 250_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Nanos(nanos)), "{text}");
        }
        assert_eq!(duration("5"), Err(Mistake::NoUnit("5".to_owned())));
        assert_eq!(duration("9999999h"), Err(Mistake::DurationTooLong));
        for text in ["", "s", "5sec", "5 s", "-5s", "1s5ms", "5S"] {
            assert_eq!(
                duration(text),
                Err(Mistake::NotDuration(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn pulses() {
        assert_eq!(
            pulse("100ms/1.5s").ok(),
            Pulse::new(Nanos(100_000_000), Nanos(1_500_000_000))
        );
        assert_eq!(pulse("1s/5"), Err(Mistake::NoUnit("5".to_owned())));
        assert_eq!(pulse("5x/1s"), Err(Mistake::NotDuration("5x".to_owned())));
        for text in ["0s/1s", "1s/0s", "0.0004us/1s"] {
            assert_eq!(pulse(text), Err(Mistake::PulseRange), "{text}");
        }
        for text in ["5000000h/5000000h", "99999999h/1s"] {
            assert_eq!(pulse(text), Err(Mistake::DurationTooLong), "{text}");
        }
        for text in ["", "/", "1s", "1s/", "/1s", "1s/1s/1s", "1s//1s"] {
            assert_eq!(
                pulse(text),
                Err(Mistake::NotPulse(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn rate_limits() {
        let key = Key::Trigger(TriggerKey::RateLimit);
        for (text, interval) in [
            ("1/s", 1_000_000_000),
            ("3/s", 333_333_334),
            ("100000/s", 10_000),
            ("6000000/m", 10_000),
            ("1/m", 60_000_000_000),
            ("360000000/h", 10_000),
            ("1/h", 3_600_000_000_000),
        ] {
            assert_eq!(
                rate_limit(key, text).map(RateLimit::interval),
                Ok(Nanos(interval)),
                "{text}"
            );
        }
        assert_eq!(rate_limit(key, "0/s"), Err(Mistake::Zero(key)));
        for (text, most) in [
            ("100001/s", 100_000),
            ("6000001/m", 6_000_000),
            ("360000001/h", 360_000_000),
            ("99999999999999999999/s", 100_000),
        ] {
            assert_eq!(rate_limit(key, text), Err(Mistake::TooBig(most)), "{text}");
        }
        for text in [
            "", "/", "5", "5/", "/s", "5/d", "5/ms", "5/1s", "1.5/s", "-5/s", "5 /s", "5/s/s",
            "5/S", "5ps",
        ] {
            assert_eq!(
                rate_limit(key, text),
                Err(Mistake::NotRateLimit(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn when_is_straces() {
        for (text, first, last, step) in [
            ("3", 3, Some(3), 1),
            ("3+", 3, None, 1),
            ("3+2", 3, None, 2),
            ("3..9", 3, Some(9), 1),
            ("3..9+", 3, Some(9), 1),
            ("3..9+2", 3, Some(9), 2),
            ("18446744073709551615", u64::MAX, Some(u64::MAX), 1),
        ] {
            assert_eq!(when(text).ok(), When::new(first, last, step), "{text}");
            assert!(when(text).is_ok(), "{text}");
        }
        for text in ["0", "0+", "3+0", "9..3", "0..3", "3..0"] {
            assert_eq!(when(text), Err(Mistake::WhenRange), "{text}");
        }
        for text in [
            "", "+", "+2", "..3", "3..", "3..+2", "3...9", "3+2..9", "a", "3-9", "3++2",
        ] {
            assert_eq!(when(text), Err(Mistake::NotWhen(text.to_owned())), "{text}");
        }
        assert_eq!(when("18446744073709551616"), Err(Mistake::TooBig(u64::MAX)));
    }
}
