//! What the kernel's netem can do to packets, in its own words and units (tc-netem(8)).
//!
//! One fault may say several of them, `net:delay=200ms:jitter=50ms:loss=1%`: they are the parameters of one netem.

use serde::{Deserialize, Serialize};

use super::registry::EffectKey;
use super::table::TableFile;
use super::values::{Nanos, OutOfRange, Ppm};

/// The parameters of one netem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Netem {
    /// How long packets are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Nanos>,
    /// How far the delay varies: half the width of the uniform distribution, the standard deviation of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Nanos>,
    /// How much a delay depends on the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Share>,
    /// How the delay varies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Packets that are lost, each for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Chance>,
    /// Packets that are lost in bursts, after Gilbert and Elliott.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemodel: Option<Gemodel>,
    /// Packets that are lost after a Markov chain of four states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<States>,
    /// Packets that arrive twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Chance>,
    /// Packets of which one bit is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<Chance>,
    /// Packets that are not delayed and so overtake others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Reorder>,
    /// How fast packets leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Packets wait for the next slot and leave in a bunch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// How many packets are held at most; one more is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A share of the whole, in parts per million; unlike [`Ppm`] it may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Share(u32);

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(1_000_000);

    /// That many parts per million, 0..=1 000 000.
    pub const fn new(ppm: u32) -> Option<Self> {
        match ppm {
            0..=1_000_000 => Some(Self(ppm)),
            _ => None,
        }
    }

    /// Parts per million.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// What is left of the whole.
    pub const fn rest(self) -> Self {
        Self(Self::WHOLE.0 - self.0)
    }
}

impl TryFrom<u32> for Share {
    type Error = OutOfRange;

    fn try_from(ppm: u32) -> Result<Self, OutOfRange> {
        Self::new(ppm).ok_or(OutOfRange::new("a share is 0 to 1000000 parts per million"))
    }
}

impl From<Share> for u32 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl From<Ppm> for Share {
    fn from(ppm: Ppm) -> Self {
        Self(ppm.get())
    }
}

/// How a delay varies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// All delays between `delay - jitter` and `delay + jitter` are as likely: what netem does without a table.
    Uniform,
    /// The normal distribution.
    Normal,
    /// The Pareto distribution: few long delays.
    Pareto,
    /// A quarter normal and three quarters Pareto, as measured on the Internet (NIST Net).
    Paretonormal,
    /// As the table in a file says.
    Table(TableFile),
}

impl Distribution {
    /// Those that have a name, which is tc's.
    pub const NAMED: [(&str, Self); 4] = [
        ("uniform", Self::Uniform),
        ("normal", Self::Normal),
        ("pareto", Self::Pareto),
        ("paretonormal", Self::Paretonormal),
    ];

    /// The one of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        let named = Self::NAMED.into_iter().find(|(known, _)| *known == name);
        named.map(|(_, distribution)| distribution)
    }

    /// The file of its table, if it is the user's.
    pub const fn table(&self) -> Option<&TableFile> {
        match self {
            Self::Table(file) => Some(file),
            Self::Uniform | Self::Normal | Self::Pareto | Self::Paretonormal => None,
        }
    }
}

/// `P[,CORRELATION]`: how likely something is, and how much it depends on what came of the packet before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// How likely.
    pub p: Ppm,
    /// How dependent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Share>,
}

/// `P[,R[,1-H[,1-K]]]`: two states, a good and a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gemodel {
    /// From the good to the bad state.
    pub p: Ppm,
    /// From the bad to the good state; else `1 - p`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<Share>,
    /// Lost in the bad state (netem's `1-h`); else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<Share>,
    /// Lost in the good state (netem's `1-k`); else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Share>,
}

/// `P13[,P31[,P32[,P23[,P14]]]]`: 1 a packet got through, 3 lost in a burst, 2 got through within a burst, 4 lost alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct States {
    /// Into a burst of losses.
    pub p13: Ppm,
    /// Out of it; else `1 - p13`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p31: Option<Share>,
    /// From losing to getting through within the burst; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p32: Option<Share>,
    /// And back; else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p23: Option<Share>,
    /// A single loss outside a burst; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p14: Option<Share>,
}

/// `P[,CORRELATION[,GAP]]`: with probability `p` a packet is not delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// How likely.
    pub p: Ppm,
    /// How much it depends on the packet before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Share>,
    /// Only every so many packets; else every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<u32>,
}

/// `RATE[,OVERHEAD[,CELL[,CELLOVERHEAD]]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Bits a second, at least 8: the kernel counts bytes.
    pub bits: u64,
    /// Bytes that each packet counts in addition, as of a header that the emulated link has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<i32>,
    /// Bytes of a cell, if the emulated link has such (ATM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<u32>,
    /// Bytes that each cell counts in addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell_overhead: Option<i32>,
}

/// `MIN[,MAX[,PACKETS[,BYTES]]]`: packets leave at the beginning of slots that are so far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The shortest time from one slot to the next.
    pub min: Nanos,
    /// The longest; else the shortest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Nanos>,
    /// How many packets a slot takes; else any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u32>,
    /// How many bytes a slot takes; else any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

