//! Every fault murphy knows, one row each.
//!
//! A row's constant and what it means live in a file of the same name; here is the type of a row and the list. A row's `stem`
//! is also the name of its program file in chaos-ebpf, of its page `docs/faults/<stem>.md` and of its test
//! `tests/tests/<stem>.rs`, so that everything about a fault can be found from its name.

use std::fmt;

use serde::Serialize;

use super::model::{Effect, Op};
use super::{connect, dns, egress, ingress, open, read_write};

/// Which kernel object serves a fault: one ELF file per family of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Packets and sockets: tc classifiers, cgroup programs.
    Net,
    /// BPF LSM hooks.
    Lsm,
    /// Tracepoints and kprobes.
    Trace,
    /// Probes in user space.
    Uprobe,
}

impl Family {
    /// The object's name, for example `net`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Lsm => "lsm",
            Self::Trace => "trace",
            Self::Uprobe => "uprobe",
        }
    }
}

/// An effect's key in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKey {
    /// `error=ERRNO`
    Error,
    /// `loss=P`
    Loss,
    /// `blackhole`
    Blackhole,
    /// `partition`
    Partition,
    /// `reset`
    Reset,
    /// `unreachable=WHAT`
    Unreachable,
    /// `rcode=CODE`
    Rcode,
    /// `answer=ADDRESS`
    Answer,
    /// `drop`
    Drop,
}

/// A filter's key in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKey {
    /// `port=N[-N],…`
    Port,
    /// `sport=N[-N],…`
    Sport,
    /// `dst=ADDRESS[/PREFIX],…`
    Dst,
    /// `proto=NAME|N,…`
    Proto,
    /// `on=KIND,…`
    On,
    /// `name=NAME,…`
    Name,
}

/// A trigger's key in an expression; every operation takes them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKey {
    /// `p=P`
    P,
    /// `when=F[..L][+[S]]`
    When,
    /// `times=N`
    Times,
    /// `after=D`
    After,
    /// `for=D`
    For,
    /// `pulse=ON/OFF`
    Pulse,
    /// `rate_limit=N/UNIT`
    RateLimit,
    /// `seed=N`
    Seed,
}

/// Any key of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// What happens.
    Effect(EffectKey),
    /// To which operations.
    Filter(FilterKey),
    /// When.
    Trigger(TriggerKey),
}

impl Key {
    /// Every key, in the order in which an expression is printed.
    pub const ALL: [Self; 23] = [
        Self::Effect(EffectKey::Error),
        Self::Effect(EffectKey::Loss),
        Self::Effect(EffectKey::Blackhole),
        Self::Effect(EffectKey::Partition),
        Self::Effect(EffectKey::Reset),
        Self::Effect(EffectKey::Unreachable),
        Self::Effect(EffectKey::Rcode),
        Self::Effect(EffectKey::Answer),
        Self::Effect(EffectKey::Drop),
        Self::Filter(FilterKey::Port),
        Self::Filter(FilterKey::Sport),
        Self::Filter(FilterKey::Dst),
        Self::Filter(FilterKey::Proto),
        Self::Filter(FilterKey::On),
        Self::Filter(FilterKey::Name),
        Self::Trigger(TriggerKey::P),
        Self::Trigger(TriggerKey::When),
        Self::Trigger(TriggerKey::Times),
        Self::Trigger(TriggerKey::After),
        Self::Trigger(TriggerKey::For),
        Self::Trigger(TriggerKey::Pulse),
        Self::Trigger(TriggerKey::RateLimit),
        Self::Trigger(TriggerKey::Seed),
    ];

