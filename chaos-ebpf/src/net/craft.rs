//! Makes another packet of a packet, and sends it where it belongs.
//!
//! Kernel interface: `bpf_skb_change_tail` (4.9), which also takes segmentation offload off the buffer,
//! `bpf_skb_store_bytes`, `bpf_csum_diff`, `bpf_redirect` to ingress (4.5).
//!
//! Checksums: TCP hands over buffers whose checksum the device completes from the sum of the pseudo-header, and
//! UDP does so where the device can. What is turned round is believed as it is then; it gets a
//! whole checksum all the same, for the buffers that are not of this kind.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_csum_diff, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};

use crate::packet::{ETH_P_IP, ETH_P_IPV6, Zero, load};

/// "Not for me": the next program, the next filter, the queue.
pub(crate) const TC_ACT_UNSPEC: i32 = -1;
/// Interface indexes are handed out from 1 upwards; this one is never reached.
const NOWHERE: u32 = 0x7fff_fff0;
/// The loopback interface's index in every network namespace.
const LOOPBACK: u32 = 1;
/// Length of an Ethernet header.
const ETHERNET: u32 = 14;

/// Where the parts of a packet are.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// The network header's offset in the buffer: the length of the link layer's.
    pub(crate) network: u32,
    /// Length of the network header.
    pub(crate) header: u32,
    /// Bytes from the network header on.
    pub(crate) length: u32,
    /// Whether it is an IPv6 packet.
    pub(crate) is_v6: bool,
    /// Transport protocol.
    pub(crate) protocol: u8,
}

impl Layout {
    /// Of a whole packet, that is no fragment, without IPv6 extension headers, and of a length that
    /// its own header tells.
    #[inline(always)]
    pub(crate) fn of(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: the context is valid for the program's whole run.
        let (protocol, total) = unsafe { (u16::from_be((*skb).protocol as u16), (*skb).len) };
        let (header, length, is_v6, protocol) = match protocol {
            ETH_P_IP => {
                let header = load::<[u8; 20]>(skb, 0)?;
                // More fragments, or not the first.
                if (u16::from_be_bytes([header[6], header[7]]) & 0x3fff) != 0 {
                    return None;
                }
                let length = u32::from(u16::from_be_bytes([header[2], header[3]]));
                (u32::from(header[0] & 0xf) * 4, length, false, header[9])
            }
            ETH_P_IPV6 => {
                let header = load::<[u8; 8]>(skb, 0)?;
                let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
                if payload == 0 {
                    return None;
                }
                (40, payload + 40, true, header[6])
            }
            _ => return None,
        };
        if length > total || header < 20 || header > 60 || length < header {
            return None;
        }
        Some(Self {
            network: total - length,
            header,
            length,
            is_v6,
            protocol,
        })
    }

    /// Offset of the transport header in the buffer.
    #[inline(always)]
    pub(crate) fn transport(&self) -> u32 {
        self.network + self.header
    }
}

/// Reads bytes at an offset in the buffer.
#[inline(always)]
pub(crate) fn read<T: Copy + Zero>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::ZERO;
    read_into(skb, offset, &mut value).then_some(value)
}

/// The same to where they belong: a copy of many bytes is much of a stack.
#[inline(always)]
pub(crate) fn read_into<T: Copy + Zero>(skb: *mut __sk_buff, offset: u32, value: &mut T) -> bool {
    // SAFETY: the helper writes exactly the size of `value` or fails; any bytes are a `T`.
    let result = unsafe {
        bpf_skb_load_bytes(
            skb.cast_const().cast::<c_void>(),
            offset,
            ptr::from_mut(value).cast(),
            size_of::<T>() as u32,
        )
    };
    result == 0
}

/// Writes bytes at an offset in the buffer.
#[inline(always)]
pub(crate) fn write<T: Copy>(skb: *mut __sk_buff, offset: u32, value: &T) -> Option<()> {
    // SAFETY: the helper reads exactly the size of `value`.
    let result = unsafe {
        bpf_skb_store_bytes(
            skb,
            offset,
            ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
            0,
        )
    };
    (result == 0).then_some(())
}

/// Makes the buffer this long, from the link layer's header on.
#[inline(always)]
pub(crate) fn resize(skb: *mut __sk_buff, length: u32) -> Option<()> {
    // SAFETY: the context is valid for the program's whole run.
    (unsafe { bpf_skb_change_tail(skb, length, 0) } == 0).then_some(())
}

/// Adds bytes to a checksum that is not folded yet. Their number is a multiple of four.
#[inline(always)]
pub(crate) fn sum<T>(bytes: &T, seed: u32) -> u32 {
    // SAFETY: the helper reads exactly the size of `bytes`; there is nothing to subtract.
    let sum = unsafe {
        bpf_csum_diff(
            ptr::null_mut(),
            0,
            ptr::from_ref(bytes).cast_mut().cast(),
            size_of::<T>() as u32,
            seed,
        )
    };
    sum as u32
}

