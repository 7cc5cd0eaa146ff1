//! Names of network interfaces, as a filter says them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::values::OutOfRange;

/// The name of an interface, or a pattern of names: `*`, `?` and `[…]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceGlob(glob::Pattern);

impl InterfaceGlob {
    /// Bytes of a name (`IFNAMSIZ` is 16 with the 0).
    const MAX_NAME: usize = 15;
    /// Bytes of a pattern: every character of a name can be a set of some.
    const MAX: usize = 64;

    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is allowed.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        if text.contains('@') {
            return Err(OutOfRange::new(
                "what `ip link` shows behind the `@` is another interface, and no part of the name",
            ));
        }
        // As the kernel has it (`dev_valid_name`), and without what an expression or a person reads as something else.
        let of_names = |c: char| !c.is_whitespace() && !c.is_control() && !"/:,".contains(c);
        let fits = |text: &str| !text.starts_with('!') && text.chars().all(of_names);
        let pattern = glob::Pattern::new(text)
            .ok()
            .filter(|_| (1..=Self::MAX).contains(&text.len()) && fits(text))
            .map(Self);
        let short = |name: &Self| name.is_pattern() || text.len() <= Self::MAX_NAME;
        pattern.filter(short).ok_or(OutOfRange::new(
            "an interface has a name of 15 bytes at most, without `/`, `:`, `,`, spaces and a `!` in front; `*`, `?` and `[…]` stand for others",
        ))
    }

    /// As it was said.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it may mean several, and such as are not there yet.
    pub fn is_pattern(&self) -> bool {
        self.as_str().contains(['*', '?', '['])
    }

    /// Whether an interface of that name is meant.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl fmt::Display for InterfaceGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for InterfaceGlob {
    type Error = OutOfRange;

    fn try_from(text: String) -> Result<Self, OutOfRange> {
        Self::new(&text)
    }
}

impl From<InterfaceGlob> for String {
    fn from(name: InterfaceGlob) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for (text, name, meant) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0.5", true),
            ("eth*", "veth0", false),
            ("eth[0-3]", "eth2", true),
            ("eth[!0]", "eth1", true),
            ("wlp?s0", "wlp3s0", true),
            ("*", "lo", true),
            ("br-1a2b", "br-1a2b", true),
        ] {
            let glob = InterfaceGlob::new(text).unwrap();
            assert_eq!(glob.matches(name), meant, "{text} {name}");
            assert_eq!(glob.is_pattern(), text.contains(['*', '?', '[']), "{text}");
        }
        let long = "a".repeat(16);
        for text in [
            "", "eth0@if2", "eth/0", "eth 0", "eth0:1", "!lo", "a,b", "eth[", "eth**", &long,
        ] {
            assert!(InterfaceGlob::new(text).is_err(), "{text}");
        }
    }
}
