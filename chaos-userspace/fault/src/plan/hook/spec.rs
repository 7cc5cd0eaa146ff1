//! What is known of a hook, as data.

use super::needs::Interface;
use crate::Family;

/// What is known of a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookSpec {
    /// The object that holds its programs.
    pub family: Family,
    /// Its programs, each with the kernel's name of the place it is attached to.
    pub programs: &'static [(&'static str, &'static str)],
    /// How they are attached.
    pub attach: Attach,
    /// What they rely on.
    pub needs: &'static [Interface],
    /// A fault that a victim meets if the hook works.
    pub canary: Option<&'static str>,
    /// How the report of a machine names what serves a fault here.
    pub served: Served,
    /// The kernel that has it, where a version does not say it.
    pub kernel: Option<&'static str>,
    /// Another tool that does something similar, for machines where the hook does not work.
    pub otherwise: Option<&'static str>,
}

/// How the programs of a hook are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// To the cgroup of all targets.
    Cgroup,
    /// Once, for every process.
    Everywhere,
    /// As classifiers in direct action, to each interface.
    Interfaces,
    /// As filters that send packets through netem, to each interface.
    Netem,
    /// As a filter, to the ifbs that packets are sent through.
    Ifb,
    /// To the entry point of the command.
    EntryPoint,
    /// To instructions of the targets.
    Code,
}

/// How the report of a machine names what serves a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// By its places.
    Places,
    /// By its places, with words before and behind them.
    Around(&'static str, &'static str),
    /// By these words.
    As(&'static str),
    /// As a classifier, by the way in which it could be attached.
    Classifier,
}

impl HookSpec {
    /// A row with the usual words of `doctor`, and without a canary.
    pub(super) const fn new(
        family: Family,
        attach: Attach,
        programs: &'static [(&'static str, &'static str)],
        needs: &'static [Interface],
    ) -> Self {
        Self {
            family,
            programs,
            attach,
            needs,
            canary: None,
            served: match attach {
                Attach::Interfaces => Served::Classifier,
                Attach::Netem => Served::Around("", " by mirred and ifb"),
                Attach::Cgroup
                | Attach::Everywhere
                | Attach::Ifb
                | Attach::EntryPoint
                | Attach::Code => Served::Places,
            },
            kernel: None,
            otherwise: None,
        }
    }
}
