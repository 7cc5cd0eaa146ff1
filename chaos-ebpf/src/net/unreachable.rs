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

/// Lengths of our headers, IP's and ICMP's, and of what is quoted behind them.
const HEADERS4: u32 = 28;
const QUOTED4: u32 = 28;
const HEADERS6: u32 = 48;
const QUOTED6: u32 = 48;

#[classifier]
pub(crate) fn murphy_unreach(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let injection = gate::pass(
        ops::EGRESS_UNREACHABLE,
        |_| socket::classes_of(skb),
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
    // The packet's header without options, so that the quotation's length is known; and what is behind.
    let mut quoted = [0; QUOTED4 as usize];
    let (mut header, mut payload) = ([0; 20], [0; 8]);
    if !craft::read_into(skb, network, &mut header)
        || !craft::read_into(skb, transport, &mut payload)
    {
        return false;
    }
    for i in 0..20 {
        quoted[i] = header[i];
    }
    for i in 0..8 {
        quoted[20 + i] = payload[i];
    }
    quoted[0] = 0x45;
    let mut header = [0; 20];
    header[0] = 0x45;
    header[3] = (HEADERS4 + QUOTED4) as u8;
    header[6] = 0x40; // not to be fragmented
    header[8] = TTL;
    header[9] = ICMP;
    for i in 0..4 {
        header[12 + i] = quoted[16 + i];
        header[16 + i] = quoted[12 + i];
    }
    [header[10], header[11]] = (!craft::fold(craft::sum(&header, 0))).to_ne_bytes();
    let mut icmp = [UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
    let sum = craft::sum(&quoted, craft::sum(&icmp, 0));
    [icmp[2], icmp[3]] = (!craft::fold(sum)).to_ne_bytes();
    craft::resize(skb, network + HEADERS4 + QUOTED4).is_some()
        && craft::write(skb, network, &header).is_some()
        && craft::write(skb, network + 20, &icmp).is_some()
        && craft::write(skb, network + HEADERS4, &quoted).is_some()
}

#[inline(never)]
fn error6(skb: *mut __sk_buff, network: u32, code: u8) -> bool {
    let length = HEADERS6 + QUOTED6 - 40;
    let mut icmp = [UNREACHABLE6, code, 0, 0, 0, 0, 0, 0];
    // The addresses are the same, the other way round.
    let sum = craft::sum(
        &icmp,
        craft::pseudo_header(skb, network, true, ICMPV6, length),
    );
    let mut quoted = [0; QUOTED6 as usize];
    if !craft::read_into(skb, network, &mut quoted) {
        return false;
    }
    let sum = craft::sum(&quoted, sum);
    [icmp[2], icmp[3]] = (!craft::fold(sum)).to_ne_bytes();
    let head = [0x60, 0, 0, 0, 0, length as u8, ICMPV6, TTL];
    craft::resize(skb, network + HEADERS6 + QUOTED6).is_some()
        && craft::write(skb, network, &head).is_some()
        && craft::turn_ends(skb, network, true)
        && craft::write(skb, network + 40, &icmp).is_some()
        && craft::write(skb, network + HEADERS6, &quoted).is_some()
}
