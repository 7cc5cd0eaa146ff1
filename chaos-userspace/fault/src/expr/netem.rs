//! netem's parameters as they are typed and printed.

use std::fmt::{self, Display, Formatter};

use super::keys::Key;
use super::mistake::Mistake;
use super::number::{bits, duration, probability, share, whole};
use super::print::escaped;
use super::resolve::{Misplaced, words};
use super::syntax::Argument;
use crate::netem::{Chance, Distribution, Gemodel, Rate, Reorder, Share, Slot, States};
use crate::table::TableFile;
use crate::values::Ppm;

/// Values by their place: the first has to be there.
pub(super) struct List<'a> {
    rest: std::slice::Iter<'a, super::syntax::Word>,
}

impl<'a> List<'a> {
    pub(super) fn of(key: Key, argument: &'a Argument, most: usize) -> Result<Self, Misplaced> {
        let words = words(key, argument)?;
        if let Some(surplus) = words.get(most) {
            return Err((surplus.span.clone(), Mistake::TooManyValues(key, most)));
        }
        Ok(Self { rest: words.iter() })
    }

    fn next<T>(
        &mut self,
        read: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Misplaced> {
        let Some(word) = self.rest.next() else {
            return Ok(None);
        };
        read(&word.text)
            .map(Some)
            .map_err(|mistake| (word.span.clone(), mistake))
    }

    fn first<T>(&mut self, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T, Misplaced> {
        // `words` gives at least one, if only an empty one, which it refuses.
        self.next(read)?.ok_or((0..0, Mistake::Shapeless))
    }
}

/// A field with a list of values, each by its place.
macro_rules! list_value {
    ($on:expr, $field:ident, $most:literal, $read:path, $schema:expr) => {
        Part {
            on: $on,
            take: |to, key, argument| {
                let mut values = crate::expr::netem::List::of(key, argument, $most)?;
                to.$field = Some($read(&mut values)?);
                Ok(())
            },
            is_given: |of| of.$field.is_some(),
            print: |of| list(of.$field.as_slice()),
            schema: &[(stringify!($field), $schema)],
            after: None,
        }
    };
}

pub(super) use list_value;

pub(super) fn chance(list: &mut List<'_>) -> Result<Chance, Misplaced> {
    Ok(Chance {
        p: list.first(probability)?,
        correlation: list.next(share)?,
    })
}

pub(super) fn gemodel(list: &mut List<'_>) -> Result<Gemodel, Misplaced> {
    Ok(Gemodel {
        p: list.first(probability)?,
        r: list.next(share)?,
        bad: list.next(share)?,
        good: list.next(share)?,
    })
}

pub(super) fn state(list: &mut List<'_>) -> Result<States, Misplaced> {
    Ok(States {
        p13: list.first(probability)?,
        p31: list.next(share)?,
        p32: list.next(share)?,
        p23: list.next(share)?,
        p14: list.next(share)?,
    })
}

pub(super) fn reorder(list: &mut List<'_>) -> Result<Reorder, Misplaced> {
    Ok(Reorder {
        p: list.first(probability)?,
        correlation: list.next(share)?,
        gap: list.next(small)?,
    })
}

pub(super) fn rate(list: &mut List<'_>) -> Result<Rate, Misplaced> {
    Ok(Rate {
        bits: list.first(bits)?,
        overhead: list.next(signed)?,
        cell: list.next(small)?,
        cell_overhead: list.next(signed)?,
    })
}

pub(super) fn slot(list: &mut List<'_>) -> Result<Slot, Misplaced> {
    Ok(Slot {
        min: list.first(duration)?,
        max: list.next(duration)?,
        packets: list.next(small)?,
        bytes: list.next(small)?,
    })
}

pub(super) fn distribution(text: &str) -> Result<Distribution, Mistake> {
    Distribution::by_name(text)
        .or_else(|| TableFile::new(text).ok().map(Distribution::Table))
        .ok_or_else(|| Mistake::UnknownDistribution(text.to_owned()))
}

pub(super) fn small(text: &str) -> Result<u32, Mistake> {
    // tc keeps most of them in a signed number.
    const MOST: u32 = i32::MAX.unsigned_abs();
    u32::try_from(whole(text)?)
        .ok()
        .filter(|number| *number <= MOST)
        .ok_or(Mistake::TooBig(u64::from(MOST)))
}

fn signed(text: &str) -> Result<i32, Mistake> {
    let (digits, sign) = match text.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (text, 1),
    };
    let number = match small(digits) {
        Err(Mistake::NotNumber(_)) => return Err(Mistake::NotNumber(text.to_owned())),
        other => other?,
    };
    // At most i32::MAX.
    Ok(i32::try_from(number).unwrap_or(i32::MAX) * sign)
}

/// The values up to the first that is not given.
fn places(f: &mut Formatter<'_>, values: &[Option<String>]) -> fmt::Result {
    let given: Vec<_> = values.iter().map_while(Option::as_deref).collect();
    f.write_str(&given.join(","))
}

fn text<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

impl Display for Gemodel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { p, r, bad, good } = *self;
        places(f, &[text(Some(p)), text(r), text(bad), text(good)])
    }
}

impl Display for States {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            p13,
            p31,
            p32,
            p23,
            p14,
        } = *self;
        places(
            f,
            &[text(Some(p13)), text(p31), text(p32), text(p23), text(p14)],
        )
    }
}

impl Display for Reorder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            p,
            correlation,
            gap,
        } = *self;
        places(f, &[text(Some(p)), text(correlation), text(gap)])
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            bits,
            overhead,
            cell,
            cell_overhead,
        } = *self;
        let rate = super::number::rate(bits);
        places(
            f,
            &[Some(rate), text(overhead), text(cell), text(cell_overhead)],
        )
    }
}

impl Display for Slot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            min,
            max,
            packets,
            bytes,
        } = *self;
        places(f, &[text(Some(min)), text(max), text(packets), text(bytes)])
    }
}

/// The name, or the path of the table with a backslash before what has a meaning in an expression.
impl Display for Distribution {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::Paretonormal => "paretonormal",
            Self::Table(file) => return f.write_str(&escaped(file.as_str())),
        })
    }
}

impl Display for Chance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.p.fmt(f)?;
        match self.correlation {
            Some(correlation) => write!(f, ",{correlation}"),
            None => Ok(()),
        }
    }
}

/// As a probability; none is `0%`.
impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Ppm::new(self.get()) {
            Some(ppm) => ppm.fmt(f),
            None => f.write_str("0%"),
        }
    }
}
