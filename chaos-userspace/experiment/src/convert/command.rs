//! Command lines: their words, and what toxiproxy-cli would read out of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A command line of toxiproxy-cli, whose flags are read wherever they stand.
#[derive(Default)]
pub(super) struct Cli {
    pub(super) name: Option<String>,
    /// Whether flags stand behind the name, where toxiproxy-cli does not see them.
    pub(super) name_first: bool,
    pub(super) flags: BTreeMap<&'static str, String>,
    pub(super) attributes: Map<String, Value>,
    /// The flags as they were said.
    pub(super) said: Vec<String>,
}

/// Flags by all their names; the last column says whether a value follows.
const FLAGS: &[(&[&str], &str, bool)] = &[
    (&["-t", "--type"], "type", true),
    (&["-n", "--toxicName"], "toxicName", true),
    (&["--tox", "--toxicity"], "toxicity", true),
    (&["-a", "--attribute"], "attribute", true),
    (&["-l", "--listen"], "listen", true),
    (&["-d", "--downstream"], "downstream", false),
];

impl Cli {
    pub(super) fn parse(args: &[String]) -> Self {
        let mut cli = Self::default();
        let mut args = args.iter().peekable();
        while let Some(word) = args.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if !flag.starts_with('-') {
                cli.name.get_or_insert_with(|| word.clone());
                continue;
            }
            cli.name_first |= cli.name.is_some();
            cli.said.push(word.clone());
            // `create` gives -u an address, `toxic add` uses it alone.
            let upstream = matches!(flag, "-u" | "--upstream");
            let known = FLAGS.iter().find(|(names, ..)| names.contains(&flag));
            let wants = known.is_some_and(|(.., wants)| *wants)
                || (upstream && args.peek().is_some_and(|next| next.contains(':')));
            let value = value.or_else(|| {
                let next = wants.then(|| args.next()).flatten()?;
                cli.said.push(next.clone());
                Some(next.clone())
            });
            let value = value.unwrap_or_default();
            match known {
                Some((_, "attribute", _)) => {
                    if let Some((key, value)) = value.split_once('=') {
                        cli.attributes.insert(key.to_owned(), value.into());
                    }
                }
                Some((_, name, _)) => {
                    cli.flags.insert(name, value);
                }
                None if upstream => {
                    cli.flags.insert("upstream", value);
                }
                None => {}
            }
        }
        cli
    }
}

/// The words of a line; quotes keep words together and vanish.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
