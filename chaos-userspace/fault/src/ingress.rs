//! `ingress`: packets that were sent to the target and never reach it.
//!
//! `port` and `dst` keep meaning the remote end (here the packet's source), `sport` the local port, so that one filter
//! describes a connection in both directions and `net` can carry it.

use super::model::Op;
use super::registry::{Family, FaultKind, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "ingress",
    family: Some(Family::Net),
    ops: &[Op::Ingress],
    has: &[
        Property::Packet,
        Property::RemoteEnd,
        Property::LocalPort,
        Property::LocalAddress,
        Property::Protocol,
        Property::Interface,
    ],
    filters: &[],
    summary: "packets on their way to the target are lost, late, doubled, damaged or slow",
    metric: "packets received",
    examples: &[
        "ingress:loss=5%:sport=8080",
        "net:loss=100%:after=10s:for=20s",
        "ingress:delay=50ms:reorder=25%,50%",
        "ingress:gemodel=1%,25%",
    ],
};
