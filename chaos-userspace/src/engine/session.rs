//! One injection from its beginning to its end.

mod code;
mod interfaces;
mod names;
mod replace;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos_common::control;
use chaos_common::counters::Counters;
use chaos_common::event::Event;

use super::cgroup::RunCgroup;
use super::code::Code;
use super::connections;
use super::guardian::Guardian;
use super::interfaces::locate;
use super::netem::{self, Detours};
use super::targets::{self, Class, Targets};
use super::undo::Undo;
use super::{EngineError, boot_ns, descendants, processes, resolve};
use crate::blocking::{Blocking, BlockingError};
use crate::cleanup::{Cleanup, Outcome};
use crate::kernel::connections::Connections;
use crate::kernel::sleep;
use crate::kernel::{Events, Kernel, KernelError, Missed, Place, clsact, entry_point, privileges};
use crate::listen::Listen;
use crate::plan::{Backend, Hook, Plan, Planned};
use crate::results::{FaultReport, Report};
use crate::seccomp::Supervision;
use crate::state::{Claim, Entry, Live};
use crate::sys::cgroup2::Cgroup2;
use crate::sys::netns::{Interface, Netns, inside, up};
use crate::sys::process::ProcFolder;

/// The class of the command of `run`: the plan's first.
const COMMAND: u64 = 1;

/// What holds for a session as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long injections go on without [`Session::renew`].
    pub lease: Duration,
    /// Which decisions are told to whoever has [`Session::take_events`].
    pub listen: Listen,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            listen: Listen::Nothing,
        }
    }
}

/// A plan in force. Dropping it reverts everything.
pub struct Session {
    pub(super) plan: Plan,
    settings: Settings,
    /// `None` once reverted, and where no fault needs it.
    kernel: Option<Kernel>,
    /// What threads wait for that kernel programs delay.
    blocking: Option<Blocking>,
    /// Carries out what kernel programs do not.
    pub(super) supervision: Option<Supervision>,
    /// The command's process, once it is started.
    pub(super) command: Option<u32>,
    guardian: Option<Guardian>,
    /// Newest last.
    undo: Vec<Undo>,
    /// The record, where the injection is noted on the machine.
    entry: Option<Entry>,
    /// What was undone, in words.
    undone: Vec<String>,
    /// The targets' network namespaces, which the undos name by our descriptors.
    netns: Vec<Option<Netns>>,
    cgroup: Option<RunCgroup>,
    targets: Option<Targets>,
    /// Rules that another plan did without, and whose counters are yet to be read.
    leaving: Vec<Planned>,
    /// What came of the rules that have left.
    left: Vec<FaultReport>,
    /// The targets' code, where calls are answered in it.
    code: Code,
    /// Interfaces that have a classifier: which, network namespace and number.
    classified: BTreeSet<(Hook, Option<PathBuf>, u32)>,
    /// The ways through netem.
    netem: Detours,
    armed_at: u64,
    /// What there was to be told before there were programs to tell it.
    told: Vec<Event>,
    /// Names of hosts, and what is to be said of them.
    hosts: names::Hosts,
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
        let plan = resolve(plan)?;
        // First of what is made: it forks, and what is loaded later is none of its business.
        let supervision = match plan.uses(Backend::Seccomp) {
            true => Some(Supervision::start(&plan, settings.lease, settings.listen)?),
            false => None,
        };
        if !plan.uses_programs() {
            // Without a cgroup, this is how the command's orphans are found.
            descendants::adopt().map_err(EngineError::io("adopting orphans"))?;
            let mut session = Self::load(plan, settings, claim)?;
            session.supervision = supervision;
            return Ok(session);
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
        session.supervision = supervision;
        let cgroup = RunCgroup::below(&cgroup2);
        session.journal(cgroup.cleanup())?;
        cgroup.make()?;
        let directory = cgroup.open()?;
        let kernel = session.kernel()?;
        kernel.set_control(control::RUN_CGROUP, cgroup.id()?)?;
        kernel.set_control(control::RUN_MASK, COMMAND)?;
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
        Ok(session)
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
        privileges::check(&plan)?;
        let cgroup2 = cgroup2()?;
        let root =
            File::open(&cgroup2.mount).map_err(EngineError::io("opening the cgroup root"))?;
        let targets = Targets::resolve(classes, cgroup2)?;
        let netns = Self::namespaces(&targets, &[])?;
        let connections = connections::ready(&plan)?;
        let plan = locate(plan, netns.iter().map(Option::as_ref))?;
        let mut session = Self::load(plan, settings, claim)?;
        let attached = session.attach(&root, None, &netns);
        session.netns = netns;
        attached?;
        let sockets = session.plan.hooks.contains(&Hook::Socket);
        let targets = session.targets.insert(targets);
        let kernel = session.kernel.as_mut().ok_or_else(not_loaded)?;
        targets.apply(kernel, sockets)?;
        session.cover_code(&session.plan.in_code())?;
        session.renew()?;
        if let Some(connections) = connections {
            session.reset_existing(connections)?;
        }
        session.arm()?;
        Ok(session)
    }

