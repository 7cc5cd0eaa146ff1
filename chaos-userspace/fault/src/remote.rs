//! Whom packets and connections go to, as a filter says it: addresses, or a name that stands for some.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::values::{Net, OutOfRange};

/// A host's name, as it was said. What it stands for is looked up when faults are put in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// Bytes of a label (RFC 1035, 2.3.4).
    const MAX_LABEL: usize = 63;
    /// Bytes of a name without the dot at its end: 255 on the wire, where a length comes before each label and a 0 at the end.
    const MAX: usize = 253;

    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is allowed.
    pub fn new(text: &str) -> Result<Self, OutOfRange> {
        let labels = text.strip_suffix('.').unwrap_or(text);
        let fits = labels.split('.').all(|label| {
            (1..=Self::MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        });
        // What has no letter was meant as an address.
        let letters = labels.bytes().any(|c| c.is_ascii_alphabetic());
        if fits && letters && labels.len() <= Self::MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(OutOfRange::new(
                "a host's name is labels of letters, digits, `-` and `_` between dots, with a letter somewhere; other letters as `xn--…`",
            ))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = OutOfRange;

    fn try_from(text: String) -> Result<Self, OutOfRange> {
        Self::new(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// One value of `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Remote {
    /// An address or a network.
    Net(Net),
    /// All addresses of a name.
    Name(HostName),
}

impl From<Net> for Remote {
    fn from(net: Net) -> Self {
        Self::Net(net)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// By hand: an error is to say what is wrong with the one that was meant, not that neither fits.
impl<'de> Deserialize<'de> for Remote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Remote;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a network with addr and prefix, or a host's name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Remote, E> {
                HostName::new(text).map(Remote::Name).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Remote, A::Error> {
                Net::deserialize(MapAccessDeserializer::new(map)).map(Remote::Net)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_none() {
        for text in [
            "db",
            "db.example.internal",
            "db.",
            "my_service",
            "a-1",
            "1a",
        ] {
            assert_eq!(
                HostName::new(text).map(|name| name.to_string()),
                Ok(text.to_owned())
            );
        }
        let long = "a".repeat(64);
        let most = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert!(HostName::new(&most).is_ok(), "{}", most.len());
        let more = format!("{most}b");
        for text in [
            "", ".", "a..b", "10.0.0.1", "1", "é", "a b", "*.a", "[::1]", &long, &more,
        ] {
            assert!(HostName::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_a_text_or_a_network() {
        let read = |json: &str| serde_json::from_str::<Remote>(json);
        assert_eq!(
            read(r#""db""#).unwrap(),
            Remote::Name(HostName::new("db").unwrap())
        );
        let net = Net::new("10.0.0.0".parse().unwrap(), 8).unwrap();
        assert_eq!(
            read(r#"{"addr":"10.0.0.0","prefix":8}"#).unwrap(),
            Remote::Net(net)
        );
        for (json, phrase) in [
            (r#""10.0.0.1""#, "a letter somewhere"),
            (r#"{"addr":"10.0.0.1","prefix":8}"#, "prefix"),
            ("7", "a host's name"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(phrase), "{json}: {error}");
        }
    }
}
