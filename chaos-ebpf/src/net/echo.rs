//! Whose ping an echo reply answers.
//!
//! A reply has no port by which its socket could be looked up before it arrives. So each
//! request of a target's that leaves is noted: with whom, by which identifier and number.
//!
//! Kernel interface: an LRU hash (4.10). What is never answered makes room by itself.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;

use crate::packet;

/// Requests that are remembered.
const REQUESTS: u32 = 512;

/// Remote address (IPv4 in the first word), then identifier and sequence number.
pub(crate) type Key = [u32; 5];

/// Echo request → rules that target who sent it.
#[map]
static ECHOES: LruHashMap<Key, u64> = LruHashMap::with_max_entries(REQUESTS, 0);

/// Notes a packet of a target's on its way out, if it is an echo request.
#[inline(always)]
pub(crate) fn note(skb: *mut __sk_buff, rules: u64) {
    if let Some(key) = packet::echo(skb, packet::Direction::Egress) {
        // One that cannot be noted is not recognised.
        let _ = ECHOES.insert(key, rules, 0);
    }
}

/// Rules that target who asked for a packet on its way in, if it is an echo reply.
#[inline(always)]
pub(crate) fn asked(skb: *mut __sk_buff) -> u64 {
    let Some(key) = packet::echo(skb, packet::Direction::Ingress) else {
        return 0;
    };
    // SAFETY: values are u64s that are replaced as a whole.
    unsafe { ECHOES.get(key) }.copied().unwrap_or(0)
}