    /// Resets connections that exist, by the rules that ask for it. No program counts yet: nothing is armed.
    fn reset_existing(&mut self, by: Connections) -> Result<(), EngineError> {
        let (Some(targets), Some(kernel)) = (&self.targets, &mut self.kernel) else {
            return Err(not_loaded());
        };
        let members = targets.classes_of_members();
        let (begun, told) = connections::reset(by, &self.plan, members, self.settings.listen)?;
        for (slot, begun) in begun {
            kernel.begin_with(slot, begun.counters, begun.state)?;
        }
        self.told = told;
        Ok(())
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
        if targets.are_standing() && !known.contains(&None) && !found.contains(&None) {
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
        if let (Some(targets), Some(kernel)) = (&mut self.targets, &mut self.kernel) {
            targets.follow(kernel, sockets)?;
        }
        self.follow_code();
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
        let guardian = Guardian::start().map_err(EngineError::Guardian)?;
        let guardian_pid = guardian.pid();
        // As the guardian, before anything is loaded and while there is one thread.
        let blocking = match plan.waits() {
            true => {
                processes::initial_namespace().map_err(|_| BlockingError::PidNamespace)?;
                sleep::check()?;
                Some(Blocking::start(settings.lease)?)
            }
            false => None,
        };
        let mut session = Self {
            plan,
            settings,
            kernel: None,
            blocking,
            supervision: None,
            command: None,
            guardian: Some(guardian),
            undo: Vec::new(),
            entry: None,
            undone: Vec::new(),
            netns: Vec::new(),
            cgroup: None,
            targets: None,
            leaving: Vec::new(),
            left: Vec::new(),
            code: Code::default(),
            classified: BTreeSet::new(),
            netem: Detours::default(),
            armed_at: 0,
            told: Vec::new(),
            hosts: names::Hosts::default(),
        };
        if let Some(claim) = claim {
            session.journal(Undo::Record(claim.removal()))?;
            session.entry = Some(claim.enter(guardian_pid)?);
        }
        if !session.plan.uses_programs() {
            return Ok(session);
        }
        let kernel = session
            .kernel
            .insert(Kernel::load(&session.plan, session.settings.listen)?);
        kernel.set_control(control::PACKET_TAG, netem::tag()?)?;
        if let Some(guardian) = &session.guardian {
            kernel.set_control(control::EXEMPT_HELPER, u64::from(guardian.pid()))?;
        }
        if let Some(blocking) = &session.blocking {
            let there = blocking.whereabouts();
            kernel.set_control(control::EXEMPT_SERVER, u64::from(there.server))?;
            kernel.set_control(control::DELAY_HOLDER, u64::from(there.holder))?;
            kernel.set_control(control::DELAY_PAGE, there.page)?;
            blocking.read_from(kernel.held_pages()?)?;
            kernel.set_control(control::DELAY_BASE, there.base)?;
        }
        Ok(session)
    }

    pub(super) fn kernel(&mut self) -> Result<&mut Kernel, EngineError> {
        self.kernel.as_mut().ok_or_else(not_loaded)
    }

    /// Journals what is about to be made.
    pub(super) fn journal(&mut self, undo: impl Into<Undo>) -> Result<(), EngineError> {
        let undo = undo.into();
        if let (Some(entry), Undo::Cleanup(cleanup)) = (&mut self.entry, &undo) {
            entry.journal(cleanup)?;
        }
        if let Some(guardian) = &mut self.guardian {
            guardian.journal(&undo).map_err(EngineError::Guardian)?;
        }
        self.undo.push(undo);
        Ok(())
    }

    fn attach(
        &mut self,
        cgroup: &File,
        entry: Option<(&Path, u64)>,
        netns: &[Option<Netns>],
    ) -> Result<(), EngineError> {
        self.attach_hooks(self.plan.hooks.clone(), cgroup, entry, netns)
    }

    fn attach_hooks(
        &mut self,
        hooks: impl IntoIterator<Item = Hook>,
        cgroup: &File,
        entry: Option<(&Path, u64)>,
        netns: &[Option<Netns>],
    ) -> Result<(), EngineError> {
        // First, as this kernel may lack what it takes.
        for netns in netns {
            self.cover(netns.as_ref())?;
        }
        for hook in hooks {
            match hook {
                Hook::Connect | Hook::Socket | Hook::Release | Hook::Ingress => {
                    self.kernel()?.attach(hook, Place::Cgroup(cgroup))?;
                }
                Hook::Lsm(_)
                | Hook::Sleep(_)
                | Hook::Begin(_)
                | Hook::Override(_)
                | Hook::Spin(_)
                | Hook::Exec
                | Hook::Follow
                | Hook::Observe => {
                    self.kernel()?.attach(hook, Place::Everywhere)?;
                }
                Hook::Entry => {
                    if let Some((file, offset)) = entry {
                        let place = Place::Code {
                            file,
                            offset,
                            cookie: None,
                        };
                        self.kernel()?.attach(hook, place)?;
                    }
                }
                // Attached interface by interface, above; in code once it is known who the targets are.
                Hook::Uprobe(_)
                | Hook::Egress
                | Hook::Dns
                | Hook::Http
                | Hook::Reset
                | Hook::Unreachable
                | Hook::EgressNetem
                | Hook::IngressNetem
                // On our own ifbs.
                | Hook::Edt => {}
            }
        }
        Ok(())
    }

    /// Attaches what belongs to interfaces to every one that is up in a network namespace, and was not before. Where all
    /// faults name interfaces, others are let be.
    fn cover(&mut self, netns: Option<&Netns>) -> Result<(), EngineError> {
        self.detour(|detours, session| detours.cover(session, netns))?;
        let hooks: Vec<_> = self.plan.hooks.iter().copied().collect();
        for hook in hooks.into_iter().filter(|hook| hook.is_classifier()) {
            self.attach_classifier(hook, netns)?;
        }
        Ok(())
    }

    /// Lets the ways through netem use the session that they are part of.
    fn detour(
        &mut self,
        work: impl FnOnce(&mut Detours, &mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut detours = std::mem::take(&mut self.netem);
        let done = work(&mut detours, self);
        self.netem = detours;
        done
    }

    /// Attaches a classifier to every interface that is up, and of which some fault speaks.
    fn attach_classifier(&mut self, hook: Hook, netns: Option<&Netns>) -> Result<(), EngineError> {
        // Below the priorities that the kernel hands out itself (from 49152 down),
        // and unlike that of another injector.
        let priority = (std::process::id() % 49_000 + 1) as u16;
        let interfaces = inside(netns, up)
            .and_then(|list| list)
            .map_err(EngineError::io("listing network interfaces"))?;
        for Interface { name, index } in interfaces {
            let covered = (hook, netns.map(|netns| netns.identity().to_owned()), index);
            if self.classified.contains(&covered) || !self.plan.looks_at(hook, &name) {
                continue;
            }
            self.classified.insert(covered);
            let place = Place::Interface { name: &name };
            let kernel = self.kernel()?;
            let by_link = inside(netns, || kernel.attach(hook, place))
                .map_err(EngineError::io("entering a network namespace"))?;
            match by_link {
                Ok(()) => continue,
                Err(error) if !error.is_no_tcx() => return Err(error.into()),
                Err(_) => {}
            }
            // No tcx here: a filter of clsact, which no descriptor owns.
            let made_clsact = !inside(netns, || clsact::is_there(index))
                .and_then(|there| there)
                .map_err(EngineError::io("asking for the clsact qdisc"))?;
            for &(_, place) in hook.programs() {
                self.journal(Cleanup::TcFilter {
                    netns: netns.map(Netns::path),
                    ifindex: index,
                    interface: name.clone(),
                    side: clsact::Side::of_place(place),
                    priority,
                    made_clsact,
                })?;
            }
            let kernel = self.kernel()?;
            inside(netns, || {
                clsact::ensure(index)
                    .map_err(KernelError::io(format!("adding clsact to {name}")))?;
                kernel.attach(
                    hook,
                    Place::Filter {
                        name: &name,
                        priority,
                    },
                )
            })
            .map_err(EngineError::io("entering a network namespace"))??;
        }
        Ok(())
    }

    fn arm(&mut self) -> Result<(), EngineError> {
        self.kernel()?.set_control(control::ARMED_AT, boot_ns())?;
        Ok(())
    }

    /// The file to write 0 to, by the process that is to become the command; none where kernel programs do nothing.
    pub(super) fn procs(&self) -> Result<Option<File>, EngineError> {
        self.cgroup.as_ref().map(RunCgroup::procs).transpose()
    }

    pub(super) fn guardian_pid(&self) -> Option<u32> {
        self.guardian.as_ref().map(Guardian::pid)
    }

    /// Lets injections go on for another lease, and looks after the targets.
    ///
    /// # Errors
    ///
    /// The map could not be written; injections end with the lease.
    pub fn renew(&mut self) -> Result<(), EngineError> {
        let until =
            boot_ns() + u64::try_from(self.settings.lease.as_nanos()).unwrap_or(u64::MAX / 2);
        if let Some(supervision) = &self.supervision {
            supervision.renew();
        }
        if let Some(blocking) = &self.blocking {
            blocking.renew();
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.lease_until(until)?;
        }
        self.follow_names();
        self.follow()
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
            (Some(targets), Some(kernel)) => targets.have_ended(kernel),
            _ => false,
        }
    }

    /// What came of the faults so far.
    ///
    /// # Errors
    ///
    /// The counters could not be read.
    pub fn report(&mut self) -> Result<Report, EngineError> {
        let mut lost = 0;
        let mut missed = Missed::default();
        let mut counters = vec![Counters::default(); self.plan.rules.len()];
        if let Some(kernel) = &mut self.kernel {
            let armed_at = kernel.control(control::ARMED_AT)?;
            for (rule, counters) in self.plan.rules.iter().zip(&mut counters) {
                *counters = kernel.counters(rule.wire.slot)?;
            }
            if armed_at != 0 {
                self.armed_at = armed_at;
            }
            lost = kernel.control(control::EVENTS_LOST)?;
            missed = kernel.missed();
        }
        let faults = self
            .plan
            .rules
            .iter()
            .zip(&counters)
            .map(|(rule, counters)| self.came_of(rule, counters))
            .collect();
        let listens = self.settings.listen != Listen::Nothing;
        let mut report = Report {
            missed: missed.asked,
            unseen: missed.observing.filter(|_| self.plan.observes()),
            events_lost: listens.then_some(lost),
            armed_at_ns: self.armed_at,
            armed: self.armed_at != 0,
            undone: self.undone.clone(),
            warnings: [self.hosts.warnings(), self.code.warnings()].concat(),
            seconds: match self.armed_at {
                0 => 0.0,
                at => boot_ns().saturating_sub(at) as f64 / 1e9,
            },
            faults,
        };
        self.add_supervised(&mut report);
        Ok(report)
    }

    /// What came of a rule that kernel programs carry out.
    fn came_of(&self, rule: &Planned, counters: &Counters) -> FaultReport {
        let words = rule.fault.to_string();
        let report = FaultReport::new(words, rule.wire.seed, counters).by(rule.backend);
        if self.plan.observes() && rule.unobservable().is_none() {
            report.observed(counters)
        } else {
            report
        }
    }

    /// The record of this injection, where it is noted.
    pub fn entry(&mut self) -> Option<&mut Entry> {
        self.entry.as_mut()
    }

    /// What there is to be told of it while it is in force.
    ///
    /// # Errors
    ///
    /// The counters could not be read, or it is noted nowhere.
    pub fn live(&mut self, limit: Option<Duration>) -> Result<Live, EngineError> {
        let report = self.report()?;
        let record = self.entry.as_ref().ok_or_else(not_loaded)?.record().clone();
        let left = limit.filter(|_| report.armed).map(|limit| {
            let armed = Duration::from_nanos(boot_ns().saturating_sub(report.armed_at_ns));
            limit.saturating_sub(armed).as_secs_f64()
        });
        let until = match (&mut self.kernel, &self.supervision) {
            (Some(kernel), _) => kernel.control(control::LEASE_UNTIL)?,
            (None, Some(supervision)) => supervision.lease_until(),
            (None, None) => 0,
        };
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

    /// Events of before the buffer's first; they can be taken once.
    pub fn take_first_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
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
        if let Some(supervision) = &mut self.supervision {
            supervision.end();
        }
        let disarmed = self.disarm();
        // Nothing is counted and told any more when the counters are read: they agree.
        self.revert();
        let report = self.report();
        self.kernel = None;
        disarmed.and(report)
    }

    /// Nothing matches from here on, so that the counters stand still while they are read.
    fn disarm(&mut self) -> Result<(), EngineError> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        // What has not armed yet must not do so any more.
        kernel.set_control(control::ARM_BY, 0)?;
        let armed_at = kernel.control(control::ARMED_AT)?;
        kernel.set_control(control::ARMED_AT, 0)?;
        self.armed_at = armed_at;
        Ok(())
    }

    /// Programs first, then what they needed; last the guardian, which has nothing left to do.
    fn revert(&mut self) {
        // A program in which a thread waits is let go of when the thread has left it.
        if let Some(blocking) = &self.blocking {
            blocking.wake();
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.detach();
        }
        self.blocking = None;
        let mut clean = true;
        while let Some(undo) = self.undo.pop() {
            if undo.is_record() && !clean {
                // What could not be undone is noted in it.
                continue;
            }
            match undo.undo() {
                Ok(outcome) => {
                    if outcome == Outcome::Done && !undo.is_record() {
                        self.undone.push(undo.to_string());
                    }
                    if let (Some(entry), Undo::Cleanup(cleanup)) = (&mut self.entry, &undo) {
                        entry.forget(cleanup);
                    }
                    if let Some(guardian) = &mut self.guardian {
                        guardian.forget(&undo);
                    }
                }
                // The guardian still has it in its journal and tries once more.
                Err(_) => clean = false,
            }
        }
        if let Some(guardian) = self.guardian.take()
            && clean
        {
            guardian.finish();
        }
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
    Cgroup2::find()
        .map_err(EngineError::io("looking for the cgroup2 hierarchy"))?
        .ok_or(EngineError::Kernel(KernelError::NoCgroup2))
}
