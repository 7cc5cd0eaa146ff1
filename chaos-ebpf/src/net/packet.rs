//! Reads what filters ask of a packet.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use chaos_common::dims;
use chaos_ebpf::gate;
use chaos_ebpf::maps::{accept_local4, accept_local6, accept_remote4, accept_remote6};
use chaos_ebpf::tell::Detail;

use crate::interface;

pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

// Extension headers of IPv6.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;
/// How many of them are looked behind; more than two are seldom seen.
const EXTENSIONS: usize = 4;

/// Which way a packet goes: it decides which end is the remote one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Egress,
    Ingress,
}

/// Rules that accept a packet where it is. What cannot be read is accepted by no rule that
/// asks for it.
#[inline(always)]
pub(crate) fn accept(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    let here = interface::accept(skb, dimensions);
    if here == 0 {
        return 0;
    }
    here & accept_headers(skb, dimensions, direction)
}

/// Rules that accept what is in a packet, wherever it is.
#[inline(always)]
pub(crate) fn accept_headers(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    if dimensions & dims::PACKET == 0 {
        return u64::MAX;
    }
    murphy_accept(skb, dimensions, u64::from(direction == Direction::Egress))
}

/// The part of [`accept_headers`] that looks into the packet.
///
/// A global function, which the verifier looks at once, whatever led there; and with a stack
/// of its own: 512 bytes is all there is for what is called in a row.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_accept(skb: *mut __sk_buff, dimensions: u64, leaves: u64) -> u64 {
    let direction = if leaves != 0 {
        Direction::Egress
    } else {
        Direction::Ingress
    };
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

/// Where the transport header is, and of what protocol.
#[derive(Clone, Copy)]
struct Transport {
    protocol: u8,
    offset: u32,
    /// Not the first fragment: the transport header is in another packet.
    headless: bool,
}

impl Transport {
    /// RFC 791: version and header length, …, fragment, …, protocol.
    #[inline(always)]
    fn behind4(header: &[u8; 20]) -> Self {
        Self {
            protocol: header[9],
            offset: u32::from(header[0] & 0xf) * 4,
            headless: u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0,
        }
    }

    /// Behind the extension headers of RFC 8200.
    #[inline(always)]
    fn behind6(skb: *mut __sk_buff, next: u8) -> Self {
        if !is_extension(next) {
            return Self {
                protocol: next,
                offset: 40,
                headless: false,
            };
        }
        let packed = behind_extensions(skb, u64::from(next));
        Self {
            protocol: packed as u8,
            offset: (packed >> 8) as u32 & 0xffff,
            headless: packed >> 32 != 0,
        }
    }

    /// Source and destination port, in network byte order, of what has them.
    #[inline(always)]
    fn ports(self, skb: *mut __sk_buff) -> Option<[u8; 4]> {
        if self.headless || !has_ports(self.protocol) {
            return None;
        }
        load::<[u8; 4]>(skb, self.offset)
    }
}

/// The source port and the destination port of a packet, which are the lower 16 bits; 0 of one that
/// has none.
#[inline(never)]
pub(crate) fn ports(skb: *mut __sk_buff) -> u32 {
    try_ports(skb).map_or(0, u32::from_be_bytes)
}

#[inline(always)]
fn try_ports(skb: *mut __sk_buff) -> Option<[u8; 4]> {
    // SAFETY: the context is valid for the program's whole run.
    match u16::from_be(unsafe { (*skb).protocol } as u16) {
        ETH_P_IP => Transport::behind4(&load::<[u8; 20]>(skb, 0)?).ports(skb),
        // Behind extension headers they are not looked for.
        ETH_P_IPV6 if has_ports(load::<[u8; 7]>(skb, 0)?[6]) => load(skb, 40),
        _ => None,
    }
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | OPTIONS
    )
}

