//! What [`murphy doctor`](crate::engine::probe) asks the kernel directly: single features, each by trying it.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;

use aya::programs::{LsmAttachType, ProgramError, ProgramType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_program_supported};
use serde::Serialize;

use super::bpffs::Bpffs;
use super::{loader, sleep};
use crate::plan::Hook;

/// Something of the kernel's that a hook's programs rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its name.
    pub interface: &'static str,
    /// The first kernel that has it in the kind of program that uses it.
    pub since: &'static str,
    /// Whether it is here; `None` if it cannot be tried by itself.
    pub here: Option<bool>,
}

/// A helper function in the kind of program that calls it.
type Helper = (ProgramType, BpfHelper);

/// Interface, the first kernel that has it, how to try it.
type Interface = (&'static str, &'static str, Option<Helper>);

/// What the gate needs, and so every hook that injects (`chaos-ebpf/src/gate.rs`).
const GATE: Interface = (ATOMICS, "5.12", None);
/// What no helper stands for: it is tried by [`uprobes_write_registers`].
const WRITES: &str = "uprobes that write registers";
const ATOMICS: &str = "fetching atomics";
/// Nor for this: it is looked for among the sources of events that the kernel has.
const KPROBES: &str = "kprobe by perf event";
const KPROBES_SOURCE: &str = "/sys/bus/event_source/devices/kprobe";

/// The verifier's words where there are none (`check_xadd` before 5.12).
const NO_ATOMICS: &str = "BPF_STX uses reserved fields";

