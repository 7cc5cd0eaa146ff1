//! A plan: faults, compiled to what the kernel programs read. A value without
//! side effects, which `--dry-run` prints and [`crate::engine`] carries out.

// A hook, operation or effect that is new must be thought of wherever one is looked at.
#![deny(clippy::wildcard_enum_match_arm)]

mod backend;
mod condition;
mod drawn;
mod hook;
mod interfaces;
mod lsm;
mod masks;
mod names;
mod r#override;
mod paths;
mod routes;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chaos_common::decide::mix;
use chaos_common::rule::{EFFECT_DELAY, EFFECT_OWN, Rule};
use chaos_common::{MAX_RULES, bank, dims, ops, target};
use serde::Serialize;

use crate::{Effect, Family, Fault, HostName, Op, TableFile, Trigger, When};
use syscalls::Sysno;

pub use crate::{EXEMPT, Namespace, Selector, Who};
pub use backend::{Backend, Choice, Machine};
pub use condition::Condition;
pub use hook::{ATOMICS, FUSE, TASK_FROM_PID, interface};
pub use hook::{Attach, Helper, Hook, HookSpec, Interface, Kind, Served, Tried};
pub use interfaces::{Link, Network};
pub use masks::{Dense, Masks, Prefix};
pub use masks::{file_types, kind_of_type};
pub use names::Names;
pub use r#override::{answer, function};
pub use paths::{Entry, Pattern};
pub use tables::Tables;

/// Why faults do not make a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Rules are the bits of one mask.
    #[error("{0} faults, but at most {MAX_RULES} can be active at once")]
    TooMany(usize),
    /// Neither the fault nor the command says whom.
    #[error(
        "`{0}` hits nobody: say whom in the fault, for example {0}:comm=NAME, or for all faults, --comm NAME (--pid, --unit, …; --all hits everybody but the exempt)"
    )]
    NobodyHit(String),
    /// `run` hits its command; whom else is `inject`'s business.
    #[error(
        "`{key}` in `{fault}` names what runs already, and `run` hits its command alone: comm, exe and uid narrow that down; `murphy inject` takes {key}"
    )]
    NotOfCommand {
        /// The key.
        key: &'static str,
        /// The whole fault.
        fault: String,
    },
    /// A packet has the owner of its socket, which is a process.
    #[error(
        "`{0}` hits packets, which have a process and no thread: tid is for system calls, `connect` among them; say pid"
    )]
    ThreadOfPackets(String),
    /// Sets of targets are the bits of one mask.
    #[error(
        "more than {} different sets of targets, among them `run`'s command and those of faults that were replaced: end it and begin another",
        target::CLASSES
    )]
    TooManyTargets,
    /// A condition of `run` for some of its processes.
    #[error(
        "`{0}` is a condition, and of `run` it holds for the whole command: leave comm, exe and uid out, or use `murphy inject`"
    )]
    ConditionOfSome(String),
    /// A process has the limits of all its threads.
    #[error(
        "`{0}` is a condition, which holds for processes and for no thread alone: say pid instead of tid"
    )]
    ConditionOfThread(String),
    /// One process has one value of a limit.
    #[error("`{0}` is the second condition of its kind for the same targets: leave one out")]
    ConditionTwice(String),
    /// No fault at all.
    #[error("no fault given: say one with -e, for example -e connect:error=ECONNREFUSED:port=5432")]
    Empty,
    /// No fault is of a kind that `--observe` can say something of.
    #[error(
        "--observe has nothing to count: `{fault}` {reason}; leave `--observe` out, or add a fault on a system call that kernel programs carry out (`murphy doctor` lists them)"
    )]
    NothingToObserve {
        /// The first fault.
        fault: String,
        /// Why not.
        reason: &'static str,
    },
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

/// What holds for all faults of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing is injected once this much time has passed since arming.
    pub limit: Option<Duration>,
    /// Seed of the faults that have none of their own.
    pub seed: u64,
    /// Spare the dynamic loader: arm when the command reaches its entry point.
    pub skip_loader: bool,
    /// Count what callers saw.
    pub observe: bool,
}

