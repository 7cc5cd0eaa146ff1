//! Tables by which a delay varies: the file that has one, as it was said, and what such a file says.
//!
//! The format is that of iproute2's `.dist` files, which its `maketable` makes of measured delays.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::expr::visible;
use super::values::OutOfRange;

/// A file with a table, as it was said. What it says is read when faults are put in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableFile(String);

impl TableFile {
    /// A path with a `/`, which tells it from the name of a distribution.
    ///
    /// # Errors
    ///
    /// What is allowed.
    pub fn new(path: &str) -> Result<Self, OutOfRange> {
        match path.contains('/') && !path.contains('\0') {
            true => Ok(Self(path.to_owned())),
            false => Err(OutOfRange::new(
                "a table is a file, said by a path with a `/`: /srv/wan.dist, ./wan.dist",
            )),
        }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TableFile {
    type Error = OutOfRange;

    fn try_from(path: String) -> Result<Self, OutOfRange> {
        Self::new(&path)
    }
}

impl From<TableFile> for String {
    fn from(file: TableFile) -> Self {
        file.0
    }
}

/// The numbers of a table, at least one: how far a delay is from the mean, 8192 for one `jitter`. Each is as likely as the
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Arc<[i16]>);

/// Why a text is no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTable {
    /// A word that is no number, or one that does not fit.
    #[error(
        "line {line}: `{}` is no whole number from -32768 to 32767",
        visible(word)
    )]
    Word {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
    /// More than the kernel takes.
    #[error("line {line}: there are more than {} numbers", Table::MOST)]
    TooMany {
        /// Where the first too many stands.
        line: usize,
    },
    /// None at all.
    #[error("there is no number in it")]
    Empty,
}

impl Table {
    /// How many numbers there may be (`NETEM_DIST_MAX`, `linux/pkt_sched.h`).
    pub const MOST: usize = 16_384;

    /// Reads whole numbers between blanks; from `#` on a line is a comment.
    ///
    /// tc takes octal and hexadecimal numbers too, passes over the rest of a line with a word that is none, and cuts what does
    /// not fit in 16 bits: all these are refused here, as they would not mean what was meant.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str) -> Result<Self, BadTable> {
        let mut numbers = Vec::new();
        for (line, said) in (1..).zip(text.lines()) {
            let said = said.split('#').next().unwrap_or_default();
            for word in said.split_whitespace() {
                if numbers.len() == Self::MOST {
                    return Err(BadTable::TooMany { line });
                }
                let number = number(word).ok_or_else(|| BadTable::Word {
                    line,
                    word: word.to_owned(),
                })?;
                numbers.push(number);
            }
        }
        match numbers.is_empty() {
            true => Err(BadTable::Empty),
            false => Ok(Self(numbers.into())),
        }
    }

    /// The numbers.
    pub fn numbers(&self) -> &[i16] {
        &self.0
    }
}

/// A decimal number. A 0 before others would make it octal to tc.
fn number(word: &str) -> Option<i16> {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    let octal = digits.len() > 1 && digits.starts_with('0');
    word.parse().ok().filter(|_| !octal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_between_blanks_and_comments_are_none() {
        let text = "# made by maketable\n -32768\t-1 0 +1\n\n  # 5\n32767 # the last\r\n";
        let table = Table::parse(text).unwrap();
        assert_eq!(table.numbers(), [-32768, -1, 0, 1, 32767]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let many = "1 ".repeat(Table::MOST);
        assert!(Table::parse(&many).is_ok());
        for (text, said) in [
            ("", "there is no number in it"),
            ("# 1 2 3\n\n", "there is no number in it"),
            ("1\n2 x3\n", "line 2: `x3` is no whole number"),
            ("1 32768", "line 1: `32768` is no whole number"),
            ("1.5", "line 1: `1.5` is no whole number"),
            ("010", "line 1: `010` is no whole number"),
            ("-0x10", "line 1: `-0x10` is no whole number"),
            ("\u{1b}[2J", r"line 1: `\u{1b}[2J` is no whole number"),
            (&format!("{many}\n1"), "line 2: there are more than 16384"),
        ] {
            let error = Table::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:.20}: {error}");
        }
    }
}
