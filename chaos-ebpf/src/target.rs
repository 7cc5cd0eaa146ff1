//! Who is a target.
//!
//! A task is named in several ways: by its thread, its thread group, its cgroups, its user, its
//! name, the file it executes, the network namespace it is in. Each way that some rule uses is one look-up, which
//! gives the classes it is in and those it is excluded from.

use aya_ebpf::Global;
use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid, bpf_probe_read_kernel,
};
use chaos_common::target::{KERNEL_THREAD, Named};
use chaos_common::{control, dims};

use crate::maps::{CGROUPS, COMMS, NETNS, PIDS, TIDS, UIDS, control as slot};

/// `struct task_struct`: `flags`.
#[unsafe(no_mangle)]
static TASK_FLAGS: Global<u32> = Global::new(0);
/// `struct task_struct`: `group_leader`.
#[unsafe(no_mangle)]
static TASK_LEADER: Global<u32> = Global::new(0);
/// `struct task_struct`: `comm`.
#[unsafe(no_mangle)]
static TASK_COMM: Global<u32> = Global::new(0);
/// `struct task_struct`: `nsproxy`.
#[unsafe(no_mangle)]
static TASK_NSPROXY: Global<u32> = Global::new(0);
/// `struct nsproxy`: `net_ns`.
#[unsafe(no_mangle)]
static NSPROXY_NET: Global<u32> = Global::new(0);
/// `struct net`: `ns.inum`.
#[unsafe(no_mangle)]
static NET_NUMBER: Global<u32> = Global::new(0);

/// The host's first process: ids are those of the initial pid namespace.
const INIT: u32 = 1;

/// Classes of the current task, wherever the program is attached. In a session of `run`
/// nobody outside of its cgroup is in any.
#[inline(always)]
pub fn of_task(dimensions: u64) -> u64 {
    if dimensions & dims::RUN_CGROUP == 0 {
        return of_running(dimensions);
    }
    if in_run_cgroup() {
        of_running(dimensions) | slot(control::RUN_MASK)
    } else {
        0
    }
}

#[inline(always)]
fn of_running(dimensions: u64) -> u64 {
    if dimensions & dims::TARGETS == 0 {
        return 0;
    }
    murphy_targets(dimensions)
}

/// Classes of the current task by what it is named. Whoever is none pays for the
/// look-ups of the dimensions in use; exemptions are asked for the others only.
///
/// A global function, which the verifier looks at once for each program.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn murphy_targets(dimensions: u64) -> u64 {
    let ids = bpf_get_current_pid_tgid();
    let process = (ids >> 32) as u32;
    let mut named = Named::default();
    if dimensions & dims::ALL != 0 {
        named.hit = slot(control::ALL_MASK);
    }
    if dimensions & dims::PIDS != 0 {
        // SAFETY: values are u64s that user space replaces one entry at a time.
        if let Some(process) = unsafe { PIDS.get(process) } {
            named = named.or(process.by_id).or(process.by_exe);
        }
    }
    if dimensions & dims::TIDS != 0 {
        let thread = ids as u32;
        // SAFETY: as above.
        named = named.or(unsafe { TIDS.get(thread) }.copied().unwrap_or_default());
    }
    if dimensions & dims::UIDS != 0 {
        let user = bpf_get_current_uid_gid() as u32;
        // SAFETY: as above.
        named = named.or(unsafe { UIDS.get(user) }.copied().unwrap_or_default());
    }
    if dimensions & dims::CGROUPS != 0 {
        named = named.or(by_cgroup());
    }
    if dimensions & dims::COMMS != 0 {
        named = named.or(by_name());
    }
    if dimensions & dims::NETNS != 0 {
        named = named.or(by_network());
    }
    if named.classes() == 0 || is_exempt(process) {
        return 0;
    }
    if dimensions & dims::COMMS == 0 && dimensions & dims::SPARED_COMMS != 0 {
        named = named.or(by_name());
    }
    named.classes()
}

#[inline(always)]
fn by_cgroup() -> Named {
    Named {
        hit: murphy_cgroups(HIT),
        spare: murphy_cgroups(SPARE),
    }
}

const HIT: u64 = 0;
const SPARE: u64 = 1;