/// One fault and the rule made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The fault as it was said.
    pub fault: Fault,
    /// The rule as the kernel programs read it.
    pub wire: Rule,
    /// Whom it targets: one of [`Plan::classes`].
    pub class: usize,
    /// What carries it out.
    pub backend: Backend,
}

impl Planned {
    /// Whether kernel programs let its threads wait.
    pub fn waits(&self) -> bool {
        self.wire.effect == EFFECT_DELAY
    }

    /// Why it cannot be observed what callers see of it; `None` if it can.
    pub fn unobservable(&self) -> Option<&'static str> {
        if self.backend == Backend::Seccomp {
            return Some("is carried out by seccomp, whose supervisor answers the caller itself");
        }
        if self.backend == Backend::Uprobe {
            return Some("is answered in the caller's own code, before there is a call to look at");
        }
        if self.fault.ops.iter().any(|op| !op.is_syscall()) {
            return Some("hits packets, which come back to no caller");
        }
        let answers = !matches!(&self.fault.effect, Effect::Call(call) if !call.answers());
        (!answers).then_some("sends a signal or waits, and leaves the result to the kernel")
    }
}

/// Faults, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Who is to be hit, by faults that do not say it themselves.
    pub target: Target,
    /// Everybody who is to be hit by some rule, each set of selectors once. Rules and
    /// sockets know them by their number here.
    pub classes: Vec<Target>,
    /// One rule a fault, in the order given: the first that injects wins.
    pub rules: Vec<Planned>,
    /// What holds while the faults are in force, in the order given.
    pub conditions: Vec<Condition>,
    /// The look-ups that find the rules.
    pub masks: Masks,
    /// What the names of hosts stand for that faults speak of.
    pub names: Names,
    /// What the files say that faults have tables of delays from.
    pub tables: Tables,
    /// Where programs have to be attached.
    pub hooks: BTreeSet<Hook>,
}

impl Plan {
    /// Compiles faults, each for the first backend that serves it on some machine.
    pub fn new(faults: Vec<Fault>, target: Target, options: &Options) -> Result<Self, PlanError> {
        Self::with(faults, target, options, Choice::Auto, None)
    }

    /// Compiles faults, each for the backend that is chosen, and of which this machine has what it needs, if there is such.
    pub fn with(
        faults: Vec<Fault>,
        target: Target,
        options: &Options,
        choice: Choice,
        machine: Option<&dyn Machine>,
    ) -> Result<Self, PlanError> {
        if faults.is_empty() {
            return Err(PlanError::Empty);
        }
        if faults.len() > MAX_RULES as usize {
            return Err(PlanError::TooMany(faults.len()));
        }
        let (classes, class_of) = classes(&faults, &target)?;
        let mut held = BTreeSet::new();
        let conditions = faults.iter().zip(&class_of);
        for (fault, &class) in conditions.filter(|(one, _)| one.is_condition()) {
            if matches!(target, Target::Command) && class != 0 {
                return Err(PlanError::ConditionOfSome(fault.to_string()));
            }
            if names_threads(&classes[class]) {
                return Err(PlanError::ConditionOfThread(fault.to_string()));
            }
            if !held.insert((class, fault.effect.keys())) {
                return Err(PlanError::ConditionTwice(fault.to_string()));
            }
        }
        let mut conditions = Vec::new();
        let mut rules = Vec::new();
        for (fault, class) in faults.into_iter().zip(class_of) {
            match Condition::new(&fault, class, options.limit) {
                Some(condition) => conditions.push(condition),
                None => rules.push((fault, class)),
            }
        }
        let (faults, class_of): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        for (fault, class) in faults.iter().zip(&class_of) {
            if fault.ops.iter().any(|op| !op.is_syscall()) && names_threads(&classes[*class]) {
                return Err(PlanError::ThreadOfPackets(fault.to_string()));
            }
        }
        let backends = faults
            .iter()
            .map(|fault| choice.of(fault, &target, options, machine))
            .collect::<Result<Vec<_>, _>>()?;
        let masks = Masks::of(&faults, &classes, &class_of, &Names::default(), &backends);
        let of = |(fault, backend): (&Fault, &Backend)| backend.hooks(fault);
        let mut hooks: BTreeSet<_> = faults.iter().zip(&backends).flat_map(of).collect();
        if !hooks.is_empty() {
            hooks.extend(match &target {
                Target::Command if options.skip_loader => Some(Hook::Entry),
                Target::Command => Some(Hook::Exec),
                Target::Running(_) => None,
            });
            hooks.extend(
                (masks.dimensions & (dims::PIDS | dims::TIDS) != 0).then_some(Hook::Follow),
            );
        }
        let rules = (1..)
            .zip(faults.into_iter().zip(class_of))
            .zip(backends)
            .map(|((number, (fault, class)), backend)| Planned {
                wire: wire(&fault, backend, options, number),
                fault,
                class,
                backend,
            })
            .collect();
        let mut plan = Self {
            target,
            classes,
            rules,
            conditions,
            masks,
            hooks,
            names: Names::default(),
            tables: Tables::default(),
        };
        if options.observe {
            plan.observe()?;
        }
        Ok(plan)
    }

