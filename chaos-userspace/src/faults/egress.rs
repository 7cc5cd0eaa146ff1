//! `egress`: packets that leave and never arrive.
//!
//! True loss: the sender is not told (no `ENOBUFS`, no local retransmission hint), so TCP finds out by its timers, as on a
//! real network. `port` and `dst` are the remote end's, `sport` is the local port.

use super::model::Op;
use super::registry::{EffectKey, Family, FaultKind, FilterKey};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "egress",
    family: Some(Family::Net),
    ops: &[Op::Egress],
    effects: &[EffectKey::Loss],
    filters: &[
        FilterKey::Port,
        FilterKey::Sport,
        FilterKey::Dst,
        FilterKey::Proto,
    ],
    summary: "packets that the target sends are lost on the way, without the sender being told",
    metric: "packets sent",
    examples: &[
        "egress:loss=10%:dst=10.0.0.0/8",
        "net:loss=30%:port=6379:proto=tcp",
    ],
};
