//! A plan: faults, compiled to what the kernel programs read. A value without
//! side effects, which `--dry-run` prints and [`crate::engine`] carries out.

mod backend;
mod lsm;
mod masks;
mod paths;
mod who;

use std::collections::BTreeSet;
use std::time::Duration;

use chaos_common::decide::mix;
use chaos_common::lsm::{Begin, Place};
use chaos_common::rule::{EFFECT_ERRNO, EFFECT_LOSS, EFFECT_NETEM, Rule};
use chaos_common::{MAX_RULES, dims, ops};
use serde::{Serialize, Serializer};

use crate::faults::{Effect, Family, Fault, Op, Trigger, When};
use syscalls::Sysno;

pub use backend::Backend;
pub(crate) use masks::kind_of_type;
pub use masks::{Dense, Masks, Prefix};
pub use paths::{Entry, Pattern};
pub use who::{EXEMPT, Selector, Who};

/// Why faults do not make a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Rules are the bits of one mask.
    #[error("{0} faults, but at most {MAX_RULES} can be active at once")]
    TooMany(usize),
    /// No fault at all.
    #[error("no fault given: say one with -e, for example -e connect:error=ECONNREFUSED:port=5432")]
    Empty,
    /// Nothing can carry a fault out.
    #[error("`{fault}` cannot be injected: {reasons}")]
    NotServed {
        /// The fault.
        fault: String,
        /// Why not, backend by backend.
        reasons: String,
    },
}

/// Who is to be hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The command of `run`, with all its descendants, in a cgroup of its own.
    Command,
    /// Processes that already run, and who comes to be named like them.
    Running(Who),
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// `cgroup/connect4` and `connect6`.
    Connect,
    /// `cgroup/sock_create`: who owns a socket.
    Socket,
    /// tc egress on every interface that is up.
    Egress,
    /// `cgroup_skb/ingress`.
    Ingress,
    /// A filter of clsact's egress side that sends packets through netem, on every interface that is up.
    EgressNetem,
    /// The same on the ingress side.
    IngressNetem,
    /// `sched_process_exec`: arms.
    Exec,
    /// `sched_process_fork`, `…_exec` and `…_exit`: follows children and executables.
    Follow,
    /// A uprobe on the command's ELF entry point: arms.
    Entry,
    /// LSM hooks.
    #[serde(untagged, serialize_with = "name_of_place")]
    Lsm(Place),
    /// fentry on a system call whose LSM hook may be called several times.
    #[serde(untagged, serialize_with = "name_of_begin")]
    Begin(Begin),
}

impl Hook {
    /// Every hook that is none of the families of [`Place`] and [`Begin`].
    pub(crate) const SINGLE: [Self; 9] = [
        Self::Connect,
        Self::Socket,
        Self::Egress,
        Self::Ingress,
        Self::EgressNetem,
        Self::IngressNetem,
        Self::Exec,
        Self::Follow,
        Self::Entry,
    ];

    /// Every hook.
    pub fn all() -> impl Iterator<Item = Self> {
        let places = Place::ALL.iter().copied().map(Self::Lsm);
        let begins = Begin::ALL.iter().copied().map(Self::Begin);
        Self::SINGLE.into_iter().chain(places).chain(begins)
    }

    /// Whether its programs are attached to each interface.
    pub const fn is_of_interfaces(self) -> bool {
        matches!(self, Self::Egress | Self::EgressNetem | Self::IngressNetem)
    }

    /// The object that holds its programs.
    pub const fn family(self) -> Family {
        match self {
            Self::Connect
            | Self::Socket
            | Self::Egress
            | Self::Ingress
            | Self::EgressNetem
            | Self::IngressNetem => Family::Net,
            Self::Lsm(_) | Self::Begin(_) => Family::Lsm,
            Self::Exec | Self::Follow => Family::Trace,
            Self::Entry => Family::Uprobe,
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
            Self::Egress => &[("murphy_egress", "tc egress")],
            Self::Ingress => &[("murphy_ingress", "cgroup_skb/ingress")],
            Self::EgressNetem => &[("murphy_hold_out", "tc egress + netem")],
            Self::IngressNetem => &[("murphy_hold_in", "tc ingress + netem")],
            Self::Lsm(place) => place.programs(),
            Self::Begin(begin) => begin.programs(),
            Self::Exec => &[("murphy_exec", "raw_tracepoint/sched_process_exec")],
            Self::Follow => &[
                ("murphy_fork", "raw_tracepoint/sched_process_fork"),
                ("murphy_image", "raw_tracepoint/sched_process_exec"),
                ("murphy_exit", "raw_tracepoint/sched_process_exit"),
            ],
            Self::Entry => &[("murphy_entry", "uprobe on the ELF entry point")],
        }
    }