    /// Takes the place of another plan in force: classes keep their numbers, and rules that
    /// the other has too their slots, with all they remember. Gives the slots of the
    /// others, which begin `elapsed_ns` after arming.
    pub fn succeed(&mut self, old: &Self, elapsed_ns: u64) -> Result<Vec<u32>, PlanError> {
        let mut classes = old.classes.clone();
        let number = |class: &Target| {
            let known = classes.iter().position(|known| known == class);
            known.unwrap_or_else(|| {
                classes.push(class.clone());
                classes.len() - 1
            })
        };
        let numbers: Vec<_> = self.classes.iter().map(number).collect();
        if classes.len() > target::CLASSES as usize {
            return Err(PlanError::TooManyTargets);
        }
        let mut masks = vec![0; classes.len()];
        for (&number, mask) in numbers.iter().zip(&self.masks.classes) {
            masks[number] = *mask;
        }
        self.classes = classes;
        self.masks.classes = masks;
        let mut heirs: Vec<_> = old.rules.iter().collect();
        let taken: BTreeSet<_> = old.rules.iter().map(|rule| rule.wire.slot).collect();
        let mut free = (0..bank::BANKS * MAX_RULES).filter(|slot| !taken.contains(slot));
        let mut fresh = Vec::new();
        for rule in &mut self.rules {
            rule.class = numbers[rule.class];
            let same = |old: &&Planned| old.fault == rule.fault && old.class == rule.class;
            if let Some(at) = heirs.iter().position(same) {
                rule.wire = heirs.swap_remove(at).wire;
                continue;
            }
            // There are twice as many slots as rules.
            rule.wire.slot = free.next().unwrap_or_default();
            rule.wire.since_ns = elapsed_ns;
            fresh.push(rule.wire.slot);
        }
        Ok(fresh)
    }

    /// Has it counted what callers see, of the faults of which that can be.
    fn observe(&mut self) -> Result<(), PlanError> {
        let reason = |rule: &Planned| Some((rule.fault.to_string(), rule.unobservable()?));
        let reasons: Vec<_> = self.rules.iter().filter_map(reason).collect();
        if let [(fault, reason), ..] = reasons.as_slice()
            && reasons.len() == self.rules.len()
        {
            return Err(PlanError::NothingToObserve {
                fault: fault.clone(),
                reason,
            });
        }
        self.hooks.insert(Hook::Observe);
        Ok(())
    }

    /// Whether it is counted what callers see.
    pub fn observes(&self) -> bool {
        self.hooks.contains(&Hook::Observe)
    }

