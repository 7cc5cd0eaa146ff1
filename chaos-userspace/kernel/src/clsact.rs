//! tc filters where they have no link, that is before Linux 6.6: the clsact qdisc they hang on, and how they are taken away.
//!
//! Everything here acts in the calling thread's network namespace, can be repeated, and takes an interface that has vanished
//! as one where nothing is left to do: the kernel removes qdisc and filters together with their interface.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::TcHandle;
use serde::{Deserialize, Serialize};

use super::netlink::{Answer, ask, message};

/// `TC_H_MAKE(TC_H_CLSACT, 0)`, the handle that tc gives to the qdisc (`linux/pkt_sched.h`).
const QDISC: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
const INGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_INGRESS,
};
const EGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_EGRESS,
};

/// All our filters are of this kind (`cls_bpf`), with or without an action behind them.
pub(super) const FILTER: &str = "bpf";

/// A side of clsact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What leaves by the interface.
    #[default]
    Egress,
    /// What has arrived by it.
    Ingress,
}

impl Side {
    pub(super) const fn parent(self) -> TcHandle {
        match self {
            Self::Egress => EGRESS,
            Self::Ingress => INGRESS,
        }
    }

    /// The side that a place of [`Hook::programs`](murphy_fault::plan::Hook::programs) is on.
    pub fn of_place(place: &str) -> Self {
        match place {
            "tc ingress" => Self::Ingress,
            _ => Self::Egress,
        }
    }

    /// The name that tc has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// Adds the clsact qdisc to an interface. True if this call made it, false if there was one.
///
/// # Errors
///
/// `AlreadyExists` if an `ingress` qdisc, the older kind without an egress side, has its place; it is somebody else's and
/// stays. Otherwise the kernel's answer: no such interface (`ENODEV`), no `CAP_NET_ADMIN` (`EPERM`), a kernel without clsact
/// (`ENOENT`).
pub fn ensure(ifindex: u32) -> io::Result<bool> {
    let request = message(ifindex, QDISC, TcHandle::CLSACT, "clsact")?;
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    match ask(RouteNetlinkMessage::NewQueueDiscipline(request), flags) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => match occupant(ifindex)? {
            Some(kind) if kind != "clsact" => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "the interface has a qdisc of kind {kind} where clsact would go, and that one has no egress filters: \
                     replace it by clsact, which serves its filters too"
                ),
            )),
            _ => Ok(false),
        },
        Err(error) => Err(error),
    }
}

/// Whether an interface has the clsact qdisc.
///
/// # Errors
///
/// The kernel's answer, such as `ENODEV`.
pub fn is_there(ifindex: u32) -> io::Result<bool> {
    Ok(occupant(ifindex)?.as_deref() == Some("clsact"))
}

/// The first priority from `from` on that no filter of this side has.
///
/// # Errors
///
/// All are taken, or the kernel's answer.
pub fn free_priority(ifindex: u32, side: Side, from: u16) -> io::Result<u16> {
    let taken: Vec<_> = filters(ifindex, side.parent())?
        .iter()
        .map(|filter| filter.header.info >> 16)
        .collect();
    (from..=u16::MAX)
        .find(|priority| !taken.contains(&u32::from(*priority)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "all priorities are taken"))
}

/// `TC_H_MAKE(priority, protocol)` for all protocols, the protocol in network byte order.
pub(super) fn info(priority: u16) -> io::Result<u32> {
    let protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    Ok(u32::from(priority) << 16 | u32::from(protocol.to_be()))
}

/// Deletes all of our filters with this priority on this side. False if there is none.
///
/// # Errors
///
/// `InvalidInput` for priority 0, which the kernel understands as all filters of everybody; `AlreadyExists` if the filters of
/// this priority are of another kind or protocol and so not ours: they stay. Otherwise the kernel's answer.
pub fn remove_filters(ifindex: u32, side: Side, priority: u16) -> io::Result<bool> {
    if priority == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "priority 0 stands for every filter, also those of others",
        ));
    }
    let mut request = message(ifindex, TcHandle::UNSPEC, side.parent(), FILTER)?;
    request.header.info = info(priority)?;
    match ask(RouteNetlinkMessage::DelTrafficFilter(request), 0) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENOENT) => Ok(false),
            // Either there is no clsact, or what has the priority is not what was asked for.
            Some(libc::EINVAL) => {
                let taken = filters(ifindex, side.parent())?
                    .iter()
                    .any(|filter| filter.header.info >> 16 == u32::from(priority));
                if taken {
                    return Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!(
                            "the {} filters of priority {priority} are not ours",
                            side.name()
                        ),
                    ));
                }
                Ok(false)
            }
            _ => Err(error),
        },
    }
}

/// Deletes the clsact qdisc if neither its ingress nor its egress side has a filter. False if there is one left, or no clsact.
///
/// The kernel has no "delete if empty": a filter that somebody adds between look and deletion goes with the qdisc. The time
/// between the two is a few microseconds.
///
/// # Errors
///
/// The kernel's answer, such as `EPERM` without `CAP_NET_ADMIN`.
pub fn remove_if_empty(ifindex: u32) -> io::Result<bool> {
    for side in [INGRESS, EGRESS] {
        if !filters(ifindex, side)?.is_empty() {
            return Ok(false);
        }
    }
    let request = message(ifindex, QDISC, TcHandle::CLSACT, "clsact")?;
    match ask(RouteNetlinkMessage::DelQueueDiscipline(request), 0) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // EINVAL: there was one once (the empty place has handle 0), or an `ingress` qdisc is there.
            Some(libc::ENODEV | libc::ENOENT | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

/// The kind of the qdisc that has the place of clsact. From a dump, which is of all interfaces: asked for a single qdisc, Linux
/// 6.18 acknowledged and sent nothing.
fn occupant(ifindex: u32) -> io::Result<Option<String>> {
    let request = message(ifindex, TcHandle::UNSPEC, TcHandle::UNSPEC, "")?;
    let index = request.header.index;
    let answers = ask(RouteNetlinkMessage::GetQueueDiscipline(request), NLM_F_DUMP)?;
    Ok(answers
        .into_iter()
        .find(|answer| answer.header.index == index && answer.header.parent == TcHandle::CLSACT)
        .map(|answer| answer.kind))
}

/// The filters of one side of clsact; none if there is no clsact or no such interface.
fn filters(ifindex: u32, side: TcHandle) -> io::Result<Vec<Answer>> {
    let request = message(ifindex, TcHandle::UNSPEC, side, "")?;
    match ask(RouteNetlinkMessage::GetTrafficFilter(request), NLM_F_DUMP) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_zero_would_delete_the_filters_of_others() {
        let error = remove_filters(1, Side::Egress, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_vanished_interface_leaves_nothing_to_do() {
        // The kernel gives out interface numbers from 1 upwards.
        let gone = i32::MAX.unsigned_abs();
        assert!(filters(gone, EGRESS).unwrap().is_empty());
    }
}