    /// The hooks that this effect on an operation needs, its own first.
    pub fn needed(op: Op, effect: &Effect) -> &'static [Self] {
        match (op, effect) {
            (Op::Egress, Effect::Netem(_)) => &[Self::EgressNetem, Self::Socket, Self::Connect],
            (Op::Ingress, Effect::Netem(_)) => &[Self::IngressNetem, Self::Socket, Self::Connect],
            _ => Self::of(op),
        }
    }

    /// The hooks an operation needs for the plainest of its effects, its own first; none if no kernel program serves it.
    pub fn of(op: Op) -> &'static [Self] {
        match op {
            // A packet is tied to its process by its socket: seen when made and when connected.
            Op::Egress => &[Self::Egress, Self::Socket, Self::Connect],
            Op::Ingress => &[Self::Ingress, Self::Socket, Self::Connect],
            Op::Call(Sysno::connect) => &[Self::Connect],
            Op::Call(call) => lsm::hooks(call.name()),
        }
    }
}

fn name_of_place<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(place.name())
}

fn name_of_begin<S: Serializer>(begin: &Begin, serializer: S) -> Result<S::Ok, S::Error> {
    let [(program, _), ..] = begin.programs() else {
        return serializer.serialize_none();
    };
    serializer.serialize_str(program)
}

/// What holds for all faults of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing is injected once this much time has passed since arming.
    pub limit: Option<Duration>,
    /// Seed of the faults that have none of their own.
    pub seed: u64,
    /// Spare the dynamic loader: arm when the command reaches its entry point.
    pub skip_loader: bool,
}

/// One fault and the rule made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The fault as it was said.
    pub fault: Fault,
    /// The rule as the kernel programs read it.
    pub wire: Rule,
}

/// Faults, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Who is to be hit.
    pub target: Target,
    /// One rule a fault, in the order given: the first that injects wins.
    pub rules: Vec<Planned>,
    /// The look-ups that find the rules.
    pub masks: Masks,
    /// Where programs have to be attached.
    pub hooks: BTreeSet<Hook>,
}

impl Plan {
    /// Compiles faults.
    pub fn new(faults: Vec<Fault>, target: Target, options: &Options) -> Result<Self, PlanError> {
        if faults.is_empty() {
            return Err(PlanError::Empty);
        }
        if faults.len() > MAX_RULES as usize {
            return Err(PlanError::TooMany(faults.len()));
        }
        for fault in &faults {
            if let Some(reason) = Backend::Bpf.refusal(fault, &target) {
                return Err(PlanError::NotServed {
                    fault: fault.to_string(),
                    reasons: reason,
                });
            }
        }
        let masks = Masks::of(&faults, &target);
        let mut hooks: BTreeSet<_> = faults
            .iter()
            .flat_map(|fault| {
                let hooks = |&op| Hook::needed(op, &fault.effect);
                fault.ops.iter().flat_map(hooks)
            })
            .copied()
            .collect();
        hooks.extend(match &target {
            Target::Command if options.skip_loader => Some(Hook::Entry),
            Target::Command => Some(Hook::Exec),
            Target::Running(who) => (who.dimensions() & dims::PIDS != 0).then_some(Hook::Follow),
        });
        let rules = (1..)
            .zip(faults)
            .map(|(number, fault)| Planned {
                wire: wire(&fault, options, number),
                fault,
            })
            .collect();
        Ok(Self {
            target,
            rules,
            masks,
            hooks,
        })
    }

    /// The families of hooks whose objects have to be loaded.
    pub fn families(&self) -> BTreeSet<Family> {
        self.hooks.iter().map(|hook| hook.family()).collect()
    }
}

/// The index of an operation in the `OPS` map, which tells by the effect who is to ask.
pub(crate) fn operation(op: Op, effect: &Effect) -> u32 {
    match (op, effect) {
        (Op::Call(Sysno::connect), _) => ops::CONNECT,
        (Op::Egress, Effect::Netem(_)) => ops::EGRESS_NETEM,
        (Op::Ingress, Effect::Netem(_)) => ops::INGRESS_NETEM,
        (Op::Egress, _) => ops::EGRESS,
        (Op::Ingress, _) => ops::INGRESS,
        // No architecture numbers its calls beyond the bound; one that did would be looked up in vain.
        (Op::Call(call), _) => u32::try_from(call.id()).unwrap_or(ops::SYSCALLS),
    }
}

