//! What a fault is: operations × filter × trigger × effect, as plain values.
//!
//! These types are the one description of a fault. The command-line expression ([`super::expr`]) and the serde form are two
//! spellings of them. Who is hit may be part of a fault; else the command says it for all its faults.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use super::call::{Count, Glob};
use super::check::Mismatch;
use super::effect::CallEffect;
use super::interface::InterfaceGlob;
use super::limit::Limit;
use super::name::NameGlob;
use super::netem::Netem;
use super::registry::Property;
use super::remote::{HostName, Remote};
use super::table::TableFile;
use super::values::{Errno, FdKind, Nanos, Net, Ppm, Proto, Pulse, RateLimit, When};
use super::who::Aim;
use super::wire::Wire;
use super::{arch, dns};

/// One fault: which operations, which of them, when, and what happens to them.
///
/// A fault that came from an expression or from serde has passed [`Fault::check`]; one that was put together by hand should
/// be checked by whoever did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Fault {
    /// The operations that are hit, at least one, none twice: system calls, or directions of the network.
    pub ops: Vec<Op>,
    /// What happens to an operation that is hit.
    pub effect: Effect,
    /// Which operations of `ops` can be hit.
    #[serde(skip_serializing_if = "is_default")]
    pub filter: Filter,
    /// When an operation that matches is hit; of a condition, when it holds.
    #[serde(skip_serializing_if = "Triggers::is_empty")]
    pub trigger: Triggers,
    /// Who is hit, if the fault does not leave that to the command.
    #[serde(skip_serializing_if = "is_default")]
    pub target: Aim,
}

/// [`Fault`] as serde reads it, before [`Fault::check`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    ops: Vec<Op>,
    effect: Effect,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    trigger: Trigger,
    #[serde(default)]
    target: Aim,
}

impl TryFrom<Unchecked> for Fault {
    type Error = Mismatch;

    fn try_from(raw: Unchecked) -> Result<Self, Mismatch> {
        let (effect, target) = (raw.effect.normal(), raw.target.normal());
        Self::new(raw.ops, effect, raw.filter, raw.trigger, target)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares [`Op`]: the operations that are no system calls, each with its name, and the calls. What
/// an operation has is in its row of the registry, [`Op::kind`].
macro_rules! operations {
    ($($(#[$doc:meta])* $noun:ident = $name:literal,)+) => {
        /// An operation that murphy can make fail: a system call, or a direction of the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum Op {
            $($(#[$doc])* $noun,)+
            /// A system call of the architecture this program is built for.
            Call(Sysno),
        }

        impl Op {
            /// The operations that are no system calls.
            pub const NOUNS: &'static [Self] = &[$(Self::$noun,)+];

            /// The name in an expression; a system call's is the kernel's.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$noun => $name,)+
                    Self::Call(call) => call.name(),
                }
            }
        }
    };
}

operations! {
    /// Packets that leave, IPv4 and IPv6.
    Egress = "egress",
    /// Packets that arrive, IPv4 and IPv6.
    Ingress = "ingress",
    /// DNS queries.
    Dns = "dns",
    /// Responses by HTTP.
    Http = "http",
    /// Resource limits: a condition, which holds while the fault is in force.
    Limit = "limit",
}

impl Op {
    /// Every operation: the nouns, then the system calls by number.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NOUNS.iter().copied().chain(Self::calls())
    }

    /// Every system call of this architecture, by number.
    pub fn calls() -> impl Iterator<Item = Self> {
        arch::all_calls().map(Self::Call)
    }

    /// The operation of that name; `net` is no operation but two, see [`super::registry::NET`].
    pub fn by_name(name: &str) -> Option<Self> {
        let mut nouns = Self::NOUNS.iter().copied();
        let noun = nouns.find(|op| op.name() == name);
        noun.or_else(|| name.parse().ok().map(Self::Call))
    }

    /// The system call, if it is one (the others are directions of the network).
    pub const fn call(self) -> Option<Sysno> {
        let Self::Call(call) = self else {
            return None;
        };
        Some(call)
    }

    /// Whether this is a system call.
    pub const fn is_syscall(self) -> bool {
        self.call().is_some()
    }

    /// The system call's number on the architecture this program is built for.
    pub fn syscall_number(self) -> Option<u32> {
        u32::try_from(self.call()?.id()).ok()
    }
}

impl TryFrom<String> for Op {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::by_name(&name).ok_or_else(|| format!("no such operation `{name}`"))
    }
}

impl From<Op> for &'static str {
    fn from(op: Op) -> Self {
        op.name()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to an operation that is hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The system call fails with this error and does nothing.
    Error(Errno),
    /// The packet vanishes with this probability; the sender is not told. The trigger's `p` multiplies it.
    Loss(Ppm),
    /// The packet goes through the kernel's netem. What netem has no words for (`p`, `when`, filters) decides beforehand.
    Netem(Box<Netem>),
    /// Anything else that can happen to a system call. Never one error alone: that is [`Effect::Error`].
    Call(CallEffect),
    /// What else BPF alone does to packets.
    Wire(Wire),
    /// A resource limit is lowered while the fault is in force.
    Limit(Limit),
}

impl Effect {
    /// The one form of an effect that can be said in two.
    #[must_use]
    pub fn normal(self) -> Self {
        match self {
            Self::Call(call) => call.only_error().map_or(Self::Call(call), Self::Error),
            // It needs no netem.
            Self::Netem(netem) => netem.only_loss().map_or(Self::Netem(netem), Self::Loss),
            other @ (Self::Error(_) | Self::Loss(_) | Self::Wire(_) | Self::Limit(_)) => other,
        }
    }
}

/// Which of the operations can be hit. Keys combine with *and*, the values of one key with *or*; an empty list does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Remote ports: the destination of what leaves and of `connect`, the source of what arrives. None is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<RangeInclusive<u16>>,
    /// Local ports, the other end of `port`; packets only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sport: Vec<RangeInclusive<u16>>,
    /// Remote addresses, networks and hosts: the destination of what leaves and of `connect`, the source of what arrives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dst: Vec<Remote>,
    /// Local addresses and networks, the other end of `dst`; packets only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub src: Vec<Net>,
    /// IP protocols; packets only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proto: Vec<Proto>,
    /// Network interfaces that packets leave or arrive by; packets only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<InterfaceGlob>,
    /// What the file behind the descriptor, or the file being opened, is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<FdKind>,
    /// The descriptor's number, as the caller passes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fd: Vec<u32>,
    /// The path of the file that the call names or that is behind its descriptor; of HTTP, the path that is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Glob>,
    /// Names that DNS queries ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<NameGlob>,
    /// Connects beyond so many connections that are open at once; `connect` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connlimit: Option<NonZeroU32>,
}

