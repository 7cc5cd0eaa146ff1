//! The words for [`Wire`] effects and for names, both ways.

use std::fmt::{self, Display, Formatter};

use super::filter::net;
use super::mistake::Mistake;
use super::number::whole;
use super::resolve::{Misplaced, one};
use super::syntax::Argument;
use crate::faults::name::NameGlob;
use crate::faults::registry::{EffectKey, Key};
use crate::faults::values::Net;
use crate::faults::wire::{Rcode, Status, Unreachable, Wire};

/// The effect of that key; `None` if the key is none of these.
pub(super) fn effect(key: EffectKey, argument: &Argument) -> Result<Option<Wire>, Misplaced> {
    let of = Key::Effect(key);
    let wire = match key {
        EffectKey::Blackhole => alone(of, argument, Wire::Blackhole)?,
        EffectKey::Partition => alone(of, argument, Wire::Partition)?,
        EffectKey::Reset => reset(of, argument)?,
        EffectKey::Drop => alone(of, argument, Wire::Drop)?,
        EffectKey::Unreachable => Wire::Unreachable(one(of, argument, unreachable)?),
        EffectKey::Rcode => Wire::Rcode(one(of, argument, rcode)?),
        EffectKey::Status => Wire::Status(one(of, argument, status)?),
        EffectKey::Answer => Wire::Answer(one(of, argument, address)?),
        _ => return Ok(None),
    };
    Ok(Some(wire))
}

/// An effect that takes no value.
fn alone(key: Key, argument: &Argument, wire: Wire) -> Result<Wire, Misplaced> {
    match argument.values {
        None => Ok(wire),
        Some(_) => Err((argument.value_span(), Mistake::TakesNoValue(key))),
    }
}

/// No value, or `all`.
fn reset(key: Key, argument: &Argument) -> Result<Wire, Misplaced> {
    if argument.values.is_none() {
        return Ok(Wire::Reset);
    }
    one(key, argument, |text| match text {
        "all" => Ok(Wire::ResetAll),
        _ => Err(Mistake::NotReset(text.to_owned())),
    })
}

fn unreachable(text: &str) -> Result<Unreachable, Mistake> {
    Unreachable::by_name(text).ok_or_else(|| Mistake::UnknownUnreachable(text.to_owned()))
}

fn rcode(text: &str) -> Result<Rcode, Mistake> {
    let number = || {
        let number = u8::try_from(whole(text).ok()?).ok()?;
        Rcode::try_from(number).ok()
    };
    Rcode::by_name(text)
        .or_else(number)
        .ok_or_else(|| Mistake::UnknownRcode(text.to_owned()))
}

fn status(text: &str) -> Result<Status, Mistake> {
    let number = whole(text)
        .ok()
        .and_then(|number| u16::try_from(number).ok());
    number
        .and_then(|number| Status::try_from(number).ok())
        .ok_or_else(|| Mistake::NotStatus(text.to_owned()))
}

fn address(text: &str) -> Result<std::net::IpAddr, Mistake> {
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

impl Display for Wire {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(Key::Effect(self.key()).name())?;
        match self {
            Self::ResetAll => f.write_str("=all"),
            Self::Unreachable(kind) => write!(f, "={}", kind.name()),
            Self::Rcode(code) => match code.name() {
                Some(name) => write!(f, "={name}"),
                None => write!(f, "={}", code.get()),
            },
            Self::Status(status) => write!(f, "={}", status.get()),
            Self::Answer(address) => write!(
                f,
                "={}",
                super::print::network(*address, Net::width(*address))
            ),
            Self::Blackhole | Self::Partition | Self::Reset | Self::Drop => Ok(()),
        }
    }
}
