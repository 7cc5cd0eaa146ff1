//! From words to a fault: what each word means, and whether the meanings go together.

use std::ops::Range;

use super::filter::{errno, kind, net, ports, proto};
use super::mistake::{Mistake, takes_all};
use super::number::{duration, positive, probability, pulse, rate_limit, when, whole};
use super::syntax::{Argument, Flaw, Prefix, Syntax, Word};
use super::wire;
use crate::faults::arch;
use crate::faults::check::{Mismatch, check_ops};
use crate::faults::model::{Effect, Fault, Filter, Op, Trigger};
use crate::faults::registry::{self, EffectKey, FilterKey, Key, TriggerKey};
use crate::faults::values::Errno;
use crate::faults::wire::Wire;

/// A mistake and its place, in bytes of the expression.
pub(super) type Misplaced = (Range<usize>, Mistake);

/// Keys of the design that later versions take. Named so that they are told apart from typing mistakes.
const LATER_KEYS: [&str; 22] = [
    "path",
    "fd",
    "src",
    "iface",
    "count",
    "retval",
    "signal",
    "syscall",
    "delay_enter",
    "delay_exit",
    "poke_enter",
    "poke_exit",
    "short",
    "corrupt",
    "delay",
    "jitter",
    "correlation",
    "distribution",
    "gemodel",
    "duplicate",
    "reorder",
    "rate",
];

/// Keys that will say who is hit.
const TARGET_KEYS: [&str; 8] = [
    "pid",
    "comm",
    "exe",
    "uid",
    "cgroup",
    "container",
    "unit",
    "netns",
];

