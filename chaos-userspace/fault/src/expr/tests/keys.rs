//! Every key with every operation: the key is in the fault, or the expression is refused for it.

use std::collections::BTreeSet;

use super::super::syntax;
use crate::registry::operation_names;
use crate::{Fault, Key, Op};

/// Effects that a key is put behind, each with what it needs.
const BASES: [&[&str]; 17] = [
    &[],
    &["error=EIO"],
    &["retval=0"],
    &["signal=9"],
    &["delay_enter=10ms"],
    &["delay_exit=10ms"],
    &["short=1"],
    &["loss=5%"],
    &["delay=10ms"],
    &["delay=10ms", "jitter=5ms"],
    &["blackhole"],
    &["partition", "dst=10.0.0.1"],
    &["reset"],
    &["unreachable=host"],
    &["drop"],
    &["status=503"],
    &["nofile=used"],
];

/// Operations that stand for their like where all of them would take too long.
const SOME: [&str; 13] = [
    "egress",
    "ingress",
    "net",
    "dns",
    "http",
    "limit",
    "connect",
    "read",
    "sendto",
    "openat",
    "close",
    "fsync",
    "epoll_wait",
];

/// How often each of the two outcomes was seen, and what was neither.
#[derive(Default)]
struct Outcomes {
    accepted: usize,
    refused: usize,
    lost: Vec<String>,
}

impl Outcomes {
    fn check(&mut self, operation: &str, arguments: &[String]) {
        let text = format!("{operation}:{}", arguments.join(":"));
        match outcome(&text) {
            Ok(true) => self.accepted += 1,
            Ok(false) => self.refused += 1,
            Err(why) => self.lost.push(format!("{text}: {why}")),
        }
    }

    fn settle(&self, least: usize) {
        let some = &self.lost[..self.lost.len().min(20)];
        assert!(
            self.lost.is_empty(),
            "{} of {}:\n{}",
            self.lost.len(),
            self.accepted + self.refused,
            some.join("\n")
        );
        println!("{} accepted, {} refused", self.accepted, self.refused);
        assert!(self.accepted >= least && self.refused >= least);
    }
}

/// The keys of an expression.
fn keys_of(text: &str) -> Option<BTreeSet<String>> {
    let keys = syntax::cut(text).ok()?.arguments.into_iter();
    Some(keys.map(|argument| argument.key.text).collect())
}

/// Whether an expression is accepted with all of its keys; the error is a third outcome.
fn outcome(text: &str) -> Result<bool, String> {
    let given = keys_of(text).ok_or("it has no shape")?;
    let fault = match text.parse::<Fault>() {
        Ok(fault) => fault,
        Err(error) => {
            let said = format!("{} `{}`", error.mistake(), error.word());
            // The caret is under the key, or the message has it.
            let is_named = |key: &String| said.contains(&format!("`{key}`"));
            return match given.iter().any(is_named) {
                true => Ok(false),
                false => Err(format!("refused, but not for a key: {said}")),
            };
        }
    };
    let printed = fault.to_string();
    let kept = keys_of(&printed).ok_or("what is printed has no shape")?;
    if kept != given {
        return Err(format!("accepted as {printed}"));
    }
    if printed.parse() != Ok(fault.clone()) {
        return Err(format!("{printed} is another fault"));
    }
    let json = serde_json::to_string(&fault).map_err(|error| error.to_string())?;
    match serde_json::from_str::<Fault>(&json) {
        Ok(same) if same == fault => Ok(true),
        other => Err(format!("{json} is another fault: {other:?}")),
    }
}

/// Each key as arguments, one for each of its examples.
fn arguments() -> impl Iterator<Item = (Key, String)> {
    let examples = |key: Key| key.def().examples.iter().map(move |value| (key, value));
    let all = Key::all().flat_map(examples);
    all.map(|(key, value)| (key, format!("{key}{value}")))
}

/// Whether a base is a fault of an operation already, or nothing.
fn is_base(operation: &str, base: &[&str]) -> bool {
    base.is_empty()
        || format!("{operation}:{}", base.join(":"))
            .parse::<Fault>()
            .is_ok()
}

#[test]
fn rows_are_complete_and_their_names_unique() {
    for (at, key) in Key::all().enumerate() {
        let def = key.def();
        assert!(!def.examples.is_empty() && def.help.ends_with('.'), "{key}");
        assert!(
            def.value.is_empty() || def.value.starts_with(['=', '[']),
            "{key}"
        );
        assert!(
            Key::all().take(at).all(|other| other.name() != key.name()),
            "{key}"
        );
    }
}

/// A page of the documents has it.
#[test]
fn every_key_is_explained() {
    let page = include_str!("../../../../../docs/expression.md");
    for key in Key::all() {
        let mut rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = |row: &str| {
            let cell = row.split('|').next().unwrap_or_default();
            cell.split(['`', ' ', ',']).any(|word| word == key.name())
        };
        assert!(rows.any(names), "{key}");
    }
}

#[test]
fn every_key_is_kept_by_every_operation_or_refused() {
    let mut outcomes = Outcomes::default();
    let mut pairs = 0;
    for operation in operation_names() {
        let is_call = Op::by_name(operation).is_some_and(Op::is_syscall);
        let bases = match is_call && !SOME.contains(&operation) {
            // The others are the same for all calls but a few.
            true => &BASES[..2],
            false => &BASES[..],
        };
        pairs += Key::all().count();
        for base in bases.iter().filter(|base| is_base(operation, base)) {
            let base: Vec<_> = base.iter().map(|&text| text.to_owned()).collect();
            for (key, argument) in arguments() {
                // Without any effect there is no fault, whatever the key.
                let is_effect = matches!(key, Key::Effect(_));
                if is_effect || !base.is_empty() {
                    outcomes.check(operation, &[&base[..], &[argument]].concat());
                }
            }
        }
    }
    println!("{pairs} pairs of a key and an operation");
    outcomes.settle(5_000);
}

#[test]
fn every_two_keys_are_kept_or_refused_together() {
    let mut outcomes = Outcomes::default();
    for operation in SOME {
        for (first, one) in arguments() {
            for (second, other) in arguments() {
                let is_effect = |key| matches!(key, Key::Effect(_));
                if is_effect(first) || is_effect(second) {
                    outcomes.check(operation, &[one.clone(), other]);
                }
            }
        }
    }
    outcomes.settle(2_000);
}
