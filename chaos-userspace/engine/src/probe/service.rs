//! What serves a fault here, or what is missing and what would work instead.

use std::collections::BTreeSet;

use chaos_common::lsm::Place;
use serde::Serialize;
use syscalls::Sysno;

use super::{Findings, HookReport, Machine};
use murphy_fault::plan::{Backend, Hook, Served, Target, Who};
use murphy_fault::registry::NET_OPS;
use murphy_fault::{Effect, FAULTS, Family, Fault, Op, Property};
use murphy_kernel::connections;
use murphy_mechanisms::connections::are_meant;
use murphy_sys::process::{Process, Resource};

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
    /// Hooks to try for a fault: its own, and those that the commands need.
    pub fn hooks(fault: &Fault) -> BTreeSet<Hook> {
        let refused = |backend: Backend| backend.refusal(fault, &Target::Command).is_some();
        let mut hooks: BTreeSet<_> = [Hook::Exec, Hook::Follow].into();
        if !refused(Backend::Bpf) {
            hooks.extend(own(fault).into_iter().flatten());
        }
        if is_only_late(fault) {
            hooks.insert(Hook::Edt);
        }
        // Where LSM programs may be refused, they are the next best.
        let unsure = |hook: &Hook| hook.family() == Family::Lsm;
        if !refused(Backend::Override) && (refused(Backend::Bpf) || hooks.iter().any(unsure)) {
            let calls = fault.ops.iter().filter_map(|op| op.call());
            for call in calls {
                hooks.extend([Hook::Override(call), Hook::Uprobe(call)]);
            }
        }
        if !refused(Backend::Spin) {
            hooks.extend(fault.ops.iter().filter_map(|op| op.call()).map(Hook::Spin));
        }
        hooks
    }

    /// Hooks to try for every fault of the registry: of a row those of its first operation, which stand for their like.
    pub fn hooks_of_all() -> BTreeSet<Hook> {
        let first = FAULTS.iter().filter_map(|row| row.ops.first());
        first
            .flat_map(|&op| Hook::of(op))
            .copied()
            .chain(Hook::SINGLE.iter().copied())
            .chain([Hook::OVERRIDE, Hook::SPIN, Hook::UPROBE, Hook::SLEEP])
            .collect()
    }

    /// What can be done about every fault of the registry.
    pub fn of_all(findings: &Findings) -> Vec<Self> {
        let rows = FAULTS.iter().map(|row| {
            if row.has.contains(&Property::Condition) {
                return Self::by_limits(row.stem.to_owned(), row.ops);
            }
            // The first stands for its like.
            let hooks: Vec<_> = row.ops.iter().take(1).map(|&op| Hook::of(op)).collect();
            let stem = || row.stem.to_owned();
            let calls = row.ops.iter().all(|op| op.is_syscall());
            let by_hooks = match row.family {
                Some(_) => Self::by_programs(findings, stem(), row.ops, &hooks),
                None => Self::lacking(stem(), row.ops, "an LSM hook".to_owned()),
            };
            // Connections have hooks wherever there are any.
            let stands_for = Hook::OVERRIDE;
            let by_override = calls && row.family != Some(Family::Net);
            by_hooks
                .or(by_override
                    .then(|| Self::by_programs(findings, stem(), row.ops, &[&[stands_for]])))
                .or_supervised(findings, calls)
                .or_for_inject(by_override.then(|| {
                    Self::by_programs(findings, String::new(), row.ops, &[&[Hook::UPROBE]])
                }))
        });
        // No row of its own: what it does to packets of the two directions is.
        let whatever = Effect::Netem(Box::default());
        let netem = NET_OPS.map(|op| Hook::needed(op, &whatever));
        // Nor has this: calls whose hooks may sleep, `openat` for its like.
        let hooks: &[Hook] = &[Hook::SLEEP, Hook::Lsm(Place::FileOpen)];
        let calls = [Op::Call(Sysno::openat)];
        let delay = Self::by_programs(findings, "delay_enter".to_owned(), &calls, &[hooks])
            .or_supervised(findings, true)
            .or_for_inject(Some(Self::by_programs(
                findings,
                String::new(),
                &calls,
                &[&[Hook::SPIN]],
            )));
        rows.chain([Self::by_programs(
            findings,
            "netem".to_owned(),
            &NET_OPS,
            &netem,
        )])
        .chain([delay])
        .collect()
    }

    /// What can be done about a fault.
    pub fn of_fault(findings: &Findings, fault: &Fault) -> Self {
        let refusal = |backend: Backend| backend.refusal(fault, &Target::Command);
        let words = fault.to_string();
        if fault.is_condition() {
            return Self::by_limits(words, &fault.ops);
        }
        let lacks = refusal(Backend::Bpf).or_else(|| unended(findings, fault));
        let service = match lacks {
            None => {
                let hooks = own(fault);
                let hooks: Vec<_> = hooks.iter().map(Vec::as_slice).collect();
                Self::by_programs(findings, words.clone(), &fault.ops, &hooks)
            }
            Some(lacks) => Self::lacking(words.clone(), &fault.ops, lacks),
        };
        let of_calls = |hook: fn(Sysno) -> Hook| {
            let calls = fault.ops.iter().filter_map(|op| op.call());
            let hooks: Vec<_> = calls.map(|call| [hook(call)]).collect();
            let hooks: Vec<&[Hook]> = hooks.iter().map(<[Hook; 1]>::as_slice).collect();
            Self::by_programs(findings, words.clone(), &fault.ops, &hooks)
        };
        let by_override = refusal(Backend::Override).is_none() && !service.served;
        let overriding = by_override.then(|| of_calls(Hook::Override));
        let late = is_only_late(fault).then(|| {
            let hooks: &[Hook] = &[Hook::Edt, Hook::Socket, Hook::Connect];
            Self::by_programs(findings, words.clone(), &fault.ops, &[hooks])
        });
        let running = Target::Running(Who::default());
        let in_code = Backend::Uprobe.refusal(fault, &running).is_none();
        let spinning = refusal(Backend::Spin).is_none();
        service
            .or(late)
            .or(overriding)
            .or_supervised(findings, refusal(Backend::Seccomp).is_none())
            .or_for_inject(in_code.then(|| of_calls(Hook::Uprobe)))
            .or_for_inject(spinning.then(|| of_calls(Hook::Spin)))
    }

    /// By resource limits, which are tried on this process.
    fn by_limits(fault: String, ops: &[Op]) -> Self {
        let tried = || {
            let this = Process::this()?;
            let (soft, _) = this.limits(Resource::NoFile)?;
            this.replace_soft_limit(Resource::NoFile, soft, soft)
        };
        match tried() {
            Ok(_) => Self {
                fault,
                ops: ops.to_vec(),
                served: true,
                backend: Some("prlimit".to_owned()),
                commands: vec!["run", "inject"],
                missing: Vec::new(),
                r#try: None,
                inject_lacks: Vec::new(),
            },
            Err(error) => Self {
                r#try: Some("a container or seccomp profile that allows prlimit64".to_owned()),
                ..Self::lacking(fault, ops, format!("prlimit(2): {error}"))
            },
        }
    }

    /// By what comes next, if this does not serve the fault and that does.
    fn or(self, next: Option<Self>) -> Self {
        let Some(next) = next.filter(|_| !self.served) else {
            return self;
        };
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

    /// By a supervisor, if kernel programs do not serve it and a supervisor has it.
    fn or_supervised(mut self, findings: &Findings, supervised: bool) -> Self {
        if self.served || !supervised {
            return self;
        }
        if let Some(reason) = &findings.machine.seccomp_refused {
            self.missing.push(reason.clone());
            return self;
        }
        self.served = true;
        self.backend = Some("seccomp user notification".to_owned());
        self.commands = vec!["run"];
        self.inject_lacks = std::mem::take(&mut self.missing);
        self.r#try = None;
        self
    }

    /// For running processes, if nothing else serves it there: what `inject` lacks otherwise.
    fn or_for_inject(mut self, by: Option<Self>) -> Self {
        let Some(by) = by.filter(|_| !self.commands.contains(&"inject")) else {
            return self;
        };
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

/// The hooks of each of a fault's operations, its own first.
fn own(fault: &Fault) -> Vec<Vec<Hook>> {
    let needed = |&op| Hook::needed(op, &fault.effect).to_vec();
    let sleeper = |&op| Hook::sleeper(op, &fault.effect).map(|hook| vec![hook]);
    let counts = fault.filter.connlimit.map(|_| vec![Hook::Release]);
    let sleepers = fault.ops.iter().filter_map(sleeper);
    let needed = fault.ops.iter().map(needed);
    needed.chain(sleepers).chain(counts).collect()
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
    let kernel = if matches!(report.hook, Hook::Override(_)) {
        "a kernel with CONFIG_BPF_KPROBE_OVERRIDE (Ubuntu's and Fedora's are said to have it)"
            .to_owned()
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

/// Whether a fault makes packets late and does nothing else to them: what works without netem, too.
fn is_only_late(fault: &Fault) -> bool {
    matches!(&fault.effect, Effect::Netem(netem) if netem.only_delay().is_some())
}

/// Why connections that exist cannot be ended here, where a fault asks for that and it can be tried.
fn unended(findings: &Findings, fault: &Fault) -> Option<String> {
    let tried = are_meant(fault) && findings.machine.privileged();
    let error = tried.then(connections::check)?.err()?;
    Some(error.to_string())
}
