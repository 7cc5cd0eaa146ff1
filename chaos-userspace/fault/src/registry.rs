//! Every fault murphy knows, one row each.
//!
//! A row's constant and what it means live in a file of the same name; here is the type of a row and
//! the list. A row's `stem` is also the name of its program file in chaos-ebpf, of its page
//! `docs/faults/<stem>.md` (of conditions `docs/conditions/<stem>.md`), and of its test
//! `tests/tests/<stem>.rs`, or of its rows in `tests/tests/calls.rs`.

use ::syscalls::Sysno;
use serde::Serialize;

pub use super::expr::keys::{EffectKey, FilterKey, Key, KeyDef, TargetKey, TriggerKey};
use super::model::Op;
use super::syscall::Moves;
use super::syscalls::Argument;
use super::{
    connect, dns, egress, file, http, ingress, ipc, limit, memory, metadata, open, path, process,
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

/// A property of operations. A key names those that it needs, an operation those that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Nothing in particular: every operation has it.
    Any,
    /// A system call.
    Call,
    /// A call that reads bytes into a buffer.
    Reads,
    /// A call that writes the bytes of a buffer.
    Writes,
    /// A call with a descriptor.
    Descriptor,
    /// A call with a descriptor or a path.
    File,
    /// A call with a socket address.
    Address,
    /// A call that makes connections.
    Connections,
    /// Packets, either way.
    Packet,
    /// Packets that leave.
    Leaving,
    /// DNS queries.
    Query,
    /// Responses by HTTP.
    Response,
    /// The path of a request.
    Url,
    /// Address and port of the remote end.
    RemoteEnd,
    /// A port of the local end.
    LocalPort,
    /// An address of the local end.
    LocalAddress,
    /// A transport protocol that varies.
    Protocol,
    /// A network interface.
    Interface,
    /// It happens, again and again: there are operations to choose among.
    Happens,
    /// It holds while the fault is in force: a condition.
    Condition,
    /// Resource limits.
    Limits,
}

impl Property {
    /// Whether a system call has it by itself, whatever its row.
    fn is_of_call(self, call: Sysno) -> bool {
        match self {
            Self::Any | Self::Call | Self::Happens => true,
            Self::Reads => Moves::of(call) == Some(Moves::Reads),
            Self::Writes => Moves::of(call) == Some(Moves::Writes),
            Self::Descriptor => syscalls::takes(call, &[Argument::Fd]),
            Self::File => syscalls::takes(call, &[Argument::Fd, Argument::Path, Argument::Cwd]),
            Self::Address => syscalls::takes(call, &[Argument::Address]),
            Self::Connections
            | Self::Packet
            | Self::Leaving
            | Self::Query
            | Self::Response
            | Self::Url
            | Self::RemoteEnd
            | Self::LocalPort
            | Self::LocalAddress
            | Self::Protocol
            | Self::Interface
            | Self::Condition
            | Self::Limits => false,
        }
    }
}

/// One row: a fault murphy knows, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultKind {
    /// Name of its files everywhere (see the module), and the label `fault` of its metrics.
    pub stem: &'static str,
    /// Which kernel object serves it; `None`: no kernel program does.
    pub family: Option<Family>,
    /// The operations it covers; each operation is in exactly one row. None: the calls that no other row has.
    pub ops: &'static [Op],
    /// What its operations have, beside what every system call has by itself.
    pub has: &'static [Property],
    /// Of calls, the filters that its hooks look at; packets have all that fit them.
    pub filters: &'static [FilterKey],
    /// One sentence for the help, without a full stop.
    pub summary: &'static str,
    /// One sentence for the help text of its metrics, what one match is.
    pub metric: &'static str,
    /// Expressions that work, for help and documentation.
    pub examples: &'static [&'static str],
}

/// Every row.
pub const FAULTS: [&FaultKind; 17] = [
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
    &limit::KIND,
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

    /// Whether it has what a key needs.
    pub fn has(self, property: Property) -> bool {
        let happens = !self.kind().has.contains(&Property::Condition);
        property == Property::Any
            || property == Property::Happens && happens
            || self.kind().has.contains(&property)
            || self.call().is_some_and(|call| property.is_of_call(call))
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
            let mut effects = EffectKey::ALL.iter().map(|key| Key::Effect(*key));
            let ops = || row.ops.iter();
            assert!(
                effects.any(|key| ops().all(|op| key.fits(*op))) && !row.examples.is_empty(),
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
        for key in Key::all() {
            assert_eq!(Key::by_name(key.name()), Some(key));
        }
    }
}
