//! A packet that leaves is answered with an ICMP error, as a router or the other host would.
//!
//! Kernel interface: as [`crate::egress`]'s, and [`crate::craft`]'s. The packet becomes the error about
//! itself: its own header and the next eight bytes, which is what the kernel looks at to
//! find the socket (`icmp_socket_deliver`, `icmpv6_notify`), behind a header of ours.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_common::ops;
use chaos_ebpf::gate;
use chaos_ebpf::tell::By;

use crate::craft::{self, Layout, TC_ACT_UNSPEC};
use crate::packet::{self, Direction};
use crate::socket;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Both are called "destination unreachable" (RFC 792; RFC 4443, 3.1).
const UNREACHABLE: u8 = 3;
const UNREACHABLE6: u8 = 1;
/// The first kind of ICMP message that is no error (RFC 792: 8 is an echo), and of `ICMPv6` (RFC 4443, 2.1).
const ECHO: u8 = 8;
const INFORMATIONAL6: u8 = 128;
const TTL: u8 = 64;

/// The error about an IPv4 packet: a header of ours, ICMP's, the packet's, eight bytes of its payload.
#[repr(C)]
#[derive(Clone, Copy)]
struct Error4 {
    header: [u8; 20],
    icmp: [u8; 8],
    quoted: [u8; 20],
    payload: [u8; 8],
}

/// The same about an IPv6 packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Error6 {
    header: [u8; 40],
    icmp: [u8; 8],
    quoted: [u8; 48],
}

#[classifier]
pub(crate) fn murphy_unreach(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let injection = gate::pass(
        ops::EGRESS_UNREACHABLE,
        |_| socket::rules_of(skb),
        |dimensions| accept(skb, dimensions),
        By::Unknown,
        || packet::detail(skb),
    );
    let Some(injection) = injection else {
        return TC_ACT_UNSPEC;
    };
    if become_error(skb, injection.value).is_none() {
        gate::not_done(injection);
        return TC_ACT_UNSPEC;
    }
    craft::turn_round(skb)
}

/// Not inlined, like what acts below: they take turns on a small stack.
#[inline(never)]
fn accept(skb: *mut __sk_buff, dimensions: u64) -> u64 {
    if deserves_error(skb) {
        packet::accept(skb, dimensions, Direction::Egress)
    } else {
        0
    }
}

/// No ICMP error is sent about another (RFC 1122, 3.2.2), nor about a part of a packet.
#[inline(always)]
fn deserves_error(skb: *mut __sk_buff) -> bool {
    let Some(layout) = Layout::of(skb) else {
        return false;
    };
    match (layout.is_v6, layout.protocol) {
        (false, ICMP) => {
            craft::read::<[u8; 1]>(skb, layout.transport()).is_some_and(|kind| kind[0] == ECHO)
        }
        (true, ICMPV6) => craft::read::<[u8; 1]>(skb, layout.transport())
            .is_some_and(|kind| kind[0] >= INFORMATIONAL6),
        _ => true,
    }
}

#[inline(always)]
fn become_error(skb: *mut __sk_buff, codes: i64) -> Option<()> {
    let layout = Layout::of(skb)?;
    let [code, code6, ..] = codes.to_le_bytes();
    let (network, transport) = (layout.network, layout.transport());
    let done = if layout.is_v6 {
        error6(skb, network, code6)
    } else {
        error4(skb, network, transport, code)
    };
    (done && craft::turn_link(skb, network)).then_some(())
}

#[inline(never)]
fn error4(skb: *mut __sk_buff, network: u32, transport: u32, code: u8) -> bool {
    let (Some(mut quoted), Some(payload)) = (
        craft::read::<[u8; 20]>(skb, network),
        craft::read::<[u8; 8]>(skb, transport),
    ) else {
        return false;
    };
    // Options are left out, so that the quotation's length is known.
    quoted[0] = 0x45;
    let mut error = Error4 {
        header: [0; 20],
        icmp: [UNREACHABLE, code, 0, 0, 0, 0, 0, 0],
        quoted,
        payload,
    };
    let header = &mut error.header;
    header[0] = 0x45;
    header[3] = size_of::<Error4>() as u8;
    header[6] = 0x40; // not to be fragmented
    header[8] = TTL;
    header[9] = ICMP;
    for i in 0..4 {
        header[12 + i] = quoted[16 + i];
        header[16 + i] = quoted[12 + i];
    }
    let check = !craft::fold(craft::sum(&error.header, 0));
    [error.header[10], error.header[11]] = check.to_ne_bytes();
    let sum = craft::sum(&error.quoted, craft::sum(&error.icmp, 0));
    let sum = craft::sum(&error.payload, sum);
    [error.icmp[2], error.icmp[3]] = (!craft::fold(sum)).to_ne_bytes();
    craft::resize(skb, network + size_of::<Error4>() as u32).is_some()
        && craft::write(skb, network, &error).is_some()
}

#[inline(never)]
fn error6(skb: *mut __sk_buff, network: u32, code: u8) -> bool {
    let Some(quoted) = craft::read::<[u8; 48]>(skb, network) else {
        return false;
    };
    let length = (size_of::<Error6>() - 40) as u8;
    let mut error = Error6 {
        header: [0; 40],
        icmp: [UNREACHABLE6, code, 0, 0, 0, 0, 0, 0],
        quoted,
    };
    error.header[0] = 0x60;
    error.header[5] = length;
    error.header[6] = ICMPV6;
    error.header[7] = TTL;
    for i in 0..16 {
        error.header[8 + i] = quoted[24 + i];
        error.header[24 + i] = quoted[8 + i];
    }
    let pseudo = craft::pseudo_header(skb, network, true, ICMPV6, u32::from(length));
    let sum = craft::sum(&error.quoted, craft::sum(&error.icmp, pseudo));
    [error.icmp[2], error.icmp[3]] = (!craft::fold(sum)).to_ne_bytes();
    craft::resize(skb, network + size_of::<Error6>() as u32).is_some()
        && craft::write(skb, network, &error).is_some()
}
