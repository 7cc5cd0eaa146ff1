//! Reads the first line of an HTTP/1 message (RFC 9112, 2.1) at the beginning of a TCP segment.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::lpm_trie::Key;
use chaos_common::url;
use chaos_ebpf::maps::URL_PATHS;

use crate::craft::{self, Layout};
use crate::packet::TCP;
use crate::query::up_to;

/// `HTTP/1.`, in memory order; the version's second digit comes behind it.
const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
const BYTES: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = 0x80 * BYTES;

/// What a segment begins with.
#[derive(Clone, Copy)]
pub(crate) struct Head(u64);

impl Head {
    /// A status line, or else a request line.
    const RESPONSE: u64 = 1 << 63;

    /// Nothing of HTTP is there.
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_response(self) -> bool {
        self.0 & Self::RESPONSE != 0
    }

    /// Offset of the TCP header in the buffer.
    pub(crate) fn transport(self) -> u32 {
        self.0 as u32 & 0xffff
    }

    /// Offset of the status line; of a request its path.
    pub(crate) fn text(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }

    /// The response's status, 0 to 999.
    pub(crate) fn status(self) -> u16 {
        (self.0 >> 32) as u16 & 0x3ff
    }

    /// For a global function, which takes numbers.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// What [`Head::number`] gave.
    pub(crate) fn of_number(number: u64) -> Self {
        Self(number)
    }
}

/// Looks at a packet.
#[inline(always)]
pub(crate) fn head(skb: *mut __sk_buff) -> Head {
    Head(murphy_head(skb))
}

/// A global function, which the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_head(skb: *mut __sk_buff) -> u64 {
    try_head(skb).unwrap_or(0)
}

#[inline(always)]
fn try_head(skb: *mut __sk_buff) -> Option<u64> {
    let layout = Layout::of(skb)?;
    if layout.protocol != TCP {
        return None;
    }
    let at = layout.transport();
    let offset = craft::read::<[u8; 1]>(skb, at + 12)?;
    let text = at + u32::from(offset[0] >> 4) * 4;
    // Shorter than any first line, as are segments that only acknowledge.
    let mut bytes = [0; 16];
    if !craft::read_into(skb, text, &mut bytes) {
        return None;
    }
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, ..] = bytes;
    let word = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    if word & !(0xff << 56) == VERSION {
        let digits = [b9, b10, b11];
        let are_digits = digits.iter().all(u8::is_ascii_digit);
        // The phrase and the space before it may be missing.
        if !matches!(b7, b'0' | b'1') || b8 != b' ' || !are_digits || !matches!(b12, b' ' | b'\r') {
            return None;
        }
        let value = digits
            .iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit & 0xf));
        return Some(
            Head::RESPONSE | value << 32 | u64::from(text & 0xffff) << 16 | u64::from(at & 0xffff),
        );
    }
    // The method: up to seven capital letters, then a space; a path begins with `/`.
    let spaces = word ^ (u64::from(b' ') * BYTES);
    let space = (spaces.wrapping_sub(BYTES) & !spaces & TOP_BITS).trailing_zeros() / 8;
    if !(3..=7).contains(&space) {
        return None;
    }
    let method = !(u64::MAX << (space * 8));
    let slash = if space == 7 {
        b8
    } else {
        (word >> (space * 8 + 8)) as u8
    };
    // `@` and what follows the capitals are no letters of a method, but nobody begins a line like that.
    if word & method & (0xe0 * BYTES) != method & (0x40 * BYTES) || slash != b'/' {
        return None;
    }
    Some(u64::from((text + space + 1) & 0xffff) << 16 | u64::from(at & 0xffff))
}

#[map]
static URL_PATH: PerCpuArray<Key<[u8; url::KEY]>> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn scratch() -> Option<*mut Key<[u8; url::KEY]>> {
    URL_PATH.get_ptr_mut(0)
}

/// Rules that accept the path at an offset in the buffer; at 0, or if it cannot be read, those that accept every path.
///
/// A global function, which the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_url(skb: *mut __sk_buff, at: u32, bank: u32) -> u64 {
    let Some(key) = scratch() else {
        return 0;
    };
    let length = if at == 0 { 0 } else { read(skb, at) };
    // SAFETY: the element is this CPU's own, and classifiers do not interrupt each other.
    let key = unsafe { &mut *key };
    key.prefix_len = (1 + length) * 8;
    key.data[0] = bank as u8;
    URL_PATHS.get(&*key).copied().unwrap_or(0)
}

/// Reads the path into the scratch, and gives how much there is of it to compare.
#[inline(always)]
fn read(skb: *mut __sk_buff, at: u32) -> u32 {
    let Some(key) = scratch() else {
        return 0;
    };
    // SAFETY: the context is valid for the program's whole run.
    let left = unsafe { (*skb).len }.saturating_sub(at);
    if left == 0 {
        return 0;
    }
    let size = up_to::<{ url::COMPARED as u32 }>(left.min(url::COMPARED as u32));
    // SAFETY: the helper writes `size` bytes behind the bank, no more than there are, or fails.
    let read = unsafe {
        bpf_skb_load_bytes(
            skb.cast_const().cast::<c_void>(),
            at,
            (&raw mut (*key).data).cast::<u8>().add(1).cast(),
            size,
        )
    };
    if read != 0 {
        return 0;
    }
    let length = murphy_url_end() as u32;
    if length < size {
        // The 0 that says where it ends.
        return length + 1;
    }
    // Longer than what is compared; or the line goes on in another segment.
    if size == url::COMPARED as u32 {
        size
    } else {
        0
    }
}

/// Where the path in the scratch ends, which gets a 0 there; [`url::COMPARED`] if it does not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_url_end() -> u64 {
    let Some(key) = scratch() else {
        return 0;
    };
    // SAFETY: behind the bank, within the element.
    let path = unsafe { (&raw mut (*key).data).cast::<u8>().add(1) };
    for at in 0..url::COMPARED {
        // SAFETY: within the buffer by the loop's bound.
        let byte = unsafe { path.add(at).read_volatile() };
        if byte <= b' ' || byte == b'?' {
            // SAFETY: as above.
            unsafe { path.add(at & (url::COMPARED - 1)).write_volatile(0) };
            return at as u64;
        }
    }
    url::COMPARED as u64
}
