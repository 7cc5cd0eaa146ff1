//! What the kernel programs know of a target.
//!
//! Targets are classes: those whom one set of selectors means are one class, a bit of a
//! mask, for as long as an injector runs. A bank of the plan says which rules target
//! a class, so that rules change while processes and sockets stay what they are.

/// How many classes an injector has at most: the bits of a mask.
pub const CLASSES: u32 = 64;

/// Length of the name of a process, with the terminating 0 (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM: usize = 16;

/// Flag of a kernel thread in `task_struct`'s `flags` (`PF_KTHREAD`, include/linux/sched.h).
pub const KERNEL_THREAD: u32 = 0x0020_0000;

/// What naming somebody in one way means for the classes. Over all the ways in which
/// somebody is named, both masks are or'ed, and who is excluded from a class is not in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Classes it is in.
    pub hit: u64,
    /// Classes it is excluded from.
    pub spare: u64,
}

impl Named {
    /// Never hit, by whatever rule.
    pub const EXEMPT: Self = Self {
        hit: 0,
        spare: u64::MAX,
    };

    /// Both masks or'ed.
    #[inline(always)]
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            hit: self.hit | other.hit,
            spare: self.spare | other.spare,
        }
    }

    /// The classes that are left.
    #[inline(always)]
    #[must_use]
    pub const fn classes(self) -> u64 {
        self.hit & !self.spare
    }
}

/// What is known of a thread group.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Named by its id, or a descendant of one that is: kept for life, and inherited.
    pub by_id: Named,
    /// Named by the file it executes: inherited, and found anew at every exec.
    pub by_exe: Named,
}

/// A file, as the kernel tells it from others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// Device number in the kernel's own form: 12 bits of major, 20 of minor number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// What is known of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Classes of its owner.
    pub classes: u64,
    /// The cookie of its network namespace, which is that of every interface its packets cross.
    pub network: u64,
}

const _: () = assert!(size_of::<Socket>() == 16);
const _: () = assert!(size_of::<Named>() == 16);
const _: () = assert!(size_of::<Process>() == 32);
const _: () = assert!(size_of::<FileId>() == 16);

// SAFETY: repr(C), integers only, without padding (sizes asserted above).
unsafe impl crate::Plain for Named {}
// SAFETY: as for `Named`.
unsafe impl crate::Plain for Process {}
// SAFETY: as for `Named`.
unsafe impl crate::Plain for FileId {}
// SAFETY: as for `Named`.
unsafe impl crate::Plain for Socket {}