/// Walks behind the extension headers of RFC 8200, as many as [`EXTENSIONS`]: a byte of the
/// protocol, two of the offset, then whether the transport header is in another fragment.
/// Encrypted headers (ESP) end the walk: nobody can look behind them.
///
/// Not inlined: it is rare, and would be there three times.
#[inline(never)]
fn behind_extensions(skb: *mut __sk_buff, next: u64) -> u64 {
    let mut protocol = next as u8;
    let mut offset = 40;
    let mut headless = 0;
    for _ in 0..EXTENSIONS {
        if !is_extension(protocol) || headless != 0 {
            break;
        }
        // Next header, length, and of a fragment its place in the packet.
        let Some(header) = load::<[u8; 4]>(skb, offset) else {
            break;
        };
        let units = u32::from(header[1]);
        offset += match protocol {
            FRAGMENT => {
                headless = u64::from(u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0);
                8
            }
            // RFC 4302: in units of four bytes, less two.
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        protocol = header[0];
    }
    u64::from(protocol) | u64::from(offset & 0xffff) << 8 | headless << 32
}

/// Both ends of a connection, as `struct bpf_sock_tuple` has them: source and destination
/// address, source and destination port, in network byte order.
#[repr(C)]
pub(crate) struct Ends {
    pub(crate) words: [u32; 9],
    /// How many bytes of them: [`Ends::V4`] or [`Ends::V6`].
    pub(crate) size: u32,
}

impl Ends {
    pub(crate) const V4: u32 = 12;
    pub(crate) const V6: u32 = 36;
}

/// Both ends of a TCP (then true) or UDP packet.
#[inline(always)]
pub(crate) fn ends(skb: *mut __sk_buff) -> Option<(Ends, bool)> {
    let word = |bytes: &[u8], at: usize| {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let mut words = [0; 9];
    // SAFETY: the context is valid for the program's whole run.
    let (transport, size) = match u16::from_be(unsafe { (*skb).protocol } as u16) {
        ETH_P_IP => {
            let header = load::<[u8; 20]>(skb, 0)?;
            words[0] = word(&header, 12);
            words[1] = word(&header, 16);
            (Transport::behind4(&header), Ends::V4)
        }
        ETH_P_IPV6 => {
            let header = load::<[u8; 40]>(skb, 0)?;
            for i in 0..8 {
                words[i] = word(&header, 8 + 4 * i);
            }
            (Transport::behind6(skb, header[6]), Ends::V6)
        }
        _ => return None,
    };
    if !matches!(transport.protocol, TCP | UDP) {
        return None;
    }
    let ports = u32::from_ne_bytes(transport.ports(skb)?);
    words[if size == Ends::V4 { 2 } else { 8 }] = ports;
    Some((Ends { words, size }, transport.protocol == TCP))
}

/// RFC 791: version and header length, …, fragment, …, protocol, …, source, destination.
/// One load gets the ports too, where no options are before them: a load costs as much as
/// all the look-ups.
///
/// Not inlined, like [`accept6`]: together they would take the stack of both.
#[inline(never)]
fn accept4(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    let mut bytes = MaybeUninit::<[u8; 24]>::uninit();
    let whole = fill(skb, 0, &mut bytes);
    // SAFETY: `fill` has written them all, whatever it said.
    let bytes = unsafe { bytes.assume_init_mut() };
    if !whole {
        let Some(header) = load::<[u8; 20]>(skb, 0) else {
            return 0;
        };
        for (byte, of_header) in bytes.iter_mut().zip(header) {
            *byte = of_header;
        }
    }
    let protocol = bytes[9];
    let mut mask = gate::accept_protocol(dimensions, protocol);
    if dimensions & ADDRESSES != 0 {
        let source = [bytes[12], bytes[13], bytes[14], bytes[15]];
        let destination = [bytes[16], bytes[17], bytes[18], bytes[19]];
        let (remote, local) = match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        };
        if dimensions & dims::REMOTE != 0 {
            mask &= accept_remote4(dimensions, remote);
        }
        if dimensions & dims::LOCAL != 0 {
            mask &= accept_local4(dimensions, local);
        }
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

/// RFC 8200. Extension headers, which are rare, cost loads of their own.
#[inline(never)]
fn accept6(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    let mut bytes = MaybeUninit::<[u8; 44]>::uninit();
    let whole = fill(skb, 0, &mut bytes);
    // SAFETY: `fill` has written them all, whatever it said.
    let bytes = unsafe { bytes.assume_init_mut() };
    if !whole {
        // Nothing follows the header. SAFETY: the first 40 of these bytes, which are valid as any.
        let header = unsafe { &mut *(&raw mut *bytes).cast::<[u8; 40]>() };
        if !fill(skb, 0, header) {
            return 0;
        }
    }
    let transport = Transport::behind6(skb, bytes[6]);
    let protocol = transport.protocol;
    let mut mask = gate::accept_protocol(dimensions, protocol);
    if dimensions & ADDRESSES != 0 {
        let (remote, local) = match direction {
            Direction::Egress => (24, 8),
            Direction::Ingress => (8, 24),
        };
        if dimensions & dims::REMOTE != 0 {
            // SAFETY: sixteen bytes within the header.
            let remote = unsafe { &*(&raw const bytes[remote]).cast::<[u8; 16]>() };
            mask &= accept_remote6(dimensions, remote);
        }
        if dimensions & dims::LOCAL != 0 {
            // SAFETY: as above.
            let local = unsafe { &*(&raw const bytes[local]).cast::<[u8; 16]>() };
            mask &= accept_local6(dimensions, local);
        }
    }
    if dimensions & PORTS == 0 {
        return mask;
    }
    let ports = if has_ports(protocol) && transport.offset == 40 {
        [bytes[40], bytes[41], bytes[42], bytes[43]]
    } else {
        transport.ports(skb).unwrap_or(NO_PORTS)
    };
    mask & accept_ports(dimensions, direction, ports)
}

/// Dimensions of addresses.
const ADDRESSES: u64 = dims::REMOTE | dims::LOCAL;

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
pub(crate) fn load<T: Copy + Zero>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let whole = fill(skb, offset, &mut value);
    // SAFETY: written, and bytes may be any.
    whole.then(|| unsafe { value.assume_init() })
}

/// The same into a place of the caller's, which a failure fills with zeros: it needs no value before, and filling it with
/// one would cost a loop over its bytes.
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
pub(crate) trait Zero {
    const ZERO: Self;
}

impl<const N: usize> Zero for [u8; N] {
    const ZERO: Self = [0; N];
}
