//! The small values of a fault. Each can only hold what makes sense, whoever builds it: the parser, serde or code.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A value that is outside what its type allows; the text says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutOfRange(pub(super) &'static str);

impl OutOfRange {
    /// What is allowed.
    pub(crate) const fn new(allowed: &'static str) -> Self {
        Self(allowed)
    }
}

/// An error number as a system call reports it, 1..=4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Errno(u16);

/// Second names of an error; [`Errno::name`] gives the first.
const ERRNO_ALIASES: [(&str, u16); 3] = [("EWOULDBLOCK", 11), ("EDEADLOCK", 35), ("ENOTSUP", 95)];

impl Errno {
    /// The greatest error number the kernel can return.
    pub const MAX: u16 = 4095;
    /// "No such system call"; what strace's `fault=` injects when no error is named.
    pub const ENOSYS: Self = Self(38);

    /// The error of that number, 1..=4095.
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            1..=Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The positive number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The symbolic name, for example `ENOSPC`, if the number has one.
    pub fn name(self) -> Option<&'static str> {
        syscalls::Errno::new(i32::from(self.0)).name()
    }

    /// The error of that name; like strace, without regard to case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::names()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, errno)| errno)
    }

    /// Every name with its error, second names last.
    pub fn names() -> impl Iterator<Item = (&'static str, Self)> {
        (1..=Self::MAX)
            .map(Self)
            .filter_map(|errno| errno.name().map(|name| (name, errno)))
            .chain(
                ERRNO_ALIASES
                    .iter()
                    .map(|&(name, number)| (name, Self(number))),
            )
    }
}

impl TryFrom<u16> for Errno {
    type Error = OutOfRange;

    fn try_from(number: u16) -> Result<Self, OutOfRange> {
        Self::new(number).ok_or(OutOfRange("an error number is 1 to 4095"))
    }
}

impl From<Errno> for u16 {
    fn from(errno: Errno) -> Self {
        errno.0
    }
}

/// A probability in parts per million, 1..=1 000 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ppm(u32);

impl Ppm {
    /// Certainty, 100 %.
    pub const ALWAYS: Self = Self(1_000_000);

    /// That many parts per million, 1..=1 000 000.
    pub const fn new(ppm: u32) -> Option<Self> {
        match ppm {
            1..=1_000_000 => Some(Self(ppm)),
            _ => None,
        }
    }

    /// Parts per million.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The probability that both happen, rounded to whole parts per million and at least one.
    pub fn times(self, other: Self) -> Self {
        let product = u64::from(self.0) * u64::from(other.0);
        let rounded = (product + 500_000) / 1_000_000;
        // Neither factor exceeds a million, so the product fits again.
        Self(u32::try_from(rounded).unwrap_or(Self::ALWAYS.0).max(1))
    }
}

impl TryFrom<u32> for Ppm {
    type Error = OutOfRange;

    fn try_from(ppm: u32) -> Result<Self, OutOfRange> {
        Self::new(ppm).ok_or(OutOfRange(
            "a probability is 1 to 1000000 parts per million",
        ))
    }
}

impl From<Ppm> for u32 {
    fn from(ppm: Ppm) -> Self {
        ppm.0
    }
}

/// A length of time in nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl From<Nanos> for std::time::Duration {
    fn from(nanos: Nanos) -> Self {
        Self::from_nanos(nanos.0)
    }
}

/// strace's `when=`: the matches `first`, `first + step`, `first + 2 × step`, … up to `last`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Steps", into = "Steps")]
pub struct When {
    first: u64,
    last: Option<u64>,
    step: u64,
}

impl When {
    /// `first` ≥ 1, `last` ≥ `first` (`None`: without end), `step` ≥ 1; anything else is `None`.
    pub const fn new(first: u64, last: Option<u64>, step: u64) -> Option<Self> {
        if first == 0 || step == 0 {
            return None;
        }
        match last {
            Some(last) if last < first => None,
            _ => Some(Self { first, last, step }),
        }
    }

    /// Number of the first match that is hit, at least 1.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// Number of the last match that can be hit; `None` is without end.
    pub const fn last(self) -> Option<u64> {
        self.last
    }

