//! What a system call gives that is answered in the kernel's place.

use crate::decide::mix;

/// How many values a rule draws from at most: a power of two, as a mask shows the verifier that an index is below it.
pub const VALUES: usize = 16;

/// The draw among several values has a sequence of its own; the decision has that of the seed itself.
const DRAW: u64 = 0x6572_726f_7200_0001;

/// What a rule makes of a call: it gives one of some values and does nothing, its thread gets a signal, or both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The thread's signal; 0: none.
    pub signal: u32,
    /// How many of `values` there are to draw from; 0: the kernel does the call.
    pub count: u32,
    /// What the call may give: values, or negative errnos.
    pub values: [i64; VALUES],
}

const _: () = assert!(size_of::<Answer>() == 136);

/// Which of so many values the `n`th match of a rule gives.
#[inline(always)]
#[must_use]
pub fn drawn(seed: u64, n: u64, count: u32) -> u32 {
    // By multiplication of the upper half, as `decide` draws its probability.
    (((mix(seed ^ DRAW, n) >> 32) * u64::from(count)) >> 32) as u32
}

/// How a call is answered before it is made: what a program on the instruction before `syscall` is told of the place, by the
/// cookie of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The call's number, if that instruction is what sets it.
    pub number: Option<u16>,
    /// Else where the number is: a register, by its place in `struct pt_regs`.
    pub register: u8,
    /// The length of both instructions, which an answer leaps over.
    pub length: u8,
    /// Where in its page the first of them is, wherever that is mapped.
    pub page: u16,
}

/// The bits of an address below those of its page.
pub const PAGE: u64 = 0xfff;

/// No number.
const NO_NUMBER: u64 = 0xffff;

/// Registers that are kept for a thread in the kernel, so far as a call may have its number from one: `r15` to `rdi`.
pub const REGISTERS: u8 = 15;

impl Site {
    /// As one number, which is never 0.
    #[inline(always)]
    #[must_use]
    pub fn to_cookie(self) -> u64 {
        let number = match self.number {
            Some(number) => u64::from(number),
            None => NO_NUMBER,
        };
        number
            | u64::from(self.register) << 16
            | u64::from(self.length) << 24
            | u64::from(self.page) << 32
    }

    /// From that number.
    #[inline(always)]
    #[must_use]
    pub fn from_cookie(cookie: u64) -> Self {
        let number = cookie & NO_NUMBER;
        Self {
            number: (number != NO_NUMBER).then_some(number as u16),
            register: (cookie >> 16) as u8,
            length: (cookie >> 24) as u8,
            page: (cookie >> 32) as u16,
        }
    }
}

// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl crate::Plain for Answer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_its_number_says() {
        for number in [None, Some(0), Some(74)] {
            let site = Site {
                number,
                register: 10,
                length: 7,
                page: 0xfed,
            };
            assert_eq!(Site::from_cookie(site.to_cookie()), site);
            assert_ne!(site.to_cookie(), 0);
        }
    }
}
