//! Which packets take the way round through the kernel's netem.
//!
//! Each rule has an ifb with a netem qdisc of its own. Its filter is this program with a
//! `mirred` action that redirects to that ifb; once netem lets go of a packet, the packet
//! goes on where it was. So the interface's own qdiscs are never touched, and what netem does
//! is the kernel's business.
//!
//! Where several rules have an ifb, their filters stand in a row. The first asks the rules
//! and leaves a note of the answer, the others read it.
//!
//! Kernel interface: a `cls_bpf` classifier without direct action on clsact (4.5), which finds
//! its own class id in `tc_classid`; `bpf_sk_lookup_tcp` and `…_udp` (4.20).

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_common::{control, dims, mark as marks, ops};
use chaos_ebpf::gate;
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::tell::By;

use crate::packet::{self, Direction};
use crate::{interface, mark, owner, socket};

/// The next filter.
const NO_MATCH: i32 = 0;
/// This filter's action.
const MATCH: i32 = -1;

/// No rule's number.
const NOBODY: u32 = 0;

#[classifier]
pub(crate) fn murphy_hold_out(ctx: TcContext) -> i32 {
    select(ctx.skb.skb, leaving)
}

#[classifier]
pub(crate) fn murphy_hold_in(ctx: TcContext) -> i32 {
    select(ctx.skb.skb, arriving)
}

/// Whether this filter is that of the rule which hits. `ask` is told whose filter asks.
#[inline(always)]
fn select(skb: *mut __sk_buff, ask: impl FnOnce(*mut __sk_buff, u32) -> u32) -> i32 {
    // SAFETY: the context is valid for the program's whole run.
    let filter = unsafe { (*skb).tc_classid };
    let mine = filter & !marks::ASKS & 0xffff;
    let rule = if filter & marks::ASKS != 0 {
        let rule = ask(skb, mine);
        // SAFETY: as above; these bytes are for classifiers to leave each other notes.
        unsafe { (*skb).cb[0] = rule };
        rule
    } else {
        // SAFETY: as above.
        unsafe { (*skb).cb[0] }
    };
    if rule == mine { MATCH } else { NO_MATCH }
}

/// The number, counted from 1, of the rule that hits a packet on its way out.
#[inline(always)]
fn leaving(skb: *mut __sk_buff, mine: u32) -> u32 {
    let seen = mark::of(skb);
    if seen & marks::AWAY != 0 {
        // Back from the ifb. The kernel skips the action that would send it there again, the
        // first it comes across: this filter has to match for it to be its own.
        mark::set(skb, seen & !marks::AWAY);
        return mine;
    }
    let dimensions = slot(control::DIMS);
    let again = seen & marks::NETEM != 0;
    if again && dimensions & dims::INTERFACE == 0 {
        return NOBODY;
    }
    let classes = socket::classes_of(skb);
    if classes == 0 {
        return NOBODY;
    }
    let rules =
        gate::murphy_rules(dimensions, classes) & gate::named_by(dimensions, ops::EGRESS_NETEM);
    if rules == 0 || rules & interface::accept(skb, dimensions) == 0 {
        return NOBODY;
    }
    mark::set(skb, seen | marks::NETEM);
    let rule = murphy_hold(skb, classes, if again { LEAVES | AGAIN } else { LEAVES });
    if rule != 0 {
        mark::set(skb, seen | marks::NETEM | marks::AWAY);
    }
    rule as u32
}

/// The same for one on its way in. The kernel does not classify it again when it is back.
#[inline(always)]
fn arriving(skb: *mut __sk_buff, _: u32) -> u32 {
    let seen = mark::of(skb);
    let dimensions = slot(control::DIMS);
    let mut way = 0;
    if seen & marks::ARRIVED != 0 {
        if dimensions & dims::INTERFACE == 0 {
            return NOBODY;
        }
        way |= AGAIN;
    }
    // Over the loopback interface: rules for both directions were asked when it left.
    if seen & marks::NETEM != 0 {
        way |= ASKED;
    }
    let classes = owner::murphy_owner(skb);
    let named = gate::named_by(dimensions, ops::INGRESS_NETEM);
    if classes == 0 || named & interface::accept(skb, dimensions) == 0 {
        return NOBODY;
    }
    mark::set(skb, seen | marks::ARRIVED);
    murphy_hold(skb, classes, way) as u32
}

/// What [`murphy_hold`] is told of a packet: it leaves, and else it arrives;
const LEAVES: u64 = 1;
/// rules were asked about it in this direction, at another interface;
const AGAIN: u64 = 2;
/// it arrives, and the rules for both directions were asked when it left.
const ASKED: u64 = 4;

/// Asks the rules; the number, counted from 1, of the one that hits, or [`NOBODY`].
///
/// A global function, which the verifier looks at once, whatever marks led there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_hold(skb: *mut __sk_buff, classes: u64, way: u64) -> u64 {
    let (operation, direction) = if way & LEAVES != 0 {
        (ops::EGRESS_NETEM, Direction::Egress)
    } else {
        (ops::INGRESS_NETEM, Direction::Ingress)
    };
    let injection = gate::pass(
        operation,
        |_| classes,
        |dimensions| {
            let mut accepted = packet::accept(skb, dimensions, direction);
            if accepted == 0 || way & (AGAIN | ASKED) == 0 {
                return accepted;
            }
            let here = interface::accept_once_more(skb, dimensions, direction);
            if way & AGAIN != 0 {
                accepted &= here;
            }
            if way & ASKED != 0 {
                accepted &= here | !gate::named_by(dimensions, ops::EGRESS_NETEM);
            }
            accepted
        },
        By::Unknown,
        || packet::detail(skb),
    );
    match injection {
        Some(injection) => u64::from(injection.rule) + 1,
        None => u64::from(NOBODY),
    }
}
