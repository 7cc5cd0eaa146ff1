//! Memory cannot be mapped, or its protection not be changed.
//!
//! Kernel interface: BPF LSM hooks (5.7), called before anything is changed.

hooks! {
    /// `mmap_file(struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)`; no file for anonymous
    /// memory. `execve` and `shmat` call it too: the system call is checked.
    murphy_mmap at "mmap_file" = Mmap, File(0);
    /// `file_mprotect(struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)`, for every mapping in the range.
    murphy_mprotec at "file_mprotect" = Mprotect, Nothing;
}
