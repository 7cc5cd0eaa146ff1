//! How a mechanism would serve a fault, as `murphy doctor` asks it.

use syscalls::Sysno;

use super::{Command, FaultRow};
use murphy_fault::plan::Hook;
use murphy_fault::{Family, Fault, FaultKind, Op};

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A fault.
    Fault(&'a Fault),
    /// A row of the registry. Its first operation stands for its like.
    Registry(&'static FaultKind),
    /// A row that a mechanism declares.
    Own(&'a FaultRow),
}

/// How a mechanism would serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// By what.
    pub by: Offered,
    /// The commands that it would serve it for.
    pub commands: &'static [Command],
}

/// By what a fault would be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// By programs at these hooks: of each operation its own first.
    Programs(Vec<Vec<Hook>>),
    /// By what works if [`Mechanism::probe`](super::Mechanism::probe) says so; in words.
    Itself(&'static str),
    /// By nothing: what it lacks for the fault, whatever the machine.
    Nothing(String),
    /// It does a part of what programs of other mechanisms serve.
    Part,
}

/// Both commands.
pub(crate) const BOTH: &[Command] = &[Command::Run, Command::Inject];

impl Asked<'_> {
    /// The operations.
    pub fn ops(&self) -> &[Op] {
        match self {
            Self::Fault(fault) => &fault.ops,
            Self::Registry(row) => row.ops,
            Self::Own(row) => row.ops,
        }
    }

    /// Its name, or the expression.
    pub fn name(&self) -> String {
        match self {
            Self::Fault(fault) => fault.to_string(),
            Self::Registry(row) => row.stem.to_owned(),
            Self::Own(row) => row.name.to_owned(),
        }
    }

    /// A hook of each system call of the operations.
    pub(super) fn hooks_of_calls(&self, hook: fn(Sysno) -> Hook) -> Vec<Vec<Hook>> {
        let calls = self.ops().iter().filter_map(|op| op.call());
        calls.map(|call| vec![hook(call)]).collect()
    }

    /// Whether a row of the registry is about the results of system calls that are not about
    /// connections, which have hooks wherever there are any.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Registry(row) => self.is_of_calls() && row.family != Some(Family::Net),
            Self::Fault(_) | Self::Own(_) => false,
        }
    }

    /// Whether it is about system calls alone.
    pub(crate) fn is_of_calls(&self) -> bool {
        self.ops().iter().all(|op| op.is_syscall())
    }
}

impl Offer {
    /// An offer for both commands.
    pub(super) fn for_both(by: Offered) -> Option<Self> {
        let commands = BOTH;
        Some(Self { by, commands })
    }

    /// An offer for `inject`.
    pub(super) fn for_inject(by: Offered) -> Option<Self> {
        let commands = &[Command::Inject];
        Some(Self { by, commands })
    }
}
