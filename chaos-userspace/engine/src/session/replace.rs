//! Other rules in a running session.

use std::collections::BTreeSet;
use std::fs::File;

use chaos_common::control;

use super::super::interfaces::locate;
use super::super::names::check;
use super::super::resolve;
use super::super::targets::{self, Class};
use super::{FaultReport, Session, cgroup2, not_loaded};
use crate::{EngineError, boot_ns};
use murphy_fault::plan::{Hook, Names, Plan, Planned, Target};
use murphy_sys::netns::Netns;

impl Session {
    /// Puts another plan in force. Every operation is judged by the plan before or by this
    /// one, as a whole. Rules that both have go on with all they remember; for the
    /// others time begins now. Names of hosts that were not looked up yet are looked up first, which may take longer
    /// than a lease: [`super::super::resolve`] does it beforehand.
    ///
    /// # Errors
    ///
    /// The plan before stays in force.
    pub fn replace(&mut self, plan: Plan) -> Result<(), EngineError> {
        let known = self.plan.names.clone();
        let mut plan = plan.named(known);
        plan.tables = self.plan.tables.clone();
        let mut plan = resolve(plan)?;
        self.settle()?;
        let elapsed = match self.kernel()?.control(control::ARMED_AT)? {
            0 => 0,
            at => boot_ns().saturating_sub(at),
        };
        if matches!(plan.target, Target::Command) != self.cgroup.is_some() {
            return Err(EngineError::Io {
                doing: "putting other rules in force: a command's are for itself, others' for others",
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        if !self.kernel()?.can_tell(&plan) {
            return Err(EngineError::Io {
                doing: "putting other rules in force: they choose among processes, as the first ones did not",
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        let fresh = plan.succeed(&self.plan, elapsed)?;
        let fixed = |rule: &&Planned| {
            let mut mechanisms = self.mechanisms.iter();
            mechanisms.any(|mechanism| mechanism.is_fixed(rule))
        };
        let is_new = |rule: &&Planned| fresh.contains(&rule.wire.slot);
        if let Some(rule) = plan.rules.iter().filter(fixed).find(is_new) {
            return Err(EngineError::Fixed(rule.fault.to_string()));
        }
        // What arms has done so, and its place is the first plan's business.
        plan.hooks.remove(&Hook::Exec);
        plan.hooks.remove(&Hook::Entry);
        // Whether somebody observes is part of programs that are loaded.
        if self.plan.observes() {
            plan.hooks.insert(Hook::Observe);
        } else {
            plan.hooks.remove(&Hook::Observe);
        }
        if self.cgroup.is_some() {
            plan.tell_own_sockets();
        }
        let listen = self.settings.listen;
        let hooks = self.kernel()?.extend(&plan, listen)?;
        let hooks: BTreeSet<_> = hooks.into_iter().collect();
        if let Some(cgroup) = &self.cgroup {
            let directory = self.scope(cgroup, &cgroup2()?)?;
            self.attach_hooks(&hooks, &directory, None, &[None])?;
            targets::name(&Class::of(&plan.classes), &cgroup2()?, self.kernel()?)?;
        } else {
            self.retarget(&plan, &hooks)?;
        }
        self.each_for(Some(&plan), |mechanism, cx| mechanism.replace(cx))?;
        let new = self.new_namespaces()?;
        let namespaces = self.netns.iter().chain(&new);
        plan = locate(plan, namespaces.map(Option::as_ref))?;
        self.kernel()?.replace(&plan, &fresh)?;
        let old = std::mem::replace(&mut self.plan, plan);
        self.plan.hooks.extend(old.hooks);
        let stays = |slot| self.plan.rules.iter().any(|rule| rule.wire.slot == slot);
        let leaving = old.rules.into_iter().filter(|rule| !stays(rule.wire.slot));
        self.leaving = leaving.collect();
        self.hosts.begin();
        // Interfaces that no rule spoke of before.
        self.cover_known();
        Ok(())
    }

    /// Puts the same rules in force for other addresses of the names they speak of.
    ///
    /// # Errors
    ///
    /// The addresses before stay in force.
    pub(super) fn readdress(&mut self, names: Names) -> Result<(), EngineError> {
        check(&names)?;
        self.settle()?;
        let plan = self.plan.clone().named(names);
        if let Some(kernel) = &mut self.kernel {
            // Rules and classes are where they were, and each keeps its slot.
            kernel.replace(&plan, &[])?;
        }
        self.plan = plan;
        self.each(|mechanism, cx| mechanism.replace(cx))
    }

    /// What came of the rules that have left, since this was asked last.
    ///
    /// # Errors
    ///
    /// The counters could not be read.
    pub fn take_left(&mut self) -> Result<Vec<FaultReport>, EngineError> {
        self.settle()?;
        Ok(std::mem::take(&mut self.left))
    }

    /// Reads the counters of the rules that leave, once nobody counts in them any more.
    fn settle(&mut self) -> Result<(), EngineError> {
        if self.leaving.is_empty() {
            return Ok(());
        }
        let observes = self.plan.observes();
        self.kernel()?.settle();
        for rule in std::mem::take(&mut self.leaving) {
            let counters = self.kernel()?.counters(rule.wire.slot)?;
            self.left
                .push(FaultReport::of_rule(&rule, &counters, observes));
        }
        Ok(())
    }

    /// Attaches hooks, and makes new classes known.
    fn retarget(&mut self, plan: &Plan, hooks: &BTreeSet<Hook>) -> Result<(), EngineError> {
        if hooks.is_empty() && plan.classes.len() == self.plan.classes.len() {
            return Ok(());
        }
        let root =
            File::open(&cgroup2()?.mount).map_err(EngineError::io("opening the cgroup root"))?;
        let new = Class::of(&plan.classes).split_off(self.plan.classes.len());
        let known = new.is_empty();
        let targets = self.targets.as_mut().ok_or_else(not_loaded)?;
        targets.add(new)?;
        if !hooks.is_empty() {
            let netns: Vec<Option<Netns>> = std::mem::take(&mut self.netns);
            let attached = self.attach_hooks(hooks, &root, None, &netns);
            self.netns = netns;
            attached?;
        }
        let sockets = plan.hooks.contains(&Hook::Socket);
        if known && !hooks.contains(&Hook::Socket) {
            return Ok(());
        }
        let targets = self.targets.as_mut().ok_or_else(not_loaded)?;
        // Interfaces that are new with them are covered when the lease is renewed.
        targets.apply(self.kernel.as_mut(), sockets)
    }
}
