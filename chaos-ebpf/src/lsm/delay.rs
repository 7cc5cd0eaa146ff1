//! Threads wait in their system calls.
//!
//! Kernel interface: sleepable LSM programs (5.11), in which `bpf_copy_from_user_task` (5.18) may block, and the kfuncs `bpf_task_from_pid`
//! and `bpf_task_release` (6.2). A page fault in another process, whose mapping is of a file that a server of ours answers
//! for, lasts until that server answers.
//!
//! What sleeps can use neither prefix tries nor what belongs to a CPU alone, so another program on the same hook, which runs first,
//! decides and leaves an order here. Programs of one hook run newest first: the loader attaches those that decide last.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_copy_from_user_task;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use chaos_common::control;
use chaos_common::delay::{Held, LONGEST_NS, PAGES, SLOTS, WAITERS, Wait, drawn};
use chaos_ebpf::atomic;
use chaos_ebpf::gate::{self, Injection};
use chaos_ebpf::maps::{CONTROL, control as slot};

/// `BPF_F_MMAPABLE` (linux/bpf.h).
const MMAPABLE: u32 = 1 << 10;

/// Page, by its lower bits → until when it is held back. The server has it mapped.
#[map]
static HELD: Array<Held> = Array::with_max_entries(SLOTS, MMAPABLE);

/// Thread, as `bpf_get_current_pid_tgid` names it → what was ordered for the call it is in, from one program of the hook to
/// the next.
#[map]
static ORDERS: HashMap<u64, Wait> = HashMap::with_max_entries(2 * WAITERS as u32, 0);

/// Adds to a slot of `CONTROL` that is changed atomically; gives the value from before.
#[inline(always)]
fn add(slot: u32, value: u64) -> Option<u64> {
    let place = CONTROL.get_ptr_mut(slot)?;
    // SAFETY: a live, 8-byte aligned array element, which kernel programs change in no other way.
    Some(unsafe { atomic::fetch_add(place, value) })
}

/// One thread fewer waits.
#[inline(always)]
fn done() {
    let _ = add(control::WAITING, u64::MAX);
}

/// Orders that the current thread waits when this program has ended. `false`: it goes on, which is counted.
#[inline(always)]
pub(crate) fn order(injection: &Injection, errno: i32) -> bool {
    let (delay, jitter) = injection.delay_ns;
    let wait = Wait {
        ns: drawn(injection.seed, injection.n, delay, jitter),
        errno,
        slot: injection.rule,
    };
    let before = add(control::WAITING, 1).unwrap_or(WAITERS);
    if before < WAITERS
        && slot(control::DELAY_BASE) != 0
        && ORDERS.insert(bpf_get_current_pid_tgid(), wait, 0).is_ok()
    {
        return true;
    }
    done();
    gate::not_done(*injection);
    false
}

/// Forgets an order that nobody took: somebody else's program ended the chain of the hook before.
#[inline(always)]
pub(crate) fn forget() {
    if slot(control::DELAY_BASE) != 0 && ORDERS.remove(bpf_get_current_pid_tgid()).is_ok() {
        done();
    }
}

/// Waits as was ordered for the current thread, if something was; gives what the hook is to answer.
#[inline(always)]
fn wait() -> i32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: integers, written by this very thread.
    let Some(wait) = unsafe { ORDERS.get(thread) }.copied() else {
        return 0;
    };
    let _ = ORDERS.remove(thread);
    if !block(wait.ns) {
        gate::not_done_by(wait.slot);
    }
    done();
    gate::errno(i64::from(wait.errno))
}

/// Blocks the current thread for so long, or until the server lets it go on. `false`: there was nothing to wait for.
#[inline(always)]
fn block(ns: u64) -> bool {
    let Some(taken) = add(control::PAGES_TAKEN, 1) else {
        return false;
    };
    let page = taken & (PAGES - 1);
    let Some(held) = HELD.get_ptr_mut(page as u32 & (SLOTS - 1)) else {
        return false;
    };
    let ns = if ns > LONGEST_NS { LONGEST_NS } else { ns };
    // SAFETY: a live array element. The server reads it when it is asked for this page, which is later.
    unsafe {
        (&raw mut (*held).until_ns).write_volatile(gate::now() + ns);
        (&raw mut (*held).page).write_volatile(page);
    }
    let address = slot(control::DELAY_BASE) + page * slot(control::DELAY_PAGE);
    let mut byte = [0u8; 8];
    // SAFETY: the loader puts the two kfuncs of these prototypes in the place of these numbers, which are no helpers'; the task is
    // released, and the buffer has the room that is said.
    unsafe {
        let task_from_pid: extern "C" fn(i32) -> *mut c_void = core::mem::transmute(TASK_FROM_PID);
        let task_release: extern "C" fn(*mut c_void) = core::mem::transmute(TASK_RELEASE);
        let task = task_from_pid(slot(control::DELAY_HOLDER) as i32);
        if task.is_null() {
            return false;
        }
        let failed = bpf_copy_from_user_task(
            byte.as_mut_ptr().cast(),
            byte.len() as u32,
            address as *const c_void,
            task.cast(),
            0,
        );
        task_release(task);
        failed == 0
    }
}

/// What stands in the object for `bpf_task_from_pid`, as the loader knows it.
const TASK_FROM_PID: usize = 0x7fff_0001;
/// The same for `bpf_task_release`.
const TASK_RELEASE: usize = 0x7fff_0002;

/// Declares programs that do the same.
macro_rules! sleepers {
    ($($program:ident at $hook:tt;)+) => {
        $(
            #[aya_ebpf::macros::lsm(hook = $hook, sleepable)]
            pub(crate) fn $program(_: aya_ebpf::programs::LsmContext) -> i32 {
                wait()
            }
        )+
    };
}

sleepers! {
    murphy_z_open at "file_open";
    murphy_z_stat at "inode_getattr";
    murphy_z_readl at "inode_readlink";
    murphy_z_getxa at "inode_getxattr";
    murphy_z_statf at "sb_statfs";
    murphy_z_notif at "path_notify";
    murphy_z_ioctl at "file_ioctl";
    murphy_z_flock at "file_lock";
    murphy_z_mmap at "mmap_file";
    murphy_z_fork at "task_alloc";
    murphy_z_exec at "bprm_creds_for_exec";
    murphy_z_prctl at "task_prctl";
    murphy_z_socket at "socket_create";
    murphy_z_sockpr at "socket_socketpair";
    murphy_z_bind at "socket_bind";
    murphy_z_listen at "socket_listen";
    murphy_z_connec at "socket_connect";
    murphy_z_accept at "socket_accept";
    murphy_z_send at "socket_sendmsg";
    murphy_z_recv at "socket_recvmsg";
    murphy_z_getopt at "socket_getsockopt";
    murphy_z_shut at "socket_shutdown";
    murphy_z_sockna at "socket_getsockname";
    murphy_z_peerna at "socket_getpeername";
}
