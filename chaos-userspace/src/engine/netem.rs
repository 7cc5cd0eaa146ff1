//! The ways round through netem that a session's packets take: in each network namespace an ifb for each fault and direction,
//! and filters on every interface that is up and that some fault speaks of.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::mark;

use super::EngineError;
use super::session::Session;
use crate::cleanup::Cleanup;
use crate::faults::{Effect, Netem, Op};
use crate::kernel::clsact::{self, Side};
use crate::kernel::netem::{self, Queue};
use crate::kernel::{KernelError, Missing};
use crate::plan::Hook;
use crate::sys::netns::{self, Interface, Netns, OWN_PREFIX};

/// The kernel hands out priorities from 49152 (0xC000) down to filters that name none, and people name low ones. Ours come
/// after all of them: what others do to a packet is done before it leaves for the ifb.
const FIRST_PRIORITY: u16 = 0xC001;

/// How long what waits in front of `rate` may take to leave when the fault is over, in ms.
const QUEUE_MS: u64 = 10_000;

/// What is said where netem is missing and nothing more than delays are asked for.
const NO_NETEM: &str = "this kernel has no netem (CONFIG_NET_SCH_NETEM): packets are held by fq, on an ifb of murphy's";

/// What there is of it.
#[derive(Default)]
pub(super) struct Detours {
    ifbs: Vec<Ifb>,
    /// Where there are any.
    namespaces: BTreeSet<Option<PathBuf>>,
    /// Sides of interfaces that have our filters.
    entered: BTreeSet<(Option<PathBuf>, u32, Side)>,
    /// Whether the program is loaded that says when packets may depart.
    stamping: bool,
}

struct Ifb {
    netns: Option<PathBuf>,
    side: Side,
    /// The fault's place in the plan.
    rule: u32,
    index: u32,
}

