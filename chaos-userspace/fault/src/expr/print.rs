//! The canonical expression of a fault: `parse(print(fault)) == fault`, and equal faults print equally.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::keys::{self, FilterKey, TriggerKey};
use super::number::UNITS;
use crate::call::{Count, Glob, Signal};
use crate::effect::CallEffect;
use crate::limit::{Level, Limit, USED};
use crate::model::{Effect, Fault, Filter, Op, Trigger};
use crate::netem::Netem;
use crate::registry::{NET, NET_OPS};
use crate::syscalls;
use crate::values::{Errno, Nanos, Net, Ppm, Proto, Pulse, RateLimit, When};
use crate::who::Aim;

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        operations(f, &self.ops)?;
        write!(
            f,
            ":{}{}{}{}",
            self.effect,
            self.filter,
            self.trigger.spelled(),
            self.target
        )
    }
}

/// As few words as say it: strace's sets for what is one, and what is left out where that is less.
fn operations(f: &mut Formatter<'_>, ops: &[Op]) -> fmt::Result {
    if ops == NET_OPS {
        return f.write_str(NET);
    }
    // A set is parsed in the order of the numbers; what is in another was typed word by word.
    if ops.len() < 2 || !ops.is_sorted() || !ops.iter().all(|op| op.is_syscall()) {
        return list(f, ops);
    }
    let is = |name: &&str| {
        let class = syscalls::class(name).unwrap_or_default();
        class.into_iter().map(Op::Call).eq(ops.iter().copied())
    };
    if let Some(class) = syscalls::class_names().find(is) {
        return f.write_str(class);
    }
    let others: Vec<_> = Op::calls().filter(|op| !ops.contains(op)).collect();
    if others.is_empty() {
        return f.write_str("all");
    }
    if others.len() < ops.len() {
        f.write_str("!")?;
        return list(f, &others);
    }
    list(f, ops)
}

impl Display for Effect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(errno) => write!(f, "error={errno}"),
            Self::Loss(ppm) => write!(f, "loss={ppm}"),
            Self::Wire(wire) => wire.fmt(f),
            Self::Netem(netem) => netem.fmt(f),
            Self::Call(call) => call.fmt(f),
            Self::Limit(Limit::Nofile(level)) => write!(f, "nofile={level}"),
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str(USED),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A key and its value.
type Said = (&'static str, String);

/// Each key without the `:` before the first.
fn chained(f: &mut Formatter<'_>, said: impl Iterator<Item = Said>) -> fmt::Result {
    let said: Vec<_> = said.map(|(key, value)| format!("{key}={value}")).collect();
    f.write_str(&said.join(":"))
}

/// Each key with the `:` before it.
fn appended(f: &mut Formatter<'_>, said: impl Iterator<Item = Said>) -> fmt::Result {
    for (key, value) in said {
        write!(f, ":{key}={value}")?;
    }
    Ok(())
}

/// Each key without the `:` before the first.
impl Display for CallEffect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let given = keys::of_calls().filter(|(_, part)| (part.is_given)(self));
        chained(f, given.map(|(key, part)| (key.name(), (part.print)(self))))
    }
}

/// Each key without the `:` before the first.
impl Display for Netem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let given = keys::of_netem().filter(|(_, part)| (part.is_given)(self));
        chained(f, given.map(|(key, part)| (key.name(), (part.print)(self))))
    }
}

/// Each key with the `:` before it; nothing for a filter that lets everything through.
impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let said = |key: FilterKey| (key.name(), (key.row().part.print)(self));
        appended(f, self.keys().map(said))
    }
}

/// Each key with the `:` before it; nothing for a trigger that always fires.
impl Display for Trigger {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let said = |key: TriggerKey| (key.name(), (key.row().part.print)(self));
        appended(f, self.keys().map(said))
    }
}

/// Each key with the `:` before it; nothing where the command says who is hit.
impl Display for Aim {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let said = self.spelling().into_iter().map(|(key, named)| {
            let named: Vec<_> = named.iter().map(|value| escaped(value)).collect();
            (key.name(), named.join(","))
        });
        appended(f, said)
    }
}

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Ports as they are printed.
pub(super) struct Ports(pub(super) RangeInclusive<u16>);

impl Display for Ports {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// The name, or the number of an error without one.
impl Display for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.get()),
        }
    }
}

/// Per cent; four decimals say every part per million.
impl Display for Ppm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        decimal(f, u64::from(self.get()), 10_000)?;
        f.write_str("%")
    }
}

/// In the longest unit that divides it; below a microsecond with decimals.
impl Display for Nanos {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let whole = UNITS
            .iter()
            .find(|(_, nanos)| self.0.is_multiple_of(*nanos));
        let (name, nanos) = whole.unwrap_or(&("us", 1_000));
        decimal(f, self.0, *nanos)?;
        f.write_str(name)
    }
}

impl Display for Pulse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.on(), self.off())
    }
}

impl Display for RateLimit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count(), self.per().name())
    }
}

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first())?;
        match self.last() {
            None if self.step() == 1 => return f.write_str("+"),
            Some(last) if self.step() > 1 || last != self.first() => write!(f, "..{last}")?,
            None | Some(_) => {}
        }
        match self.step() {
            1 => Ok(()),
            step => write!(f, "+{step}"),
        }
    }
}

impl Display for Net {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&network(self.addr(), self.prefix()))
    }
}

/// An address with its prefix, unless that is the whole address; IPv6 in brackets.
pub(super) fn network(addr: IpAddr, prefix: u8) -> String {
    let addr_text = match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    if prefix == Net::width(addr) {
        addr_text
    } else {
        format!("{addr_text}/{prefix}")
    }
}

/// The name, or the number of a protocol without one.
impl Display for Proto {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The name, or the number of a signal without one.
impl Display for Signal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.get()),
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The pattern, with a backslash before what has a meaning in an expression.
impl Display for Glob {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(self.as_str()))
    }
}

/// A text as one word of a value.
pub(super) fn escaped(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ':' | ',' | '[' | '\\') {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// `value / scale` without trailing zeros; `scale` is a power of ten or divides `value`.
fn decimal(f: &mut Formatter<'_>, value: u64, scale: u64) -> fmt::Result {
    write!(f, "{}", value / scale)?;
    let mut rest = value % scale;
    if rest == 0 {
        return Ok(());
    }
    f.write_str(".")?;
    let mut unit = scale / 10;
    while rest > 0 {
        write!(f, "{}", rest / unit)?;
        rest %= unit;
        unit /= 10;
    }
    Ok(())
}
