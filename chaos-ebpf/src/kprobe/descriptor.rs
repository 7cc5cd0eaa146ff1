//! What is behind a descriptor of the process that a call is made by.
//!
//! Read from the kernel's own tables, without a reference: a descriptor that another thread closes or opens anew in that
//! moment may be taken for what it was before, as by a call that came a little earlier. Offsets come from the running
//! kernel's BTF.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};

/// `struct task_struct`: the table of its descriptors.
#[unsafe(no_mangle)]
static TASK_FILES: Global<u32> = Global::new(0);
/// `struct files_struct`: the table in force.
#[unsafe(no_mangle)]
static FILES_TABLE: Global<u32> = Global::new(0);
/// `struct fdtable`: how many there may be.
#[unsafe(no_mangle)]
static TABLE_SIZE: Global<u32> = Global::new(0);
/// `struct fdtable`: the files, by number.
#[unsafe(no_mangle)]
static TABLE_FILES: Global<u32> = Global::new(0);
/// `struct file`: what it is a file of.
#[unsafe(no_mangle)]
static FILE_INODE: Global<u32> = Global::new(0);
/// `struct inode`: type and permissions.
#[unsafe(no_mangle)]
static INODE_MODE: Global<u32> = Global::new(0);

/// What [`file_mode`] gives for a descriptor that is not open. No `i_mode` is as large.
pub(crate) const NOT_OPEN: u32 = u32::MAX;

/// `i_mode` of the file behind it, or [`NOT_OPEN`]. A global function, which the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_file_mode(fd: u64) -> u64 {
    u64::from(mode(fd as u32).map_or(NOT_OPEN, u32::from))
}

#[inline(always)]
pub(crate) fn file_mode(fd: u32) -> u32 {
    murphy_file_mode(u64::from(fd)) as u32
}

#[inline(always)]
fn mode(fd: u32) -> Option<u16> {
    // SAFETY: it gives an address, which is only read by helpers that check it.
    let task = unsafe { bpf_get_current_task() } as *const c_void;
    let files: *const c_void = read(task, TASK_FILES.load())?;
    let table: *const c_void = read(files, FILES_TABLE.load())?;
    if fd >= read::<u32>(table, TABLE_SIZE.load())? {
        return None;
    }
    let all: *const u8 = read(table, TABLE_FILES.load())?;
    let place = all.wrapping_add(fd as usize * size_of::<*const c_void>());
    let file: *const c_void = read(place.cast(), 0)?;
    if file.is_null() {
        return None;
    }
    let inode: *const c_void = read(file, FILE_INODE.load())?;
    read(inode, INODE_MODE.load())
}

/// Reads a member of a kernel structure; a bad address gives nothing.
#[inline(always)]
fn read<T>(structure: *const c_void, offset: u32) -> Option<T> {
    // SAFETY: a bad address gives an error.
    unsafe { bpf_probe_read_kernel(structure.cast::<u8>().add(offset as usize).cast::<T>()) }.ok()
}
