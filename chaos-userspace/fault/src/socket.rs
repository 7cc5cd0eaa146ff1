//! `socket`: sockets that cannot be made, bound, listened to, or talked through.
//!
//! `connect` is a row of its own. `read` and `write` on a socket belong to `read_write`.

use super::arch::calls;
use super::registry::{Family, FaultKind};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "socket",
    family: Some(Family::Lsm),
    ops: calls!(
        []
        socket socketpair bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg
        recvmmsg setsockopt getsockopt shutdown getsockname getpeername
    ),
    has: &[],
    filters: &[],
    summary: "making or using a socket fails with an error",
    metric: "calls about sockets",
    examples: &[
        "socket:error=EMFILE:p=5%",
        "sendto,sendmsg:error=ENOBUFS:when=3+",
        "accept,accept4:error=ECONNABORTED",
    ],
};
