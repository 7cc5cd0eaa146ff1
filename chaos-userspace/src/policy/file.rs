//! The file: its keys, and how it is read.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{Pattern, Policy, PolicyError};
use crate::faults::expr::{self, nearest};

/// All keys. Those that are absent allow everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) limits: Limits,
    pub(super) targets: Targets,
    pub(super) faults: Faults,
    pub(super) network: Network,
    pub(super) paths: Paths,
    pub(super) environment: Environment,
    pub(super) audit: Audit,
}

/// How much, and for how long.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) max_duration: Option<Spanned<Length>>,
    pub(super) max_faults: Option<Spanned<usize>>,
    pub(super) max_processes: Option<Spanned<usize>>,
    pub(super) max_share: Option<Spanned<Share>>,
    pub(super) require_reason: Option<Spanned<bool>>,
}

/// Whom.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Targets {
    pub(super) allow: Option<Spanned<Vec<Pattern>>>,
    pub(super) forbid: Vec<Spanned<Pattern>>,
}

/// What, as `OPERATION` or `OPERATION:EFFECT`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Faults {
    pub(super) allow: Option<Spanned<Vec<String>>>,
    pub(super) forbid: Vec<Spanned<String>>,
}

/// Which connections and packets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Network {
    pub(super) allow_ports: Option<Spanned<Vec<Ports>>>,
    pub(super) forbid_ports: Vec<Spanned<Ports>>,
    pub(super) forbid_interfaces: Vec<Spanned<String>>,
}

/// Which files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Paths {
    pub(super) restricted: Vec<Spanned<PathBuf>>,
}

/// Where.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Environment {
    pub(super) require: Option<Spanned<Vec<String>>>,
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) hosts: Option<Spanned<Vec<String>>>,
}

/// Who is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    pub(super) to: Option<Spanned<String>>,
}

/// A duration as in expressions: `5m`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length(pub(super) Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nanos = expr::duration(&text).map_err(de::Error::custom)?;
        Ok(Self(Duration::from_nanos(nanos.0)))
    }
}

/// A part of all processes, in parts of a hundred: `"20%"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(pub(super) f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_suffix('%')
            .and_then(|number| number.trim().parse().ok())
            .filter(|share| (0.0..=100.0).contains(share))
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no share: \"0%\" to \"100%\"")))
    }
}

/// A port or a range of them: `6379`, `"8000-8999"`.
#[derive(Clone, Debug)]
pub(super) struct Ports(pub(super) RangeInclusive<u16>);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a port is a number, a range \"8000-8999\"")]
        enum Said {
            One(u16),
            Range(String),
        }
        let text = match Said::deserialize(deserializer)? {
            Said::One(port) => return Ok(Self(port..=port)),
            Said::Range(text) => text,
        };
        let (low, high) = text.split_once('-').unwrap_or((&text, &text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) if low <= high => Ok(Self(low..=high)),
            _ => Err(de::Error::custom(format!(
                "`{text}` is no port and no range of ports"
            ))),
        }
    }
}

impl Policy {
    /// Reads a file. The machine's may be absent, and has to be root's.
    pub(super) fn read(path: &Path, machine: bool) -> Result<Option<Self>, PolicyError> {
        let failed = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = match fs::File::open(path) {
            Err(error) if machine && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        if machine {
            let metadata = file.metadata().map_err(failed)?;
            let untrusted = |why| PolicyError::Untrusted {
                path: path.to_owned(),
                why,
            };
            if metadata.uid() != 0 {
                return Err(untrusted(format!("it belongs to user {}", metadata.uid())));
            }
            if metadata.mode() & 0o022 != 0 {
                let mode = metadata.mode() & 0o7777;
                return Err(untrusted(format!("its mode is {mode:o}")));
            }
        }
        let text = io::read_to_string(file).map_err(failed)?;
        Self::parse(path, text).map(Some)
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, PolicyError> {
        let rules = toml::from_str(&text).map_err(|error| PolicyError::Syntax {
            path: path.to_owned(),
            meant: meant(error.message()),
            message: error.to_string().trim_end().to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            rules,
        })
    }

    /// Where something is said, and in which words: `FILE:LINE: WORDS`.
    pub(super) fn said<T>(&self, what: &Spanned<T>) -> String {
        let start = what.span().start.min(self.text.len());
        let before = &self.text[..start];
        let line = before.matches('\n').count();
        let words = self.text.lines().nth(line).unwrap_or_default().trim();
        format!("{}:{}: {words}", self.path.display(), line + 1)
    }
}

/// Of serde's sentence about an unknown key and those it expected: the one that is nearest.
fn meant(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    message
        .starts_with("unknown")
        .then(|| nearest(unknown, words))?
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(Path::new("p.toml"), text.to_owned())
    }

    #[test]
    fn a_mistyped_key_is_told_with_its_place() {
        let error = parse("[limits]\nmax_duratoin = \"5m\"\n").unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("line 2") && said.contains("max_duratoin"),
            "{said}"
        );
        assert_eq!(error.remedy().unwrap(), "did you mean `max_duration`?");
        assert!(
            parse("[limit]\n")
                .unwrap_err()
                .remedy()
                .unwrap()
                .contains("limits")
        );
    }

    #[test]
    fn wrong_values() {
        for wrong in [
            "[limits]\nmax_duration = 5",
            "[limits]\nmax_duration = \"5\"",
            "[limits]\nmax_share = \"120%\"",
            "[limits]\nmax_processes = -1",
            "[targets]\nallow = [\"redis\"]",
            "[network]\nforbid_ports = [\"9-1\"]",
            "[network]\nforbid_ports = [70000]",
            "[environment]\nrequire = true",
            "limits",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("").is_ok());
    }

    #[test]
    fn a_rule_is_named_by_its_line() {
        let policy = parse("# mine\n\n[limits]\nmax_faults = 3\n").unwrap();
        let rule = policy.rules.limits.max_faults.as_ref().unwrap();
        assert_eq!(policy.said(rule), "p.toml:4: max_faults = 3");
    }
}
