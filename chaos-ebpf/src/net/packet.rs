//! Reads what filters ask of a packet.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use chaos_common::dims;
use chaos_ebpf::gate;
use chaos_ebpf::maps::{accept_remote4, accept_remote6};
use chaos_ebpf::tell::Detail;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// Which way a packet goes: it decides which end is the remote one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Egress,
    Ingress,
}

/// Rules that accept a packet. What cannot be read is accepted by no rule that
/// asks for it.
#[inline(always)]
pub(crate) fn accept(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    if dimensions & dims::PACKET == 0 {
        return u64::MAX;
    }
    // SAFETY: the context is valid for the program's whole run.
    match u16::from_be(unsafe { (*skb).protocol } as u16) {
        ETH_P_IP => accept4(skb, dimensions, direction),
        ETH_P_IPV6 => accept6(skb, dimensions, direction),
        _ => 0,
    }
}

/// What a packet is, for whoever listens. Its own header says how long it is: on the
/// way out the buffer's length has the link layer's header in it, on the way in not.
#[inline(always)]
pub(crate) fn detail(skb: *mut __sk_buff) -> Detail {
    // SAFETY: the context is valid for the program's whole run.
    let protocol = u16::from_be(unsafe { (*skb).protocol } as u16);
    let length = match protocol {
        ETH_P_IP => load::<[u8; 2]>(skb, 2).map(|length| u32::from(u16::from_be_bytes(length))),
        ETH_P_IPV6 => {
            load::<[u8; 2]>(skb, 4).map(|payload| u32::from(u16::from_be_bytes(payload)) + 40)
        }
        _ => None,
    };
    Detail::packet(length.unwrap_or(0), protocol)
}

/// RFC 791: version and header length, …, fragment, …, protocol, …, source, destination.
/// One load gets the ports too, where no options are before them: a load costs as much as
/// all the look-ups.
#[inline(always)]
fn accept4(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    let mut bytes = [0; 24];
    if !fill(skb, 0, &mut bytes) {
        let Some(header) = load::<[u8; 20]>(skb, 0) else {
            return 0;
        };
        for (byte, of_header) in bytes.iter_mut().zip(header) {
            *byte = of_header;
        }
    }
    let protocol = bytes[9];
    let mut mask = gate::accept_protocol(dimensions, protocol);
    if dimensions & dims::REMOTE != 0 {
        let remote = match direction {
            Direction::Egress => [bytes[16], bytes[17], bytes[18], bytes[19]],
            Direction::Ingress => [bytes[12], bytes[13], bytes[14], bytes[15]],
        };
        mask &= accept_remote4(remote);
    }
    if dimensions & PORTS == 0 {
        return mask;
    }
    let first_fragment = (u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff) == 0;
    let length = u32::from(bytes[0] & 0xf) * 4;
    let ports = if !has_ports(protocol) || !first_fragment {
        NO_PORTS
    } else if length == 20 {
        [bytes[20], bytes[21], bytes[22], bytes[23]]
    } else {
        load(skb, length).unwrap_or(NO_PORTS)
    };
    mask & accept_ports(dimensions, direction, ports)
}

/// RFC 8200. Extension headers are not walked: behind one, ports are unknown.
#[inline(always)]
fn accept6(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    let mut bytes = [0; 44];
    if !fill(skb, 0, &mut bytes) {
        let Some(header) = load::<[u8; 40]>(skb, 0) else {
            return 0;
        };
        for (byte, of_header) in bytes.iter_mut().zip(header) {
            *byte = of_header;
        }
    }
    let protocol = bytes[6];
    let mut mask = gate::accept_protocol(dimensions, protocol);
    if dimensions & dims::REMOTE != 0 {
        let start = match direction {
            Direction::Egress => 24,
            Direction::Ingress => 8,
        };
        let mut remote = [0; 16];
        for (i, byte) in remote.iter_mut().enumerate() {
            *byte = bytes[start + i];
        }
        mask &= accept_remote6(remote);
    }
    if dimensions & PORTS == 0 {
        return mask;
    }
    let ports = if has_ports(protocol) {
        [bytes[40], bytes[41], bytes[42], bytes[43]]
    } else {
        NO_PORTS
    };
    mask & accept_ports(dimensions, direction, ports)
}

/// Dimensions of ports.
const PORTS: u64 = dims::RPORT | dims::LPORT;

/// Port 0 is reserved: it stands for "none", which rules without a port accept.
const NO_PORTS: [u8; 4] = [0; 4];

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDPLITE)
}

/// `ports`: source and destination, as on the wire.
#[inline(always)]
fn accept_ports(dimensions: u64, direction: Direction, ports: [u8; 4]) -> u64 {
    let source = u16::from_be_bytes([ports[0], ports[1]]);
    let destination = u16::from_be_bytes([ports[2], ports[3]]);
    let (remote, local) = match direction {
        Direction::Egress => (destination, source),
        Direction::Ingress => (source, destination),
    };
    gate::accept_remote_port(dimensions, remote) & gate::accept_local_port(dimensions, local)
}

/// Loads bytes counted from the network header, whatever link layer is before it.
#[inline(always)]
fn load<T: Copy + Zero>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::ZERO;
    fill(skb, offset, &mut value).then_some(value)
}

/// The same into a place of the caller's, which a failure fills with zeros.
#[inline(always)]
fn fill<T>(skb: *mut __sk_buff, offset: u32, value: &mut T) -> bool {
    // SAFETY: the helper writes exactly the size of `value`.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            skb.cast_const().cast::<c_void>(),
            offset,
            core::ptr::from_mut(value).cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    result == 0
}

/// Byte arrays that [`load`] fills without a slice.
trait Zero {
    const ZERO: Self;
}

impl<const N: usize> Zero for [u8; N] {
    const ZERO: Self = [0; N];
}