    /// Distance from one hit to the next, at least 1.
    pub const fn step(self) -> u64 {
        self.step
    }
}

/// [`When`] as serde sees it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    first: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(default = "one")]
    step: u64,
}

const fn one() -> u64 {
    1
}

impl TryFrom<Steps> for When {
    type Error = OutOfRange;

    fn try_from(raw: Steps) -> Result<Self, OutOfRange> {
        Self::new(raw.first, raw.last, raw.step).ok_or(OutOfRange(
            "`when` counts from 1, steps by at least 1 and does not end before it begins",
        ))
    }
}

impl From<When> for Steps {
    fn from(when: When) -> Self {
        let When { first, last, step } = when;
        Self { first, last, step }
    }
}

/// `pulse=ON/OFF`: active for `on`, quiet for `off`, and again, from arming on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Phases", into = "Phases")]
pub struct Pulse {
    on: Nanos,
    off: Nanos,
}

impl Pulse {
    /// Both longer than 0, their sum at most 64 bits of nanoseconds; anything else is `None`.
    pub fn new(on: Nanos, off: Nanos) -> Option<Self> {
        (on.0 > 0 && off.0 > 0 && on.0.checked_add(off.0).is_some()).then_some(Self { on, off })
    }

    /// How long it is active at the beginning of each period.
    pub const fn on(self) -> Nanos {
        self.on
    }

    /// How long it is quiet after that.
    pub const fn off(self) -> Nanos {
        self.off
    }

    /// One active and one quiet part.
    pub const fn period(self) -> Nanos {
        Nanos(self.on.0 + self.off.0)
    }

    /// The first moment at or after `from`, counted from arming, at which it is active; `None` beyond the end of time.
    pub fn active_from(self, from: Nanos) -> Option<Nanos> {
        let into = from.0 % self.period().0;
        if into < self.on.0 {
            return Some(from);
        }
        from.0.checked_add(self.period().0 - into).map(Nanos)
    }
}

/// [`Pulse`] as serde sees it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phases {
    on: Nanos,
    off: Nanos,
}

impl TryFrom<Phases> for Pulse {
    type Error = OutOfRange;

    fn try_from(raw: Phases) -> Result<Self, OutOfRange> {
        Self::new(raw.on, raw.off).ok_or(OutOfRange(
            "both parts of a pulse are longer than 0, and together they fit in 64 bits of nanoseconds",
        ))
    }
}

impl From<Pulse> for Phases {
    fn from(pulse: Pulse) -> Self {
        let Pulse { on, off } = pulse;
        Self { on, off }
    }
}

/// What a [`RateLimit`] counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RateUnit {
    /// A second.
    #[serde(rename = "s")]
    Second,
    /// A minute.
    #[serde(rename = "m")]
    Minute,
    /// An hour.
    #[serde(rename = "h")]
    Hour,
}

impl RateUnit {
    /// Every unit.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// The name in an expression.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    /// Its length.
    pub const fn length(self) -> Nanos {
        match self {
            Self::Second => Nanos(1_000_000_000),
            Self::Minute => Nanos(60_000_000_000),
            Self::Hour => Nanos(3_600_000_000_000),
        }
    }
}

/// `rate_limit=N/UNIT`: at most `N` injections in any stretch of time of that length, evenly spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Rate", into = "Rate")]
pub struct RateLimit {
    count: u64,
    per: RateUnit,
}

impl RateLimit {
    /// How close two injections can be allowed to be. The kernel side counts in 1.024 µs, so that a tighter spacing would
    /// fall short of its rate by more than a tenth.
    const LEAST_INTERVAL: u64 = 10_000;

    /// From 1 to [`RateLimit::most`] a unit; anything else is `None`.
    pub const fn new(count: u64, per: RateUnit) -> Option<Self> {
        if count == 0 || count > Self::most(per) {
            return None;
        }
        Some(Self { count, per })
    }

    /// The greatest limit in that unit: 100 000 a second.
    pub const fn most(per: RateUnit) -> u64 {
        per.length().0 / Self::LEAST_INTERVAL
    }

