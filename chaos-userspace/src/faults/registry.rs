//! Every fault murphy knows, one row each.
//!
//! A row's constant and what it means live in a file of the same name; here is the type of a row and the list. A row's `stem`
//! is also the name of its program file in chaos-ebpf, of its page `docs/faults/<stem>.md` and of its test
//! `tests/tests/<stem>.rs`, so that everything about a fault can be found from its name.

use std::fmt;

use serde::Serialize;

use super::model::{Effect, Op};
use super::syscall::CALL_FILTERS;
use super::{
    connect, dns, egress, file, http, ingress, ipc, memory, metadata, open, path, process,
    read_write, socket, syscall, syscalls, system,
};

/// Which kernel object serves a fault: one ELF file per family of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Packets and sockets: tc classifiers, cgroup programs.
    Net,
    /// BPF LSM hooks.
    Lsm,
    /// Kernel functions: probes on their entry.
    Kprobe,
    /// Tracepoints.
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
            Self::Kprobe => "kprobe",
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
    /// `loss=P[,CORRELATION]`
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
    /// `status=N`
    Status,
    /// `retval=N`
    Retval,
    /// `signal=NAME|N`
    Signal,
    /// `delay_enter=D`
    DelayEnter,
    /// `delay_exit=D`
    DelayExit,
    /// `jitter=D`
    Jitter,
    /// `short=BYTES`
    Short,
    /// `delay=D`
    Delay,
    /// `correlation=P`
    Correlation,
    /// `distribution=NAME|FILE`
    Distribution,
    /// `gemodel=P[,R[,1-H[,1-K]]]`
    Gemodel,
    /// `state=P13[,P31[,P32[,P23[,P14]]]]`
    State,
    /// `duplicate=P[,CORRELATION]`
    Duplicate,
    /// `corrupt=P[,CORRELATION]` of packets, `corrupt=BYTES` of a call that reads
    Corrupt,
    /// `reorder=P[,CORRELATION[,GAP]]`
    Reorder,
    /// `rate=RATE[,OVERHEAD[,CELL[,CELLOVERHEAD]]]`
    Rate,
    /// `slot=MIN[,MAX[,PACKETS[,BYTES]]]`
    Slot,
    /// `limit=PACKETS`
    Limit,
}

/// What can be done to a packet, either way.
pub(super) const PACKET_EFFECTS: &[EffectKey] = &[
    EffectKey::Loss,
    EffectKey::Delay,
    EffectKey::Jitter,
    EffectKey::Correlation,
    EffectKey::Distribution,
    EffectKey::Gemodel,
    EffectKey::State,
    EffectKey::Duplicate,
    EffectKey::Corrupt,
    EffectKey::Reorder,
    EffectKey::Rate,
    EffectKey::Slot,
    EffectKey::Limit,
    EffectKey::Blackhole,
    EffectKey::Partition,
];

/// What can be done to a packet that leaves.
pub(super) const EGRESS_EFFECTS: &[EffectKey] = &[
    EffectKey::Loss,
    EffectKey::Delay,
    EffectKey::Jitter,
    EffectKey::Correlation,
    EffectKey::Distribution,
    EffectKey::Gemodel,
    EffectKey::State,
    EffectKey::Duplicate,
    EffectKey::Corrupt,
    EffectKey::Reorder,
    EffectKey::Rate,
    EffectKey::Slot,
    EffectKey::Limit,
    EffectKey::Blackhole,
    EffectKey::Partition,
    EffectKey::Reset,
    EffectKey::Unreachable,
];

/// A filter's key in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKey {
    /// `port=N[-N],…`
    Port,
    /// `sport=N[-N],…`
    Sport,
    /// `dst=ADDRESS[/PREFIX]|NAME,…`
    Dst,
    /// `src=ADDRESS[/PREFIX],…`
    Src,
    /// `proto=NAME|N,…`
    Proto,
    /// `interface=GLOB,…`
    Interface,
    /// `on=KIND,…`
    On,
    /// `fd=N,…`
    Fd,
    /// `path=GLOB,…`
    Path,
    /// `name=NAME,…`
    Name,
    /// `connlimit=N`
    Connlimit,
}

/// A trigger's key in an expression; every operation takes them all, but `count` is for system calls.
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
    /// `over=N/UNIT`
    Over,
    /// `count=thread`
    Count,
    /// `seed=N`
    Seed,
}

/// A key that says who is hit; every operation takes them all.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TargetKey {
    /// `pid=N,…`
    Pid,
    /// `comm=NAME,…`
    Comm,
    /// `exe=PATH,…`
    Exe,
    /// `uid=USER,…`
    Uid,
    /// `cgroup=PATH,…`
    Cgroup,
    /// `container=ID,…`
    Container,
    /// `unit=NAME,…`
    Unit,
    /// `netns=NAME,…`
    Netns,
    /// `tid=N,…`
    Tid,
}

