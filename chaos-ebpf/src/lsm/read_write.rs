//! The read and write families fail with an errno.
//!
//! Kernel interface: `file_permission(struct file *file, int mask)` (5.7 for
//! BPF), called before the data moves. It also guards what `file.rs` tells of.

hooks! {
    murphy_rw at "file_permission" = FilePermission, File(0);
}
