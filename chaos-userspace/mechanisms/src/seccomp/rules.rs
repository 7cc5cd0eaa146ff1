//! The rules as the supervisor asks them: filters, and the same pure decision as the kernel programs make.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use chaos_common::decide::{Verdict, decide};
use chaos_common::event::verdict;
use chaos_common::rule::{Rule, RuleState};

use super::carry::{self, Job};
use super::hosts::Hosts;
use super::page::Counter;
use super::victim::Victim;
use murphy_fault::plan::{Backend, Names, Plan, file_types, operation};
use murphy_fault::{CallEffect, Effect, Fault, Filter, Op, Remote};

/// What was decided about one match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    pub(super) counter: Counter,
    /// One of [`verdict`].
    pub(super) verdict: u32,
    /// The match's number; 0: it has none.
    pub(super) n: u64,
}

/// One rule, and what it remembers.
pub(super) struct Asked {
    /// Its place in the plan.
    pub(super) index: usize,
    pub(super) effect: CallEffect,
    pub(super) wire: Rule,
    filter: Filter,
    by_thread: bool,
    state: RuleState,
    threads: HashMap<u32, RuleState>,
}

/// The rules of a plan that are this backend's, and which of them speak of a system call.
pub(super) struct Rules {
    pub(super) all: Vec<Asked>,
    /// What the names of hosts in their filters stand for.
    pub(super) hosts: Hosts,
    /// Call number → rules that name it, as bits.
    calls: Vec<u64>,
}

impl Rules {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut rules = Self {
            all: Vec::new(),
            hosts: Hosts::new(plan.names.clone()),
            calls: vec![0; chaos_common::ops::SYSCALLS as usize],
        };
        for (index, planned) in plan.rules.iter().enumerate() {
            let Some(effect) = effect(&planned.fault) else {
                continue;
            };
            if planned.backend != Backend::Seccomp {
                continue;
            }
            let bit = 1 << rules.all.len();
            for number in planned
                .fault
                .ops
                .iter()
                .filter_map(|op| op.syscall_number())
            {
                if let Some(mask) = rules.calls.get_mut(number as usize) {
                    *mask |= bit;
                }
            }
            rules.all.push(Asked {
                index,
                effect,
                wire: planned.wire,
                filter: planned.fault.filter.clone(),
                by_thread: planned.fault.counts_by_thread(),
                state: RuleState::default(),
                threads: HashMap::new(),
            });
        }
        rules
    }

    /// The calls that some rule names.
    pub(super) fn calls(&self) -> Vec<u32> {
        let named = (0..).zip(&self.calls).filter(|(_, mask)| **mask != 0);
        named.map(|(number, _)| number).collect()
    }

    /// The rules that name a call, as bits of places in [`Rules::all`].
    pub(super) fn naming(&self, call: u32) -> u64 {
        self.calls.get(call as usize).copied().unwrap_or(0)
    }
}

/// What a fault does to a system call; `None` if it does nothing to any.
fn effect(fault: &Fault) -> Option<CallEffect> {
    match &fault.effect {
        Effect::Error(errno) => Some(CallEffect::error(*errno)),
        Effect::Call(call) => Some(call.clone()),
        Effect::Loss(_) | Effect::Netem(_) | Effect::Wire(_) | Effect::Limit(_) => None,
    }
}

/// The index of a call among the operations that events name.
pub(super) fn told_as(call: u32) -> u32 {
    let known = usize::try_from(call).ok().and_then(syscalls::Sysno::new);
    // Of calls the effect makes no difference.
    let whatever = Effect::Error(murphy_fault::Errno::ENOSYS);
    known.map_or(call, |call| operation(Op::Call(call), &whatever))
}

/// What a rule says of a call that names it.
pub(super) enum Found {
    /// It is no match.
    Nothing,
    /// It is one.
    Match,
    /// It is one, and this is what can be done in the thread's place.
    Job(Box<Job>),
}

impl Asked {
    /// Whether the call is a match.
    pub(super) fn look(&self, victim: &Victim, names: &Names) -> io::Result<Found> {
        if !self.accepts(victim, names)? {
            return Ok(Found::Nothing);
        }
        if !self.effect.carries() {
            return Ok(Found::Match);
        }
        let job = carry::prepare(victim, &self.effect)?;
        Ok(job.map_or(Found::Nothing, |job| Found::Job(Box::new(job))))
    }

    /// Whether its filters accept the call.
    fn accepts(&self, victim: &Victim, names: &Names) -> io::Result<bool> {
        let Filter {
            port,
            sport: _,
            src: _,
            interface: _,
            dst,
            proto: _,
            name: _,
            connlimit: _,
            on,
            fd,
            path,
        } = &self.filter;
        if !fd.is_empty() && !victim.descriptors().any(|one| fd.contains(&one)) {
            return Ok(false);
        }
        if !on.is_empty() {
            let wanted = |kind: &u32| on.iter().any(|on| file_types(*on).contains(kind));
            if !victim.file_types()?.iter().any(wanted) {
                return Ok(false);
            }
        }
        if !port.is_empty() || !dst.is_empty() {
            // ::ffff:0:0/96 is IPv4 by an IPv6 socket: `dst` may name either, as in `connect6` of
            // the kernel programs.
            let is_meant = |remote: &Remote, address: IpAddr| {
                names.mean(remote, address) || names.mean(remote, address.to_canonical())
            };
            let accepted = |(address, number): &(IpAddr, u16)| {
                (port.is_empty() || port.iter().any(|range| range.contains(number)))
                    && (dst.is_empty() || dst.iter().any(|remote| is_meant(remote, *address)))
            };
            if !victim.addresses()?.iter().any(accepted) {
                return Ok(false);
            }
        }
        if !path.is_empty() {
            let wanted = |file: &std::path::PathBuf| path.iter().any(|glob| glob.matches(file));
            if !victim.paths()?.iter().any(wanted) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decides a match, as `murphy_ask` of the kernel programs does.
    pub(super) fn decide(&mut self, tid: u32, in_lease: bool, elapsed: u64) -> Decision {
        if !in_lease {
            return Decision {
                counter: Counter::Expired,
                verdict: verdict::LEASE,
                n: 0,
            };
        }
        let memory = match self.by_thread {
            true => self.threads.entry(tid).or_default(),
            false => &mut self.state,
        };
        memory.matches += 1;
        let n = memory.matches;
        let (decided, state) = decide(&self.wire, memory.state, n, elapsed);
        memory.state = state;
        let (counter, verdict) = match decided {
            Verdict::Inject => (Counter::Injected, verdict::INJECTED),
            Verdict::Probability => (Counter::Probability, verdict::PROBABILITY),
            Verdict::When => (Counter::When, verdict::WHEN),
            Verdict::Times => (Counter::Times, verdict::TIMES),
            Verdict::After => (Counter::After, verdict::AFTER),
            Verdict::Pulse => (Counter::Pulse, verdict::PULSE),
            Verdict::RateLimit => (Counter::RateLimit, verdict::RATE_LIMIT),
            Verdict::Expired => (Counter::Expired, verdict::EXPIRED),
        };
        Decision {
            counter,
            verdict,
            n,
        }
    }
}
