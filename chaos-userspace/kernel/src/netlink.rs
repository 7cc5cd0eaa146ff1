//! Requests to the kernel's rtnetlink, one socket each: what `clsact`, `netem` and `links` send, and the answers as far as they concern us.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

// Attributes of qdiscs and filters (`linux/rtnetlink.h`).
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
/// `struct gnet_stats_queue` within them (`linux/gen_stats.h`); it begins with the length of the queue.
const TCA_STATS_QUEUE: u16 = 3;

/// The largest message that the kernel makes of a dump (`netlink_dump`).
const MESSAGE: usize = 32 * 1024;

/// A message about a qdisc or filter.
pub(super) fn message(
    ifindex: u32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
) -> io::Result<TcMessage> {
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

/// Options in the layout of the kind, which the kernel alone reads.
pub(super) fn options(bytes: Vec<u8>) -> TcAttribute {
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, bytes))
}

/// Sends one request and collects what is answered about qdiscs and filters.
pub(super) fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Answer>> {
    ask_for(request, flags)
}

/// Sends one request and collects what is answered, up to the acknowledgement or the end of the dump.
pub(super) fn ask_for<A>(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<A>>
where
    A: NetlinkDeserializable<Error = DecodeError>,
{
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
            let message = NetlinkMessage::<A>::deserialize(rest).map_err(invalid)?;
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
                NetlinkPayload::Noop | _ => {}
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
pub(super) struct Answer {
    pub(super) header: TcHeader,
    pub(super) kind: String,
    /// Packets that wait in a qdisc.
    pub(super) queued: Option<u32>,
}

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = TcHeader::parse(payload)?;
        let attributes = payload.get(header.buffer_len()..).unwrap_or_default();
        let kind = find(attributes, TCA_KIND)
            .map(|kind| {
                String::from_utf8_lossy(&kind)
                    .trim_end_matches('\0')
                    .to_owned()
            })
            .unwrap_or_default();
        let queued = find(attributes, TCA_STATS2)
            .and_then(|statistics| find(&statistics, TCA_STATS_QUEUE))
            .and_then(|queue| queue.first_chunk().copied())
            .map(u32::from_ne_bytes);
        Ok(Self {
            header,
            kind,
            queued,
        })
    }
}

/// The value of the first attribute of that kind.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == kind)
        .map(|attribute| attribute.value().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

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
