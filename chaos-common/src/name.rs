//! Names of DNS queries, spelt so that a longest prefix match compares them from their end.
//!
//! On the wire `www.example.com` is `3 www 7 example 3 com 0` (RFC 1035, 3.1). The key is that, in lower
//! case and reversed, without the first length and with a 0 at its end: `moc 3 elpmaxe 7 www 0`. So
//! whatever ends in `.example.com` begins with `moc 3 elpmaxe 7`, what ends in `ple.com` with `moc 3 elp`, and
//! `example.com` itself, alone, with `moc 3 elpmaxe 0`.

/// Bytes of a key: a name on the wire has 255 at most, and before it stands the bank.
pub const SIZE: usize = 256;
/// The longest label.
pub const MAX_LABEL: usize = 63;
/// The longest name on the wire, with its lengths and the 0 at its end.
pub const MAX_NAME: usize = 255;

/// Eight bytes in lower case. Lengths of labels stay as they are: 63 at most, they come before `A`.
///
/// The seven low bits of each byte are compared with the bounds of the capital letters without a carry into
/// the next byte; the result is shifted to the bit by which a letter's two cases differ.
#[inline(always)]
#[must_use]
pub const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let beyond_z = low + (0x7f - b'Z' as u64) * EACH;
    let capital = (from_a ^ beyond_z) & !word & (0x80 * EACH);
    word | capital >> 2
}