    /// The word before the `=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Effect(EffectKey::Error) => "error",
            Self::Effect(EffectKey::Loss) => "loss",
            Self::Effect(EffectKey::Blackhole) => "blackhole",
            Self::Effect(EffectKey::Partition) => "partition",
            Self::Effect(EffectKey::Reset) => "reset",
            Self::Effect(EffectKey::Unreachable) => "unreachable",
            Self::Effect(EffectKey::Rcode) => "rcode",
            Self::Effect(EffectKey::Answer) => "answer",
            Self::Effect(EffectKey::Drop) => "drop",
            Self::Filter(FilterKey::Port) => "port",
            Self::Filter(FilterKey::Sport) => "sport",
            Self::Filter(FilterKey::Dst) => "dst",
            Self::Filter(FilterKey::Proto) => "proto",
            Self::Filter(FilterKey::On) => "on",
            Self::Filter(FilterKey::Name) => "name",
            Self::Trigger(TriggerKey::P) => "p",
            Self::Trigger(TriggerKey::When) => "when",
            Self::Trigger(TriggerKey::Times) => "times",
            Self::Trigger(TriggerKey::After) => "after",
            Self::Trigger(TriggerKey::For) => "for",
            Self::Trigger(TriggerKey::Pulse) => "pulse",
            Self::Trigger(TriggerKey::RateLimit) => "rate_limit",
            Self::Trigger(TriggerKey::Seed) => "seed",
        }
    }

    /// The key of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether this key makes sense for that operation.
    pub fn fits(self, op: Op) -> bool {
        match self {
            Self::Effect(key) => op.kind().effects.contains(&key),
            Self::Filter(key) => op.kind().filters.contains(&key),
            Self::Trigger(_) => true,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row: a fault murphy knows, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultKind {
    /// Name of its files everywhere (see the module), and the label `fault` of its metrics.
    pub stem: &'static str,
    /// Which kernel object serves it.
    pub family: Family,
    /// The operations it covers; each operation is in exactly one row.
    pub ops: &'static [Op],
    /// What it can do to them.
    pub effects: &'static [EffectKey],
    /// How they can be narrowed down.
    pub filters: &'static [FilterKey],
    /// One sentence for the help, without a full stop.
    pub summary: &'static str,
    /// One sentence for the help text of its metrics, what one match is.
    pub metric: &'static str,
    /// Expressions that work, for help and documentation.
    pub examples: &'static [&'static str],
}

/// Every row.
pub const FAULTS: [&FaultKind; 6] = [
    &connect::KIND,
    &dns::KIND,
    &egress::KIND,
    &ingress::KIND,
    &open::KIND,
    &read_write::KIND,
];

/// The noun for both directions of the network, short for `egress,ingress`.
pub const NET: &str = "net";

/// What [`NET`] stands for.
pub const NET_OPS: [Op; 2] = [Op::Egress, Op::Ingress];

impl Op {
    /// The row this operation belongs to.
    pub const fn kind(self) -> &'static FaultKind {
        // Exhaustive, so that an operation without a row does not compile.
        match self {
            Self::Connect => &connect::KIND,
            Self::Egress => &egress::KIND,
            Self::Ingress => &ingress::KIND,
            Self::Dns => &dns::KIND,
            Self::Open | Self::Openat | Self::Openat2 | Self::Creat => &open::KIND,
            Self::Read
            | Self::Pread64
            | Self::Readv
            | Self::Preadv
            | Self::Preadv2
            | Self::Write
            | Self::Pwrite64
            | Self::Writev
            | Self::Pwritev
            | Self::Pwritev2 => &read_write::KIND,
        }
    }
}

impl Effect {
    /// The key that spells this effect; its name is the label `effect` of the metrics.
    pub const fn key(&self) -> EffectKey {
        match self {
            Self::Error(_) => EffectKey::Error,
            Self::Loss(_) => EffectKey::Loss,
            Self::Wire(wire) => wire.key(),
        }
    }
}

/// Every name that can stand for an operation in an expression: the operations and `net`.
pub fn operation_names() -> impl Iterator<Item = &'static str> {
    Op::ALL.iter().map(|op| op.name()).chain([NET])
}

/// The operations a name stands for; empty when there is none of that name.
pub fn operations_named(name: &str) -> Vec<Op> {
    if name == NET {
        NET_OPS.to_vec()
    } else {
        Op::by_name(name).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_its_row_and_in_no_other() {
        for op in Op::ALL {
            let rows: Vec<_> = FAULTS.iter().filter(|row| row.ops.contains(op)).collect();
            assert_eq!(rows, [&op.kind()], "{op}");
        }
    }

    #[test]
    fn rows_are_complete_and_their_names_unique() {
        for (i, row) in FAULTS.iter().enumerate() {
            assert!(
                !row.ops.is_empty() && !row.effects.is_empty() && !row.examples.is_empty(),
                "{}",
                row.stem
            );
            assert!(
                !row.summary.is_empty() && !row.summary.ends_with('.'),
                "{}",
                row.stem
            );
            assert!(!row.metric.is_empty(), "{}", row.stem);
            assert!(
                FAULTS[..i].iter().all(|other| other.stem != row.stem),
                "{}",
                row.stem
            );
        }
    }

    #[test]
    fn names_lead_back() {
        for op in Op::ALL {
            assert_eq!(operations_named(op.name()), [*op]);
        }
        assert_eq!(operations_named(NET), NET_OPS);
        assert_eq!(operations_named("fsync"), []);
        for key in Key::ALL {
            assert_eq!(Key::by_name(key.name()), Some(key));
        }
    }
}