    /// Every fault: rules, then conditions, each in the order given.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let rules = self.rules.iter().map(|rule| &rule.fault);
        rules.chain(self.conditions.iter().map(|one| &one.fault))
    }

    /// The same plan where names of hosts stand for these addresses. A name that is not there stands for none.
    #[must_use]
    pub fn named(mut self, names: Names) -> Self {
        let faults = self.rules.iter().map(|rule| &rule.fault);
        self.masks.remotes(faults, &names);
        self.names = names;
        self
    }

    /// The names of hosts that faults speak of, and the first fault that does.
    pub fn host_names(&self) -> BTreeMap<&HostName, &Fault> {
        let mut names = BTreeMap::new();
        for fault in self.rules.iter().map(|rule| &rule.fault) {
            for name in fault.host_names() {
                names.entry(name).or_insert(fault);
            }
        }
        names
    }

    /// The files that faults have tables of delays from, and the first fault that does.
    pub fn table_files(&self) -> BTreeMap<&TableFile, &Fault> {
        let mut files = BTreeMap::new();
        for fault in self.rules.iter().map(|rule| &rule.fault) {
            if let Some(file) = fault.table() {
                files.entry(file).or_insert(fault);
            }
        }
        files
    }

    /// The classes that are looked for on the machine; none in `run`, where they narrow the command down.
    pub fn running(&self) -> &[Target] {
        match self.target {
            Target::Running(_) => &self.classes,
            Target::Command => &[],
        }
    }

    /// Whether some fault is carried out by a backend.
    pub fn uses(&self, backend: Backend) -> bool {
        self.rules.iter().any(|rule| rule.backend == backend)
    }

    /// Whether kernel programs let threads wait.
    pub fn waits(&self) -> bool {
        self.hooks.iter().any(|hook| matches!(hook, Hook::Sleep(_)))
    }

    /// Has a program see the sockets that the command makes, so that those of others are told from
    /// them.
    pub fn tell_own_sockets(&mut self) {
        if self.hooks.contains(&Hook::Connect) {
            self.hooks.insert(Hook::Socket);
        }
    }

    /// Whether kernel programs carry out some fault.
    pub fn uses_programs(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.backend != Backend::Seccomp)
    }

    /// The calls that are answered in their callers' code, by number.
    pub fn in_code(&self) -> Vec<u16> {
        let number = |hook: &Hook| {
            let Hook::Uprobe(call) = hook else {
                return None;
            };
            u16::try_from(call.id()).ok()
        };
        self.hooks.iter().filter_map(number).collect()
    }

    /// The families of hooks whose objects have to be loaded.
    pub fn families(&self) -> BTreeSet<Family> {
        self.hooks.iter().map(|hook| hook.family()).collect()
    }
}

/// The classes of targets, and the one that each fault is for.
fn classes(faults: &[Fault], whom: &Target) -> Result<(Vec<Target>, Vec<usize>), PlanError> {
    // The command of `run` is the first, whether some fault is for it or not.
    let mut classes: Vec<_> = matches!(whom, Target::Command)
        .then(|| whom.clone())
        .into_iter()
        .collect();
    let mut class_of = Vec::new();
    for fault in faults {
        let class = aimed(fault, whom)?;
        let number = classes.iter().position(|known| *known == class);
        class_of.push(number.unwrap_or(classes.len()));
        if number.is_none() {
            classes.push(class);
        }
    }
    match classes.len() > target::CLASSES as usize {
        true => Err(PlanError::TooManyTargets),
        false => Ok((classes, class_of)),
    }
}

/// Whom a fault is for: what it says itself goes before what the command says. In `run` it
/// narrows the command down.
fn aimed(fault: &Fault, target: &Target) -> Result<Target, PlanError> {
    let aim = &fault.target;
    if aim.hit.is_empty() && aim.spare.is_empty() {
        return match target {
            Target::Running(who) if who.hit.is_empty() => {
                Err(PlanError::NobodyHit(fault.to_string()))
            }
            Target::Running(_) | Target::Command => Ok(target.clone()),
        };
    }
    let (hit, mut spare, exempt) = match target {
        Target::Command => {
            if let Some(other) = aim.spelling().into_keys().find(|key| !key.narrows()) {
                return Err(PlanError::NotOfCommand {
                    key: other.name(),
                    fault: fault.to_string(),
                });
            }
            (vec![Selector::All], Vec::new(), false)
        }
        Target::Running(who) => (who.hit.clone(), who.spare.clone(), who.exempt),
    };
    let hit = match aim.hit.is_empty() {
        true if hit.is_empty() => return Err(PlanError::NobodyHit(fault.to_string())),
        true => hit,
        false => aim.hit.clone(),
    };
    spare.extend(aim.spare.iter().cloned());
    Ok(Target::Running(Who { hit, spare, exempt }))
}