impl TargetKey {
    /// The word before the `=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Comm => "comm",
            Self::Exe => "exe",
            Self::Uid => "uid",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Netns => "netns",
            Self::Tid => "tid",
        }
    }
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
    /// By whom.
    Target(TargetKey),
}

impl Key {
    /// Every key, in the order in which an expression is printed.
    pub const ALL: [Self; 57] = [
        Self::Effect(EffectKey::Error),
        Self::Effect(EffectKey::Loss),
        Self::Effect(EffectKey::Blackhole),
        Self::Effect(EffectKey::Partition),
        Self::Effect(EffectKey::Reset),
        Self::Effect(EffectKey::Unreachable),
        Self::Effect(EffectKey::Rcode),
        Self::Effect(EffectKey::Answer),
        Self::Effect(EffectKey::Drop),
        Self::Effect(EffectKey::Status),
        Self::Effect(EffectKey::Retval),
        Self::Effect(EffectKey::Signal),
        Self::Effect(EffectKey::DelayEnter),
        Self::Effect(EffectKey::DelayExit),
        Self::Effect(EffectKey::Jitter),
        Self::Effect(EffectKey::Short),
        Self::Effect(EffectKey::Delay),
        Self::Effect(EffectKey::Correlation),
        Self::Effect(EffectKey::Distribution),
        Self::Effect(EffectKey::Gemodel),
        Self::Effect(EffectKey::State),
        Self::Effect(EffectKey::Duplicate),
        Self::Effect(EffectKey::Corrupt),
        Self::Effect(EffectKey::Reorder),
        Self::Effect(EffectKey::Rate),
        Self::Effect(EffectKey::Slot),
        Self::Effect(EffectKey::Limit),
        Self::Filter(FilterKey::Port),
        Self::Filter(FilterKey::Sport),
        Self::Filter(FilterKey::Dst),
        Self::Filter(FilterKey::Src),
        Self::Filter(FilterKey::Proto),
        Self::Filter(FilterKey::Interface),
        Self::Filter(FilterKey::On),
        Self::Filter(FilterKey::Fd),
        Self::Filter(FilterKey::Path),
        Self::Filter(FilterKey::Name),
        Self::Filter(FilterKey::Connlimit),
        Self::Trigger(TriggerKey::P),
        Self::Trigger(TriggerKey::When),
        Self::Trigger(TriggerKey::Times),
        Self::Trigger(TriggerKey::After),
        Self::Trigger(TriggerKey::For),
        Self::Trigger(TriggerKey::Pulse),
        Self::Trigger(TriggerKey::RateLimit),
        Self::Trigger(TriggerKey::Over),
        Self::Trigger(TriggerKey::Count),
        Self::Trigger(TriggerKey::Seed),
        Self::Target(TargetKey::Pid),
        Self::Target(TargetKey::Comm),
        Self::Target(TargetKey::Exe),
        Self::Target(TargetKey::Uid),
        Self::Target(TargetKey::Cgroup),
        Self::Target(TargetKey::Container),
        Self::Target(TargetKey::Unit),
        Self::Target(TargetKey::Netns),
        Self::Target(TargetKey::Tid),
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
            Self::Effect(EffectKey::Status) => "status",
            Self::Effect(EffectKey::Retval) => "retval",
            Self::Effect(EffectKey::Signal) => "signal",
            Self::Effect(EffectKey::DelayEnter) => "delay_enter",
            Self::Effect(EffectKey::DelayExit) => "delay_exit",
            Self::Effect(EffectKey::Jitter) => "jitter",
            Self::Effect(EffectKey::Short) => "short",
            Self::Effect(EffectKey::Delay) => "delay",
            Self::Effect(EffectKey::Correlation) => "correlation",
            Self::Effect(EffectKey::Distribution) => "distribution",
            Self::Effect(EffectKey::Gemodel) => "gemodel",
            Self::Effect(EffectKey::State) => "state",
            Self::Effect(EffectKey::Duplicate) => "duplicate",
            Self::Effect(EffectKey::Corrupt) => "corrupt",
            Self::Effect(EffectKey::Reorder) => "reorder",
            Self::Effect(EffectKey::Rate) => "rate",
            Self::Effect(EffectKey::Slot) => "slot",
            Self::Effect(EffectKey::Limit) => "limit",
            Self::Filter(FilterKey::Port) => "port",
            Self::Filter(FilterKey::Sport) => "sport",
            Self::Filter(FilterKey::Dst) => "dst",
            Self::Filter(FilterKey::Src) => "src",
            Self::Filter(FilterKey::Proto) => "proto",
            Self::Filter(FilterKey::Interface) => "interface",
            Self::Filter(FilterKey::On) => "on",
            Self::Filter(FilterKey::Fd) => "fd",
            Self::Filter(FilterKey::Path) => "path",
            Self::Filter(FilterKey::Name) => "name",
            Self::Filter(FilterKey::Connlimit) => "connlimit",
            Self::Trigger(TriggerKey::P) => "p",
            Self::Trigger(TriggerKey::When) => "when",
            Self::Trigger(TriggerKey::Times) => "times",
            Self::Trigger(TriggerKey::After) => "after",
            Self::Trigger(TriggerKey::For) => "for",
            Self::Trigger(TriggerKey::Pulse) => "pulse",
            Self::Trigger(TriggerKey::RateLimit) => "rate_limit",
            Self::Trigger(TriggerKey::Over) => "over",
            Self::Trigger(TriggerKey::Count) => "count",
            Self::Trigger(TriggerKey::Seed) => "seed",
            Self::Target(key) => key.name(),
        }
    }

    /// The key of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether this key makes sense for that operation, be it that a kernel program of its row has it or another backend.
    pub fn fits(self, op: Op) -> bool {
        match (self, op.call()) {
            (Self::Effect(key), Some(call)) => syscall::effects(call).contains(&key),
            (Self::Effect(key), None) => op.kind().effects.contains(&key),
            (Self::Filter(key), call) => {
                op.kind().filters.contains(&key)
                    || call
                        .is_some_and(|call| CALL_FILTERS.contains(&key) && syscalls::has(call, key))
            }
            (Self::Trigger(TriggerKey::Count), call) => call.is_some(),
            (Self::Trigger(_) | Self::Target(_), _) => true,
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
    /// Which kernel object serves it; `None`: no kernel program does.
    pub family: Option<Family>,
    /// The operations it covers; each operation is in exactly one row. None: the calls that no other row has.
    pub ops: &'static [Op],
    /// What its kernel programs can do to them; of a row without, what its backend can.
    pub effects: &'static [EffectKey],
    /// How its kernel programs can narrow them down.
    pub filters: &'static [FilterKey],
    /// One sentence for the help, without a full stop.
    pub summary: &'static str,
    /// One sentence for the help text of its metrics, what one match is.
    pub metric: &'static str,
    /// Expressions that work, for help and documentation.
    pub examples: &'static [&'static str],
}

