//! Who a packet is for that has not found its socket yet.
//!
//! Kernel interface: `bpf_sk_lookup_tcp` and `bpf_sk_lookup_udp` (4.20), in the network
//! namespace of the interface. Found are TCP and UDP sockets, those that listen included; a
//! half-open connection counts as its listener. Nothing is found for what has no port (ICMP,
//! all fragments but the first) or no full socket any more (TIME_WAIT).

use aya_ebpf::bindings::{__sk_buff, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};

use crate::packet::{self, Ends};
use crate::socket;

/// The namespace of the interface (`BPF_F_CURRENT_NETNS`).
const CURRENT_NETNS: u64 = u64::MAX;

/// Classes of the owner of the socket that a packet will arrive at.
///
/// A global function, as [`packet::accept`] is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_owner(skb: *mut __sk_buff) -> u64 {
    known(skb, socket::classes)
}

/// The cookie of the network namespace of that socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_network(skb: *mut __sk_buff) -> u64 {
    known(skb, socket::network)
}

/// What is known of the socket that a packet will arrive at; 0 if there is none.
#[inline(always)]
fn known(skb: *mut __sk_buff, what: impl FnOnce(*mut bpf_sock) -> u64) -> u64 {
    let Some((ends, tcp)) = packet::ends(skb) else {
        return 0;
    };
    let socket = look_up(skb, &ends, tcp);
    if socket.is_null() {
        return 0;
    }
    let known = what(socket);
    // SAFETY: a socket that the look-up gave, tested for null.
    unsafe { bpf_sk_release(socket.cast()) };
    known
}

#[inline(always)]
fn look_up(skb: *mut __sk_buff, ends: &Ends, tcp: bool) -> *mut bpf_sock {
    let tuple = (&raw const ends.words).cast::<bpf_sock_tuple>().cast_mut();
    let (context, size) = (skb.cast(), ends.size);
    // The size has to be a constant where the verifier looks.
    // SAFETY: the tuple is at least as long as its size says; the helpers check the rest.
    unsafe {
        match (tcp, size) {
            (true, Ends::V4) => bpf_sk_lookup_tcp(context, tuple, Ends::V4, CURRENT_NETNS, 0),
            (true, _) => bpf_sk_lookup_tcp(context, tuple, Ends::V6, CURRENT_NETNS, 0),
            (false, Ends::V4) => bpf_sk_lookup_udp(context, tuple, Ends::V4, CURRENT_NETNS, 0),
            (false, _) => bpf_sk_lookup_udp(context, tuple, Ends::V6, CURRENT_NETNS, 0),
        }
    }
}
