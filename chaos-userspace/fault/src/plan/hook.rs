//! Where kernel programs are attached, a row each, and which of these places a fault needs.

mod needs;
mod spec;

use chaos_common::lsm::{Begin, Place};
use serde::{Serialize, Serializer};
use syscalls::Sysno;

use super::{lsm, routes};
use crate::{Effect, Family, Fault, Op};

pub use needs::{ATOMICS, FUSE, TASK_FROM_PID, interface};
pub use needs::{Helper, Interface, Kind, Tried};
pub use spec::{Attach, HookSpec, Served};

/// Declares [`Hook`] with a row for each: single hooks, and behind the line families of hooks, of
/// which `like` gives the representatives.
macro_rules! hooks {
    (
        $($(#[$doc:meta])* $hook:ident = $spec:expr;)+
        -----
        $($(#[$of_doc:meta])* $of:ident($one:ident: $type:ty) = $of_spec:expr, like $like:expr;)+
    ) => {
        /// Where a program is attached. The order is that of attaching.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Hook {
            $($(#[$doc])* $hook,)+
            $($(#[$of_doc])* $of($type),)+
        }

        impl Hook {
            /// Every hook that is none of a family.
            pub const SINGLE: &'static [Self] = &[$(Self::$hook,)+];

            /// What is known of it.
            pub const fn spec(self) -> HookSpec {
                match self {
                    $(Self::$hook => $spec,)+
                    $(Self::$of($one) => $of_spec,)+
                }
            }

            /// Every hook; of those of system calls one each.
            pub fn all() -> impl Iterator<Item = Self> {
                let families = [$($like.collect::<Vec<_>>()),+];
                Self::SINGLE.iter().copied().chain(families.into_iter().flatten())
            }
        }
    };
}

const NET: Family = Family::Net;
const LSM: Family = Family::Lsm;

/// What does something like it where packets cannot go through netem.
const WITHOUT_NETEM: &str = "modprobe -a ifb sch_netem act_mirred cls_bpf; or loss= alone, which needs none of them; \
     or delay= alone, with sch_fq in place of sch_netem";

/// A text under a condition.
const fn only(condition: bool, text: &'static str) -> Option<&'static str> {
    match condition {
        true => Some(text),
        false => None,
    }
}

const fn canary_of_place(place: Place) -> Option<&'static str> {
    if matches!(place, Place::FileOpen) {
        return Some("openat:error=EXFULL");
    }
    only(matches!(place, Place::FilePermission), "read:error=EXFULL")
}

hooks! {
    /// `cgroup/connect4` and `connect6`.
    Connect = HookSpec {
        canary: Some("connect:error=EXFULL"),
        served: Served::As("cgroup/connect4 and connect6 + bpf_set_retval"),
        ..HookSpec::new(NET, Attach::Cgroup, &[
            ("murphy_connect4", "cgroup/connect4"),
            ("murphy_connect6", "cgroup/connect6"),
        ], needs::CONNECT)
    };
    /// `cgroup/sock_create`: who owns a socket.
    Socket = HookSpec::new(NET, Attach::Cgroup, &[
        ("murphy_socket", "cgroup/sock_create"),
    ], needs::SOCKET);
    /// `cgroup/getpeername4` and `getpeername6`: who accepts a connection.
    Accept = HookSpec::new(NET, Attach::Cgroup, &[
        ("murphy_accept4", "cgroup/getpeername4"),
        ("murphy_accept6", "cgroup/getpeername6"),
    ], needs::ACCEPT);
    /// `cgroup/sock_release`: a connection that is counted is over.
    Release = HookSpec::new(NET, Attach::Cgroup, &[
        ("murphy_release", "cgroup/sock_release"),
    ], needs::RELEASE);
    /// tc egress on every interface that is up.
    Egress = HookSpec {
        canary: Some("egress:loss=100%:times=1"),
        otherwise: Some("tc qdisc add … netem, which hits everybody"),
        ..HookSpec::new(NET, Attach::Interfaces, &[("murphy_egress", "tc egress")], needs::EGRESS)
    };
    /// `cgroup_skb/ingress`.
    Ingress = HookSpec {
        canary: Some("ingress:loss=100%"),
        otherwise: Some("iptables -m statistic … -j DROP, which hits everybody"),
        ..HookSpec::new(NET, Attach::Cgroup, &[
            ("murphy_ingress", "cgroup_skb/ingress"),
        ], needs::INGRESS)
    };
    /// A filter of clsact's egress side that sends packets through netem, on every interface that
    /// is up.
    EgressNetem = HookSpec {
        canary: Some("egress:delay=1ms:when=2"),
        otherwise: Some(WITHOUT_NETEM),
        ..HookSpec::new(NET, Attach::Netem, &[
            ("murphy_hold_out", "tc egress + netem"),
        ], needs::EGRESS_NETEM)
    };
    /// The same on the ingress side.
    IngressNetem = HookSpec {
        canary: Some("ingress:delay=1ms:when=2"),
        otherwise: Some(WITHOUT_NETEM),
        ..HookSpec::new(NET, Attach::Netem, &[
            ("murphy_hold_in", "tc ingress + netem"),
        ], needs::INGRESS_NETEM)
    };
    /// A filter on the egress side of an ifb that has `fq` for want of netem: when packets may
    /// depart.
    Edt = HookSpec {
        served: Served::As("tc, and fq on an ifb by mirred"),
        ..HookSpec::new(NET, Attach::Ifb, &[("murphy_edt", "tc egress of an ifb + fq")], needs::EDT)
    };
    /// tc egress, for DNS queries.
    Dns = HookSpec::new(NET, Attach::Interfaces, &[("murphy_dns", "tc egress")], needs::ANSWER);
    /// tc egress and ingress, for responses by HTTP.
    Http = HookSpec::new(NET, Attach::Interfaces, &[
        ("murphy_http_out", "tc egress"),
        ("murphy_http_in", "tc ingress"),
    ], needs::HTTP);
    /// tc egress, for resetting connections.
    Reset = HookSpec::new(NET, Attach::Interfaces, &[("murphy_reset", "tc egress")], needs::ANSWER);
    /// tc egress, for ICMP errors.
    Unreachable = HookSpec::new(NET, Attach::Interfaces, &[
        ("murphy_unreach", "tc egress"),
    ], needs::ANSWER);
    /// `sched_process_exec`: arms.
    Exec = HookSpec::new(Family::Trace, Attach::Everywhere, &[
        ("murphy_exec", "raw_tracepoint/sched_process_exec"),
    ], needs::EXEC);
    /// `sched_process_fork`, `…_exec` and `…_exit`: follows children and executables.
    Follow = HookSpec::new(Family::Trace, Attach::Everywhere, &[
        ("murphy_fork", "raw_tracepoint/sched_process_fork"),
        ("murphy_image", "raw_tracepoint/sched_process_exec"),
        ("murphy_exit", "raw_tracepoint/sched_process_exit"),
    ], needs::TRACE);
    /// A uprobe on the command's ELF entry point: arms.
    Entry = HookSpec::new(Family::Uprobe, Attach::EntryPoint, &[
        ("murphy_entry", "uprobe on the ELF entry point"),
    ], needs::ENTRY);
    /// `sys_exit` and `sys_enter`: counts what callers saw.
    Observe = HookSpec::new(Family::Trace, Attach::Everywhere, &[
        ("murphy_observe", "raw_tracepoint/sys_exit"),
        ("murphy_anew", "raw_tracepoint/sys_enter"),
    ], needs::TRACE);
    -----
    /// LSM programs that let threads wait. Of one hook the kernel runs the program first that was
    /// attached last: these come before those that decide ([`Hook::Lsm`]), in this order too.
    #[serde(untagged, serialize_with = "name_of_sleeper")]
    Sleep(place: Place) = HookSpec {
        served: Served::Around("BPF ", " and a file system by FUSE"),
        ..HookSpec::new(LSM, Attach::Everywhere, place.sleeper(), needs::SLEEP)
    }, like Place::ALL.iter().filter_map(|place| lsm::sleeper(*place));
    /// LSM hooks.
    #[serde(untagged, serialize_with = "name_of_place")]
    Lsm(place: Place) = HookSpec {
        canary: canary_of_place(place),
        served: Served::Around("BPF ", ""),
        ..HookSpec::new(LSM, Attach::Everywhere, place.programs(), needs::LSM)
    }, like Place::ALL.iter().copied().map(Self::Lsm);
    /// A kprobe on the function of a system call, which is answered in the kernel's place.
    #[serde(untagged, serialize_with = "name_of_call")]
    Override(call: Sysno) = HookSpec {
        canary: only(matches!(call, Sysno::fsync), "fsync:error=EXFULL"),
        served: Served::As("kprobe + bpf_override_return"),
        kernel: Some("a kernel with CONFIG_BPF_KPROBE_OVERRIDE (Ubuntu's and Fedora's are said to have it)"),
        ..HookSpec::new(Family::Kprobe, Attach::Everywhere, &[
            ("murphy_override", "kprobe on system calls"),
        ], needs::OVERRIDE)
    }, like [Self::OVERRIDE].into_iter();
    /// A kprobe on the function of a system call, which holds its thread up.
    #[serde(untagged, serialize_with = "name_of_spin")]
    Spin(_call: Sysno) = HookSpec {
        served: Served::As("kprobe, which keeps a processor busy (10 ms at most)"),
        ..HookSpec::new(Family::Kprobe, Attach::Everywhere, &[
            ("murphy_spin", "kprobe on system calls"),
        ], needs::SPIN)
    }, like [Self::SPIN].into_iter();
    /// A uprobe before each `syscall` instruction of the targets that may make a call, which is
    /// answered there.
    #[serde(untagged, serialize_with = "name_of_code")]
    Uprobe(call: Sysno) = HookSpec {
        canary: only(matches!(call, Sysno::fdatasync), "fdatasync:error=EXFULL"),
        served: Served::As("uprobe before `syscall`"),
        ..HookSpec::new(Family::Uprobe, Attach::Code, &[
            ("murphy_answer", "uprobe before system calls"),
        ], needs::UPROBE)
    }, like [Self::UPROBE].into_iter();
    /// fentry on a system call whose LSM hook may be called several times.
    #[serde(untagged, serialize_with = "name_of_begin")]
    Begin(begin: Begin) = HookSpec::new(LSM, Attach::Everywhere, begin.programs(), needs::BEGIN),
        like Begin::ALL.iter().copied().map(Self::Begin);
}

impl Hook {
    /// The one on a system call's function that stands for its like.
    pub const OVERRIDE: Self = Self::Override(Sysno::fsync);

    /// The one that holds threads up that stands for its like.
    pub const SPIN: Self = Self::Spin(Sysno::fsync);

    /// The one that lets threads wait that stands for its like.
    pub const SLEEP: Self = Self::Sleep(Place::FileOpen);

    /// The one before `syscall` instructions that stands for its like.
    pub const UPROBE: Self = Self::Uprobe(Sysno::fdatasync);

    /// The object that holds its programs.
    pub const fn family(self) -> Family {
        self.spec().family
    }

    /// Its programs, each with the kernel's name of the place it is attached to.
    pub const fn programs(self) -> &'static [(&'static str, &'static str)] {
        self.spec().programs
    }

    /// Whether its programs are attached to each interface.
    pub fn is_of_interfaces(self) -> bool {
        matches!(self.spec().attach, Attach::Interfaces | Attach::Netem)
    }

    /// Whether its programs are classifiers in direct action, attached to network interfaces.
    pub fn is_classifier(self) -> bool {
        self.spec().attach == Attach::Interfaces
    }

    /// The hooks that this effect on an operation needs, its own first.
    pub fn needed(op: Op, effect: &Effect) -> &'static [Self] {
        match (op.call(), routes::of(op, effect)) {
            // `connect` has its errors from another hook.
            (Some(call), _) if delays(effect) => lsm::hooks(call.name()),
            (_, Some(route)) => route.hooks,
            (_, None) => Self::of(op),
        }
    }

    /// The hook that lets threads wait in an operation, if this effect has them wait.
    pub fn sleeper(op: Op, effect: &Effect) -> Option<Self> {
        lsm::sleeper(lsm::place(op)?).filter(|_| delays(effect))
    }

    /// The hooks that a fault needs.
    pub(crate) fn needed_by(fault: &Fault) -> impl Iterator<Item = Self> {
        let needed = |&op| Self::needed(op, &fault.effect).iter().copied();
        let counts = fault.filter.connlimit.map(|_| Self::Release);
        let sleeper = |&op| Self::sleeper(op, &fault.effect);
        let sleepers = fault.ops.iter().filter_map(sleeper);
        fault
            .ops
            .iter()
            .flat_map(needed)
            .chain(counts)
            .chain(sleepers)
    }

    /// The hooks an operation needs for the plainest of its effects, its own first; none if no
    /// kernel program serves it.
    pub fn of(op: Op) -> &'static [Self] {
        match op.call() {
            Some(Sysno::connect) => &[Self::Connect],
            Some(call) => lsm::hooks(call.name()),
            None => routes::plain(op).map_or(&[], |route| route.hooks),
        }
    }
}

/// Whether an effect lets the thread wait.
pub(super) fn delays(effect: &Effect) -> bool {
    matches!(effect, Effect::Call(call) if call.delay_enter.is_some())
}

fn name_of_sleeper<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} (sleeps)", place.name()))
}

fn name_of_place<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(place.name())
}

fn name_of_call<S: Serializer>(call: &Sysno, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("override {}", call.name()))
}

fn name_of_spin<S: Serializer>(call: &Sysno, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("spin {}", call.name()))
}

fn name_of_code<S: Serializer>(call: &Sysno, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("uprobe {}", call.name()))
}

fn name_of_begin<S: Serializer>(begin: &Begin, serializer: S) -> Result<S::Ok, S::Error> {
    let [(program, _), ..] = begin.programs() else {
        return serializer.serialize_none();
    };
    serializer.serialize_str(program)
}
