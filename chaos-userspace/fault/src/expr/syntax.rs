//! The shape of an expression: words, where they stand, and nothing about what they mean.
//!
//! ```text
//! expression = [ ("inject" | "fault") "=" ] list *( ":" key [ "=" list ] )
//! list       = word *( "," word )
//! word       = *( "\" any | "[" *any "]" | any but ":" and "," )
//! ```
//!
//! Every string has this shape: words may be empty or flawed. Saying what is wrong with a word is left to the next step, which
//! knows what the word was meant to be.

use std::ops::Range;

use winnow::combinator::{alt, opt, preceded, repeat, separated, terminated};
use winnow::error::EmptyError;
use winnow::stream::LocatingSlice;
use winnow::token::{any, none_of, take_till};
use winnow::{Parser, Result};

type Input<'i> = LocatingSlice<&'i str>;

/// A piece of the expression with its meaning and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The text, escapes undone.
    pub(super) text: String,
    /// Bytes of the expression, escapes and all.
    pub(super) span: Range<usize>,
    /// What is wrong with the spelling itself.
    pub(super) flaw: Option<Flaw>,
}

/// A word that does not end properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// `[` without `]`.
    OpenBracket,
    /// A backslash with nothing behind it.
    LoneBackslash,
}

/// strace's way to begin: `inject=SET:…`, `fault=SET:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Inject,
    Fault,
}

/// `:KEY=VALUE,…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(super) key: Word,
    /// `None` when there is no `=`.
    pub(super) values: Option<Vec<Word>>,
}

impl Argument {
    /// Where the value stands, or the key when there is none.
    pub(super) fn value_span(&self) -> Range<usize> {
        match self.values.as_deref() {
            Some([first, .., last]) => first.span.start..last.span.end,
            Some([only]) => only.span.clone(),
            Some([]) | None => self.key.span.clone(),
        }
    }
}

/// An expression cut into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) prefix: Option<Prefix>,
    pub(super) operations: Vec<Word>,
    pub(super) arguments: Vec<Argument>,
}

impl Syntax {
    /// Every word, from left to right.
    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        let arguments = self.arguments.iter();
        let arguments =
            arguments.flat_map(|a| [&a.key].into_iter().chain(a.values.iter().flatten()));
        self.operations.iter().chain(arguments)
    }
}

/// Cuts an expression into words; the error is the byte from which on it has no shape at all.
pub(super) fn cut(expression: &str) -> std::result::Result<Syntax, usize> {
    syntax
        .parse(LocatingSlice::new(expression))
        .map_err(|e| e.offset())
}

fn syntax(input: &mut Input<'_>) -> Result<Syntax, EmptyError> {
    let prefix = opt(terminated(
        alt(("inject".value(Prefix::Inject), "fault".value(Prefix::Fault))),
        '=',
    ));
    let arguments = repeat(0.., preceded(':', argument));
    (prefix, list, arguments)
        .map(|(prefix, operations, arguments)| Syntax {
            prefix,
            operations,
            arguments,
        })
        .parse_next(input)
}

fn argument(input: &mut Input<'_>) -> Result<Argument, EmptyError> {
    let key = take_till(0.., [':', '='])
        .with_span()
        .map(|(text, span): (&str, _)| Word {
            text: text.to_owned(),
            span,
            flaw: None,
        });
    (key, opt(preceded('=', list)))
        .map(|(key, values)| Argument { key, values })
        .parse_next(input)
}

fn list(input: &mut Input<'_>) -> Result<Vec<Word>, EmptyError> {
    separated(1.., word, ',').parse_next(input)
}

fn word(input: &mut Input<'_>) -> Result<Word, EmptyError> {
    let pieces = repeat(0.., alt((escape, bracket, plain))).fold(
        || (String::new(), None),
        |(mut text, flaw), (piece, new): (Piece<'_>, Option<Flaw>)| {
            match piece {
                Piece::Char(c) => text.push(c),
                Piece::Text(t) => text.push_str(t),
            }
            (text, flaw.or(new))
        },
    );
    pieces
        .with_span()
        .map(|((text, flaw), span)| Word { text, span, flaw })
        .parse_next(input)
}

enum Piece<'i> {
    Char(char),
    Text(&'i str),
}

fn escape<'i>(input: &mut Input<'i>) -> Result<(Piece<'i>, Option<Flaw>), EmptyError> {
    preceded('\\', opt(any))
        .map(|c: Option<char>| match c {
            Some(c) => (Piece::Char(c), None),
            None => (Piece::Char('\\'), Some(Flaw::LoneBackslash)),
        })
        .parse_next(input)
}

/// Brackets protect what is inside them (an IPv6 address) and stay part of the word.
fn bracket<'i>(input: &mut Input<'i>) -> Result<(Piece<'i>, Option<Flaw>), EmptyError> {
    ('[', take_till(0.., ']'), opt(']'))
        .with_taken()
        .map(|((_, _, close), text)| {
            (
                Piece::Text(text),
                close.is_none().then_some(Flaw::OpenBracket),
            )
        })
        .parse_next(input)
}

fn plain<'i>(input: &mut Input<'i>) -> Result<(Piece<'i>, Option<Flaw>), EmptyError> {
    none_of([':', ',', '\\', '['])
        .map(|c| (Piece::Char(c), None))
        .parse_next(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn words_know_their_place() {
        let syntax =
            cut("inject=read,write:dst=[::1]/128,a\\:b:p").expect("any string has a shape");
        assert_eq!(syntax.prefix, Some(Prefix::Inject));
        assert_eq!(texts(&syntax.operations), ["read", "write"]);
        assert_eq!(syntax.operations[1].span, 12..17);
        let [dst, p] = syntax.arguments.as_slice() else {
            panic!("{syntax:?}")
        };
        assert_eq!(texts(dst.values.as_deref().unwrap()), ["[::1]/128", "a:b"]);
        assert_eq!(dst.value_span(), 22..36);
        assert_eq!(
            (p.key.text.as_str(), p.key.span.clone(), &p.values),
            ("p", 37..38, &None)
        );
    }

    #[test]
    fn flaws_are_kept_for_the_next_step() {
        let flaw = |text| cut(text).unwrap().words().find_map(|word| word.flaw);
        assert_eq!(flaw("connect:dst=[::1:p=5%"), Some(Flaw::OpenBracket));
        assert_eq!(flaw("write:error=EIO\\"), Some(Flaw::LoneBackslash));
        assert_eq!(flaw("write:error=EIO"), None);
    }

    #[test]
    fn nothing_at_all_is_one_empty_word() {
        let syntax = cut("").unwrap();
        assert_eq!(texts(&syntax.operations), [""]);
        assert!(syntax.arguments.is_empty());
    }
}
