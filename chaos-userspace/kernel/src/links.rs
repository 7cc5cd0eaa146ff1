//! The network interfaces of the calling thread's network namespace.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    DecodeError, Emitable as _, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use rustix::net::{AddressFamily, SocketType, socket};

use super::netlink::{ask_for, find};
use murphy_fault::plan::{Link, Network};

// Attributes of links (`linux/if_link.h`).
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINK_NETNSID: u16 = 37;

/// All interfaces, and what tells the namespace from others.
pub fn network() -> io::Result<Network> {
    // Of no family that anybody looks for: it is asked where it is, and does nothing else.
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    let cookie = cookie(&socket)?;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers: Vec<Answer> = ask_for(request, NLM_F_DUMP)?;
    Ok(Network {
        cookie,
        links: answers.into_iter().map(|answer| answer.0).collect(),
    })
}

/// The cookie of the network namespace that a socket is in (`SO_NETNS_COOKIE`, 5.14).
pub(super) fn cookie(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel writes as many bytes as the length says, which is that of the value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A link, as far as it concerns us; its other attributes are not parsed.
struct Answer(Link);

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = LinkHeader::parse(payload)?;
        let attributes = payload.get(header.buffer_len()..).unwrap_or_default();
        let number = |kind| {
            let bytes = find(attributes, kind)?;
            let number = u32::from_ne_bytes(bytes.first_chunk().copied()?);
            (number != 0).then_some(number)
        };
        let name = find(attributes, IFLA_IFNAME).unwrap_or_default();
        // The number of one in another namespace says nothing here.
        let elsewhere = find(attributes, IFLA_LINK_NETNSID).is_some();
        Ok(Self(Link {
            index: header.index,
            name: String::from_utf8_lossy(&name)
                .trim_end_matches('\0')
                .to_owned(),
            loopback: header.flags.contains(LinkFlags::Loopback),
            // An interface that is on no other gives itself.
            lower: number(IFLA_LINK).filter(|lower| !elsewhere && *lower != header.index),
            master: number(IFLA_MASTER),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_always_there() {
        let network = network().unwrap();
        let lo = network.links.iter().find(|link| link.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.index), ("lo", 1));
        assert_eq!((lo.lower, lo.master), (None, None));
        assert_ne!(network.cookie, 0);
    }

    #[test]
    fn a_vlan_is_on_another_and_a_part_has_a_master() {
        // struct ifinfomsg: index 7; then IFLA_IFNAME "eth0.5", IFLA_LINK 2, IFLA_MASTER 9.
        let mut payload = vec![0; LinkHeader::default().buffer_len()];
        payload[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        payload.extend_from_slice(b"\x0b\0\x03\0eth0.5\0\0");
        payload.extend_from_slice(&[8, 0, 5, 0, 2, 0, 0, 0]);
        payload.extend_from_slice(&[8, 0, 10, 0, 9, 0, 0, 0]);
        let Answer(link) = Answer::deserialize(&NetlinkHeader::default(), &payload).unwrap();
        assert_eq!((link.index, link.name.as_str()), (7, "eth0.5"));
        if cfg!(target_endian = "little") {
            assert_eq!((link.lower, link.master), (Some(2), Some(9)));
            // The same with IFLA_LINK_NETNSID: the other end is elsewhere.
            payload.extend_from_slice(&[8, 0, 37, 0, 1, 0, 0, 0]);
            let Answer(link) = Answer::deserialize(&NetlinkHeader::default(), &payload).unwrap();
            assert_eq!(link.lower, None);
        }
    }
}
