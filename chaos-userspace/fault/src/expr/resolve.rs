//! From words to a fault: what each word means, and whether the meanings go together.

use std::ops::Range;

use super::filter::is_group;
use super::keys::{EffectKey, FilterKey, Key, OfPackets, TargetKey, TriggerKey};
use super::mistake::{Mistake, takes_all};
use super::number::level;
use super::sets::{Item, operations};
use super::syntax::{Argument, Flaw, Prefix, Syntax, Word};
use crate::check::Mismatch;
use crate::effect::CallEffect;
use crate::limit::Limit;
use crate::model::{Effect, Fault, Filter, Op, Trigger};
use crate::netem::Netem;
use crate::registry;
use crate::values::Errno;
use crate::who::Aim;
use crate::wire::Wire;

/// A mistake and its place, in bytes of the expression.
pub(super) type Misplaced = (Range<usize>, Mistake);

/// Keys that strace has and murphy has not: told apart from typing mistakes.
const STRACE_KEYS: [&str; 3] = ["syscall", "poke_enter", "poke_exit"];

/// The fault that these words mean.
pub(super) fn fault(syntax: &Syntax) -> Result<Fault, Misplaced> {
    check_spelling(syntax)?;
    check_begin(syntax)?;
    let (ops, items) = operations(&syntax.operations)?;
    let mut parts = Parts {
        packets: ops.iter().any(|op| !op.is_syscall()),
        ..Parts::default()
    };
    for (i, argument) in syntax.arguments.iter().enumerate() {
        let key = key(argument, &ops).map_err(|misplaced| {
            let before = i.checked_sub(1).map(|i| &syntax.arguments[i]);
            before
                .and_then(|before| without_brackets(before, argument))
                .unwrap_or(misplaced)
        })?;
        if parts.seen[..i].contains(&key) {
            return Err((argument.key.span.clone(), Mistake::KeyTwice(key)));
        }
        check_prefix(syntax, argument, key)?;
        check_fit(&ops, &items, argument, key)?;
        parts.take(key, argument)?;
        parts.seen.push(key);
    }
    let effect = match (parts.effect(), syntax.prefix) {
        (Some(effect), _) => effect,
        // strace's default, for the calls that can have it.
        (None, Some(Prefix::Fault)) if effects_of(&ops).contains(&"error") => {
            Effect::Error(Errno::ENOSYS)
        }
        (None, _) => {
            let end = syntax
                .words()
                .map(|word| word.span.end)
                .max()
                .unwrap_or_default();
            return Err((end..end, Mistake::NoEffect(effects_of(&ops))));
        }
    };
    let mut ops = ops;
    if let Effect::Wire(wire) = effect {
        wire.operations(&mut ops);
    }
    let (filter, trigger, target) = (parts.filter, parts.trigger, parts.target.normal());
    Fault::new(ops, effect, filter, trigger, target)
        .map_err(|mismatch| (place(syntax, &mismatch), mismatch.into()))
}

fn check_spelling(syntax: &Syntax) -> Result<(), Misplaced> {
    for word in syntax.words() {
        let mistake = match word.flaw {
            Some(Flaw::OpenBracket) => Mistake::OpenBracket,
            Some(Flaw::LoneBackslash) => Mistake::LoneBackslash,
            None => continue,
        };
        return Err((word.span.clone(), mistake));
    }
    Ok(())
}

fn check_begin(syntax: &Syntax) -> Result<(), Misplaced> {
    match syntax.operations.as_slice() {
        [only]
            if only.text.is_empty() && syntax.arguments.is_empty() && syntax.prefix.is_none() =>
        {
            Err((only.span.clone(), Mistake::Empty))
        }
        _ => Ok(()),
    }
}

/// strace's `fault=` takes no effect but an error.
fn check_prefix(syntax: &Syntax, argument: &Argument, key: Key) -> Result<(), Misplaced> {
    let is_other = matches!(key, Key::Effect(effect) if effect != EffectKey::Error);
    match syntax.prefix {
        Some(Prefix::Fault) if is_other => {
            Err((argument.key.span.clone(), Mistake::NotInFault(key)))
        }
        Some(Prefix::Fault | Prefix::Inject) | None => Ok(()),
    }
}