/// What a hook's programs rely on; the files of chaos-ebpf say why.
const fn interfaces(hook: Hook) -> &'static [Interface] {
    use ProgramType::{
        CgroupSkb, CgroupSock, CgroupSockAddr, KProbe, RawTracePoint, SchedClassifier,
    };
    match hook {
        Hook::Connect => &[
            ("cgroup/connect4, connect6", "4.17", None),
            GATE,
            (
                "bpf_set_retval",
                "5.18",
                Some((CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)),
            ),
        ],
        Hook::Socket => &[
            ("cgroup/sock_create", "4.10", None),
            (
                "bpf_sk_storage_get",
                "5.9",
                Some((CgroupSock, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Release => &[
            ("cgroup/sock_release", "5.9", None),
            GATE,
            (
                "bpf_sk_storage_get",
                "5.9",
                Some((CgroupSock, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Egress => &[
            ("tc classifier", "4.5", None),
            GATE,
            (
                "bpf_redirect",
                "4.4",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_redirect)),
            ),
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Dns | Hook::Reset | Hook::Unreachable => &[
            ("tc classifier", "4.5", None),
            GATE,
            (
                "bpf_skb_change_tail",
                "4.9",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_skb_change_tail)),
            ),
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Http => &[
            ("tc classifier", "4.5", None),
            GATE,
            (
                "bpf_l4_csum_replace",
                "4.1",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_l4_csum_replace)),
            ),
            (
                "bpf_sk_lookup_tcp",
                "4.20",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_lookup_tcp)),
            ),
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Ingress => &[
            ("cgroup_skb/ingress", "4.10", None),
            GATE,
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((CgroupSkb, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::EgressNetem => &[
            ("clsact", "4.5", None),
            GATE,
            ("ifb, netem, mirred", "4.5", None),
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::IngressNetem => &[
            ("clsact", "4.5", None),
            GATE,
            ("ifb, netem, mirred", "4.5", None),
            (
                "bpf_sk_lookup_tcp",
                "4.20",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_lookup_tcp)),
            ),
            (
                "bpf_sk_storage_get",
                "5.2",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_sk_storage_get)),
            ),
        ],
        Hook::Edt => &[
            ("clsact", "4.5", None),
            ("ifb, fq, mirred", "4.5", None),
            (
                "bpf_skb_set_tstamp",
                "5.18",
                Some((SchedClassifier, BpfHelper::BPF_FUNC_skb_set_tstamp)),
            ),
        ],
        Hook::Lsm(_) => &[
            ("BPF LSM", "5.7", None),
            GATE,
            ("bpf_task_pt_regs", "5.15", None),
        ],
        Hook::Sleep(_) => &[
            ("sleepable BPF LSM", "5.11", None),
            ("bpf_copy_from_user_task", "5.18", None),
            (sleep::KFUNC, "6.2", None),
            (sleep::DEVICE, "2.6", None),
        ],
        Hook::Begin(_) => &[("fentry", "5.5", None)],
        Hook::Override(_) => &[
            (
                "bpf_override_return (CONFIG_BPF_KPROBE_OVERRIDE)",
                "4.16",
                Some((KProbe, BpfHelper::BPF_FUNC_override_return)),
            ),
            (
                "bpf_send_signal_thread",
                "5.5",
                Some((KProbe, BpfHelper::BPF_FUNC_send_signal_thread)),
            ),
            GATE,
            (
                "bpf_get_current_ancestor_cgroup_id",
                "5.14",
                Some((KProbe, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id)),
            ),
        ],
        Hook::Spin(_) => &[
            (KPROBES, "4.17", None),
            ("bpf_loop", "5.17", Some((KProbe, BpfHelper::BPF_FUNC_loop))),
            GATE,
            (
                "bpf_get_current_ancestor_cgroup_id",
                "5.14",
                Some((KProbe, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id)),
            ),
        ],
        Hook::Uprobe(_) => &[
            (WRITES, "7.2", None),
            (
                "bpf_send_signal_thread",
                "5.5",
                Some((KProbe, BpfHelper::BPF_FUNC_send_signal_thread)),
            ),
            GATE,
            (
                "bpf_get_attach_cookie",
                "5.15",
                Some((KProbe, BpfHelper::BPF_FUNC_get_attach_cookie)),
            ),
        ],
        Hook::Exec => &[
            ("raw tracepoint", "4.17", None),
            (
                "bpf_get_current_ancestor_cgroup_id",
                "5.14",
                Some((
                    RawTracePoint,
                    BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id,
                )),
            ),
        ],
        Hook::Follow | Hook::Observe => &[("raw tracepoint", "4.17", None), ("BTF", "5.2", None)],
        Hook::Entry => &[
            ("uprobe by perf event", "4.17", None),
            (
                "bpf_get_current_ancestor_cgroup_id",
                "5.14",
                Some((KProbe, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id)),
            ),
        ],
    }
}

/// What a hook relies on. With `trying`, which takes privileges, helpers are tried.
pub fn needs(hook: Hook, trying: bool) -> Vec<Need> {
    interfaces(hook)
        .iter()
        .map(|&(interface, since, helper)| Need {
            interface,
            since,
            here: match helper {
                _ if !trying => None,
                Some((kind, helper)) => is_helper_supported(kind, helper).ok(),
                None => match interface {
                    KPROBES => Some(Path::new(KPROBES_SOURCE).exists()),
                    WRITES => Some(uprobes_write_registers().is_ok()),
                    sleep::KFUNC => Some(sleep::check().is_ok()),
                    sleep::DEVICE => Some(sleep::has_device()),
                    _ => None,
                },
            },
        })
        .collect()
}

/// Learns from the kernel's reason for refusing a program what is not here.
pub fn learn(needs: &mut [Need], reason: &str) {
    if reason.contains(NO_ATOMICS) {
        for need in needs.iter_mut().filter(|need| need.interface == ATOMICS) {
            need.here = Some(false);
        }
    }
}

/// The youngest of what a hook relies on.
pub fn youngest(needs: &[Need]) -> Option<&Need> {
    needs.iter().max_by_key(|need| version(need.since))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Why the kernel takes no LSM program at all; `None` if it may take one.
///
/// Asked with a program that names no hook: a kernel that would take a real one complains of just that. Since the type
/// information is not looked up for it, a kernel that is locked down is found out in less than a millisecond.
pub fn lsm_refusal() -> Option<std::io::Error> {
    let asked = loader::blind(|| is_program_supported(ProgramType::Lsm(LsmAttachType::Mac)))?;
    match asked {
        Ok(false) => Some(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "it has no such programs (CONFIG_BPF_LSM)",
        )),
        Err(ProgramError::SyscallError(SyscallError { io_error, .. })) => Some(io_error),
        // Any other error is no answer of the kernel's: loading a real program tells.
        Ok(true) | Err(_) => None,
    }
}

/// Whether programs of uprobes may write the registers they interrupted: loads one that does, and attaches it nowhere.
///
/// # Errors
///
/// The kernel's. Where registers may only be read it is EACCES.
pub fn uprobes_write_registers() -> std::io::Result<()> {
    /// `r0 = 0; *(u64 *)(r1 + 80) = r0; exit`: the register `rax`, as in `chaos-ebpf/src/uprobe/answer.rs`.
    static CODE: [u64; 3] = [0xb7, 0x0000_0000_0050_017b, 0x95];
    /// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
    }
    let load = Load {
        kind: BPF_PROG_TYPE_KPROBE,
        count: CODE.len() as u32,
        code: CODE.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // SAFETY: the kernel reads as many bytes as it is told of a value that lives here, and what its pointers name is static.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        )
    };
    match i32::try_from(descriptor) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the command returned a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Of `enum bpf_cmd` and `enum bpf_prog_type` (`linux/bpf.h`).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_KPROBE: u32 = 2;

/// Mounts a private bpffs, and lets go of it.
///
/// # Errors
///
/// Why it cannot be mounted.
pub fn private_bpffs() -> std::io::Result<()> {
    Bpffs::detached()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chaos_common::lsm::Place;

    use super::*;

    #[test]
    fn every_hook_says_since_when_the_kernel_has_it() {
        for hook in Hook::all() {
            let needs = needs(hook, false);
            assert!(needs.iter().all(|need| version(need.since).is_some()));
            assert!(needs.iter().all(|need| need.here.is_none()));
        }
        let connect = needs(Hook::Connect, false);
        assert_eq!(
            youngest(&connect).map(|need| need.interface),
            Some("bpf_set_retval")
        );
        // By number, not by letter.
        assert_eq!(
            youngest(&needs(Hook::Lsm(Place::FileOpen), false)).map(|need| need.since),
            Some("5.15")
        );
    }
}
