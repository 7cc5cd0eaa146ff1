//! A DNS query is answered here and now, or lost. No server sees it.
//!
//! Kernel interface: as [`crate::egress`]'s and [`crate::craft`]'s. A query by UDP becomes its own answer and
//! arrives where it came from; one by TCP, which has no answer without a connection, resets it.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use chaos_common::ops;
use chaos_common::rule::{EFFECT_DNS_ANSWER, EFFECT_DNS_RCODE};
use chaos_ebpf::gate::{self, Injection};
use chaos_ebpf::maps::ANSWERS;
use chaos_ebpf::tell::By;

use crate::craft::{self, Layout, TC_ACT_UNSPEC};
use crate::packet::{self, Direction, TCP, UDP};
use crate::query::{self, UDP_HEADER};
use crate::reset::{self, NOT_DONE};
use crate::socket;

/// Types of records (RFC 1035, 3.2.2; RFC 3596, 2.1).
const A: u16 = 1;
const AAAA: u16 = 28;

/// The longest answer we give: headers, a name, a record, rounded up to a power of two. It is as much as
/// `bpf_csum_diff` sums.
const MESSAGE: usize = 512;

#[map]
static DATAGRAM: PerCpuArray<[u8; MESSAGE]> = PerCpuArray::with_max_entries(1, 0);

#[classifier]
pub(crate) fn murphy_dns(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let injection = gate::pass(
        ops::DNS,
        |_| socket::classes_of(skb),
        |dimensions| accept(skb, dimensions),
        By::Unknown,
        || packet::detail(skb),
    );
    let Some(injection) = injection else {
        return TC_ACT_UNSPEC;
    };
    let verdict = act(skb, injection);
    if verdict == NOT_DONE {
        gate::not_done(injection);
        return TC_ACT_UNSPEC;
    }
    verdict
}

/// Not inlined, like what acts below: they take turns on a small stack.
#[inline(never)]
fn accept(skb: *mut __sk_buff, dimensions: u64) -> u64 {
    let mask = packet::accept(skb, dimensions, Direction::Egress);
    if mask == 0 {
        return 0;
    }
    let Some(message) = Layout::of(skb).and_then(|layout| query::message(skb, &layout)) else {
        return 0;
    };
    if !query::read_name(skb, message) {
        return 0;
    }
    mask & query::accept(dimensions)
}

/// What the classifier is to return.
#[inline(always)]
fn act(skb: *mut __sk_buff, injection: Injection) -> i32 {
    if !matches!(injection.effect, EFFECT_DNS_ANSWER | EFFECT_DNS_RCODE) {
        return craft::lose();
    }
    let Some(layout) = Layout::of(skb) else {
        return NOT_DONE;
    };
    if layout.protocol == TCP {
        return reset::reset(skb);
    }
    let is_answer = injection.effect == EFFECT_DNS_ANSWER;
    if answer(skb, is_answer, injection.value as u16, injection.rule) {
        craft::turn_round(skb)
    } else {
        NOT_DONE
    }
}

/// Makes the query its own answer. `value` is the type of the address, or the response code.
#[inline(never)]
fn answer(skb: *mut __sk_buff, is_answer: bool, value: u16, rule: u32) -> bool {
    try_answer(skb, is_answer, value, rule).unwrap_or(false)
}

#[inline(always)]
fn try_answer(skb: *mut __sk_buff, is_answer: bool, value: u16, rule: u32) -> Option<bool> {
    let layout = Layout::of(skb)?;
    let (network, at) = (layout.network, layout.transport());
    let message = query::message(skb, &layout)?;
    let (end, asked) = query::question(skb, message)?;
    // Who asks for the other kind of address, or for something else, hears that there is none.
    let record = match (is_answer && asked == value, value) {
        (true, A) => 16,
        (true, AAAA) => 28,
        _ => 0,
    };
    let rcode = if is_answer { 0 } else { value as u8 & 0xf };
    let ports = craft::read::<[u8; 4]>(skb, at)?;
    let head = craft::read::<[u8; 4]>(skb, message)?;

    craft::resize(skb, end + record)?;
    if record != 0 {
        write_record(skb, end, value, record, rule)?;
    }
    // The id; QR with what was asked for (RD); RA with the code; one question, the answers. What else the
    // query had, such as an OPT record, is gone.
    let answers = u8::from(record != 0);
    let query = head[2] | 0x80;
    let header = [
        head[0],
        head[1],
        query,
        0x80 | rcode,
        0,
        1,
        0,
        answers,
        0,
        0,
        0,
        0,
    ];
    craft::write(skb, message, &header)?;
    let length = end + record - at;
    let size = (length as u16).to_be_bytes();
    let udp = [
        ports[2], ports[3], ports[0], ports[1], size[0], size[1], 0, 0,
    ];
    craft::write(skb, at, &udp)?;
    // With IPv4 no checksum is as good as a right one (RFC 768); not so with IPv6 (RFC 8200, 8.1).
    if layout.is_v6 {
        let pseudo = craft::pseudo_header(skb, network, true, UDP, length);
        let check = !craft::fold(sum_datagram(skb, at, length, pseudo)?);
        let check = if check == 0 { !0 } else { check };
        craft::write(skb, at + 6, &check.to_ne_bytes())?;
    }
    Some(
        craft::write_length(skb, network, layout.header, length)
            && craft::turn_ends(skb, network, layout.is_v6)
            && craft::turn_link(skb, network),
    )
}

/// An address record for the question's name, which is at offset 12 of the message (RFC 1035, 4.1.4), that
/// nobody is to remember.
#[inline(always)]
fn write_record(skb: *mut __sk_buff, at: u32, kind: u16, size: u32, rule: u32) -> Option<()> {
    let [high, low] = kind.to_be_bytes();
    let address = ANSWERS.get(rule)?;
    let head = [
        0xc0,
        query::HEADER as u8,
        high,
        low,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        size as u8 - 12,
    ];
    craft::write(skb, at, &head)?;
    if kind == A {
        let v4 = [address[0], address[1], address[2], address[3]];
        craft::write(skb, at + 12, &v4)
    } else {
        craft::write(skb, at + 12, address)
    }
}

/// The sum of a datagram, whose checksum is 0 yet, with that of its pseudo-header.
#[inline(always)]
fn sum_datagram(skb: *mut __sk_buff, at: u32, length: u32, pseudo: u32) -> Option<u32> {
    let buffer = DATAGRAM.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and classifiers do not interrupt each other.
    let buffer = unsafe { &mut *buffer };
    *buffer = [0; MESSAGE];
    if length > MESSAGE as u32 {
        return None;
    }
    let length = query::up_to::<{ MESSAGE as u32 }>(length);
    // SAFETY: the helper writes `length` bytes, no more than there are, or fails.
    let read = unsafe {
        bpf_skb_load_bytes(
            skb.cast_const().cast::<c_void>(),
            at,
            buffer.as_mut_ptr().cast(),
            length,
        )
    };
    if read != 0 {
        return None;
    }
    // SAFETY: the helper reads the whole buffer; zeros add nothing.
    let sum = unsafe {
        bpf_csum_diff(
            ptr::null_mut(),
            0,
            buffer.as_mut_ptr().cast(),
            MESSAGE as u32,
            pseudo,
        )
    };
    Some(sum as u32)
}
const _: () = assert!(UDP_HEADER as usize + 12 + 256 + 4 + 28 <= MESSAGE);