/// Whether threads are told apart by it.
fn names_threads(target: &Target) -> bool {
    let Target::Running(who) = target else {
        return false;
    };
    let mut all = who.hit.iter().chain(&who.spare);
    all.any(|selector| matches!(selector, Selector::Tid(_)))
}

/// The index of a system call in the `OPS` map, for the program that answers in the kernel's place.
pub(crate) fn overridden(call: Sysno) -> u32 {
    let number = u32::try_from(call.id()).unwrap_or(ops::SYSCALLS);
    // A number beyond the bound would be another operation's.
    ops::OVERRIDE + number.min(ops::SYSCALLS - 1)
}

/// The same for the program that holds threads up.
pub(crate) fn spun(call: Sysno) -> u32 {
    overridden(call) - ops::OVERRIDE + ops::SPIN
}

/// The index of an operation in the `OPS` map, which tells by the effect who is to ask.
pub fn operation(op: Op, effect: &Effect) -> u32 {
    match (op.call(), routes::of(op, effect)) {
        // LSM hooks know it by its number.
        (Some(Sysno::connect), _) if !hook::delays(effect) => ops::CONNECT,
        // No architecture numbers its calls beyond the bound; one that did would be looked up in vain.
        (Some(call), _) => u32::try_from(call.id()).unwrap_or(ops::SYSCALLS),
        (None, Some(route)) => route.index,
        (None, None) => ops::COUNT,
    }
}

/// The operation that an index of the `OPS` map stands for.
pub fn operation_of(index: u32) -> Option<Op> {
    if index == ops::CONNECT {
        return Some(Op::Call(Sysno::connect));
    }
    routes::operation(index).or_else(|| {
        let bases = [ops::SPIN, ops::OVERRIDE, 0];
        let call = bases.into_iter().find_map(|base| index.checked_sub(base))?;
        Sysno::new(usize::try_from(call).ok()?).map(Op::Call)
    })
}

fn wire(fault: &Fault, backend: Backend, options: &Options, number: u64) -> Rule {
    let Trigger {
        when,
        times,
        after,
        r#for,
        pulse,
        rate_limit,
        over,
        seed,
        count: _,
        p: _,
    } = fault.trigger.spelled();
    let (effect, value) = match &fault.effect {
        // The map OVERRIDES has it.
        _ if matches!(backend, Backend::Override | Backend::Uprobe) => (EFFECT_OWN, 0),
        Effect::Error(errno) => (EFFECT_OWN, -i64::from(errno.get())),
        Effect::Wire(wire) => wire.rule(),
        Effect::Call(call) if backend == Backend::Bpf && call.delay_enter.is_some() => {
            let errno = call.error.first();
            let value = errno.map_or(0, |errno| -i64::from(errno.get()));
            (EFFECT_DELAY, value)
        }
        // Conditions are no rules.
        Effect::Loss(_) | Effect::Netem(_) | Effect::Call(_) | Effect::Limit(_) => (EFFECT_OWN, 0),
    };
    let (delay_ns, jitter_ns) = match &fault.effect {
        Effect::Call(call) if effect == EFFECT_DELAY || backend == Backend::Spin => (
            call.delay_enter.map_or(0, |delay| delay.0),
            call.jitter.map_or(0, |jitter| jitter.0),
        ),
        Effect::Call(_)
        | Effect::Error(_)
        | Effect::Loss(_)
        | Effect::Netem(_)
        | Effect::Wire(_)
        | Effect::Limit(_) => (0, 0),
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
        rate_interval_ns: rate_limit.or(over).map_or(0, |rate| rate.interval().0),
        value,
        effect,
        p_ppm: fault.probability().get(),
        slot: number as u32 - 1,
        burst: over.map_or(0, |rate| u32::try_from(rate.count()).unwrap_or(u32::MAX)),
        since_ns: 0,
        connections: fault.filter.connlimit.map_or(0, |limit| limit.get().into()),
        delay_ns,
        jitter_ns,
    }
}