const SECOND: u64 = 1_000_000_000;

impl Netem {
    /// The longest delay and the longest slot. What is held when a fault ends is waited for.
    pub const LONGEST: Nanos = Nanos(60 * SECOND);
    /// The greatest jitter: the kernel counts it in 31 bits of nanoseconds.
    pub const MOST_JITTER: Nanos = Nanos(2 * SECOND);

    /// The loss, if that is all and each packet is lost for itself.
    pub(super) fn only_loss(&self) -> Option<Ppm> {
        let loss = self.loss.filter(|loss| loss.correlation.is_none())?;
        self.keys().eq([EffectKey::Loss]).then_some(loss.p)
    }

    /// The delay, if that is all and it is the same for each packet.
    pub fn only_delay(&self) -> Option<Nanos> {
        let all = [EffectKey::Delay, EffectKey::Limit];
        self.delay
            .filter(|_| self.keys().all(|key| all.contains(&key)))
    }

    /// The first key whose value does not go with the others, and why.
    pub(super) fn problem(&self) -> Option<(EffectKey, &'static str)> {
        let said = |value: Option<Nanos>| value.is_some_and(|value| value.0 > 0);
        let checks = [
            (
                self.keys().all(|key| key == EffectKey::Limit),
                EffectKey::Limit,
                "it bounds what another effect holds: say that too, `delay=…` for one",
            ),
            (
                self.delay.is_some() && !said(self.delay),
                EffectKey::Delay,
                "longer than 0",
            ),
            (
                self.delay > Some(Self::LONGEST),
                EffectKey::Delay,
                "at most 60s",
            ),
            (
                self.jitter.is_some() && !said(self.jitter),
                EffectKey::Jitter,
                "longer than 0",
            ),
            (
                self.jitter.is_some() && self.delay.is_none(),
                EffectKey::Jitter,
                "a delay is what varies: `delay=…` is missing",
            ),
            (
                self.jitter > Some(Self::MOST_JITTER),
                EffectKey::Jitter,
                "at most 2s",
            ),
            (
                self.jitter > self.delay,
                EffectKey::Jitter,
                "at most as long as `delay`",
            ),
            (
                self.correlation.is_some() && self.jitter.is_none(),
                EffectKey::Correlation,
                "it is that of the jitter: `jitter=…` is missing; that of a loss is said there, `loss=1%,25%`",
            ),
            (
                self.distribution.is_some() && self.jitter.is_none(),
                EffectKey::Distribution,
                "it is that of the jitter: `jitter=…` is missing",
            ),
            (
                self.loss.is_some() && (self.gemodel.is_some() || self.state.is_some()),
                EffectKey::Loss,
                "packets are lost in one way only: `loss`, `gemodel` or `state`",
            ),
            (
                self.gemodel.is_some() && self.state.is_some(),
                EffectKey::State,
                "packets are lost in one way only: `loss`, `gemodel` or `state`",
            ),
            (
                self.reorder.is_some() && self.delay.is_none(),
                EffectKey::Reorder,
                "what is not delayed overtakes what is: `delay=…` is missing",
            ),
            (
                self.reorder.is_some_and(|reorder| reorder.gap == Some(0)),
                EffectKey::Reorder,
                "a gap is at least 1",
            ),
            (
                self.rate.is_some_and(|rate| rate.bits < 8),
                EffectKey::Rate,
                "at least 8bit, a byte a second",
            ),
            (
                self.slot.is_some_and(|slot| slot.min.0 == 0),
                EffectKey::Slot,
                "longer than 0",
            ),
            (
                self.slot
                    .is_some_and(|slot| slot.max.is_some_and(|max| max < slot.min)),
                EffectKey::Slot,
                "the longest time between slots is not below the shortest",
            ),
            (
                self.slot
                    .is_some_and(|slot| slot.max.unwrap_or(slot.min) > Self::LONGEST),
                EffectKey::Slot,
                "at most 60s",
            ),
            (self.limit == Some(0), EffectKey::Limit, "at least 1"),
        ];
        checks
            .into_iter()
            .find_map(|(wrong, key, why)| wrong.then_some((key, why)))
    }

    /// How many packets netem is to hold at most. Unless it was said, so many that none is lost unasked: 200 000 a second
    /// for as long as one is held, and enough for a burst; more than a million would be a danger to the machine.
    pub fn limit(&self) -> u32 {
        const LEAST: u64 = 10_000;
        const MOST: u64 = 1_000_000;
        const PER_SECOND: u64 = 200_000;
        self.limit.unwrap_or_else(|| {
            let needed = self.longest().0.saturating_mul(PER_SECOND) / SECOND;
            // In range by the clamp.
            u32::try_from(needed.clamp(LEAST, MOST)).unwrap_or(u32::MAX)
        })
    }

    /// For how long a packet is held, but for a queue in front of `rate`: longer than four jitters is next to none.
    pub fn longest(&self) -> Nanos {
        let jitter = self.jitter.unwrap_or_default().0;
        let slot = self.slot.map_or(0, |slot| slot.max.unwrap_or(slot.min).0);
        Nanos(self.delay.unwrap_or_default().0 + 4 * jitter + slot)
    }
}
