//! Names of DNS queries, as a filter says them.

use std::fmt;

use chaos_common::name::{MAX_LABEL, MAX_NAME};
use serde::{Deserialize, Serialize};

use super::values::OutOfRange;

/// A name such as `db.example.com`, or what it ends in: `*.example.com` is every name below, `*` every name.
/// Case does not matter, and neither does a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameGlob {
    /// In lower case, without the `*` and without the dot at the end.
    text: String,
    /// It began with `*`.
    open: bool,
}

impl NameGlob {
    const SHAPE: OutOfRange =
        OutOfRange::new("a name is labels of letters, digits, `-` and `_` between dots");

    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is allowed.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        let lower = text.to_ascii_lowercase();
        let (open, rest) = match lower.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, lower.as_str()),
        };
        let rest = rest.strip_suffix('.').unwrap_or(rest);
        if rest.contains(['*', '?', '[']) {
            return Err(OutOfRange::new("a name has one `*` at most, and in front"));
        }
        if !text.is_ascii() {
            return Err(OutOfRange::new(
                "a name is given as it is on the wire: `xn--…` in place of other letters",
            ));
        }
        if !rest.is_empty() || !open {
            let labels = rest.strip_prefix('.').filter(|_| open).unwrap_or(rest);
            let fits = labels.split('.').all(|label| {
                (1..=MAX_LABEL).contains(&label.len())
                    && label
                        .bytes()
                        .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            });
            // On the wire a length comes before each label, and a 0 at the end.
            if !fits || labels.len() + 2 > MAX_NAME {
                return Err(Self::SHAPE);
            }
        }
        Ok(Self {
            text: rest.to_owned(),
            open,
        })
    }

    /// What the key of every name that this accepts begins with, see [`chaos_common::name`].
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        let mut label = 0;
        for byte in self.text.bytes().rev() {
            if byte == b'.' {
                key.push(label);
                label = 0;
            } else {
                key.push(byte);
                label += 1;
            }
        }
        if !self.open {
            key.push(0);
        }
        key
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.open { "*" } else { "" };
        write!(f, "{star}{}", self.text)
    }
}

impl TryFrom<String> for NameGlob {
    type Error = OutOfRange;

    fn try_from(text: String) -> Result<Self, OutOfRange> {
        Self::new(&text)
    }
}

impl From<NameGlob> for String {
    fn from(name: NameGlob) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use chaos_common::name::lower;
    use proptest::prelude::*;

    use super::*;

    /// The key as the kernel programs make it: lower case, reversed, the first length replaced by 0.
    fn kernel_key(name: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in name.split('.') {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend(label.bytes());
        }
        let mut words = wire.clone();
        words.resize(wire.len().next_multiple_of(8), 0);
        let lowered: Vec<u8> = words
            .chunks(8)
            .flat_map(|word| lower(u64::from_le_bytes(word.try_into().unwrap())).to_le_bytes())
            .collect();
        let mut key: Vec<u8> = lowered[1..wire.len()].iter().rev().copied().collect();
        key.push(0);
        key
    }

    fn accepts(glob: &str, name: &str) -> bool {
        kernel_key(name).starts_with(&NameGlob::new(glob).unwrap().key())
    }

    #[test]
    fn names_and_what_they_end_in() {
        for (glob, name, accepted) in [
            ("example.com", "example.com", true),
            ("Example.COM.", "eXample.com", true),
            ("example.com", "www.example.com", false),
            ("example.com", "example.com.au", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*example.com", "badexample.com", true),
            ("*example.com", "example.com", true),
            ("*", "anything", true),
            ("redis", "redis", true),
            ("redis", "xredis", false),
        ] {
            assert_eq!(accepts(glob, name), accepted, "{glob} {name}");
        }
    }

    #[test]
    fn other_globs_are_refused() {
        for text in [
            "a*.com", "www.*", "**", "a?.com", "", ".", "a..b", "*..b", "ä.de", "a b", "*.",
        ] {
            // `*.` is every name, with the dot at its end.
            assert_eq!(NameGlob::new(text).is_ok(), text == "*.", "{text}");
        }
        let long = "a".repeat(64);
        assert!(NameGlob::new(&long).is_err());
        let many = vec!["abcdefg"; 32].join(".");
        assert!(NameGlob::new(&many).is_err(), "{}", many.len());
    }

    proptest! {
        #[test]
        fn lower_case_is_that_of_ascii(bytes in any::<[u8; 8]>()) {
            let lowered = lower(u64::from_le_bytes(bytes)).to_le_bytes();
            prop_assert_eq!(lowered, bytes.map(|byte| byte.to_ascii_lowercase()));
        }

        #[test]
        fn a_glob_accepts_what_ends_in_it(name in "[a-cA-C]{1,3}(\\.[a-c]{1,3}){0,3}", glob in "\\*?\\.?[a-c]{1,2}(\\.[a-c]{1,2}){0,2}") {
            prop_assume!(NameGlob::new(&glob).is_ok());
            let name = name.to_lowercase();
            let wanted = match glob.strip_prefix('*') {
                Some(rest) => name.ends_with(rest),
                None => name == glob,
            };
            prop_assert_eq!(accepts(&glob, &name), wanted);
        }
    }
}
