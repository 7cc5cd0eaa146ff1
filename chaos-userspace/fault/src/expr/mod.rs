//! The expression that spells a fault: `OPS:EFFECT=VALUE[:KEY[=VALUE]]…`, a superset of strace's `inject=`.
//!
//! An expression is cut into words (`syntax`), the words are given a meaning (`resolve`), and whether the meanings go
//! together is asked while the places of the words are still known. `print` goes the other way.

mod error;
mod filter;
pub(crate) mod keys;
mod mistake;
mod netem;
mod number;
pub mod policy;
mod print;
mod resolve;
mod sets;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod wire;

use std::str::FromStr;

pub use error::ParseError;
pub use mistake::Mistake;
pub(crate) use mistake::visible;
pub use suggest::nearest;

use super::model::Fault;
use super::values::Nanos;

/// The longest expression, in bytes; a longer one is a mistake, such as a file given in place of its name.
pub const MAX_LENGTH: usize = 4096;

/// A duration as in `after=` and `for=`: a number and one of `us ms s m h`.
///
/// # Errors
/// What is wrong with it; [`Mistake::help`] says what would be right.
pub fn duration(text: &str) -> Result<Nanos, Mistake> {
    number::duration(text)
}

impl FromStr for Fault {
    type Err = ParseError;

    /// Parses an expression such as `write:error=ENOSPC:p=5%`. strace's `inject=write:error=ENOSPC` and `fault=write` (whose
    /// error is `ENOSYS` unless given) mean the same here as there.
    ///
    /// # Errors
    /// [`ParseError`] with the first word that is wrong, what is wrong with it and what would be right.
    fn from_str(expression: &str) -> Result<Self, ParseError> {
        if expression.len() > MAX_LENGTH {
            let kept = &expression[..expression.floor_char_boundary(MAX_LENGTH)];
            return Err(ParseError::new(
                kept,
                kept.len()..kept.len(),
                Mistake::TooLong,
            ));
        }
        let syntax = syntax::cut(expression)
            .map_err(|at| ParseError::new(expression, at..expression.len(), Mistake::Shapeless))?;
        resolve::fault(&syntax)
            .map_err(|(span, mistake)| ParseError::new(expression, span, mistake))
    }
}