/// The key of an argument, which need not be one that the operations have.
fn key(argument: &Argument, ops: &[Op]) -> Result<Key, Misplaced> {
    let text = argument.key.text.as_str();
    if let Some(key) = Key::by_name(text) {
        return Ok(key);
    }
    let name = text.to_owned();
    let takes = || takes_all(ops).collect();
    let mistake = if text.is_empty() {
        Mistake::NoKey { takes: takes() }
    } else if STRACE_KEYS.contains(&text) {
        Mistake::KeyOfStrace {
            name,
            takes: takes(),
        }
    } else {
        Mistake::UnknownKey {
            name,
            takes: takes(),
        }
    };
    Err((argument.key.span.clone(), mistake))
}

/// An IPv6 address without brackets: what was taken for a name and for the key behind it is the one before and behind a `:`.
fn without_brackets(before: &Argument, argument: &Argument) -> Option<Misplaced> {
    let of_addresses = [FilterKey::Dst, FilterKey::Src].map(|key| Key::Filter(key).name());
    let begin = before.values.as_ref()?.last()?;
    let cut = of_addresses.contains(&before.key.text.as_str())
        && is_group(&begin.text)
        && (argument.key.text.is_empty() || is_group(&argument.key.text));
    cut.then(|| (begin.span.clone(), Mistake::NotAddress(begin.text.clone())))
}

/// Whether every operation has that key; the blame names the operation as it was spelt, `net` for one.
fn check_fit(
    ops: &[Op],
    items: &[Item<'_>],
    argument: &Argument,
    key: Key,
) -> Result<(), Misplaced> {
    let mut ops = ops.to_vec();
    if key == Key::Effect(EffectKey::Reset) {
        Wire::Reset.operations(&mut ops);
    }
    let Some(op) = ops.iter().find(|op| !key.fits(**op)) else {
        return Ok(());
    };
    let of_net = |item: &Item<'_>| item.word.text == registry::NET && item.ops.contains(op);
    let operation = if items.iter().any(of_net) {
        registry::NET
    } else {
        op.name()
    };
    Err((
        argument.key.span.clone(),
        Mistake::WrongKey { key, operation },
    ))
}

/// The names of the effects that all of these operations can have.
fn effects_of(ops: &[Op]) -> Vec<&'static str> {
    let effects = EffectKey::ALL.iter().copied().map(Key::Effect);
    effects
        .filter(|key| ops.iter().all(|op| key.fits(*op)))
        .map(Key::name)
        .collect()
}

/// The word to blame for a mismatch of the whole.
fn place(syntax: &Syntax, mismatch: &Mismatch) -> Range<usize> {
    let key = match mismatch {
        Mismatch::Value { key, .. } | Mismatch::WrongKey { key, .. } => Some(key.name()),
        Mismatch::NoOperation
        | Mismatch::Twice(_)
        | Mismatch::Mixed(..)
        | Mismatch::WrongTriggers(_) => None,
    };
    let argument = syntax
        .arguments
        .iter()
        .find(|argument| Some(argument.key.text.as_str()) == key);
    match (
        argument,
        syntax.operations.first(),
        syntax.operations.last(),
    ) {
        (Some(argument), ..) => argument.value_span(),
        (None, Some(first), Some(last)) => first.span.start..last.span.end,
        (None, ..) => 0..0,
    }
}

/// What the arguments have said so far.
#[derive(Default)]
struct Parts {
    seen: Vec<Key>,
    /// Whether the operations are packets, and their effects netem's.
    packets: bool,
    netem: Netem,
    wire: Option<Wire>,
    limit: Option<Limit>,
    call: CallEffect,
    filter: Filter,
    trigger: Trigger,
    target: Aim,
}

impl Parts {
    /// What is to happen, if that has been said.
    fn effect(&mut self) -> Option<Effect> {
        if let Some(wire) = self.wire {
            return Some(Effect::Wire(wire));
        }
        if let Some(limit) = self.limit {
            return Some(Effect::Limit(limit));
        }
        if self.netem != Netem::default() {
            return Some(Effect::Netem(Box::new(std::mem::take(&mut self.netem))).normal());
        }
        if self.call == CallEffect::default() {
            return None;
        }
        Some(Effect::Call(std::mem::take(&mut self.call)).normal())
    }

    fn take(&mut self, key: Key, argument: &Argument) -> Result<(), Misplaced> {
        match key {
            Key::Effect(effect) => self.take_effect(effect, argument),
            Key::Filter(filter) => self.take_filter(filter, argument),
            Key::Trigger(trigger) => self.take_trigger(trigger, argument),
            Key::Target(target) => self.take_target(target, argument),
        }
    }

