//! Lines about what becomes of connects and packets, for `-vvv`, by aya-log.
//!
//! A line is text: the program, the ends, and why nothing was injected. User space removes padding
//! and ports of 0. At most [`LINES`] lines a second are written, and all are counted.
//!
//! Nothing of this is left in a program that was loaded without `-vvv`, see [`is_on`].

use core::arch::asm;
use core::hint::black_box;

use aya_ebpf::bindings::{__sk_buff, bpf_sock_addr};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::macro_support::AYA_LOG_LEVEL;
use aya_log_ebpf::trace;
use chaos_common::event::verdict;
use chaos_common::log::{LINES, LINES_OF_OTHERS, SECOND_NS, count};
use chaos_common::{control, dims, ops};
use chaos_ebpf::atomic;
use chaos_ebpf::gate::{self, now, outcome};
use chaos_ebpf::maps::{accept_remote4, accept_remote6, control as slot};
use chaos_ebpf::target;

use crate::packet::{self, Direction};
use crate::{connect, interface, socket};

/// One of [`count`] → how many.
#[map]
static LOG_COUNTS: Array<u64> = Array::with_max_entries(count::COUNTS, 0);

/// Boot time in ns of each of the last [`LINES`] lines. One entry unless lines are wanted.
#[map]
static LOG_TIMES: Array<u64> = Array::with_max_entries(1, 0);

/// Length of what is said of an operation.
const TEXT: usize = 32;
/// How many there can be: a power of two, by which the verifier sees that an index is in bounds. The
/// compiler would see it otherwise, but for `black_box`.
const TEXTS: usize = 32;

/// What is said of an operation, padded.
static SAID: [[u8; TEXT]; TEXTS] = padded(&[
    // As `outcome` counts.
    "skipped: not a target",
    "skipped: not armed",
    "skipped: filter",
    "skipped: connlimit",
    // As `chaos_common::event::verdict` counts from `outcome::DECIDED` on.
    "injected",
    "skipped: trigger p",
    "skipped: trigger when",
    "skipped: trigger times",
    "skipped: trigger after",
    "skipped: trigger for",
    "skipped: lease",
    "skipped: failed",
    "skipped: trigger pulse",
    "skipped: trigger rate_limit",
    // As `filter` counts.
    "skipped: interface",
    "skipped: protocol",
    "skipped: address",
    "skipped: port",
]);

/// Filters, by their place among what is said.
mod filter {
    pub(super) const INTERFACE: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const ADDRESS: u32 = 16;
    pub(super) const PORT: u32 = 17;
}

const _: () = assert!(outcome::DECIDED + verdict::RATE_LIMIT + 1 == filter::INTERFACE);

const fn padded(texts: &[&str]) -> [[u8; TEXT]; TEXTS] {
    let mut padded = [[b' '; TEXT]; TEXTS];
    let mut i = 0;
    while i < texts.len() {
        let text = texts[i].as_bytes();
        let mut at = 0;
        while at < text.len() {
            padded[i][at] = text[at];
            at += 1;
        }
        i += 1;
    }
    padded
}

/// Whether lines are wanted: whether `AYA_LOG_LEVEL` is not 0. The loader sets it, so that the
/// verifier knows it and removes what is never reached.
///
/// The verifier does not remove the load of the level. Where the level is 0, the loader replaces
/// the first three instructions by jumps to the next one, which the verifier removes. The verifier
/// also rejects instructions without any way to them, so the last instruction remains: a number is
/// never less than 0 without a sign. The verifier finds that out and removes it, too. `number` is
/// any number that is in a register at this point.
#[inline(always)]
fn is_on(number: u64) -> bool {
    // SAFETY: it reads a byte that is there.
    unsafe {
        asm!(
            "{level} = {symbol} ll",
            "{level} = *(u8 *)({level} + 0)",
            "if {level} != 0 goto {on}",
            "if {number} < 0 goto {on}",
            level = out(reg) _,
            symbol = sym AYA_LOG_LEVEL,
            number = in(reg) number,
            on = label { return true },
            options(nostack, readonly),
        );
    }
    false
}

/// Whether an outcome applies, see [`gate::pass_logging`].
#[inline(always)]
fn applies(outcome: u32, number: u64) -> bool {
    outcome >= outcome::DECIDED || number == 0
}

/// Counts a line, and says whether it may be written.
///
/// Each entry of [`LOG_TIMES`] has the time of one line, and gets another only when a second is
/// over: so no second has more lines than there are entries. Lines about others than targets have
/// entries of their own, as they may be the packets of the whole machine.
///
/// Not inlined: 512 bytes of stack is all there is for what is called in a row.
#[inline(never)]
fn may_write(outcome: u32) -> bool {
    try_to_write(outcome).is_some()
}