/// The operation that an index of the `OPS` map stands for.
pub(crate) fn operation_of(index: u32) -> Option<Op> {
    match index {
        ops::CONNECT => Some(Op::Call(Sysno::connect)),
        ops::EGRESS | ops::EGRESS_NETEM => Some(Op::Egress),
        ops::INGRESS | ops::INGRESS_NETEM => Some(Op::Ingress),
        _ => Sysno::new(usize::try_from(index).ok()?).map(Op::Call),
    }
}

fn wire(fault: &Fault, options: &Options, number: u64) -> Rule {
    let Trigger {
        when,
        times,
        after,
        r#for,
        pulse,
        rate_limit,
        seed,
        count: _,
        p: _,
    } = fault.trigger;
    let (effect, value) = match &fault.effect {
        Effect::Error(errno) => (EFFECT_ERRNO, -i64::from(errno.get())),
        Effect::Loss(_) => (EFFECT_LOSS, 0),
        Effect::Netem(_) => (EFFECT_NETEM, 0),
        // No kernel program has these.
        Effect::Call(_) => (0, 0),
    };
    let limit = options.limit.map_or(u64::MAX, |limit| {
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
    });
    Rule {
        seed: seed.unwrap_or_else(|| mix(options.seed, number)),
        after_ns: after.map_or(0, |after| after.0),
        until_ns: r#for.map_or(u64::MAX, |length| length.0).min(limit),
        when_first: when.map_or(1, When::first),
        when_last: when.and_then(When::last).unwrap_or(u64::MAX),
        when_step: when.map_or(1, When::step),
        times: times.unwrap_or(u64::MAX),
        pulse_on_ns: pulse.map_or(0, |pulse| pulse.on().0),
        pulse_period_ns: pulse.map_or(0, |pulse| pulse.period().0),
        rate_interval_ns: rate_limit.map_or(0, |limit| limit.interval().0),
        value,
        effect,
        p_ppm: fault.probability().get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(expressions: &[&str]) -> Plan {
        let faults = expressions
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        Plan::new(faults, Target::Command, &Options::default()).unwrap()
    }

    #[test]
    fn only_the_hooks_that_are_needed() {
        let families = |plan: &Plan| plan.families().into_iter().collect::<Vec<_>>();
        let connect = plan(&["connect:error=ECONNREFUSED"]);
        assert_eq!(connect.hooks, BTreeSet::from([Hook::Connect, Hook::Exec]));
        assert_eq!(families(&connect), [Family::Net, Family::Trace]);
        let write = plan(&["write:error=ENOSPC"]);
        assert_eq!(families(&write), [Family::Lsm, Family::Trace]);
    }

    #[test]
    fn a_rule_has_the_faults_triggers() {
        let plan = plan(&[
            "write:error=ENOSPC:p=5%:when=3..9+2:times=4:after=1s:for=2s:pulse=300ms/100ms:rate_limit=3/m:seed=7",
        ]);
        assert_eq!(
            plan.rules[0].wire,
            Rule {
                seed: 7,
                after_ns: 1_000_000_000,
                until_ns: 2_000_000_000,
                when_first: 3,
                when_last: 9,
                when_step: 2,
                times: 4,
                pulse_on_ns: 300_000_000,
                pulse_period_ns: 400_000_000,
                rate_interval_ns: 20_000_000_000,
                value: -28,
                effect: EFFECT_ERRNO,
                p_ppm: 50_000,
            }
        );
    }

    #[test]
    fn probabilities_of_loss_and_trigger_multiply() {
        assert_eq!(plan(&["egress:loss=10%:p=50%"]).rules[0].wire.p_ppm, 50_000);
        // Never rounded to "never".
        assert_eq!(plan(&["egress:loss=1ppm:p=1ppm"]).rules[0].wire.p_ppm, 1);
    }

    #[test]
    fn the_commands_limit_bounds_every_rule() {
        let faults = vec!["connect:error=EPERM:for=10s".parse().unwrap()];
        let options = Options {
            limit: Some(Duration::from_secs(3)),
            ..Options::default()
        };
        let plan = Plan::new(faults, Target::Command, &options).unwrap();
        assert_eq!(plan.rules[0].wire.until_ns, 3_000_000_000);
    }

    #[test]
    fn the_sixty_fifth_rule_is_refused() {
        let fault: Fault = "connect:error=EPERM".parse().unwrap();
        let make = |n| Plan::new(vec![fault.clone(); n], Target::Command, &Options::default());
        assert!(make(64).is_ok());
        assert_eq!(make(65), Err(PlanError::TooMany(65)));
        assert_eq!(make(0), Err(PlanError::Empty));
    }

    #[test]
    fn rules_without_a_seed_draw_differently() {
        let plan = plan(&["connect:error=EPERM:p=50%", "connect:error=EPERM:p=50%"]);
        assert_ne!(plan.rules[0].wire.seed, plan.rules[1].wire.seed);
    }
}
