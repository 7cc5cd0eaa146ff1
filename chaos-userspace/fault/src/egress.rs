//! `egress`: packets that leave and never arrive.
//!
//! True loss: the sender is not told (no `ENOBUFS`, no local retransmission hint), so TCP finds out by its timers, as on a
//! real network. `port` and `dst` are the remote end's, `sport` is the local port.

use super::model::Op;
use super::registry::{Family, FaultKind, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "egress",
    family: Some(Family::Net),
    ops: &[Op::Egress],
    has: &[
        Property::Packet,
        Property::Leaving,
        Property::RemoteEnd,
        Property::LocalPort,
        Property::LocalAddress,
        Property::Protocol,
        Property::Interface,
    ],
    filters: &[],
    summary: "packets that the target sends are lost, late, doubled, damaged or slow without it being told, reset their connection, or are answered with an ICMP error",
    metric: "packets sent",
    examples: &[
        "egress:loss=10%:dst=10.0.0.0/8",
        "net:loss=30%:port=6379:proto=tcp",
        "net:partition:dst=10.0.0.1,10.0.0.2:after=10s:for=30s",
        "egress:reset:port=443:p=1%",
        "egress:unreachable=host:dst=10.0.0.0/8",
        "egress:delay=100ms:jitter=20ms:distribution=normal",
        "net:delay=200ms:jitter=50ms:loss=1%:port=6379",
        "egress:rate=1mbit",
    ],
};
