//! What serves a fault here, or what is missing and what would work instead.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Findings, HookReport, Machine};
use murphy_fault::plan::{Attach, Backend, Hook, Served};
use murphy_fault::{FAULTS, Family, Fault, Op};
use murphy_mechanisms::{
    Asked, Command, Declaration, Here, Mechanism, Offer, Offered, Unavailable, all, declarations,
};

/// What this machine can do about a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The fault's name in the registry, or the expression that was asked about.
    pub fault: String,
    /// The operations it is about.
    pub ops: Vec<Op>,
    /// Whether at least one of the commands can inject it.
    pub served: bool,
    /// What does it.
    pub backend: Option<String>,
    /// The commands that can: `run`, `inject`.
    pub commands: Vec<&'static str>,
    /// What does not work that it needs.
    pub missing: Vec<String>,
    /// The nearest thing that would work.
    pub r#try: Option<String>,
    /// Where `run` alone can inject it: what `inject` lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inject_lacks: Vec<String>,
}

impl Service {
    /// Hooks to try for a fault: those that the commands need, and those of each mechanism until
    /// one is sure to serve it where the kernel is as new as its hooks.
    pub fn hooks(fault: &Fault) -> BTreeSet<Hook> {
        let mut hooks: BTreeSet<_> = [Hook::Exec, Hook::Follow].into();
        for (_, offer) in offers(&Asked::Fault(fault)) {
            let Offered::Programs(needed) = offer.by else {
                continue;
            };
            hooks.extend(needed.iter().flatten());
            if !needed.iter().flatten().any(|hook| may_be_refused(*hook)) {
                break;
            }
        }
        hooks
    }

    /// Hooks to try for every fault of the registry: of a row those of its first operation, which stand for their like.
    pub fn hooks_of_all() -> BTreeSet<Hook> {
        let first = FAULTS.iter().filter_map(|row| row.ops.first());
        let declared = declarations().into_iter();
        let rows = |of: &'static Declaration| of.faults.iter().flat_map(|row| row.hooks);
        let declared =
            declared.flat_map(|of| rows(of).copied().flatten().chain(of.examples).copied());
        first
            .flat_map(|&op| Hook::of(op))
            .copied()
            .chain(Hook::SINGLE.iter().copied())
            .chain(declared)
            .collect()
    }

    /// What can be done about every fault of the registry, and about what mechanisms list beside.
    pub fn of_all(findings: &Findings) -> Vec<Self> {
        let rows = FAULTS.iter().map(|row| Asked::Registry(row));
        let own = declarations().into_iter().flat_map(|of| of.faults);
        rows.chain(own.map(Asked::Own))
            .map(|asked| Self::of(findings, &asked))
            .collect()
    }

    /// What can be done about a fault.
    pub fn of_fault(findings: &Findings, fault: &Fault) -> Self {
        Self::of(findings, &Asked::Fault(fault))
    }

    /// What mechanisms can do about it, one after the other.
    fn of(findings: &Findings, asked: &Asked<'_>) -> Self {
        let (name, ops) = (asked.name(), asked.ops());
        let here = Here::default();
        let offers = offers(asked);
        let works = |mechanism: &dyn Mechanism| mechanism.probe(&here, &BTreeSet::new());
        // It can be tried only with the privileges that it takes.
        let parts = offers
            .iter()
            .filter(|(_, offer)| offer.by == Offered::Part && findings.machine.privileged());
        let lacks = parts
            .filter_map(|(mechanism, _)| works(mechanism.as_ref()).err())
            .map(|unavailable| unavailable.reason)
            .next();
        let mut service: Option<Self> = None;
        for (mechanism, offer) in &offers {
            let next = match (&offer.by, &lacks) {
                (Offered::Part, _) => continue,
                (Offered::Nothing(lacks), _) | (Offered::Programs(_), Some(lacks)) => {
                    Self::lacking(name.clone(), ops, lacks.clone())
                }
                (Offered::Programs(hooks), None) => {
                    let hooks: Vec<_> = hooks.iter().map(Vec::as_slice).collect();
                    Self::by_programs(findings, name.clone(), ops, &hooks)
                }
                (Offered::Itself(backend), _) => {
                    let unavailable = works(mechanism.as_ref()).err();
                    Self::by_itself(name.clone(), ops, backend, offer.commands, unavailable)
                }
            };
            service = Some(match service {
                None => next,
                Some(service) => match offer.commands {
                    [Command::Run] => service.or_for_run(next),
                    [Command::Inject] => service.or_for_inject(next),
                    _ => service.or(next),
                },
            });
        }
        service.unwrap_or_else(|| {
            let lacks = "a mechanism that serves it".to_owned();
            Self::lacking(name, ops, lacks)
        })
    }

