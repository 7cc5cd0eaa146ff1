//! The read and write families fail with an errno.
//!
//! Kernel interface: `file_permission(struct file *file, int mask)` (5.7 for
//! BPF), called before the data moves. It also guards `getdents`, `sendfile`,
//! `splice` and others: the system call is checked, so they are let be.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use crate::syscall;

#[lsm(hook = "file_permission")]
pub(crate) fn murphy_rw(ctx: LsmContext) -> i32 {
    syscall::fail(ctx.arg(0))
}