#[cfg(test)]
mod tests {
    use chaos_common::lsm::Place;

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

    /// A call that two backends speak of is asked about at two places, each with its own rules.
    #[test]
    fn each_backend_has_its_own_operations() {
        let plan = plan(&["write:error=EIO", "write:retval=0", "fsync:error=EIO"]);
        let backends: Vec<_> = plan.rules.iter().map(|rule| rule.backend).collect();
        assert_eq!(
            backends,
            [Backend::Bpf, Backend::Override, Backend::Override]
        );
        let (write, fsync) = (overridden(Sysno::write), overridden(Sysno::fsync));
        let whatever = Effect::Error(crate::Errno::ENOSYS);
        let by_hook = operation(Op::Call(Sysno::write), &whatever);
        assert_eq!(
            plan.masks.ops,
            BTreeMap::from([(by_hook, 0b1), (write, 0b10), (fsync, 0b100)])
        );
        assert_eq!(plan.masks.calls.len(), 1);
        for index in [by_hook, write] {
            assert_eq!(operation_of(index), Some(Op::Call(Sysno::write)));
        }
        assert_eq!(operation_of(ops::HTTP), Some(Op::Http));
        assert_eq!(plan.hooks.len(), 4, "{:?}", plan.hooks);
        assert!(plan.families().contains(&Family::Kprobe));
    }

