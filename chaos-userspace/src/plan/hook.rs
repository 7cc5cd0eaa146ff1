//! Where kernel programs are attached, and which of these places a fault needs.

use chaos_common::lsm::{Begin, Place};
use serde::{Serialize, Serializer};
use syscalls::Sysno;

use super::lsm;
use crate::faults::{Effect, Family, Fault, Op, Wire};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// `cgroup/connect4` and `connect6`.
    Connect,
    /// `cgroup/sock_create`: who owns a socket.
    Socket,
    /// `cgroup/sock_release`: a connection that is counted is over.
    Release,
    /// tc egress on every interface that is up.
    Egress,
    /// `cgroup_skb/ingress`.
    Ingress,
    /// A filter of clsact's egress side that sends packets through netem, on every interface that is up.
    EgressNetem,
    /// The same on the ingress side.
    IngressNetem,
    /// A filter on the egress side of an ifb that has `fq` for want of netem: when packets may depart.
    Edt,
    /// tc egress, for DNS queries.
    Dns,
    /// tc egress and ingress, for responses by HTTP.
    Http,
    /// tc egress, for resetting connections.
    Reset,
    /// tc egress, for ICMP errors.
    Unreachable,
    /// `sched_process_exec`: arms.
    Exec,
    /// `sched_process_fork`, `…_exec` and `…_exit`: follows children and executables.
    Follow,
    /// A uprobe on the command's ELF entry point: arms.
    Entry,
    /// `sys_exit` and `sys_enter`: counts what callers saw.
    Observe,
    /// LSM programs that let threads wait. Of one hook the kernel runs the program first that was attached last: these come before
    /// those that decide ([`Hook::Lsm`]), in this order too.
    #[serde(untagged, serialize_with = "name_of_sleeper")]
    Sleep(Place),
    /// LSM hooks.
    #[serde(untagged, serialize_with = "name_of_place")]
    Lsm(Place),
    /// A kprobe on the function of a system call, which is answered in the kernel's place.
    #[serde(untagged, serialize_with = "name_of_call")]
    Override(Sysno),
    /// A kprobe on the function of a system call, which holds its thread up.
    #[serde(untagged, serialize_with = "name_of_spin")]
    Spin(Sysno),
    /// A uprobe before each `syscall` instruction of the targets that may make a call, which is answered there.
    #[serde(untagged, serialize_with = "name_of_code")]
    Uprobe(Sysno),
    /// fentry on a system call whose LSM hook may be called several times.
    #[serde(untagged, serialize_with = "name_of_begin")]
    Begin(Begin),
}

impl Hook {
    /// Every hook that is none of the families of [`Place`] and [`Begin`], and of no system call.
    pub(crate) const SINGLE: [Self; 16] = [
        Self::Connect,
        Self::Socket,
        Self::Release,
        Self::Egress,
        Self::Ingress,
        Self::EgressNetem,
        Self::IngressNetem,
        Self::Edt,
        Self::Dns,
        Self::Http,
        Self::Reset,
        Self::Unreachable,
        Self::Exec,
        Self::Follow,
        Self::Entry,
        Self::Observe,
    ];

    /// The one on a system call's function that stands for its like.
    pub(crate) const OVERRIDE: Self = Self::Override(Sysno::fsync);

    /// The one that holds threads up that stands for its like.
    pub(crate) const SPIN: Self = Self::Spin(Sysno::fsync);

    /// The one that lets threads wait that stands for its like.
    pub(crate) const SLEEP: Self = Self::Sleep(Place::FileOpen);

    /// The one before `syscall` instructions that stands for its like.
    pub(crate) const UPROBE: Self = Self::Uprobe(Sysno::fdatasync);

    /// Every hook; of those of system calls one each.
    pub fn all() -> impl Iterator<Item = Self> {
        let sleepers = Place::ALL
            .iter()
            .filter(|place| !place.sleeper().is_empty());
        let sleepers = sleepers.copied().map(Self::Sleep);
        let places = sleepers.chain(Place::ALL.iter().copied().map(Self::Lsm));
        let begins = Begin::ALL.iter().copied().map(Self::Begin);
        let singles = Self::SINGLE
            .into_iter()
            .chain([Self::OVERRIDE, Self::SPIN, Self::UPROBE]);
        singles.chain(places).chain(begins)
    }

    /// Whether its programs are attached to each interface.
    pub const fn is_of_interfaces(self) -> bool {
        self.is_classifier() || matches!(self, Self::EgressNetem | Self::IngressNetem)
    }

    /// The object that holds its programs.
    pub const fn family(self) -> Family {
        match self {
            Self::Connect
            | Self::Socket
            | Self::Release
            | Self::Egress
            | Self::Ingress
            | Self::EgressNetem
            | Self::IngressNetem
            | Self::Edt
            | Self::Dns
            | Self::Http
            | Self::Reset
            | Self::Unreachable => Family::Net,
            Self::Lsm(_) | Self::Sleep(_) | Self::Begin(_) => Family::Lsm,
            Self::Override(_) | Self::Spin(_) => Family::Kprobe,
            Self::Exec | Self::Follow | Self::Observe => Family::Trace,
            Self::Entry | Self::Uprobe(_) => Family::Uprobe,
        }
    }

