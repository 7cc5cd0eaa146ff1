//! `open`, `openat`, `openat2`, `creat` fail with an errno.
//!
//! Kernel interface: `file_open(struct file *file)` (5.7 for BPF). It runs after
//! the path was walked and, with `O_CREAT`, the file made; `O_PATH` opens do not
//! reach it. The system call is checked, so `execve` opening its file is let be.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use crate::syscall;

#[lsm(hook = "file_open")]
pub(crate) fn murphy_open(ctx: LsmContext) -> i32 {
    syscall::fail(ctx.arg(0))
}
