//! The only place of the fault model that depends on the architecture the program is built for: its system calls.

use syscalls::Sysno;

/// Every system call of this architecture, by number.
pub(super) fn all_calls() -> impl Iterator<Item = Sysno> {
    // Not `Sysno::iter`, which leaves out the last one.
    (0..=Sysno::last().id()).filter_map(|number| Sysno::new(usize::try_from(number).ok()?))
}

/// Operations that are system calls. Those in brackets only the oldest architectures have; the younger were given just the
/// `…at` form.
macro_rules! calls {
    ([$($old:ident)*] $($call:ident)*) => {{
        use syscalls::Sysno;

        use crate::model::Op;

        #[cfg(target_arch = "x86_64")]
        const CALLS: &[Op] = &[$(Op::Call(Sysno::$old),)* $(Op::Call(Sysno::$call),)*];
        #[cfg(not(target_arch = "x86_64"))]
        const CALLS: &[Op] = &[$(Op::Call(Sysno::$call),)*];
        CALLS
    }};
}

pub(super) use calls;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_is_one_of_them() {
        assert_eq!(all_calls().last(), Some(Sysno::last()));
        assert_eq!(all_calls().count(), Sysno::count());
    }
}
