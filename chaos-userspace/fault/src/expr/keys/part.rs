//! How a key reads and prints one part of a fault, a field of its structs.

use std::fmt::Display;

use super::{EffectKey, Key};
use crate::expr::resolve::Misplaced;
use crate::expr::syntax::Argument;
use crate::registry::Property;

/// What a key says of a `T`.
pub(crate) struct Part<T> {
    /// What an operation must have for it, one of these.
    pub(crate) on: &'static [Property],
    /// Reads an argument into its field.
    pub(crate) take: fn(&mut T, Key, &Argument) -> Result<(), Misplaced>,
    /// Whether the field says something.
    pub(crate) is_given: fn(&T) -> bool,
    /// The values of the field, as behind the `=`.
    pub(crate) print: fn(&T) -> String,
    /// The properties of the JSON object, each with its schema.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "docs/fault.schema.json is compared with it")
    )]
    pub(crate) schema: &'static [(&'static str, &'static str)],
    /// The key behind which it is printed, if that is not the one before it in the list of all.
    pub(crate) after: Option<EffectKey>,
}

/// A field with one value. `key` before the function hands it the key too.
macro_rules! one_value {
    ($on:expr, $field:ident, key $read:path, $schema:expr) => {
        one_value!(@ $on, $field, $schema, |key, text| $read(key, text))
    };
    ($on:expr, $field:ident, $read:path, $schema:expr) => {
        one_value!(@ $on, $field, $schema, |_, text| $read(text))
    };
    (@ $on:expr, $field:ident, $schema:expr, $read:expr) => {
        Part {
            on: $on,
            take: |to, key, argument| {
                let read: fn(Key, &str) -> Result<_, _> = $read;
                to.$field = Some(one(key, argument, |text| read(key, text))?);
                Ok(())
            },
            is_given: |of| of.$field.is_some(),
            print: |of| list(of.$field.as_slice()),
            schema: &[(stringify!($field), $schema)],
            after: None,
        }
    };
}

/// A field with a list of values.
macro_rules! many_values {
    ($on:expr, $field:ident, $read:path, $schema:expr) => {
        many_values!($on, $field, $read, Clone::clone, $schema)
    };
    ($on:expr, $field:ident, $read:path, $show:expr, $schema:expr) => {
        Part {
            on: $on,
            take: |to, key, argument| {
                to.$field = many(key, argument, $read)?;
                Ok(())
            },
            is_given: |of| !of.$field.is_empty(),
            print: |of| list(&of.$field.iter().map($show).collect::<Vec<_>>()),
            schema: &[(stringify!($field), $schema)],
            after: None,
        }
    };
}

pub(super) use {many_values, one_value};

/// Values as they are printed.
pub(super) fn list<T: Display>(values: &[T]) -> String {
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}
