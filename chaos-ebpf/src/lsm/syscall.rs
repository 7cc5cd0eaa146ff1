//! Which system call the current thread is in, and facts about files.
//!
//! Offsets into kernel structures come from the running kernel's BTF: the
//! loader sets the globals of this file before it loads the object.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use chaos_common::{dims, ops};
use chaos_ebpf::gate;
use chaos_ebpf::target;
use chaos_ebpf::tell::{By, Detail};

/// `struct file`: `f_inode`.
#[unsafe(no_mangle)]
static FILE_INODE: Global<u32> = Global::new(0);
/// `struct file`: `f_mode`.
#[unsafe(no_mangle)]
static FILE_MODE: Global<u32> = Global::new(0);
/// `struct inode`: `i_mode`.
#[unsafe(no_mangle)]
static INODE_MODE: Global<u32> = Global::new(0);
/// `struct pt_regs`: the number of the system call (x86_64 `orig_ax`).
#[unsafe(no_mangle)]
static REGS_SYSCALL: Global<u32> = Global::new(0);
/// `struct task_struct`: the word that tells a compat (32-bit) system call.
#[unsafe(no_mangle)]
static TASK_COMPAT: Global<u32> = Global::new(0);
/// The bit in that word; 0: this kernel has no compat calls.
#[unsafe(no_mangle)]
static TASK_COMPAT_BIT: Global<u32> = Global::new(0);

/// Asks the gate about the system call that the current thread is in, when it
/// works on `file`. The answer is 0 or a negative errno, as an LSM hook wants it.
#[inline(always)]
pub(crate) fn fail(file: *const c_void) -> i32 {
    let classes = target::of_task(chaos_ebpf::maps::control(chaos_common::control::DIMS));
    if classes == 0 {
        return 0;
    }
    let Some(number) = native_call() else {
        return 0;
    };
    if is_backing(file) {
        return 0;
    }
    let accept = |dimensions| {
        if dimensions & dims::FD_KIND == 0 {
            return u64::MAX;
        }
        mode(file).map_or(0, |mode| gate::accept_file_mode(dimensions, mode))
    };
    let injection = gate::pass(
        number,
        |_| classes,
        accept,
        By::Task,
        || mode(file).map_or(Detail::NONE, Detail::file),
    );
    injection.map_or(0, |injection| injection.errno())
}

/// The native system call of the current thread, looked at for targets only.
#[inline(always)]
fn native_call() -> Option<u32> {
    // SAFETY: the helpers take nothing but the current task, whose registers and
    // structure are readable; a bad read gives an error, not a fault.
    unsafe {
        let task = bpf_get_current_task_btf();
        let compat_bit = TASK_COMPAT_BIT.load();
        if compat_bit != 0 {
            let place = task.cast::<u8>().add(TASK_COMPAT.load() as usize);
            if bpf_probe_read_kernel(place.cast::<u32>()).ok()? & compat_bit != 0 {
                return None;
            }
        }
        let registers = bpf_task_pt_regs(task) as *const u8;
        let number =
            bpf_probe_read_kernel(registers.add(REGS_SYSCALL.load() as usize).cast::<u64>());
        let number = number.ok()?;
        (number < u64::from(ops::SYSCALLS)).then_some(number as u32)
    }
}

/// Whether a file is one that a stacked file system (overlayfs) opened below its
/// own: one system call is one decision, made at the upper file. Such files are
/// not accounted (`FMODE_NOACCOUNT`, include/linux/fs.h), since 4.19.
#[inline(always)]
fn is_backing(file: *const c_void) -> bool {
    const FMODE_NOACCOUNT: u32 = 0x2000_0000;
    // SAFETY: a bad address gives an error.
    let mode = unsafe {
        bpf_probe_read_kernel(
            file.cast::<u8>()
                .add(FILE_MODE.load() as usize)
                .cast::<u32>(),
        )
    };
    mode.is_ok_and(|mode| mode & FMODE_NOACCOUNT != 0)
}

#[inline(always)]
fn mode(file: *const c_void) -> Option<u16> {
    // SAFETY: a bad address gives an error.
    unsafe {
        let place = file.cast::<u8>().add(FILE_INODE.load() as usize);
        let inode = bpf_probe_read_kernel(place.cast::<*const u8>()).ok()?;
        bpf_probe_read_kernel(inode.add(INODE_MODE.load() as usize).cast::<u16>()).ok()
    }
}
