//! The file: its keys, and how it is read.

use std::fs;
use std::io;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{Pattern, Policy, PolicyError, label};
use murphy_fault::expr::policy::{self, Wrong};
use murphy_fault::expr::{self, nearest};
use murphy_fault::{EffectKey, InterfaceGlob, Op};

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
    pub(super) allow: Option<Spanned<Vec<Operations>>>,
    pub(super) forbid: Vec<Spanned<Operations>>,
}

/// Which connections and packets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Network {
    pub(super) allow_ports: Option<Spanned<Vec<Ports>>>,
    pub(super) forbid_ports: Vec<Spanned<Ports>>,
    pub(super) forbid_interfaces: Vec<Spanned<Interface>>,
}

/// Which files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Paths {
    pub(super) restricted: Vec<Spanned<Place>>,
}

/// Where.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Environment {
    pub(super) require: Option<Spanned<Vec<LabelName>>>,
    pub(super) file: Option<Spanned<Place>>,
    pub(super) hosts: Option<Spanned<Vec<Host>>>,
}

/// Who is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    pub(super) to: Option<Spanned<AuditLog>>,
}

/// Between the parts of an error on its way through the TOML parser: what is wrong, the remedy, and the place.
const PART: char = '\u{1f}';

/// Parses a text, and says where it stands if it means nothing. The TOML parser alone would name the whole array.
pub(super) fn parse_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<T, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    parse(text.get_ref()).map_err(|wrong| custom(wrong, &text))
}

fn custom<E: de::Error, T>(wrong: Wrong, at: &Spanned<T>) -> E {
    let Wrong { why, remedy } = wrong;
    E::custom(format!("{why}{PART}{remedy}{PART}{}", at.span().start))
}

/// Implements `Deserialize` for a value that a function parses from text.
macro_rules! from_text {
    ($type:ty, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parse: fn(&str) -> Result<Self, Wrong> = $parse;
                parse_text(deserializer, parse)
            }
        }
    };
}

/// A duration as in expressions: `5m`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length(pub(super) Duration);

from_text!(Length, |text| {
    let nanos = expr::duration(text)?;
    Ok(Self(Duration::from_nanos(nanos.0)))
});

/// A part of all processes, in parts of a hundred: `"20%"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(pub(super) f64);

from_text!(Share, |text| {
    Ok(Self(f64::from(policy::share(text)?.get()) / 10_000.0))
});

/// Operations, and what happens to them.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    /// As it stands in the file.
    pub(super) said: String,
    ops: Vec<Op>,
    effects: Option<Vec<EffectKey>>,
}

from_text!(Operations, |text| {
    let (ops, effects) = policy::operations_and_effects(text)?;
    Ok(Self {
        said: text.to_owned(),
        ops,
        effects,
    })
});

impl Operations {
    /// Whether an effect on an operation is meant.
    pub(super) fn has(&self, op: Op, effect: EffectKey) -> bool {
        self.ops.contains(&op)
            && self
                .effects
                .as_ref()
                .is_none_or(|effects| effects.contains(&effect))
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
            One(i64),
            Range(String),
        }
        let said = Spanned::<Said>::deserialize(deserializer)?;
        let text = match said.get_ref() {
            Said::One(port) => &port.to_string(),
            Said::Range(text) => text,
        };
        policy::ports(text)
            .map(Self)
            .map_err(|wrong| custom(wrong, &said))
    }
}

/// A network interface, or a pattern of names.
#[derive(Clone, Debug)]
pub(super) struct Interface(pub(super) InterfaceGlob);

from_text!(Interface, |text| policy::interface(text).map(Self));

/// An absolute path without wildcards.
#[derive(Clone, Debug)]
pub(super) struct Place(pub(super) PathBuf);

from_text!(Place, |text| {
    let whole = "write an absolute path such as /etc; what is below it is meant too";
    if !text.starts_with('/') {
        return Err(Wrong::new(format!("`{text}` is no absolute path"), whole));
    }
    if text.contains(['*', '?', '[']) {
        return Err(Wrong::new(format!("`{text}` has wildcards"), whole));
    }
    if text.split('/').any(|name| matches!(name, "." | "..")) {
        return Err(Wrong::new(
            format!("`{text}` goes back"),
            "write it without `.` and `..`",
        ));
    }
    if text.contains('\0') {
        return Err(Wrong::new("a path has no zero byte", whole));
    }
    Ok(Self(text.into()))
});

/// The label of an environment.
#[derive(Clone, Debug)]
pub(super) struct LabelName(pub(super) String);

from_text!(LabelName, |text| match label::is_valid(text) {
    true => Ok(Self(text.to_owned())),
    false => Err(Wrong::new(format!("`{text}` can be no label"), label::FORM)),
});

