//! What can carry a fault out, and with what: the matrix of backends.
//!
//! A fault is one rule with one count, so one backend serves all of it.

use std::collections::BTreeSet;
use std::fmt;

use chaos_common::delay::{LONGEST_NS, LONGEST_SPIN_NS};
use chaos_common::lsm::Place;
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use super::hook::delays;
use super::{Hook, Options, Pattern, PlanError, Target, lsm, r#override};
use crate::{Effect, EffectKey, Errno, Fault, FilterKey, Key, Op};

/// What carries a fault out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Programs in the kernel, at the hooks of [`Hook::of`].
    #[default]
    Bpf,
    /// Programs on the functions of system calls, which answer them in the kernel's place: [`Hook::Override`].
    Override,
    /// Programs in the code of processes that already run, right before they make system calls: [`Hook::Uprobe`].
    Uprobe,
    /// A filter on the command of `run` that hands its system calls to a supervisor of ours.
    Seccomp,
    /// Programs on the functions of system calls, which keep the processor busy for a short delay: [`Hook::Spin`].
    Spin,
}

impl Backend {
    /// Every backend, the one to be preferred first.
    pub const ALL: [Self; 5] = [
        Self::Bpf,
        Self::Override,
        Self::Uprobe,
        Self::Seccomp,
        Self::Spin,
    ];

    /// The name in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Override => "override",
            Self::Uprobe => "uprobe",
            Self::Seccomp => "seccomp",
            Self::Spin => "spin",
        }
    }

    /// The hooks at which it carries a fault out.
    pub fn hooks(self, fault: &Fault) -> BTreeSet<Hook> {
        let calls = || fault.ops.iter().filter_map(|op| op.call());
        match self {
            Self::Bpf => Hook::needed_by(fault).collect(),
            Self::Override => calls().map(Hook::Override).collect(),
            Self::Uprobe => calls().map(Hook::Uprobe).collect(),
            Self::Spin => calls().map(Hook::Spin).collect(),
            Self::Seccomp => BTreeSet::new(),
        }
    }

    /// Whether it has any effect on an operation.
    pub fn serves(self, op: Op) -> bool {
        match (self, op.call()) {
            (Self::Bpf, _) => !Hook::of(op).is_empty(),
            (Self::Override | Self::Uprobe, Some(call)) => r#override::refusal(call).is_none(),
            (Self::Seccomp, Some(_)) => true,
            (Self::Spin, Some(call)) => r#override::function(call).is_some(),
            (Self::Override | Self::Uprobe | Self::Seccomp | Self::Spin, None) => false,
        }
    }

    /// Whether it has that effect on an operation.
    pub fn has_effect(self, op: Op, key: EffectKey) -> bool {
        self.serves(op)
            && match self {
                Self::Bpf if !op.is_syscall() => Key::Effect(key).fits(op),
                Self::Bpf if lsm::undelayed(op).is_none() => DELAYED.contains(&key),
                Self::Bpf => key == EffectKey::Error,
                Self::Override | Self::Uprobe => r#override::EFFECTS.contains(&key),
                Self::Seccomp => Key::Effect(key).fits(op),
                Self::Spin => SPUN.contains(&key),
            }
    }

    /// Whether it looks at that filter for an operation, if the operation has it.
    pub fn has_filter(self, op: Op, key: FilterKey) -> bool {
        match (self, op.call()) {
            (Self::Bpf, None) => Key::Filter(key).fits(op),
            (Self::Bpf, Some(_)) => op.kind().filters.contains(&key),
            (Self::Override | Self::Spin, call) => {
                call.is_some_and(|call| r#override::filters(call).contains(&key))
            }
            (Self::Uprobe, _) => false,
            (Self::Seccomp, _) => SUPERVISED.contains(&key),
        }
    }

    /// Why it cannot serve a fault on whatever machine; `None` if it can.
    pub fn refusal(self, fault: &Fault, target: &Target) -> Option<String> {
        if self == Self::Seccomp && *target != Target::Command {
            return Some("it is for the command of `murphy run` only".to_owned());
        }
        if self == Self::Uprobe && !cfg!(target_arch = "x86_64") {
            return Some("it knows the code of x86_64 alone".to_owned());
        }
        if self == Self::Uprobe && *target == Target::Command {
            return Some("it is for the code of processes that already run, by `murphy inject`; seccomp is for a command".to_owned());
        }
        if self == Self::Seccomp
            && let Some(key) = fault.target.spelling().keys().next()
        {
            return Some(format!(
                "it hits all of the command, and knows no `{}`",
                key.name()
            ));
        }
        if let Some(op) = fault.ops.iter().find(|op| !self.serves(**op)) {
            return Some(match (self, op.call().and_then(r#override::refusal)) {
                (Self::Bpf, _) => format!("no kernel program of murphy's serves `{op}`"),
                (Self::Override | Self::Uprobe | Self::Spin, Some(reason)) => {
                    format!("not for `{op}`: {reason}")
                }
                (Self::Override | Self::Uprobe | Self::Seccomp | Self::Spin, _) => {
                    format!("`{op}` is no system call")
                }
            });
        }
        for key in fault.effect.keys() {
            if let Some(op) = lacking(&fault.ops, |op| self.has_effect(op, key)) {
                let why = if self != Self::Bpf {
                    String::new()
                } else if key == EffectKey::DelayExit {
                    ": it waits at a hook, which is before the call's work; `delay_enter` does"
                        .to_owned()
                } else if key == EffectKey::DelayEnter {
                    lsm::undelayed(op).map_or_else(String::new, |why| format!(": {why}"))
                } else {
                    String::new()
                };
                let key = Key::Effect(key);
                return Some(format!("it has no `{key}` for `{op}`{why}"));
            }
        }
        for key in fault.filter.keys() {
            if let Some(op) = lacking(&fault.ops, |op| self.has_filter(op, key)) {
                let key = Key::Filter(key);
                return Some(format!("it has no `{key}` for `{op}`"));
            }
        }
        match self {
            Self::Bpf => by_bpf(fault),
            Self::Override | Self::Uprobe => by_override(fault),
            Self::Seccomp => by_seccomp(fault),
            Self::Spin => by_spin(fault),
        }
    }
}

/// What a machine has, as far as a choice depends on it.
pub trait Machine {
    /// Whether a backend works here, with programs at these hooks.
    ///
    /// # Errors
    ///
    /// Why not.
    fn has(&self, backend: Backend, hooks: &BTreeSet<Hook>) -> Result<(), String>;
}

/// Which backend is to carry faults out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that can.
    #[default]
    Auto,
    /// This one.
    Only(Backend),
}

