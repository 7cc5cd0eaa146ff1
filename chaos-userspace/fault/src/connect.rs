//! `connect`: a connection that cannot be made.
//!
//! The call fails before anything is sent, so no packet reaches the peer. It matches `connect(2)` on IPv4 and IPv6 sockets,
//! TCP and UDP; `port` and `dst` are those of the address that the caller passes.

use syscalls::Sysno;

use super::model::Op;
use super::registry::{Family, FaultKind, FilterKey, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "connect",
    family: Some(Family::Net),
    ops: &[Op::Call(Sysno::connect)],
    has: &[Property::Connections],
    filters: &[FilterKey::Port, FilterKey::Dst, FilterKey::Connlimit],
    summary: "connect(2) on an IPv4 or IPv6 socket fails with an error, and nothing is sent",
    metric: "calls of connect",
    examples: &[
        "connect:error=ECONNREFUSED:port=5432",
        "connect:error=ETIMEDOUT:dst=10.0.0.0/8,[fd00::]/8:p=20%",
        "connect:error=EAGAIN:port=5432:connlimit=10",
    ],
};
