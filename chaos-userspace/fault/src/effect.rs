//! What can happen to a system call beyond one error: several errors, a made-up result, a signal, a delay, fewer or wrong bytes.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::call::Signal;
use super::registry::EffectKey;
use super::values::{Errno, Nanos};

/// What happens to a system call that is hit; all that is given happens to the same call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallEffect {
    /// It fails with one of these and does nothing; with several, one is drawn for each call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error: Vec<Errno>,
    /// It gives this and does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retval: Option<i64>,
    /// The calling thread gets this signal. The call goes on, unless `error` or `retval` is there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// The calling thread sleeps before the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_enter: Option<Nanos>,
    /// A delay is meant although it holds up processes that are no targets: written as `!` behind
    /// `delay_enter`. It makes a difference where threads sleep in a kernel program.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub long: bool,
    /// The calling thread sleeps after the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_exit: Option<Nanos>,
    /// How much longer or shorter each delay is at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Nanos>,
    /// It reads or writes at most so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<NonZeroU32>,
    /// So many bytes of what it reads are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<NonZeroU32>,
}

impl CallEffect {
    /// The longest delay: an hour.
    pub const LONGEST: Nanos = Nanos(3_600_000_000_000);

    /// The most bytes that `corrupt` changes.
    pub const MOST_CORRUPT: u32 = 65_536;

    /// One error.
    pub fn error(errno: Errno) -> Self {
        Self {
            error: vec![errno],
            ..Self::default()
        }
    }

    /// The error, if that is all.
    pub(super) fn only_error(&self) -> Option<Errno> {
        match self.error.as_slice() {
            [only] if *self == Self::error(*only) => Some(*only),
            _ => None,
        }
    }

    /// Whether the kernel's own work is left out.
    pub fn answers(&self) -> bool {
        !self.error.is_empty() || self.retval.is_some()
    }

    /// Whether somebody has to do the call in the thread's place.
    pub fn carries(&self) -> bool {
        self.short.is_some() || self.corrupt.is_some()
    }

    /// The first key that does not go with the others, and why.
    pub(super) fn problem(&self) -> Option<(EffectKey, &'static str)> {
        if self.keys().next().is_none() {
            return Some((EffectKey::Error, "nothing says what shall happen"));
        }
        if !self.error.is_empty() && self.retval.is_some() {
            return Some((
                EffectKey::Retval,
                "a call gives an error or a value, not both",
            ));
        }
        if self.long && self.delay_enter.is_none() {
            return Some((EffectKey::DelayEnter, "`long` is about `delay_enter`"));
        }
        let is_carried = |key: &EffectKey| matches!(key, EffectKey::Short | EffectKey::Corrupt);
        if let Some(key) = self.keys().find(is_carried)
            && !self.keys().all(|key| is_carried(&key))
        {
            return Some((
                key,
                "it goes with no other effect but `short` and `corrupt`",
            ));
        }
        if self
            .corrupt
            .is_some_and(|bytes| bytes.get() > Self::MOST_CORRUPT)
        {
            return Some((EffectKey::Corrupt, "at most 65536 bytes"));
        }
        let twice = |(i, errno): (usize, &Errno)| self.error[..i].contains(errno);
        if self.error.iter().enumerate().any(twice) {
            return Some((EffectKey::Error, "the same error is given twice"));
        }
        for (key, delay) in [
            (EffectKey::DelayEnter, self.delay_enter),
            (EffectKey::DelayExit, self.delay_exit),
        ] {
            match delay {
                Some(Nanos(0)) => return Some((key, "a delay is longer than nothing")),
                Some(delay) if delay > Self::LONGEST => {
                    return Some((key, "a delay is an hour at most"));
                }
                _ => {}
            }
        }
        let delays = [self.delay_enter, self.delay_exit];
        match (self.jitter, delays.into_iter().flatten().min()) {
            (Some(_), None) => Some((EffectKey::Jitter, "it needs `delay_enter` or `delay_exit`")),
            (Some(Nanos(0)), _) => Some((EffectKey::Jitter, "it is longer than nothing")),
            (Some(jitter), Some(delay)) if jitter > delay => {
                Some((EffectKey::Jitter, "it is no longer than the delay"))
            }
            _ => None,
        }
    }
}
