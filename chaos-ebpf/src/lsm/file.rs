//! What is done to a file besides reading and writing it fails.
//!
//! Kernel interface: BPF LSM hooks (5.7), called before anything is changed. `fallocate`, `getdents`, `sendfile`, `splice`
//! and `copy_file_range` pass `file_permission`, see `read_write.rs`.

hooks! {
    /// `path_truncate(const struct path *path)`; before 6.2 for `ftruncate` too. `O_TRUNC` calls it as well: the
    /// system call is checked.
    murphy_truncat at "path_truncate" = Truncate, Path(0);
    /// `file_truncate(struct file *file)` (6.2)
    murphy_ftrunc at "file_truncate" = Truncate, File(0);
    /// `file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)`
    murphy_ioctl at "file_ioctl" = Ioctl, File(0);
    /// `file_fcntl(struct file *file, unsigned int cmd, unsigned long arg)`
    murphy_fcntl at "file_fcntl" = Fcntl, File(0);
    /// `file_lock(struct file *file, unsigned int cmd)`; `fcntl` calls it too.
    murphy_flock at "file_lock" = Flock, File(0);
}
