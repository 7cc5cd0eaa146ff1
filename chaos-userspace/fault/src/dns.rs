//! `dns`: names that cannot be resolved, or lead to the wrong place.
//!
//! The query is answered in the kernel as it leaves; no server sees it. `port` is the server's, 53 unless said, `dst` the
//! server's address, `name` the name that is asked for.

use super::model::Op;
use super::registry::{Family, FaultKind, Property};

/// The port of a DNS server.
pub(crate) const PORT: u16 = 53;

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "dns",
    family: Some(Family::Net),
    ops: &[Op::Dns],
    has: &[
        Property::Query,
        Property::RemoteEnd,
        Property::LocalAddress,
        Property::Protocol,
        Property::Interface,
    ],
    filters: &[],
    summary: "DNS queries of the target are answered with an error or a wrong address, or are lost",
    metric: "DNS queries",
    examples: &[
        "dns:rcode=NXDOMAIN:name=*.example.com",
        "dns:answer=192.0.2.1:name=db.example.com",
        "dns:drop:p=30%",
    ],
};
