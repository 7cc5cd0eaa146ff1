//! Targets: the processes that a fault is for. A `!` before a value spares them.

use super::{KeyDef, keys};
use crate::who::{Namespace, Selector};

/// The schema of every key.
#[cfg(test)]
pub(crate) const SCHEMA: &str = r#"{"type":"array","items":{"type":"string"}}"#;

/// The form of a name, for the help.
const NAME: &str = "a name; `!` before it spares it";

/// The row of a way to name processes.
pub(crate) struct Row {
    pub(crate) def: KeyDef,
    /// The form of a value, for the help.
    pub(crate) hint: &'static str,
    /// What a value that is not empty selects.
    pub(crate) select: fn(&str) -> Option<Selector>,
    /// Whether it can narrow down the command of `run`, which does not run yet.
    pub(crate) narrows: bool,
}

/// The number of a process or a thread.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != 0)
}

keys! {
    /// A key that says who is hit; every operation takes them all.
    TargetKey, Row {
        Pid = "pid" "=N,…" "Processes and their descendants."
            { examples: &["=12", "=!12"] }
            {
                hint: "the number of a process",
                select: |text| number(text).map(Selector::Pid),
                narrows: false,
            }
        Comm = "comm" "=NAME,…" "Processes of that name."
            { examples: &["=worker"] }
            {
                hint: NAME,
                select: |text| Some(Selector::Comm(text.to_owned())),
                narrows: true,
            }
        Exe = "exe" "=PATH,…" "Processes that execute that file."
            { examples: &["=/usr/bin/worker"] }
            { hint: NAME, select: |text| Some(Selector::Exe(text.into())), narrows: true }
        Uid = "uid" "=USER,…" "Processes of that user."
            { examples: &["=1000", "=worker"] }
            {
                hint: NAME,
                select: |text| Some(match text.parse() {
                    Ok(id) => Selector::Uid(id),
                    Err(_) => Selector::User(text.to_owned()),
                }),
                narrows: true,
            }
        Cgroup = "cgroup" "=PATH,…" "Processes in that cgroup or below it."
            { examples: &["=app.slice"] }
            { hint: NAME, select: |text| Some(Selector::Cgroup(text.into())), narrows: false }
        Container = "container" "=ID,…" "Processes in that container."
            { examples: &["=web"] }
            {
                hint: NAME,
                select: |text| Some(Selector::Container(text.to_owned())),
                narrows: false,
            }
        Unit = "unit" "=NAME,…" "Processes of that systemd unit."
            { examples: &["=web.service"] }
            {
                hint: NAME,
                select: |text| Some(Selector::Unit(text.to_owned())),
                narrows: false,
            }
        Netns = "netns" "=NAME,…" "Processes in that network namespace."
            { examples: &["=blue", "=12"] }
            {
                hint: "the number of a process, a name of `ip netns list`, or an absolute path",
                select: |text| Namespace::of(text).map(Selector::Netns),
                narrows: false,
            }
        Tid = "tid" "=N,…" "Single threads."
            { examples: &["=12"] }
            {
                hint: "the number of a thread",
                select: |text| number(text).map(Selector::Tid),
                narrows: false,
            }
    }
}

impl TargetKey {
    /// Whether it can narrow down the command of `run`.
    pub(crate) const fn narrows(self) -> bool {
        self.row().narrows
    }
}