    /// By a mechanism that needs no programs.
    fn by_itself(
        fault: String,
        ops: &[Op],
        backend: &str,
        commands: &[Command],
        unavailable: Option<Unavailable>,
    ) -> Self {
        if let Some(Unavailable { reason, remedy }) = unavailable {
            return Self {
                r#try: remedy.map(str::to_owned),
                ..Self::lacking(fault, ops, reason)
            };
        }
        Self {
            fault,
            ops: ops.to_vec(),
            served: true,
            backend: Some(backend.to_owned()),
            commands: commands.iter().map(|command| command.name()).collect(),
            missing: Vec::new(),
            r#try: None,
            inject_lacks: Vec::new(),
        }
    }

    /// By what comes next, if this does not serve the fault and that does.
    fn or(self, next: Self) -> Self {
        if self.served {
            return self;
        }
        if next.served {
            return next;
        }
        let mut missing = self.missing;
        missing.extend(next.missing);
        missing.dedup();
        Self {
            missing,
            r#try: self.r#try.or(next.r#try),
            ..next
        }
    }

    /// What no kernel program serves.
    fn lacking(fault: String, ops: &[Op], lacks: String) -> Self {
        Self {
            fault,
            ops: ops.to_vec(),
            served: false,
            backend: None,
            commands: Vec::new(),
            missing: vec![lacks],
            r#try: None,
            inject_lacks: Vec::new(),
        }
    }

    /// For the command of `run`, if nothing serves it so far.
    fn or_for_run(mut self, next: Self) -> Self {
        if self.served {
            return self;
        }
        if !next.served {
            self.missing.extend(next.missing);
            return self;
        }
        Self {
            inject_lacks: self.missing,
            ..next
        }
    }

    /// For running processes, if nothing else serves it there: what `inject` lacks otherwise.
    fn or_for_inject(mut self, by: Self) -> Self {
        if self.commands.contains(&"inject") {
            return self;
        }
        if !by.served || !by.commands.contains(&"inject") {
            let lacks = match self.served {
                true => &mut self.inject_lacks,
                false => &mut self.missing,
            };
            lacks.extend(by.missing);
            lacks.dedup();
            return self;
        }
        self.backend = match (self.backend, by.backend) {
            (Some(run), Some(inject)) => Some(format!("{run}; for inject {inject}")),
            (run, inject) => run.or(inject),
        };
        self.served = true;
        self.commands.push("inject");
        self.missing.clear();
        self.inject_lacks.clear();
        self.r#try = None;
        self
    }

    /// `needed` has the hooks of each operation, its own first.
    fn by_programs(findings: &Findings, fault: String, ops: &[Op], needed: &[&[Hook]]) -> Self {
        let report = |hook: Hook| findings.hooks.iter().find(|report| report.hook == hook);
        let works = |hook: Hook| report(hook).is_some_and(HookReport::works);
        let own: BTreeSet<_> = needed.iter().copied().flatten().copied().collect();
        // Their own hooks say what serves them; those of other operations only help.
        let first: BTreeSet<_> = needed.iter().filter_map(|hooks| hooks.first()).collect();
        let commands: Vec<_> = [("run", Hook::Exec), ("inject", Hook::Follow)]
            .into_iter()
            .filter(|&(_, hook)| works(hook))
            .map(|(command, _)| command)
            .collect();
        let cgroup = findings.machine.cgroup2.is_some();
        let served = cgroup && own.iter().all(|&hook| works(hook)) && !commands.is_empty();
        let mut service = Self {
            fault,
            ops: ops.to_vec(),
            served,
            backend: None,
            commands: Vec::new(),
            missing: Vec::new(),
            r#try: None,
            inject_lacks: Vec::new(),
        };
        if served {
            let mut names: Vec<_> = first
                .into_iter()
                .filter_map(|&hook| report(hook))
                .map(backend)
                .collect();
            names.dedup();
            service.backend = Some(names.join(" and "));
            service.commands = commands;
            return service;
        }
        if !findings.machine.privileged() {
            service.missing = findings.machine.capabilities.missing.clone();
            service.r#try = Some("sudo murphy doctor".to_owned());
            return service;
        }
        if !cgroup {
            service
                .missing
                .push("a mounted cgroup2 hierarchy".to_owned());
            service.r#try = Some("mount -t cgroup2 none /sys/fs/cgroup".to_owned());
            return service;
        }
        let command = commands.is_empty().then_some(Hook::Exec);
        let broken: Vec<_> = own
            .into_iter()
            .chain(command)
            .filter_map(report)
            .filter(|report| !report.works())
            .collect();
        service.missing = broken
            .iter()
            .map(|report| report.places.join(", "))
            .collect();
        // The fault's own hook decides which way round there is.
        let own = broken.iter().find(|report| first.contains(&report.hook));
        service.r#try = own
            .or(broken.first())
            .map(|report| nearest(report, &broken, &findings.machine, ops));
        service
    }
}

