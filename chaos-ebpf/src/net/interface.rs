//! Which interface a packet crosses.
//!
//! An interface has a number in its network namespace, and others have the same one elsewhere. A classifier cannot learn
//! which namespace it runs in before 6.15; the packet's socket knows its own, and a packet that leaves it loses its socket.
//!
//! Kernel interface: `__sk_buff.ifindex` (4.2): for classifiers the interface they are attached to, for `cgroup_skb` the one
//! whose address the packet came to: a VLAN, a bridge, a bond rather than what is below.

use aya_ebpf::bindings::__sk_buff;
use chaos_common::interface::Interface;
use chaos_common::{bank, control, dims};
use chaos_ebpf::maps::{INTERFACES, banked};

use crate::packet::Direction;
use crate::{owner, socket};

/// Rules that accept the interface at hand.
#[inline(always)]
pub(crate) fn accept(skb: *mut __sk_buff, dimensions: u64) -> u64 {
    if dimensions & dims::INTERFACE == 0 {
        return u64::MAX;
    }
    murphy_interface(skb, dimensions, ALL) | banked(dimensions, control::ANY_INTERFACE)
}

/// Rules that are to be asked at the interface at hand about a packet that rules were asked about before.
#[inline(always)]
pub(crate) fn accept_once_more(skb: *mut __sk_buff, dimensions: u64, direction: Direction) -> u64 {
    if dimensions & dims::INTERFACE == 0 {
        return 0;
    }
    let which = match direction {
        Direction::Egress => FIRST_OUT,
        Direction::Ingress => FIRST_IN,
    };
    murphy_interface(skb, dimensions, which)
}

/// Which member of [`chaos_common::interface::Naming`] is wanted.
const ALL: u64 = 0;
const FIRST_OUT: u64 = 1;
const FIRST_IN: u64 = 2;

/// Rules that name the interface at hand.
///
/// A global function, which the verifier looks at once, whatever led there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_interface(skb: *mut __sk_buff, dimensions: u64, which: u64) -> u64 {
    let mut network = socket::network_of(skb);
    if network == 0 {
        // It arrives, and has not found its socket.
        network = owner::murphy_network(skb);
    }
    let interface = Interface {
        network,
        // SAFETY: the context is valid for the program's whole run.
        index: unsafe { (*skb).ifindex },
        bank: bank::of(dimensions),
    };
    // SAFETY: entries are replaced as a whole.
    let naming = unsafe { INTERFACES.get(&interface) }
        .copied()
        .unwrap_or_default();
    match which {
        ALL => naming.all,
        FIRST_OUT => naming.first_out,
        _ => naming.first_in,
    }
}
