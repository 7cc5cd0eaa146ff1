//! Packets that are late without a netem: each gets the earliest time at which it may depart.
//!
//! They take the way round to an ifb as for netem, and come by this program there. The ifb's
//! root qdisc is `fq`, which lets go of no packet before that time. On its way in a packet
//! loses its time stamp at the redirect, so the ifb is the place for both directions.
//!
//! The stamp is marked as one of the monotonic clock. The kernel takes a marked one away
//! before a receiver could take it for the time of arrival.
//!
//! Kernel interface: a `cls_bpf` classifier on clsact, `bpf_skb_set_tstamp` and
//! `__sk_buff.tstamp_type` (5.18).

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_skb_set_tstamp};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use chaos_ebpf::maps::DELAYS;

/// `BPF_SKB_TSTAMP_DELIVERY_MONO` (`linux/bpf.h`): a time of departure, of the monotonic clock.
const DELIVERY_MONO: u32 = 1;

/// The next filter; there is none.
const NO_MATCH: i32 = 0;

#[classifier]
pub(crate) fn murphy_edt(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the program's whole run.
    let class = unsafe { (*skb).tc_classid };
    let delay = DELAYS.get(class.wrapping_sub(1)).copied().unwrap_or(0);
    if delay != 0 {
        depart(skb, delay);
    }
    NO_MATCH
}

#[inline(always)]
fn depart(skb: *mut __sk_buff, delay: u64) {
    // SAFETY: it only reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the context is valid for the program's whole run.
    let (stamp, clock) = unsafe { ((*skb).tstamp, (*skb).tstamp_type) };
    // What its sender paces is late by so much more. A stamp of another clock is no time to go by.
    let earliest = match u32::from(clock) == DELIVERY_MONO {
        true => now.max(stamp),
        false => now,
    } + delay;
    // SAFETY: the helper checks what it is given.
    let set = unsafe { bpf_skb_set_tstamp(skb, earliest, DELIVERY_MONO) };
    if set != 0 {
        // Neither IPv4 nor IPv6, say behind a VLAN tag: without the mark.
        // SAFETY: the context is valid, and of a classifier, which may write this.
        unsafe { (*skb).tstamp = earliest };
    }
}
