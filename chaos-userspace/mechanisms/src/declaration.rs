//! What a mechanism declares of itself, as data.
//!
//! `murphy doctor`, the tables of docs/kernels.md and the test of the verifier are made of it. A
//! declaration only describes: whether a mechanism works on a machine is said by
//! [`Mechanism::probe`](super::Mechanism::probe).

use std::collections::BTreeSet;
use std::fmt;

use chaos_common::lsm::OPTIONAL;

use murphy_fault::plan::{Backend, Choice, Hook, Interface, Options, Plan, Selector, Target, Who};
use murphy_fault::{Fault, Op};
use murphy_state::cleanup::Leftover;

/// A mechanism, described.
#[derive(Debug)]
pub struct Declaration {
    /// The name of its folder.
    pub name: &'static str,
    /// The backend that it is. `None`: it carries out conditions, or a part of what `bpf` does.
    pub backend: Option<Backend>,
    /// Which commands and users it serves, and with what.
    pub summary: &'static str,
    /// Whether a hook is its own. Each hook belongs to one mechanism.
    pub owns: fn(Hook) -> bool,
    /// Hooks of its own that stand for their like where every hook is tried.
    pub examples: &'static [Hook],
    /// What it needs of the kernel beside what its hooks need.
    pub needs: &'static [Interface],
    /// What a kernel lacks that has not what the hooks need.
    pub lacks: &'static str,
    /// What stays in the kernel if every process of murphy is killed.
    pub leaves: &'static [Leftover],
    /// Rows of `doctor` beside those of the registry of faults.
    pub faults: &'static [FaultRow],
    /// Rows of the matrix in docs/kernels.md.
    pub rows: &'static [MatrixRow],
    /// What has the verifier walk its programs at their longest.
    pub exercises: &'static [Exercise],
    /// Its page below docs/.
    pub page: &'static str,
    /// The file of its tests below tests/tests/.
    pub test: &'static str,
}

impl Declaration {
    /// A mechanism that has nothing but a name, a page and a test.
    pub(super) const fn new(name: &'static str, page: &'static str, test: &'static str) -> Self {
        const fn none(_: Hook) -> bool {
            false
        }
        Self {
            name,
            backend: None,
            summary: "",
            owns: none,
            examples: &[],
            needs: &[],
            lacks: "this kernel or user cannot",
            leaves: &[],
            faults: &[],
            rows: &[],
            exercises: &[],
            page,
            test,
        }
    }

    /// Every hook of its own; of hooks of system calls those that stand for their like.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        Hook::all().filter(|hook| (self.owns)(*hook))
    }
}

/// A kind of fault that is no row of the registry, as `doctor` lists it.
#[derive(Debug)]
pub struct FaultRow {
    /// Its name.
    pub name: &'static str,
    /// Operations, or one for its like.
    pub ops: &'static [Op],
    /// The hooks of each operation, its own first.
    pub hooks: &'static [&'static [Hook]],
}

/// A row of the matrix: something that murphy can do, and what it takes.
#[derive(Debug)]
pub struct MatrixRow {
    /// What, in Markdown.
    pub what: &'static str,
    /// The hooks it takes.
    pub hooks: &'static [Hook],
    /// What it needs of the kernel beside what its hooks need.
    pub needs: &'static [Interface],
    /// Ways to have it, the best first, each with the first kernel that has it.
    pub ways: &'static [(&'static str, &'static str)],
}

impl MatrixRow {
    /// A row of hooks alone.
    pub(super) const fn of(what: &'static str, hooks: &'static [Hook]) -> Self {
        Self {
            what,
            hooks,
            needs: &[],
            ways: &[],
        }
    }

    /// What it needs of the kernel, each once.
    pub fn needs(&self) -> Vec<Interface> {
        let mut all: Vec<Interface> = Vec::new();
        let hooks = self.hooks.iter().flat_map(|hook| hook.spec().needs);
        for need in hooks.chain(self.needs) {
            if !all.iter().any(|known| known.name == need.name) {
                all.push(*need);
            }
        }
        all
    }
}

/// Faults whose programs the verifier walks at their longest.
#[derive(Debug)]
pub struct Exercise {
    /// The faults.
    pub faults: &'static [&'static str],
    /// By which backend.
    pub backend: Backend,
    /// What callers saw is counted, too.
    pub observe: bool,
    /// The command: `run` or `inject`.
    pub command: Command,
}

/// A command that injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// `murphy run`.
    Run,
    /// `murphy inject`.
    Inject,
}

impl Command {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Inject => "inject",
        }
    }
}

impl Exercise {
    /// The programs that are loaded, but those whose hook some kernels do not have.
    ///
    /// # Errors
    ///
    /// A fault is malformed, or no plan can be made of it.
    pub fn programs(&self) -> Result<BTreeSet<&'static str>, String> {
        let hooks = self.hooks()?;
        let programs = hooks.iter().flat_map(|hook| hook.programs());
        let everywhere = programs.filter(|(_, place)| !OPTIONAL.contains(place));
        Ok(everywhere.map(|(name, _)| *name).collect())
    }

    /// The hooks whose programs are loaded.
    ///
    /// # Errors
    ///
    /// A fault is malformed, or no plan can be made of it.
    pub fn hooks(&self) -> Result<BTreeSet<Hook>, String> {
        let parse = |text: &&str| text.parse::<Fault>().map_err(|error| error.to_string());
        let faults = self.faults.iter().map(parse).collect::<Result<_, _>>()?;
        let target = match self.command {
            Command::Run => Target::Command,
            // Which process it is makes no difference to the hooks.
            Command::Inject => Target::Running(Who {
                hit: vec![Selector::Pid(1)],
                ..Who::default()
            }),
        };
        let options = Options {
            observe: self.observe,
            ..Options::default()
        };
        let choice = Choice::Only(self.backend);
        Plan::with(faults, target, &options, choice, None)
            .map(|plan| plan.hooks)
            .map_err(|error| error.to_string())
    }
}

/// Why a mechanism does not work here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What its user can do about it.
    pub remedy: Option<&'static str>,
}

impl Unavailable {
    /// Nothing can be done about it here.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: None,
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
