//! A packet on its way out.
//!
//! Kernel interface: a tc classifier in direct action, by tcx (6.6) or clsact
//! (4.5). A drop (`TC_ACT_SHOT`) would tell the sender; a redirect to an
//! interface that cannot exist frees the packet as the wire would lose it.

use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_common::{mark as marks, ops};
use chaos_ebpf::gate;
use chaos_ebpf::tell::By;

use crate::packet::{self, Direction};
use crate::{mark, socket};

/// "Not for me": the next program, the next filter, the queue.
const TC_ACT_UNSPEC: i32 = -1;
/// Interface indexes are handed out from 1 upwards; this one is never reached.
const NOWHERE: u32 = 0x7fff_fff0;

#[classifier]
pub(crate) fn murphy_egress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let seen = mark::of(skb);
    if seen & marks::LOSS != 0 {
        return TC_ACT_UNSPEC;
    }
    let rules = socket::rules_of(skb);
    if rules == 0 {
        return TC_ACT_UNSPEC;
    }
    // It may come by again: back from an ifb, or on the interface below this one.
    mark::set(skb, seen | marks::LOSS);
    let injection = gate::pass(
        ops::EGRESS,
        |_| rules,
        |dimensions| packet::accept(skb, dimensions, Direction::Egress),
        By::Unknown,
        || packet::detail(skb),
    );
    match injection {
        // SAFETY: the helper only notes where the packet is to go.
        Some(_) => (unsafe { bpf_redirect(NOWHERE, 0) }) as i32,
        None => TC_ACT_UNSPEC,
    }
}
