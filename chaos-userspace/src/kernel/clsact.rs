//! tc filters where they have no link, that is before Linux 6.6: the clsact qdisc they hang on, and how they are taken away.
//!
//! Everything here acts in the calling thread's network namespace, can be repeated, and takes an interface that has vanished
//! as one where nothing is left to do: the kernel removes qdisc and filters together with their interface.

use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

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
const FILTER: &str = "bpf";

/// `TCA_KIND` (`linux/rtnetlink.h`).
const TCA_KIND: u16 = 1;

/// The largest message that the kernel makes of a dump (`netlink_dump`).
const MESSAGE: usize = 32 * 1024;

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

/// Deletes all of our egress filters with this priority. False if there is none.
///
/// # Errors
///
/// `InvalidInput` for priority 0, which the kernel understands as all filters of everybody; `AlreadyExists` if the filters of
/// this priority are of another kind or protocol and so not ours: they stay. Otherwise the kernel's answer.
pub fn remove_filters(ifindex: u32, priority: u16) -> io::Result<bool> {
    if priority == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "priority 0 stands for every filter, also those of others",
        ));
    }
    let mut request = message(ifindex, TcHandle::UNSPEC, EGRESS, FILTER)?;
    // TC_H_MAKE(priority, protocol), the protocol in network byte order (tc_del_tfilter).
    let protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    request.header.info = u32::from(priority) << 16 | u32::from(protocol.to_be());
    match ask(RouteNetlinkMessage::DelTrafficFilter(request), 0) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENOENT) => Ok(false),
            // Either there is no clsact, or what has the priority is not what was asked for.
            Some(libc::EINVAL) => {
                let taken = filters(ifindex, EGRESS)?
                    .iter()
                    .any(|filter| filter.header.info >> 16 == u32::from(priority));
                if taken {
                    return Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!("the egress filters of priority {priority} are not ours"),
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

fn message(ifindex: u32, handle: TcHandle, parent: TcHandle, kind: &str) -> io::Result<TcMessage> {
    let index = i32::try_from(ifindex)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut message = TcMessage::with_index(index);
    message.header.handle = handle;
    message.header.parent = parent;
    if !kind.is_empty() {
        message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    }
    Ok(message)
}

/// Sends one request and collects what is answered, up to the acknowledgement or the end of the dump.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Answer>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut packet = NetlinkMessage::from(request);
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let mut received = Vec::with_capacity(MESSAGE);
        // More than the buffer holds is told by the length, not cut silently.
        let length = socket.recv(&mut received, libc::MSG_TRUNC)?;
        if length == 0 || length > received.len() {
            return Err(invalid(format!("a netlink datagram of {length} bytes")));
        }
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Answer>::deserialize(rest).map_err(invalid)?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) => match error.code {
                    Some(code) => return Err(kernel_error(code.get())),
                    None => return Ok(answers),
                },
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(kernel_error(done.code));
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Overrun(_) => {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
                }
                _ => {}
            }
            // Each message is padded to four bytes (NLMSG_ALIGN).
            let length = usize::try_from(message.header.length).map_err(io::Error::other)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// What an error message carries is the negative errno.
fn kernel_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A qdisc or filter, as far as it concerns us. The options of other people's filters are never parsed: there are more kinds
/// than any parser knows, and one that cannot be read is still a filter that must survive.
#[derive(Debug)]
struct Answer {
    header: TcHeader,
    kind: String,
}

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = TcHeader::parse(payload)?;
        let attributes = payload.get(header.buffer_len()..).unwrap_or_default();
        let kind = NlasIterator::new(attributes)
            .filter_map(Result::ok)
            .find(|attribute| attribute.kind() == TCA_KIND)
            .map(|attribute| {
                String::from_utf8_lossy(attribute.value())
                    .trim_end_matches('\0')
                    .to_owned()
            })
            .unwrap_or_default();
        Ok(Self { header, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_zero_would_delete_the_filters_of_others() {
        let error = remove_filters(1, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_vanished_interface_leaves_nothing_to_do() {
        // The kernel gives out interface numbers from 1 upwards.
        let gone = i32::MAX.unsigned_abs();
        assert!(filters(gone, EGRESS).unwrap().is_empty());
    }

    #[test]
    fn filters_we_cannot_read_are_still_filters() {
        // struct tcmsg, then TCA_KIND "flower", then options of a kind that no parser here knows.
        let mut payload = vec![0; TcHeader::default().buffer_len()];
        payload[16..20].copy_from_slice(&(7_u32 << 16).to_ne_bytes());
        payload.extend_from_slice(&[11, 0, 1, 0]);
        payload.extend_from_slice(b"flower\0\0");
        payload.extend_from_slice(&[8, 0, 2, 0, 0xff, 0xff, 0xff, 0xff]);
        let answer = Answer::deserialize(&NetlinkHeader::default(), &payload).unwrap();
        assert_eq!(
            (answer.header.info >> 16, answer.kind.as_str()),
            (7, "flower")
        );
    }
}
