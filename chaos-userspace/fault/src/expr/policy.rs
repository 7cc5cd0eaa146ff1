//! The words of a policy that are words of an expression too: operations with effects, ports, shares, interfaces.
//!
//! Each function parses one word with the parser of the expression. A word that the expression would refuse is a
//! [`Wrong`] with the same remedy; it never becomes a rule without effect.

use std::ops::RangeInclusive;

use super::keys::{EffectKey, Key};
use super::mistake::Mistake;
use super::sets::operations;
use super::syntax::{Flaw, Word};
use super::{filter, number, syntax};
use crate::InterfaceGlob;
use crate::check::wrong_key;
use crate::model::Op;
use crate::netem::Share;

/// How a rule about faults is written.
const FORM: &str = "write OPERATION or OPERATION:EFFECT, for example \"connect\", \"%network\", \"net:loss\" or \
                    \"unlink*\"; each rule a word of its own";

/// Why a word means nothing, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong with it.
    pub why: String,
    /// What would be right.
    pub remedy: String,
}

impl Wrong {
    /// Both said.
    pub fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<Mistake> for Wrong {
    fn from(mistake: Mistake) -> Self {
        // Where the words of the mistake say it already there is no help.
        let remedy = mistake.help().unwrap_or_else(|| FORM.to_owned());
        Self::new(mistake.to_string(), remedy)
    }
}

/// `OPERATIONS[:EFFECT]`: the operations as an expression names them, or a pattern of their names; and one effect, or a
/// pattern of effects. `None` is every effect.
pub fn operations_and_effects(text: &str) -> Result<(Vec<Op>, Option<Vec<EffectKey>>), Wrong> {
    let cut = syntax::cut(text).map_err(|_| Mistake::Shapeless)?;
    for word in cut.words() {
        match word.flaw {
            Some(Flaw::OpenBracket) => return Err(Mistake::OpenBracket.into()),
            Some(Flaw::LoneBackslash) => return Err(Mistake::LoneBackslash.into()),
            None => {}
        }
    }
    if cut.prefix.is_some() {
        return Err(Wrong::new(format!("`{text}` is a whole fault"), FORM));
    }
    let mut ops: Vec<Op> = Vec::new();
    if cut.operations.iter().any(is_pattern) {
        for word in &cut.operations {
            let named = match is_pattern(word) {
                true => matching(&word.text)?,
                false => {
                    operations(std::slice::from_ref(word))
                        .map_err(|(_, mistake)| mistake)?
                        .0
                }
            };
            let new: Vec<_> = named.into_iter().filter(|op| !ops.contains(op)).collect();
            ops.extend(new);
        }
    } else {
        ops = operations(&cut.operations)
            .map_err(|(_, mistake)| mistake)?
            .0;
    }
    let effects = match cut.arguments.as_slice() {
        [] => return Ok((ops, None)),
        [only] if only.values.is_none() => effects(&only.key.text, &ops)?,
        _ => {
            let why = format!("`{text}` says more than an operation and an effect");
            return Err(Wrong::new(why, FORM));
        }
    };
    Ok((ops, Some(effects)))
}

/// Whether a word is a pattern of names rather than one of the expression's words. A `?` in front marks a name that
/// need not exist, as in an expression.
fn is_pattern(word: &Word) -> bool {
    !word.text.starts_with(['/', '%', '!', '?']) && word.text.contains(['*', '?', '['])
}

/// The operations whose names a pattern matches, at least one.
fn matching(text: &str) -> Result<Vec<Op>, Wrong> {
    let pattern = pattern(text)?;
    let found: Vec<_> = Op::all().filter(|op| pattern.matches(op.name())).collect();
    match found.is_empty() {
        true => Err(Wrong::new(
            format!("no operation's name matches `{text}`"),
            "`*` and `?` stand for letters of names such as openat, connect or egress",
        )),
        false => Ok(found),
    }
}

/// The effects that a name or a pattern names, of those that some of the operations have.
fn effects(text: &str, ops: &[Op]) -> Result<Vec<EffectKey>, Wrong> {
    let has = |key: EffectKey| ops.iter().any(|op| Key::Effect(key).fits(*op));
    let all = EffectKey::ALL.iter().copied();
    let remedy = || {
        let names: Vec<_> = all
            .clone()
            .filter(|key| has(*key))
            .map(EffectKey::name)
            .collect();
        format!("there are {}", names.join(", "))
    };
    if text.contains(['*', '?', '[']) {
        let pattern = pattern(text)?;
        let found: Vec<_> = all
            .clone()
            .filter(|key| has(*key) && pattern.matches(key.name()))
            .collect();
        return match found.is_empty() {
            true => Err(Wrong::new(format!("no effect matches `{text}`"), remedy())),
            false => Ok(found),
        };
    }
    match Key::by_name(text) {
        Some(Key::Effect(key)) if has(key) => Ok(vec![key]),
        Some(key @ Key::Effect(_)) => {
            let op = ops.first().map_or("", |op| op.name());
            Err(Wrong::new(wrong_key(key, op), remedy()))
        }
        Some(Key::Filter(_) | Key::Trigger(_) | Key::Target(_)) | None => {
            Err(Wrong::new(format!("`{text}` is no effect"), remedy()))
        }
    }
}

/// A pattern with `*`, `?` and `[…]`, in which `*` stands for any characters.
pub fn pattern(text: &str) -> Result<glob::Pattern, Wrong> {
    glob::Pattern::new(text).map_err(|error| {
        Wrong::new(
            format!("`{text}` is no pattern: {error}"),
            "`*` stands for any characters, `?` for one, `[abc]` for one of these; `[*]` for the character itself",
        )
    })
}

/// A port or a range of them, as `port=` takes it.
pub fn ports(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    Ok(filter::ports(text)?)
}

/// The name of an interface or a pattern of names, as `interface=` takes it.
pub fn interface(text: &str) -> Result<InterfaceGlob, Wrong> {
    Ok(filter::interface(text)?)
}

/// A part of a whole: `20%`, `0.2` or `200000ppm`.
pub fn share(text: &str) -> Result<Share, Wrong> {
    Ok(number::share(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    #[test]
    fn operations_are_those_of_expressions() {
        let names = |text: &str| -> Vec<&str> {
            let (ops, _) = operations_and_effects(text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
            ops.iter().map(|op| op.name()).collect()
        };
        assert_eq!(names("connect"), ["connect"]);
        assert_eq!(names("net"), ["egress", "ingress"]);
        assert_eq!(names("connect,bind"), ["connect", "bind"]);
        assert_eq!(names("unlink*"), ["unlink", "unlinkat"]);
        assert_eq!(names("*").len(), Op::all().count());
        assert_eq!(names("all").len(), Op::calls().count());
        for set in ["%network", "/^unlink", "!connect", "42"] {
            let expression: crate::Fault = format!("{set}:error=EPERM").parse().unwrap();
            let (ops, effects) = operations_and_effects(set).unwrap();
            assert_eq!((ops, effects), (expression.ops, None), "{set}");
        }
        let (_, effects) = operations_and_effects("net:loss").unwrap();
        assert_eq!(effects, Some(vec![EffectKey::Loss]));
        let (_, effects) = operations_and_effects("read:delay_*").unwrap();
        assert_eq!(
            effects,
            Some(vec![EffectKey::DelayEnter, EffectKey::DelayExit])
        );
    }

    #[test]
    fn what_means_nothing_is_told() {
        for (text, phrase) in [
            ("conect", "connect"),
            ("Connect", "connect"),
            ("connect:eror", "error"),
            ("connect:Error", "error"),
            ("connect:loss", "error"),
            ("connect:error=EPERM", "OPERATION:EFFECT"),
            ("connect:error:retval", "OPERATION:EFFECT"),
            ("inject=connect", "OPERATION:EFFECT"),
            ("%nothing", "%network"),
            ("zz*", "names"),
            ("a**", "any characters"),
            ("[a", ""),
            ("", ""),
            (" connect", "connect"),
            ("connect:", "error"),
            ("connect:zz*", "error"),
            ("connect,", ""),
        ] {
            let wrong = operations_and_effects(text).expect_err(text);
            assert!(wrong.remedy.contains(phrase), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn names_of_operations_are_never_patterns() {
        assert!(registry::operation_names().all(|name| !name.contains(['*', '?', '['])));
    }
}
