//! The words for [`Wire`] effects and for names, both ways.

use std::fmt::{self, Display, Formatter};

use super::filter::net;
use super::keys::{EffectKey, Key};
use super::mistake::Mistake;
use super::number::whole;
use super::resolve::{Misplaced, one};
use super::syntax::Argument;
use crate::name::NameGlob;
use crate::values::Net;
use crate::wire::{Rcode, Status, Unreachable, Wire};

/// An effect that takes no value.
pub(super) fn alone(key: Key, argument: &Argument, wire: Wire) -> Result<Wire, Misplaced> {
    match argument.values {
        None => Ok(wire),
        Some(_) => Err((argument.value_span(), Mistake::TakesNoValue(key))),
    }
}

/// No value, or `all`.
pub(super) fn reset(key: Key, argument: &Argument) -> Result<Wire, Misplaced> {
    if argument.values.is_none() {
        return Ok(Wire::Reset);
    }
    one(key, argument, |text| match text {
        "all" => Ok(Wire::ResetAll),
        _ => Err(Mistake::NotReset(text.to_owned())),
    })
}

pub(super) fn unreachable(text: &str) -> Result<Unreachable, Mistake> {
    Unreachable::by_name(text).ok_or_else(|| Mistake::UnknownUnreachable(text.to_owned()))
}

pub(super) fn rcode(text: &str) -> Result<Rcode, Mistake> {
    let number = || {
        let number = u8::try_from(whole(text).ok()?).ok()?;
        Rcode::try_from(number).ok()
    };
    Rcode::by_name(text)
        .or_else(number)
        .ok_or_else(|| Mistake::UnknownRcode(text.to_owned()))
}

pub(super) fn status(text: &str) -> Result<Status, Mistake> {
    let number = whole(text)
        .ok()
        .and_then(|number| u16::try_from(number).ok());
    number
        .and_then(|number| Status::try_from(number).ok())
        .ok_or_else(|| Mistake::NotStatus(text.to_owned()))
}

pub(super) fn address(text: &str) -> Result<std::net::IpAddr, Mistake> {
    let net = net(text)?;
    if net.prefix() == Net::width(net.addr()) {
        Ok(net.addr())
    } else {
        Err(Mistake::NotAddress(text.to_owned()))
    }
}

/// A name, or what it ends in.
pub(super) fn name(text: &str) -> Result<NameGlob, Mistake> {
    NameGlob::new(text).map_err(|reason| Mistake::NotName {
        text: text.to_owned(),
        reason,
    })
}

impl Wire {
    /// The key, and the value if there is one.
    fn spelling(self) -> (EffectKey, Option<String>) {
        let named = |name: &str| Some(name.to_owned());
        match self {
            Self::Blackhole => (EffectKey::Blackhole, None),
            Self::Partition => (EffectKey::Partition, None),
            Self::Reset => (EffectKey::Reset, None),
            Self::ResetAll => (EffectKey::Reset, named("all")),
            Self::Unreachable(kind) => (EffectKey::Unreachable, named(kind.name())),
            Self::Rcode(code) => {
                let number = || code.get().to_string();
                let value = code.name().map_or_else(number, str::to_owned);
                (EffectKey::Rcode, Some(value))
            }
            Self::Answer(address) => {
                let text = super::print::network(address, Net::width(address));
                (EffectKey::Answer, Some(text))
            }
            Self::Drop => (EffectKey::Drop, None),
            Self::Status(status) => (EffectKey::Status, Some(status.get().to_string())),
        }
    }

    /// The key that spells it.
    pub fn key(self) -> EffectKey {
        self.spelling().0
    }
}

impl Display for Wire {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.spelling() {
            (key, Some(value)) => write!(f, "{}={value}", key.name()),
            (key, None) => f.write_str(key.name()),
        }
    }
}
