//! What a packet carries along of what became of it, see [`chaos_common::mark`].
//!
//! Kernel interface: `__sk_buff.tc_index`, which classifiers may write (4.1). Nothing in the
//! kernel but `sch_gred` and, before 6.3, `sch_dsmark` and `cls_tcindex` reads it.

use aya_ebpf::bindings::__sk_buff;
use chaos_common::{control, mark};
use chaos_ebpf::maps::control as slot;

/// The marks of a packet; none where they are another injector's.
#[inline(always)]
pub(crate) fn of(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context is valid for the program's whole run.
    let index = unsafe { (*skb).tc_index };
    let tag = slot(control::PACKET_TAG) as u32;
    if tag != 0 && index & mark::TAG == tag {
        index & mark::BITS
    } else {
        0
    }
}

/// Gives a packet these marks and no others.
#[inline(always)]
pub(crate) fn set(skb: *mut __sk_buff, marks: u32) {
    let tag = slot(control::PACKET_TAG) as u32;
    if tag != 0 {
        // SAFETY: the context is valid for the program's whole run; it is a classifier's.
        unsafe { (*skb).tc_index = (tag | marks) & 0xffff }
    }
}
