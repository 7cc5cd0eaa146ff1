//! A packet that arrives at its socket.
//!
//! Kernel interface: `cgroup_skb/ingress` (4.10). It runs where a packet has
//! found its socket, so only sockets below the cgroup pay for it, in any network
//! namespace. The drop happens before TCP has seen the packet: the peer
//! retransmits, as after a loss on the wire.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use chaos_common::{mark as marks, ops};
use chaos_ebpf::gate;
use chaos_ebpf::tell::By;

use crate::log::{self, Hook};
use crate::packet::{self, Direction};
use crate::{interface, mark, socket};

const PROCEED: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb(ingress)]
pub(crate) fn murphy_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // Over the loopback interface: rules for both directions were asked when it left.
    let asked = mark::of(skb) & marks::LOSS != 0;
    let injection = gate::pass_logging(
        ops::INGRESS,
        |_| socket::classes_of(skb),
        |dimensions| {
            let accepted = packet::accept(skb, dimensions, Direction::Ingress);
            if asked {
                let here = interface::accept_once_more(skb, dimensions, Direction::Ingress);
                accepted & (here | !gate::named_by(dimensions, ops::EGRESS))
            } else {
                accepted
            }
        },
        By::Unknown,
        || packet::detail(skb),
        |_, rules| rules,
        |outcome, number| log::packet(skb, Hook::Ingress, outcome, number),
    );
    match injection {
        Some(_) => DROP,
        None => PROCEED,
    }
}
