//! A packet on its way out.
//!
//! Kernel interface: a tc classifier in direct action, by tcx (6.6) or clsact
//! (4.5). A drop (`TC_ACT_SHOT`) would tell the sender; a redirect to an
//! interface that cannot exist frees the packet as the wire would lose it.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_common::{control, dims, mark as marks, ops};
use chaos_ebpf::gate::{self, outcome};
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::tell::By;

use crate::craft::{self, TC_ACT_UNSPEC};
use crate::log::{self, Hook};
use crate::packet::{self, Direction};
use crate::{interface, mark, socket};

#[classifier]
pub(crate) fn murphy_egress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let seen = mark::of(skb);
    // It comes by again: back from an ifb, or on the interface below another one, of which some rules speak.
    let again = seen & marks::LOSS != 0;
    let back = seen & marks::AWAY != 0;
    if again && (back || slot(control::DIMS) & dims::INTERFACE == 0) {
        return TC_ACT_UNSPEC;
    }
    let classes = socket::classes_of(skb);
    log::packet(skb, Hook::Egress, outcome::NOT_A_TARGET, classes);
    if classes == 0 {
        return TC_ACT_UNSPEC;
    }
    let injection = gate::pass_logging(
        ops::EGRESS,
        |_| classes,
        |dimensions| {
            let mut here = u64::MAX;
            if dimensions & dims::INTERFACE != 0 {
                here = gate::named_by(dimensions, ops::EGRESS) & interface::accept(skb, dimensions);
                if again {
                    here &= interface::accept_once_more(skb, dimensions, Direction::Egress);
                }
                if here == 0 {
                    return 0;
                }
            }
            mark::set(skb, seen | marks::LOSS);
            here & packet::accept_headers(skb, dimensions, Direction::Egress)
        },
        By::Unknown,
        || packet::detail(skb),
        |_, rules| rules,
        |outcome, number| log::packet(skb, Hook::Egress, outcome, number),
    );
    match injection {
        Some(_) => craft::lose(),
        None => TC_ACT_UNSPEC,
    }
}
