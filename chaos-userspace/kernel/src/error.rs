//! What can go wrong between a plan and the kernel, each with its remedy.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::sys::SyscallError;

use super::btf::BtfError;
use murphy_fault::plan::Hook;
use murphy_sys::host;

/// The kernel does not do what the plan needs. Whatever was made is undone by then.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Capabilities are missing altogether.
    #[error("murphy may not load kernel programs: this process lacks {missing}")]
    Privilege {
        /// Names of the missing capabilities.
        missing: String,
    },
    /// No cgroup2 hierarchy is mounted.
    #[error("no cgroup2 hierarchy is mounted")]
    NoCgroup2,
    /// LSM programs load but never run.
    #[error(
        "this kernel does not run BPF LSM programs: its active security modules are `{active}`"
    )]
    LsmInactive {
        /// What `/sys/kernel/security/lsm` says.
        active: String,
    },
    /// Offsets of kernel structures are unknown.
    #[error("the layout of kernel structures is unknown: {0}")]
    Btf(#[from] BtfError),
    /// The full type information, which LSM programs need, could not be read.
    #[error("reading the kernel's type information: {0}")]
    FullBtf(#[from] aya::BtfError),
    /// A private bpffs could not be mounted.
    #[error("mounting a private bpffs: {0}")]
    Bpffs(rustix::io::Errno),
    /// An object could not be loaded: its maps or its type information.
    #[error("loading the `{family}` object: {source}")]
    Object {
        /// The object's name.
        family: &'static str,
        /// What the loader said.
        source: EbpfError,
    },
    /// A program was refused.
    #[error("the kernel refuses {program} ({place}): {}", summary(source))]
    Load {
        /// The program's name.
        program: &'static str,
        /// Where it was to be attached.
        place: &'static str,
        /// The hook it serves.
        hook: Hook,
        /// What the loader said.
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("attaching {program} to {place}: {source}")]
    Attach {
        /// The program's name.
        program: &'static str,
        /// Where.
        place: String,
        /// What the loader said.
        source: Box<ProgramError>,
    },
    /// A map could not be read or written.
    #[error("a map of the kernel programs: {0}")]
    Map(#[from] MapError),
    /// This kernel has no netem, or no way there.
    #[error("this kernel cannot hold packets: it has no {} ({})", .0.name(), .0.option())]
    NoNetem(Missing),
    /// This kernel lets no program wait.
    #[error("this kernel's programs cannot delay a system call: they may not call {0}")]
    NoSleep(&'static str),
    /// This kernel ends no connection that it is told to.
    #[error("this kernel cannot reset connections that are idle: it has no {} ({})", .0.name(), .0.option())]
    NoDestroy(NoDestroy),
    /// Something else the operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// An embedded object is not what this program was built for.
    #[error("the embedded object has no program {0}; this is a bug")]
    NoProgram(&'static str),
}

/// What netem takes of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Intermediate functional block devices.
    Ifb,
    /// The qdisc.
    Netem,
    /// Nor that which could hold packets in its place.
    Fq,
    /// The action that redirects, or the classifier it hangs on.
    Mirred,
}

impl Missing {
    /// What the kernel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ifb => "ifb devices",
            Self::Netem => "netem qdisc",
            Self::Fq => "netem qdisc, and no fq qdisc that could take its place",
            Self::Mirred => "bpf filters with the mirred action",
        }
    }

    /// The options that it is built with.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Ifb => "CONFIG_IFB",
            Self::Netem => "CONFIG_NET_SCH_NETEM",
            Self::Fq => "CONFIG_NET_SCH_NETEM or CONFIG_NET_SCH_FQ",
            Self::Mirred => "CONFIG_NET_CLS_BPF and CONFIG_NET_ACT_MIRRED",
        }
    }
}

/// What ending a connection takes of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDestroy {
    /// Asking for TCP sockets at all.
    Diag,
    /// Ending one.
    Destroy,
}

impl NoDestroy {
    /// What the kernel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diag => "sock_diag of TCP",
            Self::Destroy => "SOCK_DESTROY",
        }
    }

    /// The option that it is built with.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Diag => "CONFIG_INET_TCP_DIAG",
            Self::Destroy => "CONFIG_INET_DIAG_DESTROY",
        }
    }
}

/// What a kernel needs for calls that have no LSM hook, and what works without.
const NO_OVERRIDE: &str = "calls without an LSM hook take a kernel with CONFIG_BPF_KPROBE_OVERRIDE (Ubuntu's and Fedora's are said to have it), \
    or one whose uprobes may write registers (Linux 7.2 was seen to); \
    `murphy run` needs no such kernel for a program that it starts";

/// The helper that such a kernel lacks, as the verifier names it.
const HELPER: &str = "override_return";

/// What the verifier says of registers that may not be written.
const CONTEXT: &str = "invalid bpf_context access";

/// The program that answers in the kernel's place.
const OVERRIDE: &str = "murphy_override";

/// The program that holds threads up.
const SPIN: &str = "murphy_spin";

const NO_ATOMICS: &str = "BPF_STX uses reserved fields";

