//! The ways to carry faults out. Each is a folder that implements [`Mechanism`].
//!
//! A session knows the trait only: it calls every mechanism at each step of its life, and a mechanism
//! does nothing if no fault of the plan is its own. Mechanisms share the loaded programs and what else
//! [`Context`] holds; they never know each other.

#![deny(clippy::wildcard_enum_match_arm)]

mod bench;
pub mod code;
mod connections;
mod declaration;
mod error;
mod fq;
pub mod fuse_delay;
mod here;
mod hooks;
mod limits;
pub mod matrix;
mod netem;
mod offer;
mod override_return;
mod redirect;
pub mod seccomp;
mod spin;
mod uprobe;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use chaos_common::event::Event;

use murphy_fault::plan::{Hook, Plan, Planned};
use murphy_kernel::listen::Listen;
use murphy_kernel::{Kernel, Place};
use murphy_state::cleanup::Cleanup;
use murphy_state::results::Report;
use murphy_sys::netns::Netns;
use murphy_sys::process::Identity;

pub use bench::{Bench, LOOPBACK};
pub use declaration::{Command, Declaration, Exercise, FaultRow, MatrixRow, Unavailable};
pub use error::MechanismError;
pub use here::Here;
pub use offer::{Asked, Offer, Offered};

/// What came of a step.
pub type Result<T> = std::result::Result<T, MechanismError>;

/// Where kernel state is journalled before it is made.
pub trait Journal {
    /// Journals what is about to be made.
    ///
    /// # Errors
    ///
    /// It is not journalled everywhere, and must not be made.
    fn journal(&mut self, cleanup: Cleanup) -> Result<()>;

    /// Notes what was undone before the end.
    fn forget(&mut self, cleanups: &[Cleanup]);

    /// Tells the guardian until when, by boot time in ns, what it bounds stays in force.
    ///
    /// # Errors
    ///
    /// The guardian has ended.
    fn renew(&mut self, until_ns: u64) -> Result<()>;
}

/// Warnings of a session, each once.
#[derive(Debug, Default)]
pub struct Notices {
    all: Vec<String>,
    /// How many of them were taken.
    taken: usize,
}

impl Notices {
    /// Adds a warning, unless it was given before.
    pub fn warn(&mut self, warning: String) {
        if !self.all.contains(&warning) {
            self.all.push(warning);
        }
    }

    /// All warnings since the session began.
    pub fn all(&self) -> &[String] {
        &self.all
    }

    /// The warnings since this was called last.
    pub fn take(&mut self) -> Vec<String> {
        let new = self.all.get(self.taken..).unwrap_or_default().to_vec();
        self.taken += new.len();
        new
    }
}

/// A rule that a mechanism cannot carry out on this machine.
pub struct Declined {
    /// Its place in the plan.
    pub(crate) rule: u32,
    /// Why not.
    pub error: MechanismError,
}

/// What mechanisms are given of a session.
pub struct Context<'s> {
    /// The plan in force, or that is about to be.
    pub plan: &'s Plan,
    /// How long injections go on without a renewal.
    pub lease: Duration,
    /// Which decisions are reported as events.
    pub listen: Listen,
    /// The loaded programs and their maps. `None` where the plan needs none, while mechanisms
    /// prepare, and once everything is detached.
    pub kernel: Option<&'s mut Kernel>,
    /// Where kernel state is journalled before it is made.
    pub journal: &'s mut dyn Journal,
    /// The processes that are targets of `inject` now, with the classes they are in.
    pub members: &'s dyn Fn() -> Vec<(Identity, u64)>,
    /// Where warnings go.
    pub notices: &'s mut Notices,
    /// Rules that a mechanism cannot carry out on this machine. One that comes after it may take
    /// them from here; what is left at the end of a step is an error.
    pub declined: &'s mut Vec<Declined>,
    /// Where events go that are older than the first of the programs' own.
    pub events: &'s mut Vec<Event>,
}