/// The fault that these words mean.
pub(super) fn fault(syntax: &Syntax) -> Result<Fault, Misplaced> {
    check_spelling(syntax)?;
    let ops = operations(syntax)?;
    let mut parts = Parts::default();
    for (i, argument) in syntax.arguments.iter().enumerate() {
        let key = key(argument, &ops)?;
        if parts.seen[..i].contains(&key) {
            return Err((argument.key.span.clone(), Mistake::KeyTwice(key)));
        }
        check_fit(syntax, argument, key)?;
        parts.take(key, argument)?;
        parts.seen.push(key);
    }
    let effect = match (parts.effect, syntax.prefix) {
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
    let fault = Fault {
        ops,
        effect,
        filter: parts.filter,
        trigger: parts.trigger,
    };
    match fault.check() {
        Ok(()) => Ok(fault),
        Err(mismatch) => Err((place(syntax, &mismatch), mismatch.into())),
    }
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

fn operations(syntax: &Syntax) -> Result<Vec<Op>, Misplaced> {
    if let [only] = syntax.operations.as_slice()
        && only.text.is_empty()
        && syntax.arguments.is_empty()
        && syntax.prefix.is_none()
    {
        return Err((only.span.clone(), Mistake::Empty));
    }
    let mut ops = Vec::new();
    for word in &syntax.operations {
        let wrong = |mistake| Err((word.span.clone(), mistake));
        let named = registry::operations_named(&word.text);
        if named.is_empty() {
            return wrong(no_operation(&word.text));
        }
        ops.extend(named);
        // Asked after each word, so that the word at hand is the one to blame; that none exists here shows only at the end.
        match check_ops(&ops) {
            Ok(()) | Err(Mismatch::NotHere(_)) => {}
            Err(mismatch) => return wrong(mismatch.into()),
        }
    }
    Ok(ops)
}

fn no_operation(text: &str) -> Mistake {
    if text.is_empty() {
        return Mistake::NoOperation;
    }
    if text.starts_with(['%', '/', '!', '?']) || text == "all" {
        return Mistake::SetNotYet(text.to_owned());
    }
    if let Some((key, _)) = text.split_once('=') {
        return Mistake::KeyFirst(key.to_owned());
    }
    if arch::is_syscall_name(text) {
        return Mistake::OperationNotYet(text.to_owned());
    }
    Mistake::UnknownOperation(text.to_owned())
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
    } else if TARGET_KEYS.contains(&text) {
        Mistake::TargetKey(name)
    } else if LATER_KEYS.contains(&text) {
        Mistake::KeyNotYet {
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

/// Whether every operation has that key; the blame names the operation as it was spelt, `net` for one.
fn check_fit(syntax: &Syntax, argument: &Argument, key: Key) -> Result<(), Misplaced> {
    for word in &syntax.operations {
        let mut named = registry::operations_named(&word.text);
        if key == Key::Effect(EffectKey::Reset) {
            Wire::Reset.operations(&mut named);
        }
        if let Some(op) = named.iter().find(|op| !key.fits(**op)) {
            let operation = if named.len() > 1 {
                registry::NET
            } else {
                op.name()
            };
            return Err((
                argument.key.span.clone(),
                Mistake::WrongKey { key, operation },
            ));
        }
    }
    Ok(())
}

/// The names of the effects that all of these operations can have.
fn effects_of(ops: &[Op]) -> Vec<&'static str> {
    let effects = Key::ALL
        .into_iter()
        .filter(|key| matches!(key, Key::Effect(_)));
    effects
        .filter(|key| ops.iter().all(|op| key.fits(*op)))
        .map(Key::name)
        .collect()
}

/// The word to blame for a mismatch of the whole.
fn place(syntax: &Syntax, mismatch: &Mismatch) -> Range<usize> {
    let key = match mismatch {
        Mismatch::Value { key, .. } | Mismatch::WrongKey { key, .. } => Some(key.name()),
        _ => None,
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
    effect: Option<Effect>,
    filter: Filter,
    trigger: Trigger,
}

impl Parts {
    fn take(&mut self, key: Key, argument: &Argument) -> Result<(), Misplaced> {
        match key {
            Key::Effect(effect) => self.take_effect(effect, argument),
            Key::Filter(filter) => self.take_filter(filter, argument),
            Key::Trigger(trigger) => self.take_trigger(trigger, argument),
        }
    }

    fn take_effect(&mut self, effect: EffectKey, argument: &Argument) -> Result<(), Misplaced> {
        if let Some(already) = &self.effect {
            let already = Key::Effect(already.key());
            return Err((argument.key.span.clone(), Mistake::TwoEffects(already)));
        }
        if let Some(wire) = wire::effect(effect, argument)? {
            self.effect = Some(Effect::Wire(wire));
            return Ok(());
        }
        let key = Key::Effect(effect);
        self.effect = Some(match effect {
            EffectKey::Loss => Effect::Loss(one(key, argument, probability)?),
            _ => Effect::Error(one(key, argument, errno)?),
        });
        Ok(())
    }

    fn take_filter(&mut self, filter: FilterKey, argument: &Argument) -> Result<(), Misplaced> {
        let key = Key::Filter(filter);
        match filter {
            FilterKey::Port => self.filter.port = many(key, argument, ports)?,
            FilterKey::Sport => self.filter.sport = many(key, argument, ports)?,
            FilterKey::Dst => self.filter.dst = many(key, argument, net)?,
            FilterKey::Proto => self.filter.proto = many(key, argument, proto)?,
            FilterKey::On => self.filter.on = many(key, argument, kind)?,
            FilterKey::Name => self.filter.name = many(key, argument, wire::name)?,
        }
        Ok(())
    }

    fn take_trigger(&mut self, trigger: TriggerKey, argument: &Argument) -> Result<(), Misplaced> {
        let key = Key::Trigger(trigger);
        match trigger {
            TriggerKey::P => self.trigger.p = Some(one(key, argument, probability)?),
            TriggerKey::When => self.trigger.when = Some(one(key, argument, when)?),
            TriggerKey::Times => {
                self.trigger.times = Some(one(key, argument, |text| positive(key, text))?);
            }
            TriggerKey::After => self.trigger.after = Some(one(key, argument, duration)?),
            TriggerKey::For => self.trigger.r#for = Some(one(key, argument, duration)?),
            TriggerKey::Pulse => self.trigger.pulse = Some(one(key, argument, pulse)?),
            TriggerKey::RateLimit => {
                self.trigger.rate_limit = Some(one(key, argument, |text| rate_limit(key, text))?);
            }
            TriggerKey::Seed => self.trigger.seed = Some(one(key, argument, whole)?),
        }
        Ok(())
    }
}

/// The words of a value, none of them empty.
fn words(key: Key, argument: &Argument) -> Result<&[Word], Misplaced> {
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
fn many<T: PartialEq>(
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