    /// How many in one unit, at least 1.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// The unit.
    pub const fn per(self) -> RateUnit {
        self.per
    }

    /// How far two injections are apart at least: the unit by the count, rounded up.
    pub const fn interval(self) -> Nanos {
        Nanos(self.per.length().0.div_ceil(self.count))
    }
}

/// [`RateLimit`] as serde sees it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    count: u64,
    per: RateUnit,
}

impl TryFrom<Rate> for RateLimit {
    type Error = OutOfRange;

    fn try_from(raw: Rate) -> Result<Self, OutOfRange> {
        Self::new(raw.count, raw.per).ok_or(OutOfRange(
            "a rate limit is 1 to 100000 a second, 6000000 a minute or 360000000 an hour",
        ))
    }
}

impl From<RateLimit> for Rate {
    fn from(limit: RateLimit) -> Self {
        let RateLimit { count, per } = limit;
        Self { count, per }
    }
}

/// An address (prefix of full length) or a network, its host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cidr", into = "Cidr")]
pub struct Net {
    addr: IpAddr,
    prefix: u8,
}

impl Net {
    /// `prefix` in bits, at most 32 (IPv4) or 128 (IPv6), no bit of `addr` set beyond it; anything else is `None`.
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= Self::width(addr) && Self::masked(addr, prefix) == addr)
            .then_some(Self { addr, prefix })
    }

    /// One address.
    pub fn host(addr: IpAddr) -> Self {
        let prefix = Self::width(addr);
        Self { addr, prefix }
    }

    /// The (lowest) address.
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// Length of the prefix in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it; never one of the other kind.
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && Self::masked(addr, self.prefix) == self.addr
    }

    /// Length in bits of an address of this kind.
    pub const fn width(addr: IpAddr) -> u8 {
        match addr {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// `addr` with every bit beyond `prefix` cleared.
    pub fn masked(addr: IpAddr, prefix: u8) -> IpAddr {
        let host = u32::from(Self::width(addr).saturating_sub(prefix));
        match addr {
            // A shift by the whole width overflows: that is the network /0, of which nothing is left.
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into())
            }
        }
    }
}

/// [`Net`] as serde sees it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl TryFrom<Cidr> for Net {
    type Error = OutOfRange;

    fn try_from(raw: Cidr) -> Result<Self, OutOfRange> {
        Self::new(raw.addr, raw.prefix)
            .ok_or(OutOfRange("a network's prefix is at most 32 (IPv4) or 128 (IPv6) bits and no bit beyond it is set"))
    }
}

impl From<Net> for Cidr {
    fn from(net: Net) -> Self {
        let Net { addr, prefix } = net;
        Self { addr, prefix }
    }
}

/// An IP protocol number, as in the IPv4 header's `protocol` and IPv6's last `next header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMP6: Self = Self(58);

    /// The protocols that have a name in an expression.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("tcp", Self::TCP),
        ("udp", Self::UDP),
        ("icmp", Self::ICMP),
        ("icmp6", Self::ICMP6),
    ];

    /// The name, for example `tcp`, if the expression has one for it.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMED
            .iter()
            .find(|(_, proto)| *proto == self)
            .map(|(name, _)| *name)
    }

    /// The protocol of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, proto)| *proto)
    }
}

/// What kind of file stands behind a descriptor. Every file is exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdKind {
    /// A regular file (`S_IFREG`).
    File,
    /// A directory (`S_IFDIR`).
    Dir,
    /// A pipe or a FIFO (`S_IFIFO`).
    Pipe,
    /// A socket of any family (`S_IFSOCK`).
    Socket,
    /// A character device (`S_IFCHR`), terminals among them.
    Chr,
    /// A block device (`S_IFBLK`).
    Blk,
    /// Anything else: eventfd, epoll, timerfd, signalfd, `io_uring` and the like.
    Other,
}

impl FdKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Dir,
        Self::Pipe,
        Self::Socket,
        Self::Chr,
        Self::Blk,
        Self::Other,
    ];

    /// The name in an expression.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Chr => "chr",
            Self::Blk => "blk",
            Self::Other => "other",
        }
    }

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
