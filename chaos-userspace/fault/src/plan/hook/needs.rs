//! What hooks rely on, as data: interfaces of the kernel, each with the first kernel that has it in
//! the kind of program that uses it. The files of chaos-ebpf say why.

use Helper::{
    AncestorCgroup, AttachCookie, ChangeTail, ChecksumReplace, LookupTcp, Loop, OverrideReturn,
    Redirect, SendSignalThread, SetRetval, SetTimestamp, SocketStorage,
};
use Kind::{CgroupSkb, CgroupSock, CgroupSockAddr, Classifier, Probe, RawTracepoint};

/// Something of the kernel's that the programs of a hook rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: &'static str,
    /// How it is tried.
    pub tried: Tried,
}

/// How an interface is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Not by itself: loading and attaching the programs tells.
    Not,
    /// A helper function in the kind of program that calls it.
    Helper(Kind, Helper),
    /// Among the sources of events that the kernel has.
    Kprobes,
    /// By a program that writes a register.
    Registers,
    /// Among the functions of the kernel that programs may call.
    Function,
    /// Among the devices.
    Device,
}

/// A kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_PROG_TYPE_CGROUP_SKB`
    CgroupSkb,
    /// `BPF_PROG_TYPE_CGROUP_SOCK`
    CgroupSock,
    /// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
    CgroupSockAddr,
    /// `BPF_PROG_TYPE_SCHED_CLS`
    Classifier,
    /// `BPF_PROG_TYPE_KPROBE`, of uprobes too.
    Probe,
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`
    RawTracepoint,
}

/// A helper function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// `bpf_get_current_ancestor_cgroup_id`
    AncestorCgroup,
    /// `bpf_get_attach_cookie`
    AttachCookie,
    /// `bpf_skb_change_tail`
    ChangeTail,
    /// `bpf_l4_csum_replace`
    ChecksumReplace,
    /// `bpf_sk_lookup_tcp`
    LookupTcp,
    /// `bpf_loop`
    Loop,
    /// `bpf_override_return`
    OverrideReturn,
    /// `bpf_redirect`
    Redirect,
    /// `bpf_send_signal_thread`
    SendSignalThread,
    /// `bpf_set_retval`
    SetRetval,
    /// `bpf_skb_set_tstamp`
    SetTimestamp,
    /// `bpf_sk_storage_get`
    SocketStorage,
}

/// The function of the kernel that lets a thread wait for a process.
pub const TASK_FROM_PID: &str = "bpf_task_from_pid";

/// Where the server of what threads wait for asks.
pub const FUSE: &str = "/dev/fuse";

/// An interface that loading and attaching tells of.
pub const fn interface(name: &'static str, since: &'static str) -> Interface {
    let tried = Tried::Not;
    Interface { name, since, tried }
}

const fn tried(name: &'static str, since: &'static str, tried: Tried) -> Interface {
    Interface { name, since, tried }
}

const fn helper(name: &'static str, since: &'static str, kind: Kind, helper: Helper) -> Interface {
    tried(name, since, Tried::Helper(kind, helper))
}

/// What the gate needs, and so every hook that injects (`chaos-ebpf/src/gate.rs`).
pub const ATOMICS: Interface = interface("fetching atomics", "5.12");

const CLASSIFIER: Interface = interface("tc classifier", "4.5");
const CLSACT: Interface = interface("clsact", "4.5");
const MIRRED: Interface = interface("ifb, netem, mirred", "4.5");
const RAW_TRACEPOINT: Interface = interface("raw tracepoint", "4.17");
const OWNER: Interface = helper("bpf_sk_storage_get", "5.2", Classifier, SocketStorage);
const LOOKUP: Interface = helper("bpf_sk_lookup_tcp", "4.20", Classifier, LookupTcp);

const fn ancestor(kind: Kind) -> Interface {
    let name = "bpf_get_current_ancestor_cgroup_id";
    helper(name, "5.14", kind, AncestorCgroup)
}

const SIGNAL: Interface = helper("bpf_send_signal_thread", "5.5", Probe, SendSignalThread);

pub(super) const CONNECT: &[Interface] = &[
    interface("cgroup/connect4, connect6", "4.17"),
    ATOMICS,
    helper("bpf_set_retval", "5.18", CgroupSockAddr, SetRetval),
];
pub(super) const SOCKET: &[Interface] = &[
    interface("cgroup/sock_create", "4.10"),
    helper("bpf_sk_storage_get", "5.9", CgroupSock, SocketStorage),
];
pub(super) const ACCEPT: &[Interface] = &[
    interface("cgroup/getpeername4, getpeername6", "5.8"),
    helper("bpf_sk_storage_get", "5.9", CgroupSockAddr, SocketStorage),
];
pub(super) const RELEASE: &[Interface] = &[
    interface("cgroup/sock_release", "5.9"),
    ATOMICS,
    helper("bpf_sk_storage_get", "5.9", CgroupSock, SocketStorage),
];
pub(super) const EGRESS: &[Interface] = &[
    CLASSIFIER,
    ATOMICS,
    helper("bpf_redirect", "4.4", Classifier, Redirect),
    OWNER,
];
pub(super) const INGRESS: &[Interface] = &[
    interface("cgroup_skb/ingress", "4.10"),
    ATOMICS,
    helper("bpf_sk_storage_get", "5.2", CgroupSkb, SocketStorage),
];
pub(super) const EGRESS_NETEM: &[Interface] = &[CLSACT, ATOMICS, MIRRED, OWNER];
pub(super) const INGRESS_NETEM: &[Interface] = &[CLSACT, ATOMICS, MIRRED, LOOKUP, OWNER];
pub(super) const EDT: &[Interface] = &[
    CLSACT,
    interface("ifb, fq, mirred", "4.5"),
    helper("bpf_skb_set_tstamp", "5.18", Classifier, SetTimestamp),
];
/// Classifiers that answer with a packet of another length.
pub(super) const ANSWER: &[Interface] = &[
    CLASSIFIER,
    ATOMICS,
    helper("bpf_skb_change_tail", "4.9", Classifier, ChangeTail),
    OWNER,
];
pub(super) const HTTP: &[Interface] = &[
    CLASSIFIER,
    ATOMICS,
    helper("bpf_l4_csum_replace", "4.1", Classifier, ChecksumReplace),
    LOOKUP,
    OWNER,
];
pub(super) const EXEC: &[Interface] = &[RAW_TRACEPOINT, ancestor(RawTracepoint)];
pub(super) const TRACE: &[Interface] = &[RAW_TRACEPOINT, interface("BTF", "5.2")];
pub(super) const ENTRY: &[Interface] =
    &[interface("uprobe by perf event", "4.17"), ancestor(Probe)];
pub(super) const LSM: &[Interface] = &[
    interface("BPF LSM", "5.7"),
    ATOMICS,
    interface("bpf_task_pt_regs", "5.15"),
];
pub(super) const SLEEP: &[Interface] = &[
    interface("sleepable BPF LSM", "5.11"),
    interface("bpf_copy_from_user_task", "5.18"),
    tried(TASK_FROM_PID, "6.2", Tried::Function),
    tried(FUSE, "2.6", Tried::Device),
];
pub(super) const BEGIN: &[Interface] = &[interface("fentry", "5.5")];
pub(super) const OVERRIDE: &[Interface] = &[
    helper(
        "bpf_override_return (CONFIG_BPF_KPROBE_OVERRIDE)",
        "4.16",
        Probe,
        OverrideReturn,
    ),
    SIGNAL,
    ATOMICS,
    ancestor(Probe),
];
pub(super) const SPIN: &[Interface] = &[
    tried("kprobe by perf event", "4.17", Tried::Kprobes),
    helper("bpf_loop", "5.17", Probe, Loop),
    ATOMICS,
    ancestor(Probe),
];
pub(super) const UPROBE: &[Interface] = &[
    tried("uprobes that write registers", "7.2", Tried::Registers),
    SIGNAL,
    ATOMICS,
    helper("bpf_get_attach_cookie", "5.15", Probe, AttachCookie),
];