/// When an operation that matches is hit. All conditions must hold; none given means always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    /// Probability for each operation that the other conditions let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<Ppm>,
    /// Which of the matching operations, counted from 1 since arming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// At most this many injections; at least 1, and together with `rate_limit` at most [`chaos_common::decide::MAX_TIMES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Nothing before this much time has passed since arming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Nanos>,
    /// Nothing once this much time has passed since arming; counted from arming too, not from `after`, so longer than it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Nanos>,
    /// Active and quiet by turns, from arming on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
    /// At most so many injections in any second, minute or hour, evenly spaced. An operation that it spares uses up nothing
    /// of `times`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Only what comes over so many matches a second, minute or hour: so many are spared at once, and on average. It goes with
    /// neither `times` nor `rate_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<RateLimit>,
    /// What counts the matches; the rule if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Count>,
    /// Seed of the random decisions; the same seed and the same order of operations give the same decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// When a condition holds: there are no operations to choose among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConditionTrigger {
    /// Not before this much time has passed since arming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Nanos>,
    /// Not once this much time has passed since arming; longer than `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Nanos>,
    /// It holds and rests by turns, from arming on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
}

/// The triggers of a fault, of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Triggers {
    /// Of a rule, which disturbs operations one by one.
    Rule(Trigger),
    /// Of a condition, which holds while the fault is in force.
    Condition(ConditionTrigger),
}

impl Triggers {
    /// Triggers as they are spelled, for these operations. Of a condition, which has no other keys,
    /// those that it takes.
    pub(crate) fn of(ops: &[Op], spelled: Trigger) -> Self {
        if !ops.iter().any(|op| op.has(Property::Condition)) {
            return Self::Rule(spelled);
        }
        Self::Condition(ConditionTrigger {
            after: spelled.after,
            r#for: spelled.r#for,
            pulse: spelled.pulse,
        })
    }