#[inline(always)]
fn try_to_write(outcome: u32) -> Option<()> {
    let (which, first, entries) = if outcome == outcome::NOT_A_TARGET {
        (count::OF_OTHERS, LINES - LINES_OF_OTHERS, LINES_OF_OTHERS)
    } else {
        (count::OF_TARGETS, 0, LINES - LINES_OF_OTHERS)
    };
    let all = LOG_COUNTS.get_ptr_mut(count::ALL)?;
    let written = LOG_COUNTS.get_ptr_mut(which)?;
    let now = now();
    // SAFETY: live, 8-byte aligned array elements, only ever changed atomically.
    unsafe {
        atomic::fetch_add(all, 1);
        let next = written.read_volatile() % u64::from(entries);
        let time = LOG_TIMES.get_ptr_mut(first + next as u32)?;
        let before = time.read_volatile();
        let is_free = before == 0 || now >= before + SECOND_NS;
        // Another CPU may be faster and get the entry; then this line is only counted.
        if is_free && atomic::compare_exchange(time, before, now) == before {
            atomic::fetch_add(written, 1);
            return Some(());
        }
    }
    None
}

#[inline(always)]
fn text(said: u32) -> &'static str {
    let text = &SAID[black_box(said) as usize % TEXTS];
    // SAFETY: it is ASCII.
    unsafe { core::str::from_utf8_unchecked(text) }
}

/// What to say of an outcome; of [`outcome::FILTER`], which filter it was.
#[inline(always)]
fn why(outcome: u32, filter: impl FnOnce() -> u32) -> u32 {
    if outcome == outcome::FILTER {
        filter()
    } else {
        outcome
    }
}

/// The first filter after which no rule is left, given the rules and which of them each filter
/// accepts.
#[inline(always)]
fn refused_by(rules: u64, interfaces: u64, protocols: u64, ports: u64, addresses: u64) -> u32 {
    if rules & interfaces == 0 {
        filter::INTERFACE
    } else if rules & interfaces & protocols == 0 {
        filter::PROTOCOL
    } else if rules & interfaces & protocols & ports == 0 {
        filter::PORT
    } else if rules & interfaces & protocols & ports & addresses == 0 {
        filter::ADDRESS
    } else {
        outcome::FILTER
    }
}

/// The rules for the connects of the current task.
#[inline(always)]
fn connecting(dimensions: u64) -> u64 {
    let classes = target::of_task(dimensions);
    gate::named_by(dimensions, ops::CONNECT) & gate::murphy_rules(dimensions, classes)
}

/// Writes a line of a connect with IPv4, if lines are wanted. `number` is as for
/// [`gate::pass_logging`].
#[inline(always)]
pub(crate) fn connect4(ctx: &SockAddrContext, outcome: u32, number: u64) {
    if is_on(number) && applies(outcome, number) {
        write_connect4(ctx.sock_addr, outcome);
    }
}

/// The same with IPv6.
#[inline(always)]
pub(crate) fn connect6(ctx: &SockAddrContext, outcome: u32, number: u64) {
    if is_on(number) && applies(outcome, number) {
        write_connect6(ctx.sock_addr, outcome);
    }
}

/// Not a global function, like the others that write: the verifier would keep a part of it
/// although nothing calls it.
#[inline(never)]
fn write_connect4(ctx: *mut bpf_sock_addr, outcome: u32) {
    let ctx = SockAddrContext::new(ctx);
    if !may_write(outcome) {
        return;
    }
    let address = connect::address4(&ctx).to_ne_bytes();
    let port = connect::port(&ctx);
    let dimensions = slot(control::DIMS);
    let said = why(outcome, || {
        let ports = gate::accept_remote_port(dimensions, port);
        let addresses = match dimensions & dims::REMOTE {
            0 => u64::MAX,
            _ => accept_remote4(dimensions, address),
        };
        refused_by(connecting(dimensions), u64::MAX, u64::MAX, ports, addresses)
    });
    trace!(&ctx, target: "", "connect4 {:i}:{} {}", address, port, text(said));
}