impl KernelError {
    /// An error of input or output, with what was being done: "reading the map".
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// What its user can do about it.
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Privilege { .. } => {
                "run it as root: sudo murphy …; in a container add the capabilities (privileged)"
            }
            Self::NoCgroup2 => "mount one: mount -t cgroup2 none /sys/fs/cgroup",
            Self::LsmInactive { .. } => {
                "boot the kernel with `bpf` added to that list: lsm=…,bpf on its command line"
            }
            Self::Btf(BtfError::Read(_)) | Self::FullBtf(_) => {
                "use a kernel with CONFIG_DEBUG_INFO_BTF (Debian, Ubuntu and Fedora have it) and mount sysfs"
            }
            Self::Bpffs(_) => "it needs CAP_SYS_ADMIN and Linux 5.2; see murphy doctor",
            // What an atomic operation that gives a value is to a kernel before 5.12.
            Self::Load { .. }
                if self
                    .verifier_log()
                    .is_some_and(|log| log.contains(NO_ATOMICS)) =>
            {
                "murphy's programs use atomic operations of Linux 5.12; a newer kernel is needed"
            }
            Self::NoNetem(_) => {
                "use a kernel with that option (Debian, Ubuntu and Fedora have it as a module, in a container the host has to \
                 load it: modprobe -a ifb sch_netem act_mirred cls_bpf); `loss=` alone works without, and `delay=` alone with sch_fq \
                 in place of sch_netem"
            }
            Self::NoSleep(_) => {
                "use Linux 6.2 or later with CONFIG_BPF_LSM and CONFIG_DEBUG_INFO_BTF; `murphy run` delays calls of a command \
                 without, by seccomp"
            }
            Self::NoDestroy(_) => {
                "use a kernel with that option (Debian, Ubuntu and Fedora have it; in a container the host has to load the module: \
                 modprobe tcp_diag); `reset` without `=all` resets a connection when it is next used, and works without"
            }
            Self::Load {
                hook: Hook::Override(_),
                ..
            } if self.verifier_log().is_none_or(|log| log.contains(HELPER)) => NO_OVERRIDE,
            Self::Load {
                hook: Hook::Uprobe(_),
                ..
            } if self.verifier_log().is_none_or(|log| log.contains(CONTEXT)) => NO_OVERRIDE,
            Self::Attach { program, .. } if *program == OVERRIDE => {
                "not every kernel lets this call be answered in its place: leave it out; `murphy run` needs no such kernel"
            }
            Self::Load {
                hook: Hook::Spin(_),
                ..
            } => {
                "short delays of calls at which no program sleeps take Linux 5.17; `murphy run` delays calls of a command \
                 without, by seccomp"
            }
            Self::Attach { program, .. } if *program == SPIN => {
                "short delays of calls at which no program sleeps take kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS; not under lockdown); \
                 `murphy run` delays calls of a command without, by seccomp"
            }
            Self::Load { hook, .. } => return Some(refused(*hook)),
            Self::Btf(_)
            | Self::Object { .. }
            | Self::Attach { .. }
            | Self::Map(_)
            | Self::Io { .. }
            | Self::NoProgram(_) => return None,
        };
        Some(remedy.to_owned())
    }

    /// The verifier's whole log, if it is that which refused.
    pub fn verifier_log(&self) -> Option<String> {
        let Self::Load { source, .. } = self else {
            return None;
        };
        let ProgramError::LoadError { verifier_log, .. } = source.as_ref() else {
            return None;
        };
        let log = verifier_log.to_string();
        (!log.trim().is_empty()).then_some(log)
    }

    /// Whether a program could not be attached because the kernel has no tcx links
    /// (before 6.6 `BPF_LINK_CREATE` says EINVAL to this type of program).
    pub fn is_no_tcx(&self) -> bool {
        let Self::Attach { source, .. } = self else {
            return false;
        };
        let ProgramError::SyscallError(SyscallError { io_error, .. }) = source.as_ref() else {
            return false;
        };
        io_error.raw_os_error() == Some(libc::EINVAL)
    }

    /// Whether this machine cannot do it, as against something that went wrong.
    pub fn is_missing_feature(&self) -> bool {
        !matches!(self, Self::Map(_) | Self::Io { .. } | Self::NoProgram(_))
    }
}

/// Why a program of this hook may have been refused on this machine.
fn refused(hook: Hook) -> String {
    let family = hook.family();
    if family == murphy_fault::Family::Lsm
        && let Some(state) = host::lockdown().filter(|state| state != "none")
    {
        return format!(
            "the kernel is locked down ({state}), where LSM programs may not load; network faults work: \
             murphy doctor shows what does"
        );
    }
    "murphy doctor tries every hook on this kernel and says what works".to_owned()
}

/// The lines with which a verifier's log ends, whatever it says.
fn is_statistics(line: &str) -> bool {
    [
        "processed ",
        "verification time ",
        "stack depth ",
        "insns processed ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// The operating system's words; of a verifier's log the last line that says something.
fn summary(error: &ProgramError) -> String {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the errors are aya's, and the others have words of their own"
    )]
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last = log
                .lines()
                .rev()
                .map(str::trim)
                .find(|line| !line.is_empty() && !is_statistics(line));
            match last {
                Some(line) => format!("{io_error}: {line}"),
                None => io_error.to_string(),
            }
        }
        ProgramError::SyscallError(SyscallError { call, io_error }) => {
            format!("{call}: {io_error}")
        }
        other => other.to_string(),
    }
}