    /// Takes an effect for the operations at hand, all of which have the key.
    fn take_effect(&mut self, effect: EffectKey, argument: &Argument) -> Result<(), Misplaced> {
        let key = Key::Effect(effect);
        let alone = match self.already(effect) {
            Some(already) => {
                let mistake = Mistake::TwoEffects(Key::Effect(already));
                Err((argument.key.span.clone(), mistake))
            }
            None => Ok(()),
        };
        let row = effect.row();
        match (self.packets, &row.of_calls, &row.of_packets) {
            (true, _, Some(OfPackets::Wire(part))) => {
                let wire = (part.read)(key, argument)?;
                self.wire = Some(wire);
                alone
            }
            (true, _, Some(OfPackets::Limit(part))) => {
                let level = one(key, argument, level)?;
                self.limit = Some((part.make)(level));
                alone
            }
            (true, _, Some(OfPackets::Netem(part))) => {
                alone?;
                (part.take)(&mut self.netem, key, argument)
            }
            (false, Some(part), _) => {
                alone?;
                (part.take)(&mut self.call, key, argument)
            }
            // What has no part fits no operation, and was refused.
            (true, _, None) | (false, None, _) => {
                let name = effect.name().to_owned();
                let takes = Vec::new();
                Err((
                    argument.key.span.clone(),
                    Mistake::UnknownKey { name, takes },
                ))
            }
        }
    }

    /// The effect that another one does not go with.
    fn already(&self, effect: EffectKey) -> Option<EffectKey> {
        if self.packets {
            // netem's go together with each other, all others with none.
            let is_wire = matches!(
                effect.row().of_packets,
                Some(OfPackets::Wire(_) | OfPackets::Limit(_))
            );
            let netem = || self.netem.keys().next().filter(|_| is_wire);
            return self.wire.map(Wire::key).or_else(netem);
        }
        let answers = [EffectKey::Error, EffectKey::Retval];
        let mut given = self.call.keys().filter(|key| answers.contains(key));
        given.find(|_| answers.contains(&effect))
    }

    fn take_filter(&mut self, filter: FilterKey, argument: &Argument) -> Result<(), Misplaced> {
        let take = filter.row().part.take;
        take(&mut self.filter, Key::Filter(filter), argument)
    }

    fn take_trigger(&mut self, trigger: TriggerKey, argument: &Argument) -> Result<(), Misplaced> {
        let take = trigger.row().part.take;
        take(&mut self.trigger, Key::Trigger(trigger), argument)
    }

    fn take_target(&mut self, target: TargetKey, argument: &Argument) -> Result<(), Misplaced> {
        let key = Key::Target(target);
        for value in many(key, argument, |text| Ok(text.to_owned()))? {
            if !self.target.add(target, &value) {
                return Err((
                    argument.value_span(),
                    Mistake::NotTarget { key: target, value },
                ));
            }
        }
        Ok(())
    }
}

/// The words of a value, none of them empty.
pub(super) fn words(key: Key, argument: &Argument) -> Result<&[Word], Misplaced> {
    let Some(words) = argument.values.as_deref() else {
        return Err((argument.key.span.clone(), Mistake::NoValue(key)));
    };
    match words.iter().find(|word| word.text.is_empty()) {
        Some(empty) => Err((empty.span.clone(), Mistake::EmptyValue(key))),
        None => Ok(words),
    }
}

/// A key's only value.
pub(super) fn one<T>(
    key: Key,
    argument: &Argument,
    read: impl Fn(&str) -> Result<T, Mistake>,
) -> Result<T, Misplaced> {
    match words(key, argument)? {
        [word] => read(&word.text).map_err(|mistake| (word.span.clone(), mistake)),
        _ => Err((argument.value_span(), Mistake::OneValue(key))),
    }
}

/// A key's values, at least one, none twice.
pub(super) fn many<T: PartialEq>(
    key: Key,
    argument: &Argument,
    read: impl Fn(&str) -> Result<T, Mistake>,
) -> Result<Vec<T>, Misplaced> {
    let mut values = Vec::new();
    for word in words(key, argument)? {
        let value = read(&word.text).map_err(|mistake| (word.span.clone(), mistake))?;
        if values.contains(&value) {
            return Err((word.span.clone(), Mistake::ValueTwice(word.text.clone())));
        }
        values.push(value);
    }
    Ok(values)
}