/// Folds a sum to sixteen bits (RFC 1071), in memory order.
#[inline(always)]
pub(crate) fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What is summed for TCP, UDP and `ICMPv6` beside their own bytes, not folded. The addresses are read
/// from the packet; their order does not matter.
///
/// Like the others below not inlined: a program's stack is small.
#[inline(never)]
pub(crate) fn pseudo_header(
    skb: *mut __sk_buff,
    network: u32,
    is_v6: bool,
    protocol: u8,
    length: u32,
) -> u32 {
    let mut rest = [0; 8];
    [rest[0], rest[1], rest[2], rest[3]] = length.to_be_bytes();
    rest[7] = protocol;
    let seed = sum(&rest, 0);
    if is_v6 {
        read::<[u8; 32]>(skb, network + 8).map_or(0, |ends| sum(&ends, seed))
    } else {
        read::<[u8; 8]>(skb, network + 12).map_or(0, |ends| sum(&ends, seed))
    }
}

/// Swaps source and destination address. No checksum changes by it.
#[inline(never)]
pub(crate) fn turn_ends(skb: *mut __sk_buff, network: u32, is_v6: bool) -> bool {
    if is_v6 {
        swap::<[u8; 16]>(skb, network + 8)
    } else {
        swap::<[u8; 4]>(skb, network + 12)
    }
}

/// Swaps two neighbours.
#[inline(always)]
fn swap<T: Copy + Zero>(skb: *mut __sk_buff, at: u32) -> bool {
    let next = at + size_of::<T>() as u32;
    // Not by two options: their bytes would be copied on the way on which they were not read, and kernels
    // before 6.3 let no program read a stack it has not written.
    let (mut one, mut other) = (T::ZERO, T::ZERO);
    read_into(skb, at, &mut one)
        && read_into(skb, next, &mut other)
        && write(skb, at, &other).is_some()
        && write(skb, next, &one).is_some()
}

/// Writes the length of what follows the network header, and what depends on it there.
#[inline(never)]
pub(crate) fn write_length(skb: *mut __sk_buff, network: u32, header: u32, payload: u32) -> bool {
    let version = read::<[u8; 1]>(skb, network).map_or(0, |first| first[0] >> 4);
    if version == 6 {
        return write(skb, network + 4, &(payload as u16).to_be_bytes()).is_some();
    }
    let length = ((header + payload) as u16).to_be_bytes();
    let (Some(old), Some(check)) = (
        read::<[u8; 2]>(skb, network + 2),
        read::<[u8; 2]>(skb, network + 10),
    ) else {
        return false;
    };
    // RFC 1624: HC' = ~(~HC + ~m + m').
    let changed = u32::from(!u16::from_ne_bytes(check))
        + u32::from(!u16::from_ne_bytes(old))
        + u32::from(u16::from_ne_bytes(length));
    write(skb, network + 2, &length).is_some()
        && write(skb, network + 10, &(!fold(changed)).to_ne_bytes()).is_some()
}

/// Swaps the two ends in the link layer's header, where there is one and it is looked at.
#[inline(never)]
pub(crate) fn turn_link(skb: *mut __sk_buff, network: u32) -> bool {
    network < ETHERNET || is_loopback(skb) || swap::<[u8; 6]>(skb, 0)
}

#[inline(always)]
fn is_loopback(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context is valid for the program's whole run.
    unsafe { (*skb).ifindex == LOOPBACK }
}

/// Lets a packet whose ends are swapped arrive here.
///
/// On the loopback interface it does so by going on: it keeps its route, which delivers locally whatever the
/// addresses are. (Redirected to ingress it would be routed anew, and 127.0.0.0/8 is no destination then.)
#[inline(always)]
pub(crate) fn turn_round(skb: *mut __sk_buff) -> i32 {
    if is_loopback(skb) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: the helper only notes where the packet is to go.
    (unsafe { bpf_redirect((*skb).ifindex, u64::from(BPF_F_INGRESS)) }) as i32
}

/// Lets a copy of a packet whose ends are swapped arrive here. The copy has no socket, so that our programs
/// let it be where they see it again.
#[inline(always)]
pub(crate) fn turn_copy_round(skb: *mut __sk_buff) -> bool {
    let flags = if is_loopback(skb) {
        0
    } else {
        u64::from(BPF_F_INGRESS)
    };
    // SAFETY: the context is valid for the program's whole run.
    unsafe { bpf_clone_redirect(skb, (*skb).ifindex, flags) == 0 }
}

/// Loses a packet, as the wire would: its sender is not told.
#[inline(always)]
pub(crate) fn lose() -> i32 {
    // SAFETY: the helper only notes where the packet is to go.
    (unsafe { bpf_redirect(NOWHERE, 0) }) as i32
}