impl Context<'_> {
    /// The length of the lease in ns.
    pub(crate) fn lease_ns(&self) -> u64 {
        u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// The loaded programs.
    ///
    /// # Errors
    ///
    /// There are none.
    pub(crate) fn kernel(&mut self) -> Result<&mut Kernel> {
        self.kernel.as_deref_mut().ok_or_else(error::not_loaded)
    }
}

/// Where a mechanism attaches.
pub enum Site<'s> {
    /// The machine: these hooks, as far as they are none of interfaces.
    Machine {
        /// The cgroup that all targets are in or below.
        cgroup: &'s File,
        /// For `run`: the program whose entry point arms, and where that is.
        entry: Option<(&'s Path, u64)>,
        /// The hooks whose programs are loaded and not attached yet.
        hooks: &'s BTreeSet<Hook>,
    },
    /// The interfaces of a network namespace that are up and not covered yet. `None` is murphy's own
    /// namespace.
    Network(Option<&'s Netns>),
}

/// A way to carry faults out.
///
/// Each step has a default that does nothing. The steps come in this order: `prepare`, `load`,
/// `attach`, `arm`, then `renew`, `follow`, `attach` and `replace` as time goes on, `disarm`, `revert`.
pub trait Mechanism {
    /// What it is, and relies on, and leaves behind.
    fn declaration(&self) -> &'static Declaration;

    /// Whether it works here, with programs at these hooks of its own. A look: nothing is made, and
    /// what only loading tells is taken to work.
    ///
    /// # Errors
    ///
    /// It does not.
    fn probe(&self, here: &Here, hooks: &BTreeSet<Hook>) -> std::result::Result<(), Unavailable> {
        here.has_programs(self.declaration(), hooks)
    }

    /// How it would serve a fault; `None`: not at all.
    fn offer(&self, _: &Asked<'_>) -> Option<Offer> {
        None
    }

    /// Attaches one of its hooks, whose programs are loaded, where only a child of murphy's meets
    /// them.
    ///
    /// # Errors
    ///
    /// In words: the kernel refuses.
    fn try_hook(&mut self, _: &mut Bench<'_>, _: Hook) -> std::result::Result<(), String> {
        Err("no program of this hook is attached by itself".to_owned())
    }

    /// Looks whether it could carry a plan out against these processes, with the classes they are
    /// in. Nothing is changed: it is for a dry run.
    ///
    /// # Errors
    ///
    /// Those of [`Self::arm`], as far as looking tells.
    fn rehearse(&self, _: &Plan, _: &[(Identity, u64)]) -> Result<()> {
        Ok(())
    }

    /// Starts helper processes. This is the only step in which the process has one thread and nothing
    /// is loaded.
    ///
    /// # Errors
    ///
    /// The machine lacks something. Nothing is left.
    fn prepare(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Tells the programs, which are loaded, what they have to know.
    ///
    /// # Errors
    ///
    /// They cannot be told.
    fn load(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Attaches. What was attached before stays.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    fn attach(&mut self, _: &mut Context<'_>, _: &Site<'_>) -> Result<()> {
        Ok(())
    }

    /// Does what has to be done at the moment from which injections happen, or arms.
    ///
    /// # Errors
    ///
    /// It is not armed.
    fn arm(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The command of `run` has been started. Its rules arm themselves; conditions are armed here.
    ///
    /// # Errors
    ///
    /// They do not hold.
    fn start(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Lets injections go on until this boot time in ns.
    ///
    /// # Errors
    ///
    /// Injections end with the lease that was given before.
    fn renew(&mut self, _: &mut Context<'_>, _until_ns: u64) -> Result<()> {
        Ok(())
    }

    /// Looks after targets that have come, if it is time to.
    ///
    /// # Errors
    ///
    /// What cannot go on without ends the session.
    fn follow(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Boot time in ns at which [`Self::follow`] has something to do, whatever the lease is.
    fn next_change(&self, _: &Context<'_>) -> Option<u64> {
        None
    }

    /// Whether a rule is set up when an injection begins, and cannot join later.
    fn is_fixed(&self, _: &Planned) -> bool {
        false
    }

    /// Another plan is in force, as far as the programs and their maps say it.
    ///
    /// # Errors
    ///
    /// Some of its rules do not take effect everywhere.
    fn replace(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Ends every injection. Counters stand still afterwards.
    ///
    /// # Errors
    ///
    /// That could not be done everywhere. Reverting does the rest.
    fn disarm(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Detaches and ends what the mechanism made itself. What is journalled is undone afterwards.
    fn revert(&mut self, _: &mut Context<'_>) {}

    /// Adds what the mechanism knows to a report that has every fault with zeros.
    ///
    /// # Errors
    ///
    /// Counters could not be read.
    fn report(&mut self, _: &mut Context<'_>, _: &mut Report) -> Result<()> {
        Ok(())
    }

    /// Boot time in ns until which injections go on without a renewal.
    fn lease_until(&mut self, _: &mut Context<'_>) -> Option<u64> {
        None
    }

    /// What carries faults out in the command's own process tree.
    fn command(&self) -> Option<&dyn OnCommand> {
        None
    }

    /// The reading end of events that come by another way than the programs'; it can be taken once.
    fn take_events(&mut self) -> Option<seccomp::Told> {
        None
    }
}

/// What a mechanism says that works on the command of `run` itself.
pub trait OnCommand {
    /// What the command's process puts itself under before it executes the command.
    fn entrance(&self) -> seccomp::Entrance;
    /// Why the command's process could not do so.
    fn failure(&self) -> Option<MechanismError>;
    /// How the helper processes are.
    fn health(&self) -> seccomp::Health;
    /// The helper processes.
    fn helpers(&self) -> Vec<u32>;
}

/// Every mechanism, in the order in which they attach.
///
/// Of one hook the kernel runs the program first that was attached last: what waits for a decision
/// attaches before what decides. What arms comes last.
pub fn all() -> Vec<Box<dyn Mechanism>> {
    vec![
        Box::<seccomp::Seccomp>::default(),
        Box::<netem::Netem>::default(),
        Box::<fq::Fq>::default(),
        Box::<fuse_delay::FuseDelay>::default(),
        Box::new(override_return::OverrideReturn),
        Box::new(spin::Spin),
        Box::<uprobe::Uprobe>::default(),
        Box::<connections::ExistingConnections>::default(),
        Box::<hooks::Hooks>::default(),
        Box::<limits::Limits>::default(),
    ]
}

/// What every mechanism declares.
pub fn declarations() -> Vec<&'static Declaration> {
    let all = all().into_iter();
    all.map(|mechanism| mechanism.declaration()).collect()
}

/// Whether all mechanisms could carry a plan out against these processes, as far as looking tells.
///
/// # Errors
///
/// The first that could not.
pub fn rehearse(plan: &Plan, members: &[(Identity, u64)]) -> Result<()> {
    let mut all = all().into_iter();
    all.try_for_each(|mechanism| mechanism.rehearse(plan, members))
}

/// The mechanism that a hook belongs to.
pub fn owner(hook: Hook) -> Option<Box<dyn Mechanism>> {
    let mut all = all().into_iter();
    all.find(|mechanism| (mechanism.declaration().owns)(hook))
}

/// Attaches the programs of some hooks, which run for every task of the machine.
fn attach_everywhere(
    cx: &mut Context<'_>,
    site: &Site<'_>,
    is_own: impl Fn(Hook) -> bool,
) -> Result<()> {
    let Site::Machine { hooks, .. } = site else {
        return Ok(());
    };
    for &hook in hooks.iter().filter(|&&hook| is_own(hook)) {
        cx.kernel()?.attach(hook, Place::Everywhere)?;
    }
    Ok(())
}