impl Detours {
    /// Sends packets of every interface of a network namespace that is up to where they are to be held.
    pub(super) fn cover(
        &mut self,
        session: &mut Session,
        netns: Option<&Netns>,
    ) -> Result<(), EngineError> {
        if wanted(session).is_empty() {
            return Ok(());
        }
        if self.namespaces.insert(identity(netns)) {
            self.make(session, netns)?;
        }
        let interfaces = netns::inside(netns, netns::up)
            .and_then(|list| list)
            .map_err(EngineError::io("listing network interfaces"))?;
        for (hook, side) in [
            (Hook::EgressNetem, Side::Egress),
            (Hook::IngressNetem, Side::Ingress),
        ] {
            if !session.plan().hooks.contains(&hook) {
                continue;
            }
            for interface in &interfaces {
                if !session.plan().looks_at(hook, &interface.name) {
                    continue;
                }
                let place = (identity(netns), interface.index, side);
                if self.entered.insert(place) {
                    self.filter(session, hook, side, netns, interface)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the ifbs of a network namespace, for all faults of the plan that need one.
    fn make(&mut self, session: &mut Session, netns: Option<&Netns>) -> Result<(), EngineError> {
        for wanted in wanted(session) {
            let name = name()?;
            session.journal(Cleanup::Ifb {
                netns: netns.map(Netns::path),
                name: name.clone(),
                wait_ms: wait_ms(&wanted.netem),
            })?;
            let index = match self.make_netem(session, netns, &name, &wanted) {
                Err(EngineError::Kernel(KernelError::NoNetem(Missing::Netem)))
                    if wanted.netem.only_delay().is_some() =>
                {
                    self.make_fq(session, netns, &name, &wanted)?
                }
                made => made?,
            };
            self.ifbs.push(Ifb {
                netns: identity(netns),
                side: wanted.side,
                rule: wanted.rule,
                index,
            });
        }
        Ok(())
    }

    fn make_netem(
        &self,
        session: &Session,
        netns: Option<&Netns>,
        name: &str,
        wanted: &Wanted,
    ) -> Result<u32, EngineError> {
        let table = table(session, &wanted.netem);
        let queue = Queue::Netem {
            netem: &wanted.netem,
            table: table.as_deref(),
            seed: wanted.seed,
        };
        let made = netns::inside(netns, || netem::make(name, queue))
            .map_err(EngineError::io("entering a network namespace"))??;
        Ok(made)
    }

    /// What can be had without netem: packets are late by the time that a program stamps on them.
    fn make_fq(
        &mut self,
        session: &mut Session,
        netns: Option<&Netns>,
        name: &str,
        wanted: &Wanted,
    ) -> Result<u32, EngineError> {
        session.warn(NO_NETEM.to_owned());
        let kernel = session.kernel()?;
        if !std::mem::replace(&mut self.stamping, true) {
            kernel.load_programs(Hook::Edt)?;
        }
        let program = kernel.descriptor(Hook::Edt, netem::EDT)?;
        let queue = Queue::Fq {
            limit: wanted.netem.limit(),
        };
        let made = netns::inside(netns, || {
            // There already, without a queue.
            netem::remove(name).map_err(KernelError::io("removing an ifb"))?;
            let index = netem::make(name, queue)?;
            netem::stamp(index, program, wanted.slot + 1)?;
            Ok::<_, KernelError>(index)
        })
        .map_err(EngineError::io("entering a network namespace"))??;
        Ok(made)
    }

    fn filter(
        &self,
        session: &mut Session,
        hook: Hook,
        side: Side,
        netns: Option<&Netns>,
        interface: &Interface,
    ) -> Result<(), EngineError> {
        let &Interface { ref name, index } = interface;
        // Unlike that of another injector that looks at the same moment.
        let from = FIRST_PRIORITY + (std::process::id() % 8_000) as u16;
        let (there, priority) = netns::inside(netns, || {
            Ok((
                clsact::is_there(index)?,
                clsact::free_priority(index, side, from)?,
            ))
        })
        .and_then(|found| found)
        .map_err(EngineError::io("asking for the filters of an interface"))?;
        session.journal(Cleanup::TcFilter {
            netns: netns.map(Netns::path),
            ifindex: index,
            interface: name.clone(),
            side,
            priority,
            made_clsact: !there,
        })?;
        let here = identity(netns);
        let ifbs: Vec<_> = self
            .ifbs
            .iter()
            .filter(|ifb| ifb.side == side && ifb.netns == here)
            .collect();
        let kernel = session.kernel()?;
        let Some(&(program_name, _)) = hook.programs().first() else {
            return Ok(());
        };
        let program = kernel.descriptor(hook, program_name)?;
        netns::inside(netns, || {
            clsact::ensure(index).map_err(KernelError::io(format!("adding clsact to {name}")))?;
            // The one that asks comes first, and so last here: the others have nothing to go by before.
            for (place, ifb) in ifbs.iter().enumerate().rev() {
                let asks = if place == 0 { mark::ASKS } else { 0 };
                netem::redirect(&netem::Filter {
                    ifindex: index,
                    side,
                    priority,
                    // Handles count from 1; a plan has at most 64 rules.
                    handle: place as u32 + 1,
                    program,
                    name: program_name,
                    class: asks | (ifb.rule + 1),
                    to: ifb.index,
                })?;
            }
            Ok::<_, KernelError>(())
        })
        .map_err(EngineError::io("entering a network namespace"))??;
        Ok(())
    }
}

/// What the plan wants held.
struct Wanted {
    /// The fault's place in the plan.
    rule: u32,
    /// Where kernel programs find what the fault is.
    slot: u32,
    side: Side,
    netem: Netem,
    seed: u64,
}

fn wanted(session: &Session) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (rule, planned) in (0..).zip(&session.plan().rules) {
        let Effect::Netem(netem) = &planned.fault.effect else {
            continue;
        };
        for op in &planned.fault.ops {
            let side = match op {
                Op::Egress => Side::Egress,
                Op::Ingress => Side::Ingress,
                _ => continue,
            };
            wanted.push(Wanted {
                rule,
                slot: planned.wire.slot,
                side,
                netem: netem.as_ref().clone(),
                seed: planned.wire.seed,
            });
        }
    }
    wanted
}

/// By which table delays vary.
fn table(session: &Session, netem: &Netem) -> Option<Vec<i16>> {
    let distribution = netem.distribution.as_ref()?;
    let Some(file) = distribution.table() else {
        return netem::table(distribution);
    };
    // A session begins with all files read.
    let table = session.plan().tables.get(file)?;
    Some(table.numbers().to_vec())
}

fn identity(netns: Option<&Netns>) -> Option<PathBuf> {
    netns.map(|netns| netns.identity().to_owned())
}

/// A name that nobody else has (`IFNAMSIZ` is 16 with the 0).
fn name() -> Result<String, EngineError> {
    Ok(format!("{OWN_PREFIX}{:08x}", random()?))
}

/// What this session's packets are marked with: see [`mark`]. Never 0.
pub(super) fn tag() -> Result<u64, EngineError> {
    Ok(u64::from(random()? % 0xfff + 1) << mark::BITS.count_ones())
}

fn random() -> Result<u32, EngineError> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| EngineError::io("drawing a random number")(error.into()))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// How long to wait for what is held, when the fault is over.
fn wait_ms(netem: &Netem) -> u64 {
    let queue = if netem.rate.is_some() || netem.slot.is_some() {
        QUEUE_MS
    } else {
        1_000
    };
    netem.longest().0 / 1_000_000 + queue
}
