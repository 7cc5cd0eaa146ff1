//! A TCP connection is reset: both ends get an RST with the next segment that one of them sends.
//!
//! Kernel interface: as [`crate::egress`]'s and [`crate::craft`]'s; `bpf_clone_redirect` (4.2).
//! The segment itself becomes the RST to the other end, a copy of it the one to ours. What was in it is lost.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_common::ops;
use chaos_ebpf::gate;
use chaos_ebpf::tell::By;

use crate::craft::{self, Layout, TC_ACT_UNSPEC};
use crate::packet::{self, Direction, TCP};
use crate::socket;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// No verdict of a classifier: it could not be done.
pub(crate) const NOT_DONE: i32 = i32::MIN;

/// Length of a TCP header without options.
const HEADER: u32 = 20;

#[classifier]
pub(crate) fn murphy_reset(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let injection = gate::pass(
        ops::EGRESS_RESET,
        |_| socket::classes_of(skb),
        |dimensions| accept(skb, dimensions),
        By::Unknown,
        || packet::detail(skb),
    );
    let Some(injection) = injection else {
        return TC_ACT_UNSPEC;
    };
    let verdict = reset(skb);
    if verdict == NOT_DONE {
        gate::not_done(injection);
        return TC_ACT_UNSPEC;
    }
    verdict
}

/// Not inlined, like what acts below: they take turns on a small stack.
#[inline(never)]
fn accept(skb: *mut __sk_buff, dimensions: u64) -> u64 {
    if is_segment(skb) {
        packet::accept(skb, dimensions, Direction::Egress)
    } else {
        0
    }
}

/// A TCP segment that is no RST itself.
#[inline(always)]
fn is_segment(skb: *mut __sk_buff) -> bool {
    let Some(layout) = Layout::of(skb) else {
        return false;
    };
    layout.protocol == TCP
        && craft::read::<[u8; 20]>(skb, layout.transport()).is_some_and(|tcp| tcp[13] & RST == 0)
}

/// Resets the connection of a segment on its way out; what the classifier is to return.
///
/// To our own end the RST comes as the answer to the segment: its number is what that end acknowledges, so it is
/// exactly what that end expects next (RFC 5961, 3.2). To the other end it comes in the segment's
/// place, with its number. A SYN has no other end yet: only ours hears of it, which is a refusal.
#[inline(never)]
pub(crate) fn reset(skb: *mut __sk_buff) -> i32 {
    try_reset(skb).unwrap_or(NOT_DONE)
}

#[inline(always)]
fn try_reset(skb: *mut __sk_buff) -> Option<i32> {
    let layout = Layout::of(skb)?;
    let (network, at) = (layout.network, layout.transport());
    let mut tcp = craft::read::<[u8; 20]>(skb, at)?;
    let flags = tcp[13];
    let taken = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let payload = (layout.length - layout.header).saturating_sub(u32::from(tcp[12] >> 4) * 4);
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let next = seq.wrapping_add(payload).wrapping_add(taken).to_be_bytes();
    let pseudo = craft::pseudo_header(skb, network, layout.is_v6, TCP, HEADER);

    // No options, window and urgent pointer 0.
    let mut ours = [0; 20];
    [ours[0], ours[1]] = [tcp[2], tcp[3]];
    [ours[2], ours[3]] = [tcp[0], tcp[1]];
    if flags & ACK != 0 {
        [ours[4], ours[5], ours[6], ours[7]] = [tcp[8], tcp[9], tcp[10], tcp[11]];
    }
    [ours[8], ours[9], ours[10], ours[11]] = next;
    ours[12] = (HEADER as u8 / 4) << 4;
    ours[13] = RST | ACK;
    let check = !craft::fold(craft::sum(&ours, pseudo));
    [ours[16], ours[17]] = check.to_ne_bytes();

    craft::resize(skb, at + HEADER)?;
    let turned = craft::write_length(skb, network, layout.header, HEADER)
        && craft::turn_ends(skb, network, layout.is_v6)
        && craft::write(skb, at, &ours).is_some()
        && craft::turn_link(skb, network);
    if !turned {
        return None;
    }
    if flags & (SYN | ACK) == SYN {
        return Some(craft::turn_round(skb));
    }
    if !craft::turn_copy_round(skb) {
        return None;
    }

    tcp[12] = ours[12];
    tcp[13] = RST | flags & ACK;
    [tcp[14], tcp[15], tcp[18], tcp[19]] = [0; 4];
    // The device completes it: TCP hands over no other buffers (4.18).
    [tcp[16], tcp[17]] = craft::fold(pseudo).to_ne_bytes();
    let turned_back = craft::turn_ends(skb, network, layout.is_v6)
        && craft::write(skb, at, &tcp).is_some()
        && craft::turn_link(skb, network);
    turned_back.then_some(TC_ACT_UNSPEC)
}
