//! A response by HTTP/1 gets another status: three digits of its first line are written over.
//!
//! Nothing grows or shrinks, so that TCP's numbers stay what they are. A response is asked about once,
//! wherever and however often it comes by: on both ends of the loopback interface, on several interfaces, sent again.
//!
//! Kernel interface: as [`crate::egress`]'s, on both sides of an interface; [`crate::owner`]'s look-up of sockets;
//! `bpf_skb_store_bytes` and `bpf_l4_csum_replace` (4.1).

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_l4_csum_replace;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use chaos_common::{bank, control, dims, ops};
use chaos_ebpf::gate;
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::tell::By;

use crate::craft::{self, TC_ACT_UNSPEC};
use crate::message::{self, Head};
use crate::packet::{self, Direction, Ends};
use crate::{owner, socket};

/// The status is at this offset in its line, behind a space.
const STATUS: u32 = 8;
/// The checksum's offset in a TCP header.
const CHECKSUM: u32 = 16;

/// What is known of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
struct Exchange {
    /// Rules that accept the path of its last request.
    accepted: u64,
    /// Rules that were asked about its last response.
    asked: u64,
    /// The TCP sequence number of that response, in memory order.
    seq: u32,
    /// One more than the bank whose rules `accepted` means; 0: no request was seen.
    bank: u16,
    /// The status that the response got; 0: it kept its own.
    status: u16,
}

impl Exchange {
    const NEW: Self = Self {
        accepted: 0,
        asked: 0,
        seq: 0,
        bank: 0,
        status: 0,
    };
}

/// Both ends of a connection, the server's first → what is known of it. The loader gives it its size.
#[map]
static EXCHANGES: LruHashMap<[u32; 9], Exchange> = LruHashMap::with_max_entries(1024, 0);

/// The key of the packet at hand: much of a stack.
#[map]
static EXCHANGE_KEY: PerCpuArray<[u32; 9]> = PerCpuArray::with_max_entries(1, 0);

#[classifier]
pub(crate) fn murphy_http_out(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let classes = socket::classes_of(skb);
    if classes != 0 && is_asked_for() {
        let head = message::head(skb);
        if !head.is_none() {
            murphy_http(skb, classes, LEAVES, head.number());
        }
    }
    TC_ACT_UNSPEC
}

/// Looking for a socket costs more than a look at the packet, so that comes first.
#[classifier]
pub(crate) fn murphy_http_in(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if is_asked_for() {
        let head = message::head(skb);
        if !head.is_none() {
            let classes = owner::murphy_owner(skb);
            if classes != 0 {
                murphy_http(skb, classes, ARRIVES, head.number());
            }
        }
    }
    TC_ACT_UNSPEC
}

/// What [`murphy_http`] is told of a packet.
const LEAVES: u64 = 0;
const ARRIVES: u64 = 1;

#[inline(always)]
fn is_asked_for() -> bool {
    gate::named_by(slot(control::DIMS), ops::HTTP) != 0
}

/// A message of a target's connection.
///
/// A global function, which the verifier looks at once, whatever led there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_http(skb: *mut __sk_buff, classes: u64, way: u64, head: u64) -> u64 {
    let head = Head::of_number(head);
    if !head.is_response() {
        note_request(skb, head);
        return 0;
    }
    let status = respond(skb, classes, way, head);
    u64::from(status)
}

/// The key of a packet's connection.
#[inline(always)]
fn key(skb: *mut __sk_buff, from_server: bool) -> Option<&'static [u32; 9]> {
    let (place, from_server) = (EXCHANGE_KEY.get_ptr_mut(0)?, u64::from(from_server));
    // SAFETY: the element is this CPU's own, and classifiers do not interrupt each other.
    (murphy_http_key(skb, from_server) != 0).then(|| unsafe { &*place })
}

/// Writes that key into its place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_http_key(skb: *mut __sk_buff, from_server: u64) -> u64 {
    // One after the other, as in `craft::swap`.
    let Some((ends, _)) = packet::ends(skb) else {
        return 0;
    };
    let Some(place) = EXCHANGE_KEY.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as above.
    let key = unsafe { &mut *place };
    *key = ends.words;
    if from_server != 0 {
        return 1;
    }
    let words = &ends.words;
    if ends.size == Ends::V4 {
        [key[0], key[1]] = [words[1], words[0]];
        key[2] = words[2].rotate_left(16);
    } else {
        [key[0], key[1], key[2], key[3]] = [words[4], words[5], words[6], words[7]];
        [key[4], key[5], key[6], key[7]] = [words[0], words[1], words[2], words[3]];
        key[8] = words[8].rotate_left(16);
    }
    1
}