impl Choice {
    /// The backend for a fault.
    ///
    /// # Errors
    ///
    /// None can carry it out. That a kernel lacks what kernel programs need is no error here if they are all that is left: loading
    /// them says more about it.
    pub(super) fn of(
        self,
        fault: &Fault,
        target: &Target,
        options: &Options,
        machine: Option<&dyn Machine>,
    ) -> Result<Backend, PlanError> {
        let mut reasons = Vec::new();
        let mut rather = None;
        for backend in Backend::ALL {
            if matches!(self, Self::Only(only) if only != backend) {
                continue;
            }
            let refusal = match backend.refusal(fault, target) {
                None if backend == Backend::Seccomp && options.skip_loader => Some(
                    "it arms at exec and cannot spare the loader: leave out --skip-loader"
                        .to_owned(),
                ),
                other => other,
            };
            if let Some(reason) = refusal {
                reasons.push(format!("{backend}: {reason}"));
                continue;
            }
            let only = self == Self::Only(backend);
            // Loading its programs says more about what the kernel lacks than a look does.
            let by_loading = match backend {
                Backend::Bpf | Backend::Uprobe | Backend::Spin => true,
                Backend::Override => only || *target != Target::Command,
                Backend::Seccomp => false,
            };
            let there = match machine {
                None => Ok(()),
                Some(machine) => {
                    if by_loading {
                        rather.get_or_insert(backend);
                    }
                    match by_loading && only {
                        true => Ok(()),
                        false => machine.has(backend, &backend.hooks(fault)),
                    }
                }
            };
            match there {
                Ok(()) => return Ok(backend),
                Err(reason) => reasons.push(format!("{backend}: {reason}")),
            }
        }
        rather.ok_or_else(|| PlanError::NotServed {
            fault: fault.to_string(),
            reasons: reasons.join("; "),
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the supervisor of seccomp looks at.
const SUPERVISED: [FilterKey; 5] = [
    FilterKey::Port,
    FilterKey::Dst,
    FilterKey::On,
    FilterKey::Fd,
    FilterKey::Path,
];

fn lacking(ops: &[Op], has: impl Fn(Op) -> bool) -> Option<Op> {
    ops.iter().copied().find(|op| !has(*op))
}

/// What LSM programs do where they may sleep.
const DELAYED: [EffectKey; 3] = [EffectKey::Error, EffectKey::DelayEnter, EffectKey::Jitter];

/// What a program does that may not sleep.
const SPUN: [EffectKey; 2] = [EffectKey::DelayEnter, EffectKey::Jitter];

fn by_bpf(fault: &Fault) -> Option<String> {
    let waits = delays(&fault.effect);
    if waits && let Some(reason) = too_long(&fault.effect) {
        return Some(reason);
    }
    if waits && fault.filter.connlimit.is_some() {
        return Some("it has no `connlimit` for a delay".to_owned());
    }
    if fault.counts_by_thread() {
        return Some("it counts by fault, not by thread".to_owned());
    }
    if let Effect::Call(call) = &fault.effect
        && call.error.len() > 1
    {
        return Some("it has one error for a fault".to_owned());
    }
    if let Err(reason) = fault
        .files()
        .iter()
        .try_for_each(|glob| Pattern::new(glob).map(drop))
    {
        return Some(reason);
    }
    let is = |hook: Hook| move |op: &&Op| Hook::of(**op).contains(&hook);
    if !fault.files().is_empty()
        && let Some(op) = fault.ops.iter().find(is(Hook::Lsm(Place::Access)))
    {
        return Some(format!("the hook of `{op}` is not told where the file is"));
    }
    if fault.effect == Effect::Error(Errno::ENOSYS)
        && fault.ops.iter().any(|op| is(Hook::Lsm(Place::Prctl))(&op))
    {
        return Some("the kernel takes ENOSYS from the hook of `prctl` for no answer".to_owned());
    }
    if waits {
        return None;
    }
    let family = |op: &Op| op.kind().family;
    let (first, rest) = fault.ops.split_first()?;
    let other = rest.iter().find(|op| family(op) != family(first))?;
    Some(format!(
        "`{first}` and `{other}` are served by different kernel objects"
    ))
}

/// The longest sleep in a kernel program that needs no `!`. A sleeping thread holds up
/// `sched_setaffinity(2)` on itself, writes to its cpuset, `mkdir` of every cgroup, and the
/// detaching of other BPF programs.
const CONSIDERATE_NS: u64 = 2_000_000_000;

/// Why threads cannot wait as long as an effect says; `None` if they can.
fn too_long(effect: &Effect) -> Option<String> {
    let longest = longest(effect);
    let is_meant = matches!(effect, Effect::Call(call) if call.long);
    if longest > LONGEST_NS {
        return Some(format!(
            "a thread waits in the kernel for {} s at most, `jitter` included",
            LONGEST_NS / 1_000_000_000
        ));
    }
    (longest > CONSIDERATE_NS && !is_meant).then(|| {
        format!(
            "a thread that sleeps in the kernel holds up other processes (taskset, cpusets, new \
             cgroups), so it may for {} s at most, `jitter` included; `delay_enter=…!` allows more",
            CONSIDERATE_NS / 1_000_000_000
        )
    })
}

/// The longest delay that an effect may come to, in ns.
fn longest(effect: &Effect) -> u64 {
    let Effect::Call(call) = effect else {
        return 0;
    };
    call.delay_enter.map_or(0, |delay| delay.0) + call.jitter.map_or(0, |by| by.0)
}

fn by_spin(fault: &Fault) -> Option<String> {
    if longest(&fault.effect) > LONGEST_SPIN_NS {
        return Some(format!(
            "it keeps a processor busy, for {} ms at most, `jitter` included",
            LONGEST_SPIN_NS / 1_000_000
        ));
    }
    if fault.counts_by_thread() {
        return Some("it counts by fault, not by thread".to_owned());
    }
    r#override::too_many(&fault.filter.fd)
}

fn by_override(fault: &Fault) -> Option<String> {
    if fault.counts_by_thread() {
        return Some("it counts by fault, not by thread".to_owned());
    }
    let answers = match &fault.effect {
        Effect::Error(_) => true,
        Effect::Call(call) => call.answers(),
        Effect::Loss(_) | Effect::Netem(_) | Effect::Wire(_) | Effect::Limit(_) => false,
    };
    if answers && fault.ops.iter().any(|op| op.call() == Some(Sysno::close)) {
        return Some(
            "not for `close`: the call would be skipped and leave the descriptor open, which \
             Linux never does; `murphy run` closes it by seccomp"
                .to_owned(),
        );
    }
    r#override::too_many(&fault.filter.fd).or_else(|| r#override::too_much(&fault.effect))
}

fn by_seccomp(fault: &Fault) -> Option<String> {
    match &fault.effect {
        Effect::Call(call) if call.delay_exit.is_some() && !call.answers() => Some(
            "it lets the kernel do a call and does not see its end, so `delay_exit` needs `error` or `retval`"
                .to_owned(),
        ),
        Effect::Call(_)
        | Effect::Error(_)
        | Effect::Loss(_)
        | Effect::Netem(_)
        | Effect::Wire(_)
        | Effect::Limit(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(backend: Backend, text: &str) -> Option<String> {
        let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{error}"));
        backend.refusal(&fault, &Target::Command)
    }

    /// Whether it is refused with these words, or not at all.
    fn is_said(got: Option<&str>, expected: Option<&str>) -> bool {
        match (got, expected) {
            (Some(got), Some(expected)) => got.contains(expected),
            (got, expected) => got.is_none() && expected.is_none(),
        }
    }

    #[test]
    fn each_backend_has_its_faults() {
        for (text, bpf, seccomp) in [
            ("write:error=ENOSPC", None, None),
            ("connect:error=EPERM:port=80", None, None),
            ("egress:loss=5%", None, Some("is no system call")),
            ("write:error=EIO:comm=a", None, Some("knows no `comm`")),
            ("fsync:error=EIO", Some("serves `fsync`"), None),
            ("write,fsync:error=EIO", Some("serves `fsync`"), None),
            ("write:error=EIO,ENOSPC", Some("one error"), None),
            ("write:error=EIO:path=/tmp/**", None, None),
            (
                "connect:error=EAGAIN:connlimit=3",
                None,
                Some("no `connlimit`"),
            ),
            ("write:error=EIO:path=/a/*/b", Some("last name only"), None),
            ("http:status=500:path=/*", None, Some("no system call")),
            ("access:error=EIO:path=/a", Some("not told where"), None),
            ("mmap:error=EIO:path=/a", Some("no `path`"), None),
            ("prctl:error=ENOSYS", Some("no answer"), None),
            ("write:error=EIO:fd=1", Some("no `fd`"), None),
            ("write:error=EIO:count=thread", Some("by thread"), None),
            ("write,connect:error=EIO", Some("different kernel"), None),
            ("write:delay_enter=1s", Some("no program sleep"), None),
            ("unlink:delay_enter=1s", Some("directory is locked"), None),
            ("fchmod:delay_enter=1s", Some("file is locked"), None),
            ("openat:delay_enter=1s:path=/a", None, None),
            ("openat,connect:delay_enter=1s:error=EIO", None, None),
            ("connect:delay_enter=2s:port=80", None, None),
            ("connect:delay_enter=60s!:port=80", None, None),
            ("connect:delay_enter=1s:jitter=1ms:port=80", None, None),
            (
                "connect:delay_enter=2s:jitter=1ms:port=80",
                Some("holds up other processes"),
                None,
            ),
            (
                "connect:delay_enter=59s!:jitter=1001ms",
                Some("60 s at most"),
                None,
            ),
            (
                "connect:delay_enter=1s:connlimit=3",
                Some("no `connlimit` for a delay"),
                Some("no `connlimit`"),
            ),
            ("openat:delay_enter=1s:signal=9", Some("no `signal`"), None),
            (
                "openat:delay_enter=1s:error=EIO,EPERM",
                Some("one error"),
                None,
            ),
            (
                "openat:delay_exit=1s",
                Some("before the call's work"),
                Some("needs `error`"),
            ),
            (
                "write:delay_exit=1s",
                Some("no `delay_exit`"),
                Some("needs `error`"),
            ),
            ("write:delay_exit=1s:retval=0", Some("no `retval`"), None),
            ("write:short=1", Some("no `short` for `write`"), None),
            ("sendto,readv:short=1", Some("no `short`"), None),
            ("read:corrupt=1", Some("no `corrupt` for `read`"), None),
        ] {
            for (backend, expected) in [(Backend::Bpf, bpf), (Backend::Seccomp, seccomp)] {
                let got = refusal(backend, text);
                assert!(
                    is_said(got.as_deref(), expected),
                    "{backend}: {text}: {got:?}"
                );
            }
        }
    }

    #[test]
    fn what_spins_does_so_for_a_moment() {
        for (text, expected) in [
            ("fsync:delay_enter=10ms", None),
            ("unlink,read:delay_enter=1ms:jitter=1ms", None),
            ("kill:delay_enter=1ms", None),
            ("read:delay_enter=1ms:fd=3:on=file", None),
            ("fsync:delay_enter=9ms:jitter=2ms", Some("10 ms at most")),
            ("fsync:delay_exit=1ms", Some("no `delay_exit`")),
            ("fsync:delay_enter=1ms:error=EIO", Some("no `error`")),
            ("openat:delay_enter=1ms:path=/a", Some("no `path`")),
            ("fsync:delay_enter=1ms:count=thread", Some("by thread")),
            ("fsync:delay_enter=1ms:fd=1024", Some("below 1024")),
            ("egress:delay=1ms", Some("no system call")),
            ("nfsservctl:delay_enter=1ms", Some("no function")),
        ] {
            let got = refusal(Backend::Spin, text);
            assert!(is_said(got.as_deref(), expected), "{text}: {got:?}");
        }
    }

    #[test]
    fn an_override_answers_and_looks_at_nothing() {
        for (text, expected) in [
            ("fsync:error=EIO", None),
            ("fsync,fdatasync:error=EIO,ENOSPC", None),
            ("close:signal=9", None),
            ("fsync,close:error=EIO", Some("descriptor open")),
            ("close:retval=0", Some("descriptor open")),
            ("write:retval=0:comm=a", None),
            ("getpid:signal=9", None),
            ("egress:loss=1%", Some("`egress` is no system call")),
            ("fsync:delay_enter=1s", Some("no `delay_enter` for `fsync`")),
            ("write:error=EIO:path=/a", Some("no `path` for `write`")),
            ("fsync:error=EIO:count=thread", Some("by thread")),
            ("fsync,kill:retval=0", Some("not for `kill`")),
            (
                "fsync:error=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
                Some("16 errors at most"),
            ),
        ] {
            let fault: Fault = text.parse().unwrap();
            let running = Target::Running(super::super::Who::default());
            for backend in [Backend::Override, Backend::Uprobe] {
                let got = backend.refusal(&fault, &running);
                assert!(
                    is_said(got.as_deref(), expected),
                    "{backend}: {text}: {got:?}"
                );
            }
        }
    }

    /// In the caller's code the last instruction before the call may be one that sets its first argument.
    #[test]
    fn an_override_looks_at_the_first_argument_if_it_alone_is_a_descriptor() {
        let running = Target::Running(super::super::Who::default());
        for (text, expected) in [
            ("fsync:error=EIO:fd=1", None),
            ("write,fsync:error=EIO:on=file:fd=3", None),
            ("fsync:error=EIO:fd=1024", Some("descriptors below 1024")),
            ("tee:error=EIO:fd=1", Some("no `fd`")),
            ("openat:error=EIO:on=file", Some("no `on`")),
        ] {
            let fault: Fault = text.parse().unwrap();
            let got = Backend::Override.refusal(&fault, &running);
            assert!(is_said(got.as_deref(), expected), "{text}: {got:?}");
            let got = Backend::Uprobe.refusal(&fault, &running);
            assert!(got.is_some_and(|got| got.contains("it has no")), "{text}");
        }
    }

    /// A machine, by what it has.
    struct Has {
        bpf: bool,
        overrides: bool,
        uprobes: bool,
    }

    impl Machine for Has {
        fn has(&self, backend: Backend, _: &BTreeSet<Hook>) -> Result<(), String> {
            let has = match backend {
                Backend::Bpf => self.bpf,
                Backend::Override => self.overrides,
                Backend::Uprobe => self.uprobes,
                Backend::Seccomp | Backend::Spin => true,
            };
            has.then_some(()).ok_or_else(|| "not here".to_owned())
        }
    }

    #[test]
    fn the_first_that_can_is_chosen() {
        let running = Target::Running(super::super::Who::default());
        let chosen = |text: &str, choice: Choice, target: &Target, bpf, overrides| {
            let fault: Fault = text.parse().unwrap();
            let machine = Has {
                bpf,
                overrides,
                uprobes: false,
            };
            choice.of(&fault, target, &Options::default(), Some(&machine))
        };
        for (text, target, bpf, overrides, expected) in [
            (
                "write:error=EIO",
                &Target::Command,
                true,
                true,
                Backend::Bpf,
            ),
            (
                "write:error=EIO",
                &Target::Command,
                false,
                true,
                Backend::Override,
            ),
            (
                "write:error=EIO",
                &Target::Command,
                false,
                false,
                Backend::Seccomp,
            ),
            ("write:error=EIO", &running, false, true, Backend::Override),
            // Loading says what is missing.
            ("write:error=EIO", &running, false, false, Backend::Bpf),
            (
                "fsync:error=EIO",
                &Target::Command,
                true,
                true,
                Backend::Override,
            ),
            (
                "fsync:error=EIO",
                &Target::Command,
                true,
                false,
                Backend::Seccomp,
            ),
            ("fsync:error=EIO", &running, true, true, Backend::Override),
            ("fsync:error=EIO", &running, true, false, Backend::Override),
        ] {
            let got = chosen(text, Choice::Auto, target, bpf, overrides);
            assert_eq!(got, Ok(expected), "{text} {bpf} {overrides}");
        }
        let machine = |bpf, overrides| Has {
            bpf,
            overrides,
            uprobes: true,
        };
        for (text, target, machine, expected) in [
            (
                "fsync:error=EIO",
                &running,
                machine(true, false),
                Backend::Uprobe,
            ),
            (
                "fsync:error=EIO",
                &running,
                machine(true, true),
                Backend::Override,
            ),
            (
                "write:error=EIO",
                &running,
                machine(true, false),
                Backend::Bpf,
            ),
            (
                "write:retval=1",
                &running,
                machine(true, false),
                Backend::Uprobe,
            ),
            (
                "fsync:error=EIO",
                &Target::Command,
                machine(true, false),
                Backend::Seccomp,
            ),
        ] {
            let fault: Fault = text.parse().unwrap();
            let got = Choice::Auto.of(&fault, target, &Options::default(), Some(&machine));
            assert_eq!(got, Ok(expected), "{text}");
        }
        for (text, target, expected) in [
            ("fsync:delay_enter=1ms", &running, Backend::Spin),
            ("openat:delay_enter=1ms", &running, Backend::Bpf),
            ("fsync:delay_enter=1ms", &Target::Command, Backend::Seccomp),
        ] {
            let got = chosen(text, Choice::Auto, target, true, true);
            assert_eq!(got, Ok(expected), "{text}");
        }
        let got = chosen(
            "openat:delay_enter=1ms",
            Choice::Auto,
            &running,
            false,
            false,
        );
        assert_eq!(got, Ok(Backend::Spin), "nothing sleeps here");
        let only = Choice::Only(Backend::Override);
        let got = chosen("write:error=EIO", only, &Target::Command, true, false);
        assert_eq!(got, Ok(Backend::Override));
        let got = chosen(
            "fsync:error=EIO:fd=9999",
            Choice::Auto,
            &running,
            true,
            true,
        );
        let said = got.unwrap_err().to_string();
        assert!(
            said.contains("override: `fd=9999`: it knows") && said.contains("seccomp: it is for"),
            "{said}"
        );
    }

    #[test]
    fn running_processes_are_for_kernel_programs_alone() {
        let fault: Fault = "write:error=EIO".parse().unwrap();
        let target = Target::Running(super::super::Who::default());
        assert!(Backend::Seccomp.refusal(&fault, &target).is_some());
        assert_eq!(Backend::Bpf.refusal(&fault, &target), None);
        assert_eq!(Backend::Override.refusal(&fault, &target), None);
        assert_eq!(Backend::Uprobe.refusal(&fault, &target), None);
        let refused = Backend::Uprobe.refusal(&fault, &Target::Command);
        assert!(refused.is_some_and(|why| why.contains("murphy inject")));
    }
}
