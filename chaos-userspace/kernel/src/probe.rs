//! What [`murphy doctor`](murphy_engine::probe) asks the kernel directly: single features, each by
//! trying it.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;

use aya::programs::{LsmAttachType, ProgramError, ProgramType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_program_supported};
use serde::Serialize;

use super::bpffs::Bpffs;
use super::{loader, sleep};
pub use murphy_fault::plan::{ATOMICS, Helper, Hook, Kind, Tried};

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

/// Where kprobes are among the sources of events.
const KPROBES_SOURCE: &str = "/sys/bus/event_source/devices/kprobe";

/// The verifier's words where there are none (`check_xadd` before 5.12).
const NO_ATOMICS: &str = "BPF_STX uses reserved fields";

/// What a hook relies on. With `trying`, which takes privileges, helpers are tried.
pub fn needs(hook: Hook, trying: bool) -> Vec<Need> {
    let needs = hook.spec().needs.iter();
    needs
        .map(|interface| Need {
            interface: interface.name,
            since: interface.since,
            here: match trying {
                true => is_here(interface.tried),
                false => None,
            },
        })
        .collect()
}

/// Whether something is here; `None` if it cannot be tried by itself.
fn is_here(tried: Tried) -> Option<bool> {
    match tried {
        Tried::Not => None,
        Tried::Helper(kind, helper) => is_helper_supported(program(kind), function(helper)).ok(),
        Tried::Kprobes => Some(Path::new(KPROBES_SOURCE).exists()),
        Tried::Registers => Some(uprobes_write_registers().is_ok()),
        Tried::Function => Some(sleep::check().is_ok()),
        Tried::Device => Some(sleep::has_device()),
    }
}

const fn program(kind: Kind) -> ProgramType {
    match kind {
        Kind::CgroupSkb => ProgramType::CgroupSkb,
        Kind::CgroupSock => ProgramType::CgroupSock,
        Kind::CgroupSockAddr => ProgramType::CgroupSockAddr,
        Kind::Classifier => ProgramType::SchedClassifier,
        Kind::Probe => ProgramType::KProbe,
        Kind::RawTracepoint => ProgramType::RawTracePoint,
    }
}

const fn function(helper: Helper) -> BpfHelper {
    match helper {
        Helper::AncestorCgroup => BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id,
        Helper::AttachCookie => BpfHelper::BPF_FUNC_get_attach_cookie,
        Helper::ChangeTail => BpfHelper::BPF_FUNC_skb_change_tail,
        Helper::ChecksumReplace => BpfHelper::BPF_FUNC_l4_csum_replace,
        Helper::LookupTcp => BpfHelper::BPF_FUNC_sk_lookup_tcp,
        Helper::Loop => BpfHelper::BPF_FUNC_loop,
        Helper::OverrideReturn => BpfHelper::BPF_FUNC_override_return,
        Helper::Redirect => BpfHelper::BPF_FUNC_redirect,
        Helper::SendSignalThread => BpfHelper::BPF_FUNC_send_signal_thread,
        Helper::SetRetval => BpfHelper::BPF_FUNC_set_retval,
        Helper::SetTimestamp => BpfHelper::BPF_FUNC_skb_set_tstamp,
        Helper::SocketStorage => BpfHelper::BPF_FUNC_sk_storage_get,
    }
}

/// Whether the kernel has MPTCP, and the helper that finds the connection of a subflow (5.19).
pub(super) fn has_mptcp() -> bool {
    // SAFETY: the call takes integers only.
    let socket = unsafe {
        libc::socket(
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
            libc::IPPROTO_MPTCP,
        )
    };
    if socket >= 0 {
        // SAFETY: the call has just made it, and nothing else knows of it.
        drop(unsafe { OwnedFd::from_raw_fd(socket) });
    } else {
        // Switched off in this network namespace only: ENOPROTOOPT.
        let error = std::io::Error::last_os_error().raw_os_error();
        if matches!(error, Some(libc::EPROTONOSUPPORT | libc::EINVAL)) {
            return false;
        }
    }
    let helper = BpfHelper::BPF_FUNC_skc_to_mptcp_sock;
    is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)
}

/// Learns from the kernel's reason for refusing a program what is not here.
pub fn learn(needs: &mut [Need], reason: &str) {
    if reason.contains(NO_ATOMICS) {
        for need in needs
            .iter_mut()
            .filter(|need| need.interface == ATOMICS.name)
        {
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
