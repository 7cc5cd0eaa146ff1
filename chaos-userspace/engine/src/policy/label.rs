//! Where this is: what the machine is labelled as.
//!
//! A label comes from the machine's file, from files that policies name, and from a variable. Each that is there counts. One
//! that cannot be understood is a refusal: it might say "production".

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Policy, Refusal};

/// The machine's own label.
const FILE: &str = "/etc/murphy/environment";

/// The label that the caller gives.
const VARIABLE: &str = "MURPHY_ENVIRONMENT";

/// What is never a place for faults unless the machine's policy names it.
const PRODUCTION: [&str; 2] = ["production", "prod"];

/// What a label looks like.
pub(super) const FORM: &str =
    "a label is one word of at most 64 letters, digits, `.`, `_` and `-`, a letter or digit first";

/// Bytes of a file with a label: the label and a line feed.
const LONGEST: u64 = 65;

/// A label, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The word.
    pub name: String,
    /// Where it stands.
    pub said_by: String,
}

/// Whether a word can be a label.
pub(super) fn is_valid(word: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.len() <= 64
        && word.bytes().all(of_label)
}

/// Every label there is, and a refusal for each that is there and is none. The machine's file may be absent; one that a policy
/// names may not.
pub(super) fn labels(named: &[&Path]) -> (Vec<Label>, Vec<Refusal>) {
    let (mut labels, mut refusals) = (Vec::new(), Vec::new());
    let mut take =
        |found: Result<Option<String>, String>, said_by: String, remedy: String| match found {
            Ok(Some(name)) => labels.push(Label { name, said_by }),
            Ok(None) => {}
            Err(why) => refusals.push(Refusal {
                rule: "murphy injects nothing where it cannot read the label of the environment"
                    .to_owned(),
                asked: format!("{said_by}: {why}"),
                remedy,
            }),
        };
    let mut files = vec![(Path::new(FILE), true)];
    let others = named.iter().filter(|path| **path != Path::new(FILE));
    files.extend(others.map(|path| (*path, false)));
    for (path, optional) in files {
        let remedy = format!("echo staging > {}, or what is true; {FORM}", path.display());
        take(read(path, optional), path.display().to_string(), remedy);
    }
    let of_variable = match std::env::var_os(VARIABLE) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => match value.to_str().filter(|value| is_valid(value)) {
            Some(value) => Ok(Some(value.to_owned())),
            None => Err(format!("{value:?} is no label")),
        },
    };
    let remedy = format!("set {VARIABLE} to a label, or unset it; {FORM}");
    take(of_variable, VARIABLE.to_owned(), remedy);
    (labels, refusals)
}

/// The label in a file; an error says why it is none.
fn read(path: &Path, optional: bool) -> Result<Option<String>, String> {
    // Without waiting for the writer of a pipe.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match file {
        Ok(file) => file,
        // A link that leads nowhere is no absence.
        Err(error)
            if optional
                && error.kind() == io::ErrorKind::NotFound
                && path.symlink_metadata().is_err() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    label(&bytes).map(Some)
}

/// The label that a file's bytes are: one line, with or without a line feed at its end.
fn label(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() as u64 > LONGEST {
        return Err("it is longer than a label".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.trim().is_empty() {
        return Err("it says nothing".to_owned());
    }
    if line.contains('\n') {
        return Err("it has more than one line".to_owned());
    }
    match is_valid(line) {
        true => Ok(line.to_owned()),
        false => Err(format!("{line:?} is no label")),
    }
}

/// Refuses where something says production, whether or not there is a policy; unless the machine's names it.
pub(super) fn production(labels: &[Label], policies: &[Policy]) -> Vec<Refusal> {
    let named = |label: &Label| {
        policies
            .iter()
            .filter(|policy| policy.machine)
            .any(|policy| {
                let required = policy.rules.environment.require.as_ref();
                required
                    .is_some_and(|names| names.get_ref().iter().any(|name| name.0 == label.name))
            })
    };
    labels
        .iter()
        .filter(|label| {
            let lower = label.name.to_ascii_lowercase();
            PRODUCTION.contains(&lower.as_str()) && !named(label)
        })
        .map(|label| Refusal {
            rule: "murphy injects nothing where it says production".to_owned(),
            asked: format!("{} says {}", label.said_by, label.name),
            remedy: format!(
                "only {} can allow it: [environment] require = [\"{}\"]",
                super::PATH,
                label.name
            ),
        })
        .collect()
}

impl Policy {
    /// The label that must be there.
    pub(super) fn environment(&self, labels: &[Label]) -> Vec<Refusal> {
        let rules = &self.rules.environment;
        let mut refusals = Vec::new();
        if let Some(require) = &rules.require {
            let allowed: Vec<&str> = require
                .get_ref()
                .iter()
                .map(|name| name.0.as_str())
                .collect();
            let remedy = format!(
                "label the machine in {FILE}, or go where it says {}",
                allowed.join(" or ")
            );
            let mut refuse = |asked| {
                refusals.push(Refusal {
                    rule: self.said(require),
                    asked,
                    remedy: remedy.clone(),
                });
            };
            // Every label must do: a variable cannot talk the file away.
            for label in labels {
                if !allowed.contains(&label.name.as_str()) {
                    refuse(format!("{} says {}", label.said_by, label.name));
                }
            }
            if labels.is_empty() {
                refuse(format!("neither {FILE} nor {VARIABLE} says where this is"));
            }
        }
        if let Some(hosts) = &rules.hosts {
            let host = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            if !hosts
                .get_ref()
                .iter()
                .any(|pattern| pattern.0.matches(&host))
            {
                refusals.push(Refusal {
                    rule: self.said(hosts),
                    asked: format!("this host is called {host}"),
                    remedy: "go to one of these".to_owned(),
                });
            }
        }
        refusals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_word() {
        for text in ["staging", "staging\n", "a", "eu-west.1_b"] {
            assert_eq!(label(text.as_bytes()).as_deref(), Ok(text.trim_end()));
        }
        let long = "x".repeat(65);
        for bytes in [
            &b""[..],
            b"\n",
            b"\nproduction\n",
            b"# where\nproduction\n",
            b"\xef\xbb\xbfproduction\n",
            b"prod\xff\n",
            b"staging\nproduction\n",
            b"staging \n",
            b" staging\n",
            b"staging\r\n",
            b"stag ing",
            b"-staging",
            long.as_bytes(),
        ] {
            assert!(
                label(bytes).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
