//! One injection from its beginning to its end.

mod interfaces;
mod names;
mod replace;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use chaos_common::control;
use chaos_common::counters::Counters;
use chaos_common::event::Event;

use super::cgroup::RunCgroup;
use super::interfaces::locate;
use super::journal::Journal;
use super::sockets::Sockets;
use super::targets::{self, Class, Targets};
use super::{EngineError, boot_ns, descendants, processes, resolve};
use murphy_fault::plan::{Hook, Plan, Planned};
use murphy_kernel::listen::Listen;
use murphy_kernel::{
    Events, Kernel, KernelError, Log, entry_point, privileges, sockets_are_inherited,
};
use murphy_mechanisms::{self as mechanisms, Context, Mechanism, Notices, Site};
use murphy_state::results::{FaultReport, Report};
use murphy_state::{Claim, Entry, Live};
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::netns::Netns;
use murphy_sys::process::{Identity, ProcFolder};

/// The class of the command of `run`: the plan's first.
const COMMAND: u64 = 1;

/// How often sockets of the command are looked for that were sent to it.
const EVERY: Duration = Duration::from_secs(1);

/// What holds for a session as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long injections go on without [`Session::renew`].
    pub lease: Duration,
    /// Which decisions are told to whoever has [`Session::take_events`].
    pub listen: Listen,
    /// Whether the programs on connects and packets write the lines of [`Session::take_log`].
    pub lines: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            listen: Listen::Nothing,
            lines: false,
        }
    }
}

/// A plan in force. Dropping it reverts everything.
pub struct Session {
    pub(super) plan: Plan,
    settings: Settings,
    journal: Journal,
    /// The loaded programs, which mechanisms share. `None` once reverted, and where no fault needs
    /// any.
    kernel: Option<Kernel>,
    pub(super) mechanisms: Vec<Box<dyn Mechanism>>,
    /// The command's process, once it is started.
    pub(super) command: Option<u32>,
    /// The targets' network namespaces, which cleanups name by our descriptors.
    netns: Vec<Option<Netns>>,
    cgroup: Option<RunCgroup>,
    targets: Option<Targets>,
    /// Rules that another plan did without, and whose counters are yet to be read.
    leaving: Vec<Planned>,
    /// What was counted of the rules that have left.
    left: Vec<FaultReport>,
    /// Events that are older than the first of the programs' own.
    first_events: Vec<Event>,
    /// Names of hosts, and when they are looked up again.
    hosts: names::Hosts,
    notices: Notices,
    /// The command of `run` inherits sockets.
    inherits: bool,
    /// The sockets that are known to be the command's.
    sockets: Sockets,
    /// When these were last looked for.
    looked: Option<Instant>,
}

impl Session {
    /// Puts a plan against the command of `run` in force, for `program` to be
    /// started by [`Session::entrance`]. Rules arm themselves when the command runs.
    ///
    /// # Errors
    ///
    /// Whatever was made is undone.
    pub fn for_command(
        plan: Plan,
        program: &Path,
        settings: Settings,
        claim: Option<Claim>,
    ) -> Result<Self, EngineError> {
        let mut plan = resolve(plan)?;
        plan.tell_own_sockets();
        if !plan.uses_programs() {
            // Without a cgroup, this is how the command's orphans are found.
            descendants::adopt().map_err(EngineError::io("adopting orphans"))?;
            return Self::load(plan, settings, claim);
        }
        privileges::check(&plan)?;
        let plan = locate(plan, [None])?;
        let entry = if plan.hooks.contains(&Hook::Entry) {
            Some(
                entry_point(program).map_err(|source| EngineError::EntryPoint {
                    path: program.to_owned(),
                    source,
                })?,
            )
        } else {
            None
        };
        let cgroup2 = cgroup2()?;
        let mut session = Self::load(plan, settings, claim)?;
        let cgroup = RunCgroup::below(&cgroup2);
        session.journal.add(cgroup.cleanup().into())?;
        cgroup.make()?;
        session.inherits = sockets_are_inherited();
        let directory = session.scope(&cgroup, &cgroup2)?;
        let kernel = session.kernel()?;
        kernel.set_control(control::RUN_CGROUP, cgroup.id()?)?;
        kernel.set_control(control::RUN_MASK, COMMAND)?;
        if let Some(level) = cgroup.level(&cgroup2) {
            kernel.set_control(control::RUN_CGROUP_LEVEL, level)?;
        }
        let by = if entry.is_some() {
            control::ARM_BY_ENTRY
        } else {
            control::ARM_BY_EXEC
        };
        kernel.set_control(control::ARM_BY, by)?;
        let narrowed = Class::of(&session.plan.classes);
        targets::name(&narrowed, &cgroup2, session.kernel()?)?;
        session.cgroup = Some(cgroup);
        session.renew()?;
        let own = vec![None];
        session.attach(&directory, entry.map(|offset| (program, offset)), &own)?;
        session.netns = own;
        session.own_inherited()?;
        Ok(session)
    }

