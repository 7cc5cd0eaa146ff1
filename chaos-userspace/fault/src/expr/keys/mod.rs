//! Every key of an expression, one row each.
//!
//! A row has all that is known of a key: its name, the form of its value, what an operation must
//! have for it, how it is read and printed, and its schema. The parser, the printer, the refusals,
//! the lists of "did you mean", policies and docs/fault.schema.json follow from the rows. A row
//! knows neither backends nor kernel programs.

mod effect;
mod filter;
mod part;
mod target;
mod trigger;

use std::fmt;

use crate::limit::Limit;
use crate::model::{Effect, Fault, Filter, Op, Trigger, Triggers};

pub use effect::EffectKey;
pub use filter::FilterKey;
pub use target::TargetKey;
pub use trigger::TriggerKey;

pub(super) use effect::{OfPackets, of_calls, of_netem};
#[cfg(test)]
pub(super) use part::Part;
#[cfg(test)]
pub(super) use target::SCHEMA as TARGET_SCHEMA;

/// The part of a row that every key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDef {
    /// The word before the `=`.
    pub name: &'static str,
    /// The form of the value, with the `=` before it; empty if the key takes none.
    pub value: &'static str,
    /// What the key means, one sentence.
    pub help: &'static str,
    /// What the key needs, in the words of a refusal.
    pub needs: &'static str,
    /// Values that show the key at work, each as in an expression.
    pub examples: &'static [&'static str],
    /// The help for an empty value.
    pub empty: Option<&'static str>,
    /// Operations that do not have the key, each with a fault that does what was meant.
    pub instead: &'static [(&'static str, &'static str)],
}

impl KeyDef {
    /// A key that every operation has.
    const fn new(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value,
            help,
            needs: "another operation",
            examples: &[],
            empty: None,
            instead: &[],
        }
    }
}

/// Declares an enum of keys with their rows. Behind the name, the value's form and the help stands
/// what else is given of a [`KeyDef`], and then the fields of the row.
macro_rules! keys {
    ($(#[$meta:meta])* $enum:ident, $row:ident {
        $($key:ident = $name:literal $value:literal $help:literal
            { $($def:ident: $given:expr),* $(,)? }
            { $($field:ident: $part:expr),* $(,)? })+
    }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $enum {
            $(
                #[doc = concat!("`", $name, $value, "`: ", $help)]
                #[serde(rename = $name)]
                $key,
            )+
        }

        impl $enum {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$key,)+];

            /// The row, which is at the key's own place.
            pub(crate) const fn row(self) -> &'static $row {
                static ROWS: &[$row] = &[$(
                    $row {
                        def: KeyDef { $($def: $given,)* ..KeyDef::new($name, $value, $help) },
                        $($field: $part,)*
                    },
                )+];
                &ROWS[self as usize]
            }

            /// The word before the `=`.
            pub const fn name(self) -> &'static str {
                self.row().def.name
            }
        }
    };
}

use keys;

/// Any key of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// What happens.
    Effect(EffectKey),
    /// To which operations.
    Filter(FilterKey),
    /// When.
    Trigger(TriggerKey),
    /// Of which processes.
    Target(TargetKey),
}

impl Key {
    /// Every key, in the order in which an expression is printed.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        let effects = EffectKey::ALL.iter().copied().map(Self::Effect);
        let filters = FilterKey::ALL.iter().copied().map(Self::Filter);
        let triggers = TriggerKey::ALL.iter().copied().map(Self::Trigger);
        let targets = TargetKey::ALL.iter().copied().map(Self::Target);
        effects.chain(filters).chain(triggers).chain(targets)
    }

    /// The part of its row that every key has.
    pub const fn def(self) -> &'static KeyDef {
        match self {
            Self::Effect(key) => &key.row().def,
            Self::Filter(key) => &key.row().def,
            Self::Trigger(key) => &key.row().def,
            Self::Target(key) => &key.row().def,
        }
    }

    /// The word before the `=`.
    pub const fn name(self) -> &'static str {
        self.def().name
    }

    /// The key of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|key| key.name() == name)
    }

    /// Whether this key makes sense for that operation, whatever backend has it.
    pub fn fits(self, op: Op) -> bool {
        let has = |needed: &[_]| needed.iter().any(|property| op.has(*property));
        match self {
            Self::Effect(key) => has(key.row().on(op)),
            Self::Filter(key) => has(key.row().part.on),
            Self::Trigger(key) => has(key.row().part.on),
            Self::Target(_) => true,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Effect {
    /// The keys that spell this effect; their names are the label `effect` of the metrics.
    pub fn keys(&self) -> Vec<EffectKey> {
        match self {
            Self::Error(_) => vec![EffectKey::Error],
            Self::Loss(_) => vec![EffectKey::Loss],
            Self::Call(call) => call.keys().collect(),
            Self::Wire(wire) => vec![wire.key()],
            Self::Netem(netem) => netem.keys().collect(),
            Self::Limit(Limit::Nofile(_)) => vec![EffectKey::Nofile],
        }
    }
}

impl Filter {
    /// The keys that filter something.
    pub fn keys(&self) -> impl Iterator<Item = FilterKey> {
        let keys = FilterKey::ALL.iter().copied();
        keys.filter(|key| (key.row().part.is_given)(self))
    }
}

impl Trigger {
    /// The keys that say something.
    pub fn keys(&self) -> impl Iterator<Item = TriggerKey> {
        let keys = TriggerKey::ALL.iter().copied();
        keys.filter(|key| (key.row().part.is_given)(self))
    }
}

impl Triggers {
    /// The keys that say something.
    pub fn keys(&self) -> Vec<TriggerKey> {
        self.spelled().keys().collect()
    }
}

impl Fault {
    /// Every key that spells this fault, in the order in which they are printed.
    pub fn keys(&self) -> Vec<Key> {
        let effects = self.effect.keys().into_iter().map(Key::Effect);
        let filters = self.filter.keys().map(Key::Filter);
        let triggers = self.trigger.keys().into_iter().map(Key::Trigger);
        let targets = self.target.spelling().into_keys().map(Key::Target);
        let all = effects.chain(filters).chain(triggers).chain(targets);
        all.collect()
    }
}
