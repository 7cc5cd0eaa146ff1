//! Two banks, so that one plan takes another's place in one write.
//!
//! What a plan writes into maps exists twice. The programs read which bank is in force
//! once an operation, with [`crate::control::DIMS`], and look everything up in
//! that bank: user space fills the other one and flips. A bank is written
//! again only when no program can be reading it any more.
//!
//! What outlives a plan has one place: rules remember and count by their
//! [`crate::rule::Rule::slot`], and targets are classes, which a bank maps to rules.

/// Banks there are.
pub const BANKS: u32 = 2;

/// The bit of a set of dimensions that says the bank.
const BIT: u32 = 63;

/// The bank that a value of [`crate::control::DIMS`] puts in force.
#[inline(always)]
#[must_use]
pub const fn of(dimensions: u64) -> u32 {
    (dimensions >> BIT) as u32
}

/// Dimensions, with their bank.
#[must_use]
pub const fn with(dimensions: u64, bank: u32) -> u64 {
    dimensions & !(1 << BIT) | (bank as u64) << BIT
}

/// Where a bank's value of an array stands that has `size` values a bank.
#[inline(always)]
#[must_use]
pub const fn index(dimensions: u64, size: u32, value: u32) -> u32 {
    of(dimensions) * size + value
}

const _: () = assert!(of(with(u64::MAX, 0)) == 0 && of(with(0, 1)) == 1);