/// Every row.
pub const FAULTS: [&FaultKind; 16] = [
    &connect::KIND,
    &dns::KIND,
    &http::KIND,
    &egress::KIND,
    &ingress::KIND,
    &open::KIND,
    &read_write::KIND,
    &path::KIND,
    &metadata::KIND,
    &file::KIND,
    &memory::KIND,
    &process::KIND,
    &socket::KIND,
    &ipc::KIND,
    &system::KIND,
    &syscall::KIND,
];

/// The noun for both directions of the network, short for `egress,ingress`.
pub const NET: &str = "net";

/// What [`NET`] stands for.
pub const NET_OPS: [Op; 2] = [Op::Egress, Op::Ingress];

impl FaultKind {
    /// Whether an operation is of this row.
    pub fn covers(&self, op: Op) -> bool {
        op.kind().stem == self.stem
    }
}

impl Op {
    /// The row this operation belongs to.
    pub fn kind(self) -> &'static FaultKind {
        FAULTS
            .into_iter()
            .find(|row| row.ops.contains(&self))
            .unwrap_or(&syscall::KIND)
    }
}

impl Effect {
    /// The keys that spell this effect; their names are the label `effect` of the metrics.
    pub fn keys(&self) -> Vec<EffectKey> {
        match self {
            Self::Error(_) => vec![EffectKey::Error],
            Self::Loss(_) => vec![EffectKey::Loss],
            Self::Call(call) => call.keys().collect(),
            Self::Wire(wire) => vec![wire.key()],
            Self::Netem(netem) => netem.keys().collect(),
        }
    }
}

/// Every name that can stand for an operation in an expression: the operations and `net`.
pub fn operation_names() -> impl Iterator<Item = &'static str> {
    Op::all().map(Op::name).chain([NET])
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
    fn every_operation_is_in_one_row() {
        for op in Op::all() {
            let rows = FAULTS.iter().filter(|row| row.ops.contains(&op));
            assert!(rows.count() <= 1, "{op}");
            assert!(
                op.is_syscall() || op.kind().stem != syscall::KIND.stem,
                "{op}"
            );
        }
    }

    #[test]
    fn rows_are_complete_and_their_names_unique() {
        for (i, row) in FAULTS.iter().enumerate() {
            assert!(
                !row.effects.is_empty() && !row.examples.is_empty(),
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
        for op in Op::all() {
            assert_eq!(operations_named(op.name()), [op]);
        }
        assert_eq!(operations_named(NET), NET_OPS);
        assert_eq!(operations_named("banana"), []);
        for key in Key::ALL {
            assert_eq!(Key::by_name(key.name()), Some(key));
        }
    }
}
