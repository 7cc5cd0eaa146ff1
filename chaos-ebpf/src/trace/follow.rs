//! Children of a target are targets: `PIDS` follows fork, exec and exit. A thread that is one ends alone: `TIDS`.
//!
//! Kernel interface: raw tracepoints `sched_process_fork(parent, child)`,
//! `sched_process_exec(task, old_pid, …)`, which fires once the new program is in place and before its
//! first instruction, and `sched_process_exit(task, …)`.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use chaos_common::target::{FileId, Named, Process};
use chaos_common::{control, dims};
use chaos_ebpf::maps::{EXES, PIDS, TIDS, control as slot};

/// `struct task_struct`: `tgid`.
#[unsafe(no_mangle)]
static TASK_TGID: Global<u32> = Global::new(0);
/// `struct task_struct`: `signal`.
#[unsafe(no_mangle)]
static TASK_SIGNAL: Global<u32> = Global::new(0);
/// `struct signal_struct`: `live`, the number of threads that have not begun to exit.
#[unsafe(no_mangle)]
static SIGNAL_LIVE: Global<u32> = Global::new(0);
/// `struct task_struct`: `mm`.
#[unsafe(no_mangle)]
static TASK_MM: Global<u32> = Global::new(0);
/// `struct mm_struct`: `exe_file`.
#[unsafe(no_mangle)]
static MM_EXE: Global<u32> = Global::new(0);
/// `struct file`: `f_inode`.
#[unsafe(no_mangle)]
static FILE_INODE: Global<u32> = Global::new(0);
/// `struct inode`: `i_ino`.
#[unsafe(no_mangle)]
static INODE_NUMBER: Global<u32> = Global::new(0);
/// `struct inode`: `i_sb`.
#[unsafe(no_mangle)]
static INODE_SUPER: Global<u32> = Global::new(0);
/// `struct super_block`: `s_dev`.
#[unsafe(no_mangle)]
static SUPER_DEVICE: Global<u32> = Global::new(0);

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn murphy_fork(ctx: RawTracePointContext) -> i32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    if u64::from(parent) == slot(control::EXEMPT_TGID) {
        return 0;
    }
    // SAFETY: values are plain u64s.
    let Some(&named) = (unsafe { PIDS.get(parent) }) else {
        return 0;
    };
    let child: *const u8 = ctx.arg(1);
    // SAFETY: a bad address gives an error.
    let child =
        unsafe { bpf_probe_read_kernel(child.add(TASK_TGID.load() as usize).cast::<u32>()) };
    if let Ok(child) = child
        && child != parent
    {
        // A full map leaves the child alone: fail open. User space sees it by the map's size.
        let _ = PIDS.insert(child, named, 0);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn murphy_image(ctx: RawTracePointContext) -> i32 {
    // A thread that executes becomes its process's first, by the name of which it goes on;
    // nobody has its own any more.
    let thread: u32 = ctx.arg(1);
    if thread != bpf_get_current_pid_tgid() as u32 {
        let _ = TIDS.remove(thread);
    }
    if slot(control::DIMS) & dims::EXES == 0 {
        return 0;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: values are plain u64s.
    let old = unsafe { PIDS.get(process) }.copied();
    let by_exe = match executed() {
        // SAFETY: values are plain u64s.
        Some(file) => unsafe { EXES.get(file) }.copied().unwrap_or_default(),
        None => Named::default(),
    };
    let by_id = old.unwrap_or_default().by_id;
    if by_id != Named::default() || by_exe != Named::default() {
        let _ = PIDS.insert(process, Process { by_id, by_exe }, 0);
    } else if old.is_some() {
        let _ = PIDS.remove(process);
    }
    0
}

/// The file that the current process executes.
#[inline(always)]
fn executed() -> Option<FileId> {
    // SAFETY: a bad address gives an error.
    unsafe {
        let mm = follow(bpf_get_current_task() as *const u8, &TASK_MM)?;
        let file = follow(mm, &MM_EXE)?;
        let inode = follow(file, &FILE_INODE)?;
        let super_block = follow(inode, &INODE_SUPER)?;
        let number = inode.add(INODE_NUMBER.load() as usize).cast::<u64>();
        let device = super_block.add(SUPER_DEVICE.load() as usize).cast::<u32>();
        Some(FileId {
            device: u64::from(bpf_probe_read_kernel(device).ok()?),
            inode: bpf_probe_read_kernel(number).ok()?,
        })
    }
}

/// The pointer that is a member of a kernel structure.
///
/// # Safety
///
/// None is needed of the address: a bad one gives `None`.
#[inline(always)]
unsafe fn follow(structure: *const u8, member: &Global<u32>) -> Option<*const u8> {
    // SAFETY: a bad address gives an error.
    unsafe {
        let place = structure.add(member.load() as usize);
        bpf_probe_read_kernel(place.cast::<*const u8>()).ok()
    }
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn murphy_exit(_: RawTracePointContext) -> i32 {
    let ids = bpf_get_current_pid_tgid();
    // It may have no name, which is no error.
    let _ = TIDS.remove(ids as u32);
    let tgid = (ids >> 32) as u32;
    // SAFETY: values are plain u64s.
    if unsafe { PIDS.get(tgid) }.is_none() {
        return 0;
    }
    // The group's last thread has taken itself off `live` before this point.
    if live_threads() == Some(0) {
        let _ = PIDS.remove(tgid);
    }
    0
}

#[inline(always)]
fn live_threads() -> Option<i32> {
    // SAFETY: a bad address gives an error.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let signal = task.add(TASK_SIGNAL.load() as usize).cast::<*const u8>();
        let signal = bpf_probe_read_kernel(signal).ok()?;
        bpf_probe_read_kernel(signal.add(SIGNAL_LIVE.load() as usize).cast::<i32>()).ok()
    }
}
