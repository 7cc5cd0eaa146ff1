//! `open`, `openat`, `openat2`, `creat`, `open_by_handle_at` fail with an errno.
//!
//! Kernel interface: `file_open(struct file *file)` (5.7 for BPF). It runs after
//! the path was walked and, with `O_CREAT`, the file made; `O_PATH` opens do not
//! reach it. The system call is checked, so `execve` opening its file is let be.

hooks! {
    murphy_open at "file_open" = FileOpen, File(0);
}
