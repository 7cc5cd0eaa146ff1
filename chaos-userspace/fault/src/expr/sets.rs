//! The operations of an expression: names, numbers, and strace's sets of system calls.
//!
//! ```text
//! set  = *"!" ( "all" | "none" | item *( "," item ) )
//! item = *"?" ( name | number | class | "/" regex )
//! ```

use syscalls::Sysno;

use super::mistake::Mistake;
use super::resolve::Misplaced;
use super::syntax::Word;
use crate::check::check_ops;
use crate::model::Op;
use crate::{registry, syscalls as calls};

/// What one word of the list stands for.
pub(super) struct Item<'s> {
    pub(super) word: &'s Word,
    pub(super) ops: Vec<Op>,
    /// It names one operation, which must not be named again.
    single: bool,
}

/// The operations of a list, and what its words stand for, unless it is inverted.
///
/// The order is that of the words; as soon as one stands for a set, it is that of the system calls' numbers.
pub(super) fn operations(words: &[Word]) -> Result<(Vec<Op>, Vec<Item<'_>>), Misplaced> {
    let Some(first) = words.first() else {
        return Err((0..0, Mistake::NoOperation));
    };
    let bare = first.text.trim_start_matches('!');
    let inverted = (first.text.len() - bare.len()) % 2 == 1;
    if words.len() == 1 && matches!(bare, "all" | "none") {
        let ops = match (bare == "all") != inverted {
            true => Op::calls().collect(),
            false => return Err((first.span.clone(), Mistake::EmptySet)),
        };
        return Ok((ops, Vec::new()));
    }
    let mut items = Vec::new();
    let mut ops: Vec<Op> = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let text = if i == 0 { bare } else { &word.text };
        let item = item(word, text)?;
        if item.single {
            ops.extend(&item.ops);
        } else {
            let new: Vec<_> = item.ops.iter().filter(|op| !ops.contains(op)).collect();
            ops.extend(new);
        }
        // Asked after each word, so that the word at hand is the one to blame.
        if !ops.is_empty() {
            check_ops(&ops).map_err(|mismatch| (word.span.clone(), mismatch.into()))?;
        }
        items.push(item);
    }
    if inverted {
        if let Some(noun) = ops.iter().find(|op| !op.is_syscall()) {
            return Err((first.span.clone(), Mistake::NoSetOf(*noun)));
        }
        ops = Op::calls().filter(|op| !ops.contains(op)).collect();
        items.clear();
    } else if items.iter().any(|item| !item.single) {
        ops.sort_unstable();
    }
    if ops.is_empty() {
        let end = words.last().map_or(0, |last| last.span.end);
        return Err((first.span.start..end, Mistake::EmptySet));
    }
    Ok((ops, items))
}

fn item<'s>(word: &'s Word, text: &str) -> Result<Item<'s>, Misplaced> {
    let wanted = text.trim_start_matches('?');
    let optional = wanted.len() < text.len();
    let (named, single) = if let Some(regex) = wanted.strip_prefix('/') {
        let found = matching(regex).map_err(|mistake| (word.span.clone(), mistake))?;
        (found, false)
    } else if let Some(class) = calls::class(wanted) {
        (class.into_iter().map(Op::Call).collect(), false)
    } else if wanted.starts_with(|c: char| c.is_ascii_digit()) {
        let number = wanted.parse().ok().and_then(Sysno::new);
        (number.into_iter().map(Op::Call).collect(), true)
    } else {
        (registry::operations_named(wanted), true)
    };
    if named.is_empty() && (!optional || wanted.is_empty()) {
        return Err((word.span.clone(), no_operation(text)));
    }
    Ok(Item {
        word,
        ops: named,
        single,
    })
}

/// The calls whose names a regular expression finds something in.
fn matching(regex: &str) -> Result<Vec<Op>, Mistake> {
    let regex = regex_lite::Regex::new(regex).map_err(|error| Mistake::BadRegex {
        regex: regex.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Op::calls().filter(|op| regex.is_match(op.name())).collect())
}

fn no_operation(text: &str) -> Mistake {
    if text.is_empty() {
        return Mistake::NoOperation;
    }
    if text.starts_with(['%', '/']) {
        return Mistake::NoSuchSet(text.to_owned());
    }
    if let Some((key, _)) = text.split_once('=') {
        return Mistake::KeyFirst(key.to_owned());
    }
    Mistake::UnknownOperation(text.to_owned())
}