/// Remembers which rules accept the path that is asked for, until the response comes by.
#[inline(always)]
fn note_request(skb: *mut __sk_buff, head: Head) {
    let dimensions = slot(control::DIMS);
    if dimensions & dims::URL_PATH == 0 {
        return;
    }
    let bank = bank::of(dimensions);
    let accepted = message::murphy_url(skb, head.text(), bank);
    let Some(key) = key(skb, false) else {
        return;
    };
    let mut exchange = known(key);
    exchange.accepted = accepted;
    exchange.bank = bank as u16 + 1;
    let _ = EXCHANGES.insert(key, &exchange, 0);
}

#[inline(always)]
fn known(key: &[u32; 9]) -> Exchange {
    // SAFETY: values are replaced as a whole; whoever reads one that is being evicted reads an old one.
    match unsafe { EXCHANGES.get(key) } {
        Some(exchange) => *exchange,
        None => Exchange::NEW,
    }
}

/// Asks the rules about a response, unless they were; the status that it got, or 0.
#[inline(always)]
fn respond(skb: *mut __sk_buff, classes: u64, way: u64, head: Head) -> u16 {
    // Whoever gets these does not expect a body, and would wait for one.
    if matches!(head.status(), 0..200 | 204 | 304) {
        return 0;
    }
    let Some(seq) = craft::read::<[u8; 4]>(skb, head.transport() + 4) else {
        return 0;
    };
    let seq = u32::from_ne_bytes(seq);
    let Some(key) = key(skb, true) else {
        return 0;
    };
    let mut exchange = known(key);
    if exchange.seq != seq {
        exchange.seq = seq;
        exchange.asked = 0;
        exchange.status = 0;
    }
    if exchange.status != 0 {
        if gate::is_armed() {
            murphy_status(skb, head.number(), u64::from(exchange.status));
        }
        return exchange.status;
    }
    let dimensions = slot(control::DIMS);
    let mask = accept(skb, dimensions, classes, way, &exchange);
    if mask == 0 || slot(control::ARMED_AT) == 0 {
        return 0;
    }
    let bank = u64::from(bank::of(dimensions));
    exchange.status = murphy_http_ask(skb, classes, mask, bank, head.number()) as u16;
    exchange.asked |= mask;
    let _ = EXCHANGES.insert(key, &exchange, 0);
    exchange.status
}

/// Rules that accept a response and were not asked about it.
#[inline(always)]
fn accept(
    skb: *mut __sk_buff,
    dimensions: u64,
    classes: u64,
    way: u64,
    exchange: &Exchange,
) -> u64 {
    let direction = if way == LEAVES {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let mut mask = gate::named_by(dimensions, ops::HTTP) & !exchange.asked;
    mask &= gate::murphy_rules(dimensions, classes);
    if mask != 0 && dimensions & dims::URL_PATH != 0 {
        let bank = bank::of(dimensions);
        mask &= if u32::from(exchange.bank) == bank + 1 {
            exchange.accepted
        } else {
            message::murphy_url(skb, 0, bank)
        };
    }
    if mask == 0 {
        return 0;
    }
    mask & packet::accept(skb, dimensions, direction)
}

/// Asks these rules of a bank, and does what they say; the status that the response got, or 0.
///
/// A global function, which the verifier looks at once, whatever is known of the connection.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_http_ask(
    skb: *mut __sk_buff,
    classes: u64,
    mask: u64,
    bank: u64,
    head: u64,
) -> u64 {
    let injection = gate::pass(
        ops::HTTP,
        |_| classes,
        // Other rules may have come into force meanwhile.
        |dimensions| {
            if u64::from(bank::of(dimensions)) == bank {
                mask
            } else {
                0
            }
        },
        By::Unknown,
        || packet::detail(skb),
    );
    let Some(injection) = injection else {
        return 0;
    };
    let status = injection.value as u64 & 0x3ff;
    if murphy_status(skb, head, status) == 0 {
        gate::not_done(injection);
        return 0;
    }
    status
}

/// Writes another status over that of a response; 0 if it could not be done.
///
/// The checksum is mended by the difference. One that the device or nobody completes has only the
/// pseudo-header in it, and the helper lets it be. The four bytes begin at an even offset of the segment.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_status(skb: *mut __sk_buff, head: u64, status: u64) -> u64 {
    let head = Head::of_number(head);
    let (old, new) = (digits(head.status()), digits(status as u16));
    if old == new {
        return 1;
    }
    if craft::write(skb, head.text() + STATUS, &new.to_ne_bytes()).is_none() {
        return 0;
    }
    // SAFETY: the helper checks the offset.
    let mended = unsafe {
        bpf_l4_csum_replace(
            skb,
            head.transport() + CHECKSUM,
            u64::from(old),
            u64::from(new),
            4,
        )
    };
    u64::from(mended == 0)
}

/// A space and the three digits of a status, as they are in memory.
#[inline(always)]
fn digits(status: u16) -> u32 {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    u32::from_ne_bytes([b' ', digit(status / 100), digit(status / 10), digit(status)])
}