/// What mechanisms offer, in the order in which they are tried: for both commands first, and of
/// those the preferred backend.
fn offers(asked: &Asked<'_>) -> Vec<(Box<dyn Mechanism>, Offer)> {
    let offers = all().into_iter().filter_map(|mechanism| {
        let offer = mechanism.offer(asked)?;
        Some((mechanism, offer))
    });
    let mut offers: Vec<_> = offers.collect();
    offers.sort_by_key(|(mechanism, offer)| {
        let backend = mechanism.declaration().backend;
        let rank = Backend::ALL.iter().position(|one| Some(*one) == backend);
        let commands = match offer.commands {
            [Command::Run] => 1,
            [Command::Inject] => 2,
            _ => 0,
        };
        // A mechanism that is no backend helps the first.
        (commands, rank.unwrap_or(0), rank.is_none())
    });
    offers
}

/// Whether kernels that are new enough for a hook may refuse it all the same.
fn may_be_refused(hook: Hook) -> bool {
    hook.family() != Family::Net || hook.spec().attach == Attach::Netem
}

/// The words for a hook that serves a fault.
fn backend(report: &HookReport) -> String {
    match report.hook.spec().served {
        Served::As(words) => words.to_owned(),
        Served::Classifier if report.by.contains(&"tcx") => "tc classifier by tcx".to_owned(),
        Served::Classifier => "tc classifier by clsact filter".to_owned(),
        Served::Around(before, behind) => {
            format!("{before}{}{behind}", report.places.join(", "))
        }
        Served::Places => report.places.join(", "),
    }
}

/// What would work where hooks do not, `report`'s above all.
fn nearest(report: &HookReport, broken: &[&HookReport], machine: &Machine, ops: &[Op]) -> String {
    // A kernel that has one of them only would not serve the fault either.
    let needs: Vec<_> = broken
        .iter()
        .flat_map(|report| report.needs.clone())
        .collect();
    let youngest = murphy_kernel::probe::youngest(&needs).map_or("5.18", |need| need.since);
    // The call that a libc makes today rather than the oldest of its family.
    let call = ops
        .iter()
        .find(|op| op.name() == "openat")
        .or_else(|| ops.iter().find(|op| op.is_syscall()));
    // It needs no privilege and no feature, and costs each call of the command two stops.
    let strace = call.map(|call| {
        format!("strace -f -e inject={call}:error=ERRNO, which slows the command down")
    });
    let kernel = if let Some(kernel) = report.hook.spec().kernel {
        kernel.to_owned()
    } else if report.hook.family() == Family::Lsm {
        let active = machine.security_modules.as_deref().unwrap_or_default();
        if let Some(state) = machine.locked_down() {
            format!("a kernel that is not locked down (here: {state}; Secure Boot does it)")
        } else if !active.iter().any(|module| module == "bpf") {
            let list = active.join(",");
            format!("boot with lsm={list},bpf on the kernel's command line")
        } else {
            format!("Linux {youngest} or later with CONFIG_BPF_LSM and CONFIG_DEBUG_INFO_BTF")
        }
    } else {
        format!("Linux {youngest} or later")
    };
    let otherwise = report.hook.spec().otherwise.map(str::to_owned);
    let otherwise = otherwise.or(strace);
    match otherwise {
        Some(otherwise) => format!("{kernel}; or {otherwise}"),
        None => kernel,
    }
}