    /// Its programs, each with the kernel's name of the place it is attached to.
    pub const fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Connect => &[
                ("murphy_connect4", "cgroup/connect4"),
                ("murphy_connect6", "cgroup/connect6"),
            ],
            Self::Socket => &[("murphy_socket", "cgroup/sock_create")],
            Self::Release => &[("murphy_release", "cgroup/sock_release")],
            Self::Egress => &[("murphy_egress", "tc egress")],
            Self::Ingress => &[("murphy_ingress", "cgroup_skb/ingress")],
            Self::EgressNetem => &[("murphy_hold_out", "tc egress + netem")],
            Self::IngressNetem => &[("murphy_hold_in", "tc ingress + netem")],
            Self::Edt => &[("murphy_edt", "tc egress of an ifb + fq")],
            Self::Dns => &[("murphy_dns", "tc egress")],
            Self::Http => &[
                ("murphy_http_out", "tc egress"),
                ("murphy_http_in", "tc ingress"),
            ],
            Self::Reset => &[("murphy_reset", "tc egress")],
            Self::Unreachable => &[("murphy_unreach", "tc egress")],
            Self::Lsm(place) => place.programs(),
            Self::Sleep(place) => place.sleeper(),
            Self::Begin(begin) => begin.programs(),
            Self::Override(_) => &[("murphy_override", "kprobe on system calls")],
            Self::Spin(_) => &[("murphy_spin", "kprobe on system calls")],
            Self::Uprobe(_) => &[("murphy_answer", "uprobe before system calls")],
            Self::Exec => &[("murphy_exec", "raw_tracepoint/sched_process_exec")],
            Self::Follow => &[
                ("murphy_fork", "raw_tracepoint/sched_process_fork"),
                ("murphy_image", "raw_tracepoint/sched_process_exec"),
                ("murphy_exit", "raw_tracepoint/sched_process_exit"),
            ],
            Self::Entry => &[("murphy_entry", "uprobe on the ELF entry point")],
            Self::Observe => &[
                ("murphy_observe", "raw_tracepoint/sys_exit"),
                ("murphy_anew", "raw_tracepoint/sys_enter"),
            ],
        }
    }

    /// Whether its programs are classifiers in direct action, attached to network interfaces.
    pub const fn is_classifier(self) -> bool {
        matches!(
            self,
            Self::Egress | Self::Dns | Self::Http | Self::Reset | Self::Unreachable
        )
    }

    /// The hooks that this effect on an operation needs, its own first.
    pub fn needed(op: Op, effect: &Effect) -> &'static [Self] {
        match (op, effect) {
            (Op::Egress, Effect::Netem(_)) => &[Self::EgressNetem, Self::Socket, Self::Connect],
            (Op::Ingress, Effect::Netem(_)) => &[Self::IngressNetem, Self::Socket, Self::Connect],
            (_, Effect::Wire(Wire::Reset | Wire::ResetAll)) => {
                &[Self::Reset, Self::Socket, Self::Connect]
            }
            (_, Effect::Wire(Wire::Unreachable(_))) => {
                &[Self::Unreachable, Self::Socket, Self::Connect]
            }
            // `connect` has its errors from another hook.
            (Op::Call(call), effect) if delays(effect) => lsm::hooks(call.name()),
            _ => Self::of(op),
        }
    }

    /// The hook that lets threads wait in an operation, if this effect has them wait.
    pub fn sleeper(op: Op, effect: &Effect) -> &'static [Self] {
        match lsm::place(op) {
            Some(place) if delays(effect) => lsm::sleeper(place),
            _ => &[],
        }
    }

    /// The hooks that a fault needs.
    pub(crate) fn needed_by(fault: &Fault) -> impl Iterator<Item = Self> {
        let needed = |&op| Self::needed(op, &fault.effect).iter().copied();
        let counts = fault.filter.connlimit.map(|_| Self::Release);
        let sleeper = |&op| Self::sleeper(op, &fault.effect).iter().copied();
        let sleepers = fault.ops.iter().flat_map(sleeper);
        fault
            .ops
            .iter()
            .flat_map(needed)
            .chain(counts)
            .chain(sleepers)
    }

    /// The hooks an operation needs for the plainest of its effects, its own first; none if no kernel program serves it.
    pub fn of(op: Op) -> &'static [Self] {
        match op {
            // A packet is tied to its process by its socket: seen when made and when connected.
            Op::Egress => &[Self::Egress, Self::Socket, Self::Connect],
            Op::Ingress => &[Self::Ingress, Self::Socket, Self::Connect],
            Op::Dns => &[Self::Dns, Self::Socket, Self::Connect],
            Op::Http => &[Self::Http, Self::Socket, Self::Connect],
            // A condition: no program decides anything.
            Op::Limit => &[],
            Op::Call(Sysno::connect) => &[Self::Connect],
            Op::Call(call) => lsm::hooks(call.name()),
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