    #[test]
    fn what_callers_see_is_counted_of_calls_alone() {
        let observed = |expressions: &[&str], choice| {
            let faults = expressions.iter().map(|text| text.parse().unwrap());
            let options = Options {
                observe: true,
                ..Options::default()
            };
            Plan::with(faults.collect(), Target::Command, &options, choice, None)
        };
        let plan = observed(&["egress:loss=1%", "connect:error=EPERM"], Choice::Auto).unwrap();
        assert!(plan.observes());
        let can = plan.rules.iter().map(|rule| rule.unobservable().is_none());
        assert_eq!(can.collect::<Vec<_>>(), [false, true]);
        for (fault, choice, reason) in [
            ("egress:loss=1%", Choice::Auto, "hits packets"),
            (
                "fsync:error=EIO",
                Choice::Only(Backend::Seccomp),
                "by seccomp",
            ),
            ("fsync:signal=SIGKILL", Choice::Auto, "sends a signal"),
            (
                "write:error=EIO",
                Choice::Only(Backend::Seccomp),
                "by seccomp",
            ),
        ] {
            let refused = observed(&[fault], choice).unwrap_err().to_string();
            assert!(
                refused.contains(fault) && refused.contains(reason),
                "{refused}"
            );
        }
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
                effect: EFFECT_OWN,
                p_ppm: 50_000,
                slot: 0,
                burst: 0,
                since_ns: 0,
                connections: 0,
                delay_ns: 0,
                jitter_ns: 0,
            }
        );
    }

    #[test]
    fn a_delay_has_two_programs_and_the_one_that_decides_comes_last() {
        let plan = plan(&["connect:delay_enter=2s!:jitter=1ms:error=EIO:port=80"]);
        let wire = plan.rules[0].wire;
        assert_eq!(
            (wire.effect, wire.value, wire.delay_ns, wire.jitter_ns),
            (EFFECT_DELAY, -5, 2_000_000_000, 1_000_000)
        );
        let of_lsm = |hook: &&Hook| hook.family() == Family::Lsm;
        let hooks: Vec<_> = plan.hooks.iter().filter(of_lsm).copied().collect();
        let place = Place::Connect;
        assert_eq!(hooks, [Hook::Sleep(place), Hook::Lsm(place)]);
        // Known by its number, where errors have another.
        let call = u32::try_from(Sysno::connect.id()).unwrap();
        assert_eq!(plan.masks.ops.keys().collect::<Vec<_>>(), [&call]);
        assert_eq!(plan.masks.calls[&call], place.number());
        assert!(plan.waits() && !self::plan(&["connect:error=EIO"]).waits());
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
    fn a_rule_that_stays_keeps_what_it_remembers() {
        let old = plan(&["connect:error=EPERM:times=3", "connect:error=EIO"]);
        let mut new = plan(&["write:error=EIO", "connect:error=EPERM:times=3"]);
        assert_eq!(new.succeed(&old, 7), Ok(vec![2]));
        assert_eq!((new.rules[0].wire.slot, new.rules[0].wire.since_ns), (2, 7));
        assert_eq!(new.rules[1].wire, old.rules[0].wire);
        assert_eq!(new.masks.classes, [0b11]);
    }

    #[test]
    fn faults_may_have_targets_of_their_own() {
        let text = [
            "write:error=EIO:comm=a",
            "write:error=EIO",
            "read:error=EIO:comm=a",
        ];
        let run = plan(&text);
        assert_eq!(run.masks.classes, [0b10, 0b101]);
        assert_eq!(run.classes[0], Target::Command);
        let faults = || text.iter().map(|text| text.parse().unwrap()).collect();
        let nobody = Target::Running(Who::default());
        let refused = Plan::new(faults(), nobody, &Options::default());
        assert_eq!(refused, Err(PlanError::NobodyHit("write:error=EIO".into())));
        let pid = vec!["write:error=EIO:pid=1".parse().unwrap()];
        let refused = Plan::new(pid, Target::Command, &Options::default());
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("`pid` in `write:error=EIO:pid=1`"),
            "{refused}"
        );
        // A fault for nobody but those whom the command names, without one of them.
        let who = Who {
            hit: vec![Selector::Uid(7)],
            exempt: true,
            ..Who::default()
        };
        let some = Plan::new(
            vec!["write:error=EIO:comm=!a".parse().unwrap()],
            Target::Running(who.clone()),
            &Options::default(),
        );
        let spare = vec![Selector::Comm("a".into())];
        assert_eq!(
            some.unwrap().classes,
            [Target::Running(Who { spare, ..who })]
        );
        // With the command itself that is one more than there are bits.
        let many = |n: u32| {
            let each = |n| format!("write:error=EIO:uid={n}").parse().unwrap();
            let faults = (0..n).map(each).collect();
            Plan::new(faults, Target::Command, &Options::default())
        };
        assert_eq!(many(63).unwrap().classes.len(), 64);
        assert_eq!(many(64), Err(PlanError::TooManyTargets));
    }

    #[test]
    fn packets_have_no_thread() {
        let who = |fault: &str, spare| {
            let fault: Fault = fault.parse().unwrap();
            let who = Who {
                hit: vec![Selector::Pid(7)],
                spare,
                exempt: true,
            };
            Plan::new(vec![fault], Target::Running(who), &Options::default())
        };
        for (fault, spare) in [
            ("egress:loss=1%:tid=8", vec![]),
            ("dns:drop", vec![Selector::Tid(8)]),
        ] {
            let refused = who(fault, spare).unwrap_err();
            assert_eq!(refused, PlanError::ThreadOfPackets(fault.to_owned()));
        }
        for fault in ["connect:error=EPERM:tid=8", "write:error=EIO:tid=8"] {
            let plan = who(fault, vec![]).unwrap();
            assert!(plan.hooks.contains(&Hook::Follow), "{fault}");
        }
    }

    #[test]
    fn a_class_keeps_its_number() {
        let fault: Fault = "connect:error=EPERM".parse().unwrap();
        let of = |user| {
            let who = Who {
                hit: vec![Selector::Uid(user)],
                ..Who::default()
            };
            Plan::new(
                vec![fault.clone()],
                Target::Running(who),
                &Options::default(),
            )
            .unwrap()
        };
        let mut second = of(2);
        assert_eq!(second.succeed(&of(1), 0), Ok(vec![1]));
        assert_eq!(second.masks.classes, [0, 1]);
        let mut first = of(1);
        assert_eq!(first.succeed(&second, 0), Ok(vec![0]));
        assert_eq!(first.masks.classes, [1, 0]);
        assert_eq!(first.rules[0].class, 0);
    }

    #[test]
    fn rules_without_a_seed_draw_differently() {
        let plan = plan(&["connect:error=EPERM:p=50%", "connect:error=EPERM:p=50%"]);
        assert_ne!(plan.rules[0].wire.seed, plan.rules[1].wire.seed);
    }
}
