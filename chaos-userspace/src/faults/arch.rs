//! The only place of the fault model that depends on the architecture the program is built for: its system calls.

use syscalls::Sysno;

use super::model::Op;

/// Every system call of this architecture, by number.
pub(super) fn calls() -> impl Iterator<Item = Sysno> {
    // Not `Sysno::iter`, which leaves out the last one.
    (0..=Sysno::last().id()).filter_map(|number| Sysno::new(usize::try_from(number).ok()?))
}

/// Calls that open a file. Only the oldest architectures have all of them; the younger were given just the `…at` form.
#[cfg(target_arch = "x86_64")]
pub(super) const OPEN: &[Op] = &[
    Op::Call(Sysno::open),
    Op::Call(Sysno::openat),
    Op::Call(Sysno::openat2),
    Op::Call(Sysno::creat),
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OPEN: &[Op] = &[Op::Call(Sysno::openat), Op::Call(Sysno::openat2)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_is_one_of_them() {
        assert_eq!(calls().last(), Some(Sysno::last()));
        assert_eq!(calls().count(), Sysno::count());
    }
}
