//! netem's parameters as they are typed and printed.

use std::fmt::{self, Display, Formatter};

use super::mistake::Mistake;
use super::number::{bits, duration, probability, share, whole};
use super::print::escaped;
use super::resolve::{Misplaced, one, words};
use super::syntax::Argument;
use crate::faults::netem::{
    Chance, Distribution, Gemodel, Netem, Rate, Reorder, Share, Slot, States,
};
use crate::faults::registry::{EffectKey, Key};
use crate::faults::table::TableFile;
use crate::faults::values::Ppm;

/// Takes one argument of netem's. False if the key is none of netem's.
pub(super) fn take(
    netem: &mut Netem,
    effect: EffectKey,
    argument: &Argument,
) -> Result<bool, Misplaced> {
    let key = Key::Effect(effect);
    match effect {
        EffectKey::Delay => netem.delay = Some(one(key, argument, duration)?),
        EffectKey::Jitter => netem.jitter = Some(one(key, argument, duration)?),
        EffectKey::Correlation => netem.correlation = Some(one(key, argument, share)?),
        EffectKey::Distribution => netem.distribution = Some(one(key, argument, distribution)?),
        EffectKey::Loss => netem.loss = Some(chance(&mut List::of(key, argument, 2)?)?),
        EffectKey::Duplicate => netem.duplicate = Some(chance(&mut List::of(key, argument, 2)?)?),
        EffectKey::Corrupt => netem.corrupt = Some(chance(&mut List::of(key, argument, 2)?)?),
        EffectKey::Gemodel => {
            let mut list = List::of(key, argument, 4)?;
            netem.gemodel = Some(Gemodel {
                p: list.first(probability)?,
                r: list.next(share)?,
                bad: list.next(share)?,
                good: list.next(share)?,
            });
        }
        EffectKey::State => {
            let mut list = List::of(key, argument, 5)?;
            netem.state = Some(States {
                p13: list.first(probability)?,
                p31: list.next(share)?,
                p32: list.next(share)?,
                p23: list.next(share)?,
                p14: list.next(share)?,
            });
        }
        EffectKey::Reorder => {
            let mut list = List::of(key, argument, 3)?;
            netem.reorder = Some(Reorder {
                p: list.first(probability)?,
                correlation: list.next(share)?,
                gap: list.next(small)?,
            });
        }
        EffectKey::Rate => {
            let mut list = List::of(key, argument, 4)?;
            netem.rate = Some(Rate {
                bits: list.first(bits)?,
                overhead: list.next(signed)?,
                cell: list.next(small)?,
                cell_overhead: list.next(signed)?,
            });
        }
        EffectKey::Slot => {
            let mut list = List::of(key, argument, 4)?;
            netem.slot = Some(Slot {
                min: list.first(duration)?,
                max: list.next(duration)?,
                packets: list.next(small)?,
                bytes: list.next(small)?,
            });
        }
        EffectKey::Limit => netem.limit = Some(one(key, argument, small)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Values by their place: the first has to be there.
struct List<'a> {
    rest: std::slice::Iter<'a, super::syntax::Word>,
}

impl<'a> List<'a> {
    fn of(key: Key, argument: &'a Argument, most: usize) -> Result<Self, Misplaced> {
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

fn chance(list: &mut List<'_>) -> Result<Chance, Misplaced> {
    Ok(Chance {
        p: list.first(probability)?,
        correlation: list.next(share)?,
    })
}

fn distribution(text: &str) -> Result<Distribution, Mistake> {
    Distribution::by_name(text)
        .or_else(|| TableFile::new(text).ok().map(Distribution::Table))
        .ok_or_else(|| Mistake::UnknownDistribution(text.to_owned()))
}

fn small(text: &str) -> Result<u32, Mistake> {
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
    let number = small(digits).map_err(|mistake| match mistake {
        Mistake::NotNumber(_) => Mistake::NotNumber(text.to_owned()),
        other => other,
    })?;
    // At most i32::MAX.
    Ok(i32::try_from(number).unwrap_or(i32::MAX) * sign)
}

/// Each key without the `:` before the first.
impl Display for Netem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, key) in self.keys().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{}=", Key::Effect(key).name())?;
            self.value(f, key)?;
        }
        Ok(())
    }
}

impl Netem {
    fn value(&self, f: &mut Formatter<'_>, key: EffectKey) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, values: &[Option<String>]| {
            let said: Vec<_> = values.iter().map_while(Option::as_deref).collect();
            f.write_str(&said.join(","))
        };
        match key {
            EffectKey::Delay => show(f, self.delay.as_ref()),
            EffectKey::Jitter => show(f, self.jitter.as_ref()),
            EffectKey::Correlation => show(f, self.correlation.as_ref()),
            EffectKey::Distribution => show(f, self.distribution.as_ref()),
            EffectKey::Loss => show(f, self.loss.as_ref()),
            EffectKey::Duplicate => show(f, self.duplicate.as_ref()),
            EffectKey::Corrupt => show(f, self.corrupt.as_ref()),
            EffectKey::Gemodel => match self.gemodel {
                Some(Gemodel { p, r, bad, good }) => {
                    list(f, &[text(Some(p)), text(r), text(bad), text(good)])
                }
                None => Ok(()),
            },
            EffectKey::State => match self.state {
                Some(States {
                    p13,
                    p31,
                    p32,
                    p23,
                    p14,
                }) => list(
                    f,
                    &[text(Some(p13)), text(p31), text(p32), text(p23), text(p14)],
                ),
                None => Ok(()),
            },
            EffectKey::Reorder => match self.reorder {
                Some(Reorder {
                    p,
                    correlation,
                    gap,
                }) => list(f, &[text(Some(p)), text(correlation), text(gap)]),
                None => Ok(()),
            },
            EffectKey::Rate => match self.rate {
                Some(Rate {
                    bits,
                    overhead,
                    cell,
                    cell_overhead,
                }) => {
                    let rate = super::number::rate(bits);
                    list(
                        f,
                        &[Some(rate), text(overhead), text(cell), text(cell_overhead)],
                    )
                }
                None => Ok(()),
            },
            EffectKey::Slot => match self.slot {
                Some(Slot {
                    min,
                    max,
                    packets,
                    bytes,
                }) => list(f, &[text(Some(min)), text(max), text(packets), text(bytes)]),
                None => Ok(()),
            },
            EffectKey::Limit => show(f, self.limit.as_ref()),
            _ => Ok(()),
        }
    }
}

fn show<T: Display>(f: &mut Formatter<'_>, value: Option<&T>) -> fmt::Result {
    value.map_or(Ok(()), |value| value.fmt(f))
}

fn text<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
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
