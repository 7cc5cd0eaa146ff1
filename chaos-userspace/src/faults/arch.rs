//! The only place of the fault model that depends on the architecture the program is built for: system call numbers.

use syscalls::Sysno;

use super::model::Op;

/// The number of `op`; `None` for packets and for a call this architecture does not have.
pub(super) fn syscall_number(op: Op) -> Option<u32> {
    let sysno = match op {
        Op::Egress | Op::Ingress | Op::Dns => return None,
        Op::Open | Op::Creat => return legacy(op),
        Op::Connect => Sysno::connect,
        Op::Openat => Sysno::openat,
        Op::Openat2 => Sysno::openat2,
        Op::Read => Sysno::read,
        Op::Pread64 => Sysno::pread64,
        Op::Readv => Sysno::readv,
        Op::Preadv => Sysno::preadv,
        Op::Preadv2 => Sysno::preadv2,
        Op::Write => Sysno::write,
        Op::Pwrite64 => Sysno::pwrite64,
        Op::Writev => Sysno::writev,
        Op::Pwritev => Sysno::pwritev,
        Op::Pwritev2 => Sysno::pwritev2,
    };
    u32::try_from(sysno.id()).ok()
}

/// Calls that only the oldest architectures have; the younger ones were given just the `…at` form.
#[cfg(target_arch = "x86_64")]
fn legacy(op: Op) -> Option<u32> {
    let sysno = match op {
        Op::Open => Sysno::open,
        Op::Creat => Sysno::creat,
        _ => return None,
    };
    u32::try_from(sysno.id()).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy(_: Op) -> Option<u32> {
    None
}

/// Whether the kernel of this architecture knows a system call of that name, be it one murphy can fail or not.
pub(super) fn is_syscall_name(name: &str) -> bool {
    Sysno::iter().any(|sysno| sysno.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_kernels() {
        for op in Op::ALL.iter().copied().filter(|op| op.is_syscall()) {
            let Some(number) = syscall_number(op) else {
                assert!(matches!(op, Op::Open | Op::Creat), "{op} has no number");
                continue;
            };
            let sysno = Sysno::new(number as usize).expect("a number of the table");
            assert_eq!(sysno.name(), op.name());
        }
    }

    #[test]
    fn packets_have_no_number() {
        assert_eq!(syscall_number(Op::Egress), None);
        assert_eq!(syscall_number(Op::Ingress), None);
    }
}