/// A pattern of names of hosts.
#[derive(Clone, Debug)]
pub(super) struct Host(pub(super) glob::Pattern);

from_text!(Host, |text| {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '/' || c == ',') {
        let remedy = "write the name that `uname -n` prints, or a pattern such as stg-*";
        return Err(Wrong::new(format!("`{text}` is no name of a host"), remedy));
    }
    policy::pattern(text).map(Self)
});

/// Where the audit log goes.
#[derive(Clone, Debug)]
pub(super) struct AuditLog(pub(super) String);

from_text!(
    AuditLog,
    |text| match text == "journald" || text.starts_with('/') {
        true => Ok(Self(text.to_owned())),
        false => Err(Wrong::new(
            format!("`{text}` is no place for a log"),
            "write \"journald\" or the absolute path of a file",
        )),
    }
);

/// The longest policy, in bytes.
const LONGEST: u64 = 1 << 20;

impl Policy {
    /// Reads a file. The machine's may be absent, and has to be root's.
    pub(super) fn read(path: &Path, machine: bool) -> Result<Option<Self>, PolicyError> {
        let failed = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        // Without waiting for the writer of a pipe.
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let file = match file {
            // A link that leads nowhere is no absence.
            Err(error)
                if machine
                    && error.kind() == io::ErrorKind::NotFound
                    && path.symlink_metadata().is_err() =>
            {
                return Ok(None);
            }
            file => file.map_err(failed)?,
        };
        let metadata = file.metadata().map_err(failed)?;
        let invalid = |why: &str| failed(io::Error::new(io::ErrorKind::InvalidData, why));
        if !metadata.is_file() {
            return Err(invalid("it is no regular file"));
        }
        if machine {
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
        let text = io::read_to_string(file.take(LONGEST + 1)).map_err(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(invalid("it is longer than a megabyte"));
        }
        Self::parse(path, text, machine).map(Some)
    }

    pub(super) fn parse(path: &Path, text: String, machine: bool) -> Result<Self, PolicyError> {
        let rules = toml::from_str(&text).map_err(|error| {
            let parts: Vec<&str> = error.message().split(PART).collect();
            let (message, remedy) = match parts[..] {
                [why, remedy, at] => {
                    let at = at.parse().unwrap_or_default();
                    let remedy = Some(remedy).filter(|remedy| !remedy.is_empty());
                    (place(&text, at, why), remedy.map(str::to_owned))
                }
                _ => {
                    let meant = meant(error.message());
                    let remedy = meant.map(|word| format!("did you mean `{word}`?"));
                    (error.to_string().trim_end().to_owned(), remedy)
                }
            };
            PolicyError::Syntax {
                path: path.to_owned(),
                remedy,
                message,
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            rules,
            machine,
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

/// What is wrong at a byte of the text, with its line, in the form of the TOML parser's own errors.
fn place(text: &str, at: usize, why: &str) -> String {
    let at = text.floor_char_boundary(at);
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let (line, column) = (
        before.matches('\n').count() + 1,
        text[start..at].chars().count(),
    );
    let words = text[start..].lines().next().unwrap_or_default();
    let (margin, indent) = (" ".repeat(line.to_string().len()), " ".repeat(column));
    format!(
        "at line {line}, column {}\n{margin} |\n{line} | {words}\n{margin} | {indent}^\n{why}",
        column + 1
    )
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
        Policy::parse(Path::new("p.toml"), text.to_owned(), false)
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
            "[limits]\nmax_share = \"10 %\"",
            "[faults]\nforbid = [\"conect\"]",
            "[faults]\nforbid = [\"connect:eror\"]",
            "[faults]\nforbid = [\"Connect\"]",
            "[targets]\nforbid = [\"uid:no-such-user\"]",
            "[network]\nforbid_ports = [0]",
            "[network]\nforbid_ports = [\"1 - 2\"]",
            "[network]\nforbid_interfaces = [\"l[o\"]",
            "[network]\nforbid_interfaces = [\"\"]",
            "[paths]\nrestricted = [\"etc\"]",
            "[paths]\nrestricted = [\"/etc/*\"]",
            "[paths]\nrestricted = [\"/srv/../etc\"]",
            "[environment]\nrequire = [\"\"]",
            "[environment]\nrequire = [\"a b\"]",
            "[environment]\nfile = \"label\"",
            "[environment]\nhosts = [\"a[\"]",
            "[environment]\nhosts = [\"a,b\"]",
            "[audit]\nto = \"log\"",
            "[audit]\nto = \"\"",
            "limits",
        ] {
            let error = parse(wrong).expect_err(wrong);
            let said = error.to_string();
            assert!(said.contains("line ") && !said.contains(PART), "{said}");
            assert!(error.remedy().is_some(), "{said}");
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