    /// As they are spelled in expressions and JSON, which have one set of keys.
    pub fn spelled(&self) -> Trigger {
        match self {
            Self::Rule(trigger) => trigger.clone(),
            Self::Condition(trigger) => Trigger {
                after: trigger.after,
                r#for: trigger.r#for,
                pulse: trigger.pulse,
                ..Trigger::default()
            },
        }
    }

    /// Those of a rule.
    pub const fn of_rule(&self) -> Option<&Trigger> {
        match self {
            Self::Rule(trigger) => Some(trigger),
            Self::Condition(_) => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.spelled() == Trigger::default()
    }
}

impl From<Trigger> for Triggers {
    fn from(trigger: Trigger) -> Self {
        Self::Rule(trigger)
    }
}

impl Fault {
    /// A fault of these parts.
    ///
    /// # Errors
    /// They do not go together, as [`Fault::check`] says.
    pub(super) fn new(
        ops: Vec<Op>,
        effect: Effect,
        filter: Filter,
        trigger: Trigger,
        target: Aim,
    ) -> Result<Self, Mismatch> {
        let mut fault = Self {
            ops,
            effect,
            filter,
            trigger: Triggers::Rule(trigger),
            target,
        };
        // As they are spelled, so that a key too many is refused and not left out.
        fault.check_keys()?;
        fault.trigger = Triggers::of(&fault.ops, fault.trigger.spelled());
        fault.check_values()?;
        Ok(fault)
    }

    /// Whether it is a condition, which holds while the fault is in force, and no rule, which
    /// disturbs operations one by one.
    pub fn is_condition(&self) -> bool {
        self.ops.iter().any(|op| op.has(Property::Condition))
    }

    /// Whether each thread counts its own matches.
    pub fn counts_by_thread(&self) -> bool {
        let trigger = self.trigger.of_rule();
        trigger.is_some_and(|trigger| trigger.count == Some(Count::Thread))
    }

    /// The remote ports that the fault is about; none is all. DNS has one of its own.
    pub fn remote_ports(&self) -> Vec<RangeInclusive<u16>> {
        if self.filter.port.is_empty() && self.ops.contains(&Op::Dns) {
            return vec![dns::PORT..=dns::PORT];
        }
        self.filter.port.clone()
    }

    /// The hosts that it names, whose addresses are looked up.
    pub fn host_names(&self) -> impl Iterator<Item = &HostName> {
        self.filter.dst.iter().filter_map(|remote| match remote {
            Remote::Name(name) => Some(name),
            Remote::Net(_) => None,
        })
    }

    /// The file that it has a delay's table of, if that is the user's.
    pub fn table(&self) -> Option<&TableFile> {
        match &self.effect {
            Effect::Netem(netem) => netem.distribution.as_ref()?.table(),
            Effect::Error(_)
            | Effect::Loss(_)
            | Effect::Call(_)
            | Effect::Wire(_)
            | Effect::Limit(_) => None,
        }
    }

    /// Patterns of the files that it is about; what a request by HTTP asks for is no file.
    pub fn files(&self) -> &[Glob] {
        match self.ops.contains(&Op::Http) {
            true => &[],
            false => &self.filter.path,
        }
    }

    /// Patterns of the paths that requests by HTTP ask for.
    pub(crate) fn url_paths(&self) -> &[Glob] {
        match self.ops.contains(&Op::Http) {
            true => &self.filter.path,
            false => &[],
        }
    }

    /// The probability with which an operation is hit that all other conditions let through: the trigger's `p`, for a loss
    /// times the loss.
    ///
    /// Rounded to whole parts per million, but never to none: what can happen stays possible.
    pub fn probability(&self) -> Ppm {
        let trigger = self.trigger.of_rule();
        let p = trigger.and_then(|trigger| trigger.p);
        let p = p.unwrap_or(Ppm::ALWAYS);
        match self.effect {
            Effect::Error(_)
            | Effect::Netem(_)
            | Effect::Call(_)
            | Effect::Wire(_)
            | Effect::Limit(_) => p,
            Effect::Loss(loss) => p.times(loss),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_p_multiply() {
        for (text, ppm) in [
            ("write:error=EIO", 1_000_000),
            ("write:error=EIO:p=5%", 50_000),
            ("egress:loss=30%", 300_000),
            ("egress:loss=30%:p=50%", 150_000),
            ("egress:loss=100%:p=100%", 1_000_000),
            ("egress:loss=1ppm:p=1ppm", 1),
        ] {
            let fault: Fault = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(fault.probability().get(), ppm, "{text}");
        }
    }
}
