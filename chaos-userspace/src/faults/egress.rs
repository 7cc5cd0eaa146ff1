//! `egress`: packets that leave and never arrive.
//!
//! True loss: the sender is not told (no `ENOBUFS`, no local retransmission hint), so TCP finds out by its timers, as on a
//! real network. `port` and `dst` are the remote end's, `sport` is the local port.

use super::model::Op;
use super::registry::{Family, FaultKind, FilterKey, PACKET_EFFECTS};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "egress",
    family: Some(Family::Net),
    ops: &[Op::Egress],
    effects: PACKET_EFFECTS,
    filters: &[
        FilterKey::Port,
        FilterKey::Sport,
        FilterKey::Dst,
        FilterKey::Proto,
    ],
    summary: "packets that the target sends are lost, late, doubled, damaged or slow, without the sender being told",
    metric: "packets sent",
    examples: &[
        "egress:loss=10%:dst=10.0.0.0/8",
        "net:loss=30%:port=6379:proto=tcp",
        "egress:delay=100ms:jitter=20ms:distribution=normal",
        "net:delay=200ms:jitter=50ms:loss=1%:port=6379",
        "egress:rate=1mbit",
    ],
};