#[inline(never)]
fn write_connect6(ctx: *mut bpf_sock_addr, outcome: u32) {
    let ctx = SockAddrContext::new(ctx);
    if !may_write(outcome) {
        return;
    }
    // SAFETY: 16 bytes into 16 bytes.
    let address = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(connect::address6(&ctx)) };
    let port = connect::port(&ctx);
    let dimensions = slot(control::DIMS);
    let said = why(outcome, || {
        let ports = gate::accept_remote_port(dimensions, port);
        let addresses = match dimensions & dims::REMOTE {
            0 => u64::MAX,
            _ => accept_remote6(dimensions, &address),
        };
        refused_by(connecting(dimensions), u64::MAX, u64::MAX, ports, addresses)
    });
    trace!(&ctx, target: "", "connect6 [{:i}]:{} {}", address, port, text(said));
}

/// Groups of filters, which a line does not tell apart.
const PORTS: u64 = dims::RPORT | dims::LPORT;
const ADDRESSES: u64 = dims::REMOTE | dims::LOCAL;

/// The names of programs for packets, as [`Hook`] counts; a power of two, as with [`TEXTS`].
static NAMES: [[u8; 8]; 2] = [*b"egress  ", *b"ingress "];

/// A program for packets.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Hook {
    Egress = 0,
    Ingress = 1,
}

/// Writes a line of a packet, if lines are wanted. `number` is as for
/// [`gate::pass_logging`].
#[inline(always)]
pub(crate) fn packet(skb: *mut __sk_buff, hook: Hook, outcome: u32, number: u64) {
    if is_on(number) && applies(outcome, number) {
        write_packet(skb, hook as u32, outcome);
    }
}

#[inline(never)]
fn write_packet(skb: *mut __sk_buff, hook: u32, outcome: u32) {
    // SAFETY: the context is valid for the program's whole run.
    let protocol = u16::from_be(unsafe { (*skb).protocol } as u16);
    // Others have no ends to show. One comparison: the verifier would follow each protocol through
    // all that comes after two.
    let others = u64::from(protocol ^ packet::ETH_P_IP) * u64::from(protocol ^ packet::ETH_P_IPV6);
    if others != 0 || !may_write(outcome) {
        return;
    }
    let said = why(outcome, || packet_refused_by(skb, hook));
    match protocol {
        packet::ETH_P_IP => write_packet4(skb, hook, said),
        _ => write_packet6(skb, hook, said),
    }
}

/// Which filter of the rules for a packet's owner did not accept it. The filters are evaluated
/// anew, group by group.
#[inline(never)]
fn packet_refused_by(skb: *mut __sk_buff, hook: u32) -> u32 {
    let (operation, direction) = if hook == Hook::Egress as u32 {
        (ops::EGRESS, Direction::Egress)
    } else {
        (ops::INGRESS, Direction::Ingress)
    };
    let dimensions = slot(control::DIMS);
    let classes = socket::classes_of(skb);
    let rules = gate::named_by(dimensions, operation) & gate::murphy_rules(dimensions, classes);
    let by = |group: u64| {
        let others = dims::PACKET & !group;
        packet::accept_headers(skb, dimensions & !others, direction)
    };
    let interfaces = interface::accept(skb, dimensions);
    let (protocols, ports, addresses) = (by(dims::PROTO), by(PORTS), by(ADDRESSES));
    refused_by(rules, interfaces, protocols, ports, addresses)
}

#[inline(never)]
fn write_packet4(skb: *mut __sk_buff, hook: u32, said: u32) {
    let Some(header) = packet::load::<[u8; 20]>(skb, 0) else {
        return;
    };
    let ports = packet::ports(skb);
    let from = [header[12], header[13], header[14], header[15]];
    let to = [header[16], header[17], header[18], header[19]];
    let (hook, said) = (name(hook), text(said));
    let (sport, dport) = ((ports >> 16) as u16, ports as u16);
    trace!((), target: "", "{} {:i}:{} > {:i}:{} {}", hook, from, sport, to, dport, said);
}

#[inline(never)]
fn write_packet6(skb: *mut __sk_buff, hook: u32, said: u32) {
    let Some(from) = packet::load::<[u8; 16]>(skb, 8) else {
        return;
    };
    let Some(to) = packet::load::<[u8; 16]>(skb, 24) else {
        return;
    };
    let ports = packet::ports(skb);
    let (hook, said) = (name(hook), text(said));
    let (sport, dport) = ((ports >> 16) as u16, ports as u16);
    trace!((), target: "", "{} [{:i}]:{} > [{:i}]:{} {}", hook, from, sport, to, dport, said);
}

#[inline(always)]
fn name(hook: u32) -> &'static str {
    let name = &NAMES[black_box(hook) as usize % NAMES.len()];
    // SAFETY: it is ASCII.
    unsafe { core::str::from_utf8_unchecked(name) }
}
