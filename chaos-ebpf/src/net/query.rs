//! Reads the question of a DNS query (RFC 1035, 4.1), by UDP or in one segment of TCP.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::lpm_trie::Key;
use chaos_common::{bank, dims, name};
use chaos_ebpf::maps::NAMES;

use crate::craft::{self, Layout};
use crate::packet::{TCP, UDP};

/// Length of a message's header.
pub(crate) const HEADER: u32 = 12;
/// A UDP header.
pub(crate) const UDP_HEADER: u32 = 8;
/// What cannot be a name's length.
const NO_NAME: u64 = u64::MAX;

/// A name, as it was read and as it is looked up. More than fits on a stack.
#[repr(C)]
struct Name {
    /// On the wire. What follows its end is left from names before.
    wire: [u64; name::SIZE / 8],
    key: Key<[u8; name::SIZE]>,
    /// Its length without the 0 at its end.
    length: u32,
}

#[map]
static NAME: PerCpuArray<Name> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn scratch() -> Option<&'static mut Name> {
    // SAFETY: the element is this CPU's own, and classifiers do not interrupt each other.
    NAME.get_ptr_mut(0).map(|name| unsafe { &mut *name })
}

/// Where a query begins in the buffer; `None` if the packet is none: not whole, an answer, or with more
/// than one question.
#[inline(always)]
pub(crate) fn message(skb: *mut __sk_buff, layout: &Layout) -> Option<u32> {
    let start = match layout.protocol {
        UDP => layout.transport() + UDP_HEADER,
        TCP => {
            let offset = craft::read::<[u8; 1]>(skb, layout.transport() + 12)?;
            // Two bytes of length come first (RFC 1035, 4.2.2).
            layout.transport() + u32::from(offset[0] >> 4) * 4 + 2
        }
        _ => return None,
    };
    let header = craft::read::<[u8; 12]>(skb, start)?;
    // No answer, and an ordinary query; one question.
    let is_query = header[2] & 0xf8 == 0 && header[4] == 0 && header[5] == 1;
    is_query.then_some(start)
}

/// From 1 to `MOST`, a power of two, as every verifier can see: what the compiler makes of a comparison, 6.1's
/// does not follow.
#[inline(always)]
pub(crate) fn up_to<const MOST: u32>(size: u32) -> u32 {
    const { assert!(MOST.is_power_of_two()) };
    (black_box(size).wrapping_sub(1) & (MOST - 1)) + 1
}

/// Reads the name of a query and notes its length, for [`question`]. `false` if it cannot be read.
#[inline(always)]
pub(crate) fn read_name(skb: *mut __sk_buff, message: u32) -> bool {
    let Some(scratch) = scratch() else {
        return false;
    };
    let start = message + HEADER;
    // SAFETY: the context is valid for the program's whole run.
    let size = unsafe { (*skb).len }.saturating_sub(start);
    if size == 0 {
        return false;
    }
    let size = up_to::<{ name::SIZE as u32 }>(size.min(name::SIZE as u32));
    // SAFETY: the helper writes `size` bytes, no more than there are, or fails.
    let read = unsafe {
        bpf_skb_load_bytes(
            skb.cast_const().cast::<c_void>(),
            start,
            (&raw mut scratch.wire).cast(),
            size,
        )
    };
    if read != 0 {
        return false;
    }
    let length = murphy_name_len();
    if length >= u64::from(size) {
        return false;
    }
    scratch.length = length as u32;
    true
}

/// Rules that accept the name that was read.
#[inline(always)]
pub(crate) fn accept(dimensions: u64) -> u64 {
    if dimensions & dims::NAME == 0 {
        return u64::MAX;
    }
    murphy_name_key(u64::from(bank::of(dimensions)));
    scratch()
        .and_then(|scratch| NAMES.get(&scratch.key))
        .copied()
        .unwrap_or(0)
}

/// Offset behind the question of the query whose name was read last; and its type.
#[inline(always)]
pub(crate) fn question(skb: *mut __sk_buff, message: u32) -> Option<(u32, u16)> {
    let length = scratch()?.length & 0xff;
    let after_name = message + HEADER + length + 1;
    let kind = craft::read::<[u8; 2]>(skb, after_name)?;
    Some((after_name + 4, u16::from_be_bytes(kind)))
}

/// The length of the name in the scratch, without the 0 at its end; [`NO_NAME`] if it is none.
///
/// A global function, which the verifier looks at once, whatever way it ends.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_name_len() -> u64 {
    let Some(scratch) = scratch() else {
        return NO_NAME;
    };
    let wire = (&raw const scratch.wire).cast::<u8>();
    let mut at = 0_usize;
    // Labels of one byte are the most there can be.
    for _ in 0..name::SIZE / 2 {
        // SAFETY: within the buffer by the mask.
        let label = usize::from(unsafe { wire.add(at & (name::SIZE - 1)).read() });
        if label == 0 {
            return at as u64;
        }
        // Longer ones are pointers, which a question has none of.
        if label > name::MAX_LABEL {
            return NO_NAME;
        }
        at += label + 1;
        if at >= name::MAX_NAME {
            return NO_NAME;
        }
    }
    NO_NAME
}

/// Makes the key of the name in the scratch, see [`name`]; before it stands the bank.
///
/// A global function without branches, for the verifier's sake.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_name_key(bank: u64) -> u64 {
    let Some(scratch) = scratch() else {
        return 0;
    };
    for word in &mut scratch.wire {
        *word = name::lower(*word);
    }
    let wire = (&raw const scratch.wire).cast::<u8>();
    let key = (&raw mut scratch.key.data).cast::<u8>();
    // The root's name is the 0 alone.
    let size = (scratch.length as usize & (name::SIZE - 1)).max(1);
    for i in 0..name::SIZE {
        // What comes after the first label's length is left of the end, and beyond the key's.
        let from = size.wrapping_sub(i + 1) & (name::SIZE - 1);
        // SAFETY: both are within their buffers, by the masks. What the last turn writes first is not a name's.
        unsafe {
            key.add((i + 1) & (name::SIZE - 1))
                .write(wire.add(from).read())
        };
    }
    // SAFETY: within the buffer, by the mask; `size` is from 1 to 254.
    unsafe { key.add(size & (name::SIZE - 1)).write(0) };
    // SAFETY: the buffer's first byte.
    unsafe { key.write(bank as u8) };
    scratch.key.prefix_len = (1 + size as u32) * 8;
    1
}