/// Rules that hit, or spare, the task by a cgroup: its own or any above it. Only the
/// depths at which a named one lies are looked at.
///
/// A global function, which can give one number only: without it the verifier follows
/// each of the loop's ends through all that comes after.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn murphy_cgroups(which: u64) -> u64 {
    let levels = slot(control::CGROUP_LEVELS);
    let mut rules = 0;
    for level in 0..control::MAX_CGROUP_LEVEL {
        if levels >> level & 1 == 0 {
            continue;
        }
        // SAFETY: the helper takes any level and answers 0 for one that is not there.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        // SAFETY: values are u64s that user space replaces one entry at a time.
        if let Some(named) = unsafe { CGROUPS.get(ancestor) } {
            rules |= if which == HIT { named.hit } else { named.spare };
        }
    }
    rules
}

/// The name of the process is that of its first thread.
#[inline(always)]
fn by_name() -> Named {
    // SAFETY: a bad address gives an error.
    let name = unsafe {
        let task = bpf_get_current_task() as *const u8;
        let leader = task.add(TASK_LEADER.load() as usize).cast::<*const u8>();
        bpf_probe_read_kernel(leader).and_then(|leader| {
            bpf_probe_read_kernel(leader.add(TASK_COMM.load() as usize).cast::<[u64; 2]>())
        })
    };
    match name {
        // SAFETY: values are u64s that user space replaces one entry at a time.
        Ok(name) => unsafe { COMMS.get(name) }.copied().unwrap_or_default(),
        // Who cannot be told from the spared is spared.
        Err(_) => Named::EXEMPT,
    }
}

/// The network namespace that the thread is in.
#[inline(always)]
fn by_network() -> Named {
    // SAFETY: a bad address gives an error.
    let number = unsafe {
        let task = bpf_get_current_task() as *const u8;
        let proxy = task.add(TASK_NSPROXY.load() as usize).cast::<*const u8>();
        bpf_probe_read_kernel(proxy)
            .and_then(|proxy| {
                let net = proxy.add(NSPROXY_NET.load() as usize);
                bpf_probe_read_kernel(net.cast::<*const u8>())
            })
            .and_then(|net| {
                let number = net.add(NET_NUMBER.load() as usize);
                bpf_probe_read_kernel(number.cast::<u32>())
            })
    };
    match number {
        // SAFETY: values are u64s that user space replaces one entry at a time.
        Ok(number) => unsafe { NETNS.get(number) }.copied().unwrap_or_default(),
        // A thread that is about to end has left its namespaces.
        Err(_) => Named::EXEMPT,
    }
}

/// The injector and its helpers, the host's PID 1, kernel threads: never hit.
#[inline(always)]
fn is_exempt(process: u32) -> bool {
    if process == INIT
        || u64::from(process) == slot(control::EXEMPT_TGID)
        || u64::from(process) == slot(control::EXEMPT_HELPER)
        || u64::from(process) == slot(control::EXEMPT_SERVER)
        || u64::from(process) == slot(control::DELAY_HOLDER)
    {
        return true;
    }
    // SAFETY: a bad address gives an error.
    let flags = unsafe {
        let task = bpf_get_current_task() as *const u8;
        bpf_probe_read_kernel(task.add(TASK_FLAGS.load() as usize).cast::<u32>())
    };
    flags.is_ok_and(|flags| flags & KERNEL_THREAD != 0)
}

#[inline(always)]
fn in_run_cgroup() -> bool {
    let level = slot(control::RUN_CGROUP_LEVEL) as i32;
    // SAFETY: the helper takes any level and answers 0 for one that is not there.
    let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
    ancestor == slot(control::RUN_CGROUP)
}

/// Arms the rules if the current task is in the run cgroup and nothing has
/// armed them yet; notes how deep that cgroup lies.
#[inline(always)]
pub fn arm_if_in_run_cgroup(by: u64) {
    if slot(control::ARM_BY) != by || slot(control::ARMED_AT) != 0 {
        return;
    }
    let run = slot(control::RUN_CGROUP);
    for level in 0..control::MAX_CGROUP_LEVEL {
        // SAFETY: as above.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if ancestor == 0 {
            return;
        }
        if ancestor == run {
            crate::maps::set_control(control::RUN_CGROUP_LEVEL, u64::from(level));
            crate::maps::set_control(control::ARMED_AT, crate::gate::now());
            return;
        }
    }
}