    /// The cgroup that the programs for `run` are attached to: the command's, so that nothing else
    /// pays for them. A socket stays in the cgroup that it was made in, so they are attached to all
    /// cgroups where the command inherits one.
    pub(super) fn scope(&self, cgroup: &RunCgroup, cgroup2: &Cgroup2) -> Result<File, EngineError> {
        if self.inherits {
            File::open(&cgroup2.mount).map_err(EngineError::io("opening the cgroup root"))
        } else {
            cgroup.open()
        }
    }

    /// Makes the sockets that the command inherits its own.
    fn own_inherited(&mut self) -> Result<(), EngineError> {
        if !self.inherits || !self.plan.hooks.contains(&Hook::Socket) {
            return Ok(());
        }
        Ok(self.kernel()?.own_inherited_sockets(COMMAND)?)
    }

    /// Makes sockets that were sent to the command its own.
    fn follow_sockets(&mut self) -> Result<(), EngineError> {
        let (Some(cgroup), Some(kernel)) = (&self.cgroup, &mut self.kernel) else {
            return Ok(());
        };
        let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= EVERY);
        if !self.plan.hooks.contains(&Hook::Socket) || !is_time {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let members = cgroup.members().into_iter();
        let members: Vec<_> = members
            .filter_map(|pid| Some((Identity::of(pid).ok()?, COMMAND)))
            .collect();
        let marked = self.sockets.mark(kernel, members.into_iter())?;
        let is_missed = |hook| {
            let mut rules = self.plan.rules.iter();
            rules.any(|rule| {
                let fault = &rule.fault;
                let needed = |&op| Hook::needed(op, &fault.effect).first() == Some(&hook);
                fault.ops.iter().any(needed)
            })
        };
        if marked.foreign != 0
            && !self.inherits
            && (is_missed(Hook::Connect) || is_missed(Hook::Ingress))
        {
            self.notices.warn(
                "the command was sent a socket that another process made: faults on `connect` and \
                 `ingress` do not see it. Use `murphy inject`, or let the command inherit the socket"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Puts a plan against running processes in force, and arms it.
    ///
    /// # Errors
    ///
    /// Whatever was made is undone.
    pub fn for_running(
        plan: Plan,
        settings: Settings,
        claim: Option<Claim>,
    ) -> Result<Self, EngineError> {
        let plan = resolve(plan)?;
        let classes = Class::of(&plan.classes);
        if classes.len() != plan.classes.len() {
            return Err(EngineError::Io {
                doing: "attaching to processes",
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        // First: without privileges other processes cannot even be looked at.
        if plan.uses_programs() {
            privileges::check(&plan)?;
        }
        // Programs are attached to the root cgroup. Conditions need none.
        let (root, cgroup2) = if plan.uses_programs() {
            let cgroup2 = cgroup2()?;
            let root = File::open(&cgroup2.mount);
            let root = root.map_err(EngineError::io("opening the cgroup root"))?;
            (Some(root), Some(cgroup2))
        } else {
            (None, find_cgroup2()?)
        };
        let targets = Targets::resolve(classes, cgroup2)?;
        // Programs are attached in network namespaces; nothing else looks into them.
        let netns = match plan.uses_programs() {
            true => Self::namespaces(&targets, &[])?,
            false => Vec::new(),
        };
        let plan = locate(plan, netns.iter().map(Option::as_ref))?;
        let mut session = Self::load(plan, settings, claim)?;
        let attached = match &root {
            Some(root) => session.attach(root, None, &netns),
            None => Ok(()),
        };
        session.netns = netns;
        attached?;
        let sockets = session.plan.hooks.contains(&Hook::Socket);
        let targets = session.targets.insert(targets);
        targets.apply(session.kernel.as_mut(), sockets)?;
        session.renew()?;
        session.each(|mechanism, cx| mechanism.arm(cx))?;
        Ok(session)
    }

    /// The network namespaces of targets, without those known; where who comes later may
    /// be anywhere, this process's own is one of them.
    pub(super) fn namespaces(
        targets: &Targets,
        known: &[Option<Netns>],
    ) -> Result<Vec<Option<Netns>>, EngineError> {
        let members = targets.members();
        let folders = members.filter_map(|process| process.folder().ok());
        let mut found = Self::namespaces_of(folders, known)?;
        for of in targets.networks() {
            if !known.contains(&of) && !found.contains(&of) {
                found.push(of);
            }
        }
        // A group without any process may get one anywhere.
        let is_empty = known.is_empty() && found.is_empty();
        let anywhere = targets.are_standing() || is_empty;
        if anywhere && !known.contains(&None) && !found.contains(&None) {
            found.insert(0, None);
        }
        Ok(found)
    }

    /// The network namespaces of processes, without those known.
    fn namespaces_of(
        processes: impl IntoIterator<Item = ProcFolder>,
        known: &[Option<Netns>],
    ) -> Result<Vec<Option<Netns>>, EngineError> {
        let mut found = Vec::new();
        for process in processes {
            let of = match Netns::of(&process) {
                Ok(of) => of,
                Err(_) if !processes::runs(&process) => continue,
                Err(error) => return Err(EngineError::io("opening a network namespace")(error)),
            };
            if !known.contains(&of) && !found.contains(&of) {
                found.push(of);
            }
        }
        Ok(found)
    }

    /// Looks for targets that user space alone can find, if it is time to.
    fn follow(&mut self) -> Result<(), EngineError> {
        let sockets = self.plan.hooks.contains(&Hook::Socket);
        if let Some(targets) = &mut self.targets {
            targets.follow(self.kernel.as_mut(), sockets)?;
        }
        self.follow_sockets()?;
        self.each(|mechanism, cx| mechanism.follow(cx))?;
        let covers = self.plan.hooks.iter().any(|hook| hook.is_of_interfaces());
        if self.netns.is_empty() || !covers && !self.plan.names_interfaces() {
            return Ok(());
        }
        let new = self.new_namespaces()?;
        // Before the first packet of a new interface is looked at.
        self.relocate(&new)?;
        for netns in new {
            // Its undo names it by our descriptor, so it is kept whatever comes.
            let covered = self.cover(netns.as_ref());
            self.netns.push(netns);
            covered?;
        }
        self.cover_known();
        Ok(())
    }

    /// Covers the interfaces that have come up in the network namespaces that are known.
    fn cover_known(&mut self) {
        let known = std::mem::take(&mut self.netns);
        for netns in &known {
            // What goes away while it is looked at is no loss.
            let _ = self.cover(netns.as_ref());
        }
        self.netns = known;
    }

    /// The network namespaces in which there are targets by now.
    fn new_namespaces(&self) -> Result<Vec<Option<Netns>>, EngineError> {
        match (&self.targets, &self.cgroup) {
            (Some(targets), _) => Self::namespaces(targets, &self.netns),
            (None, Some(cgroup)) => {
                let members = cgroup.members().into_iter();
                let folders = members.filter_map(|pid| ProcFolder::open(pid).ok());
                Self::namespaces_of(folders, &self.netns)
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    fn load(plan: Plan, settings: Settings, claim: Option<Claim>) -> Result<Self, EngineError> {
        let mut session = Self {
            plan,
            settings,
            journal: Journal::begin(claim)?,
            kernel: None,
            mechanisms: mechanisms::all(),
            command: None,
            netns: Vec::new(),
            cgroup: None,
            targets: None,
            leaving: Vec::new(),
            left: Vec::new(),
            first_events: Vec::new(),
            hosts: names::Hosts::default(),
            notices: Notices::default(),
            inherits: false,
            sockets: Sockets::default(),
            looked: None,
        };
        // Before anything is loaded and while there is one thread.
        session.each(|mechanism, cx| mechanism.prepare(cx))?;
        if !session.plan.uses_programs() {
            return Ok(session);
        }
        let kernel = session.kernel.insert(Kernel::load(
            &session.plan,
            settings.listen,
            settings.lines,
        )?);
        if let Some(guardian) = session.journal.guardian_pid() {
            kernel.set_control(control::EXEMPT_HELPER, u64::from(guardian))?;
        }
        session.each(|mechanism, cx| mechanism.load(cx))?;
        Ok(session)
    }

    /// Has every mechanism do something, in their order, until one fails.
    pub(super) fn each(
        &mut self,
        step: impl FnMut(&mut dyn Mechanism, &mut Context<'_>) -> mechanisms::Result<()>,
    ) -> Result<(), EngineError> {
        self.each_for(None, step)
    }

    /// The same for a plan that is about to be in force.
    fn each_for(
        &mut self,
        plan: Option<&Plan>,
        mut step: impl FnMut(&mut dyn Mechanism, &mut Context<'_>) -> mechanisms::Result<()>,
    ) -> Result<(), EngineError> {
        let own = match (&self.targets, self.plan.conditions.is_empty()) {
            (None, false) => self.members(),
            (Some(_), _) | (None, true) => Vec::new(),
        };
        let own: Vec<_> = own
            .into_iter()
            .filter_map(|id| Identity::of(id).ok())
            .collect();
        let targets = &self.targets;
        let members = || match targets {
            Some(targets) => targets.classes_of_members().collect(),
            None => own.iter().map(|one| (*one, COMMAND)).collect(),
        };
        let mut declined = Vec::new();
        let mut context = Context {
            plan: plan.unwrap_or(&self.plan),
            lease: self.settings.lease,
            listen: self.settings.listen,
            kernel: self.kernel.as_mut(),
            journal: &mut self.journal,
            members: &members,
            notices: &mut self.notices,
            events: &mut self.first_events,
            declined: &mut declined,
        };
        for mechanism in &mut self.mechanisms {
            step(mechanism.as_mut(), &mut context)?;
        }
        // What no mechanism took.
        match declined.into_iter().next() {
            Some(declined) => Err(declined.error.into()),
            None => Ok(()),
        }
    }

    pub(super) fn kernel(&mut self) -> Result<&mut Kernel, EngineError> {
        self.kernel.as_mut().ok_or_else(not_loaded)
    }

    fn attach(
        &mut self,
        cgroup: &File,
        entry: Option<(&Path, u64)>,
        netns: &[Option<Netns>],
    ) -> Result<(), EngineError> {
        let hooks = self.plan.hooks.clone();
        self.attach_hooks(&hooks, cgroup, entry, netns)
    }

    fn attach_hooks(
        &mut self,
        hooks: &BTreeSet<Hook>,
        cgroup: &File,
        entry: Option<(&Path, u64)>,
        netns: &[Option<Netns>],
    ) -> Result<(), EngineError> {
        // First, as this kernel may lack what it takes.
        for netns in netns {
            self.cover(netns.as_ref())?;
        }
        let site = Site::Machine {
            cgroup,
            entry,
            hooks,
        };
        self.each(|mechanism, cx| mechanism.attach(cx, &site))
    }

    /// Attaches to the interfaces of a network namespace that are up and not covered yet.
    fn cover(&mut self, netns: Option<&Netns>) -> Result<(), EngineError> {
        let site = Site::Network(netns);
        self.each(|mechanism, cx| mechanism.attach(cx, &site))
    }

    /// The file to write 0 to, by the process that is to become the command; none where kernel programs do nothing.
    pub(super) fn procs(&self) -> Result<Option<File>, EngineError> {
        self.cgroup.as_ref().map(RunCgroup::procs).transpose()
    }

    pub(super) fn guardian_pid(&self) -> Option<u32> {
        self.journal.guardian_pid()
    }

    /// Lets injections go on for another lease, and looks after the targets.
    ///
    /// # Errors
    ///
    /// The map could not be written; injections end with the lease.
    pub fn renew(&mut self) -> Result<(), EngineError> {
        let until =
            boot_ns() + u64::try_from(self.settings.lease.as_nanos()).unwrap_or(u64::MAX / 2);
        self.each(|mechanism, cx| mechanism.renew(cx, until))?;
        self.follow_names();
        self.follow()
    }

    /// How long until [`Session::follow_conditions`] has something to do; `None`: nothing changes by
    /// itself.
    pub fn next_change(&mut self) -> Option<Duration> {
        let mut next: Option<u64> = None;
        let _ = self.each(|mechanism, cx| {
            next = next.into_iter().chain(mechanism.next_change(cx)).min();
            Ok(())
        });
        next.map(|at| Duration::from_nanos(at.saturating_sub(boot_ns())))
    }

    /// Has conditions hold, or not, as their triggers say by now.
    ///
    /// # Errors
    ///
    /// What is about to be changed could not be journalled.
    pub fn follow_conditions(&mut self) -> Result<(), EngineError> {
        self.each(|mechanism, cx| mechanism.follow(cx))
    }

    /// How long injections go on without [`Session::renew`].
    pub fn lease(&self) -> Duration {
        self.settings.lease
    }

    /// Processes of `run`'s cgroup that are there now, or targets of `inject` when last looked at.
    pub fn members(&self) -> Vec<u32> {
        match (&self.cgroup, &self.targets) {
            (Some(cgroup), _) => cgroup.members(),
            (None, Some(targets)) => targets.members().map(|process| process.id).collect(),
            (None, None) => self.descendants(),
        }
    }

    /// Whether the targets of `inject` have ended, and none is to be expected.
    pub fn targets_have_ended(&self) -> bool {
        match (&self.targets, &self.kernel) {
            (Some(targets), kernel) => targets.have_ended(kernel.as_ref()),
            (None, _) => false,
        }
    }

    /// What came of the faults so far.
    ///
    /// # Errors
    ///
    /// The counters could not be read.
    pub fn report(&mut self) -> Result<Report, EngineError> {
        let observes = self.plan.observes();
        let rules = self.plan.rules.iter();
        let listens = self.settings.listen != Listen::Nothing;
        let mut report = Report {
            missed: None,
            unseen: None,
            events_lost: listens.then_some(0),
            armed_at_ns: 0,
            armed: false,
            undone: self.journal.undone.clone(),
            not_undone: self.journal.not_undone.clone(),
            warnings: [self.notices.all(), &self.journal.changed].concat(),
            seconds: 0.0,
            conditions: Vec::new(),
            faults: rules
                .map(|rule| FaultReport::of_rule(rule, &Counters::default(), observes))
                .collect(),
        };
        self.each(|mechanism, cx| mechanism.report(cx, &mut report))?;
        Ok(report)
    }

    /// The record of this injection, where it is noted.
    pub fn entry(&mut self) -> Option<&mut Entry> {
        self.journal.entry.as_mut()
    }

    /// What there is to be told of it while it is in force.
    ///
    /// # Errors
    ///
    /// The counters could not be read, or it is noted nowhere.
    pub fn live(&mut self, limit: Option<Duration>) -> Result<Live, EngineError> {
        let report = self.report()?;
        let record = self
            .journal
            .entry
            .as_ref()
            .ok_or_else(not_loaded)?
            .record()
            .clone();
        let left = limit.filter(|_| report.armed).map(|limit| {
            let armed = Duration::from_nanos(boot_ns().saturating_sub(report.armed_at_ns));
            limit.saturating_sub(armed).as_secs_f64()
        });
        let mut until = 0;
        self.each(|mechanism, cx| {
            until = mechanism.lease_until(cx).unwrap_or(until);
            Ok(())
        })?;
        Ok(Live {
            record,
            report,
            processes: self.members().len(),
            left_s: left,
            lease_left_s: until.saturating_sub(boot_ns()) as f64 / 1e9,
            keepalive_left_s: None,
        })
    }

    /// The buffer of events; it can be taken once, and outlives the session.
    pub fn take_events(&mut self) -> Option<Events> {
        self.kernel.as_mut().and_then(Kernel::take_events)
    }

    /// The lines of the programs on connects and packets, where they are wanted and there are any;
    /// they can be taken once, and outlive the session.
    pub fn take_log(&mut self) -> Option<Log> {
        self.kernel.as_mut().and_then(Kernel::take_log)
    }

    /// Events of before the buffer's first; they can be taken once.
    pub fn take_first_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.first_events)
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Ends every injection and undoes everything; gives what came of the faults.
    ///
    /// # Errors
    ///
    /// The counters could not be read. Everything is undone all the same.
    pub fn end(mut self) -> Result<Report, EngineError> {
        let disarmed = self.each(|mechanism, cx| mechanism.disarm(cx));
        // Nothing is counted and told any more when the counters are read: they agree.
        self.revert();
        let report = self.report();
        self.kernel = None;
        disarmed.and(report)
    }

    /// Programs first, then what they needed; last the guardian, which has nothing left to do.
    fn revert(&mut self) {
        let _ = self.each(|mechanism, cx| {
            mechanism.revert(cx);
            Ok(())
        });
        self.journal.revert();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.revert();
    }
}

fn not_loaded() -> EngineError {
    EngineError::Io {
        doing: "using the kernel programs",
        source: std::io::ErrorKind::NotConnected.into(),
    }
}

fn cgroup2() -> Result<Cgroup2, EngineError> {
    find_cgroup2()?.ok_or(EngineError::Kernel(KernelError::NoCgroup2))
}

/// The cgroup2 hierarchy, where one is mounted.
pub(super) fn find_cgroup2() -> Result<Option<Cgroup2>, EngineError> {
    Cgroup2::find().map_err(EngineError::io("looking for the cgroup2 hierarchy"))
}
