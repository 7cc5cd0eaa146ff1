//! The ways round through netem that a session's packets take: in each network namespace an ifb for each fault and direction,
//! and filters on every interface that is up and that some fault speaks of.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::mark;

use super::EngineError;
use super::interfaces::{self, Interface, Netns};
use super::session::Session;
use super::undo::Undo;
use crate::faults::{Effect, Netem, Op};
use crate::kernel::clsact::{self, Side};
use crate::kernel::{KernelError, netem};
use crate::plan::Hook;

/// How the names of our ifbs begin.
pub(super) const PREFIX: &str = "murphy";

/// The kernel hands out priorities from 49152 (0xC000) down to filters that name none, and people name low ones. Ours come
/// after all of them: what others do to a packet is done before it leaves for the ifb.
const FIRST_PRIORITY: u16 = 0xC001;

/// How long what waits in front of `rate` may take to leave when the fault is over, in ms.
const QUEUE_MS: u64 = 10_000;

/// What there is of it.
#[derive(Default)]
pub(super) struct Detours {
    ifbs: Vec<Ifb>,
    /// Where there are any.
    namespaces: BTreeSet<Option<PathBuf>>,
    /// Sides of interfaces that have our filters.
    entered: BTreeSet<(Option<PathBuf>, u32, Side)>,
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
        let interfaces = interfaces::inside(netns, interfaces::up)
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
        for (rule, side, netem, seed) in wanted(session) {
            let table = table(session, &netem);
            let name = name()?;
            session.journal(Undo::Ifb {
                netns: netns.map(Netns::path),
                name: name.clone(),
                wait_ms: wait_ms(&netem),
            })?;
            let index =
                interfaces::inside(netns, || netem::make(&name, &netem, table.as_deref(), seed))
                    .map_err(EngineError::io("entering a network namespace"))??;
            self.ifbs.push(Ifb {
                netns: identity(netns),
                side,
                rule,
                index,
            });
        }
        Ok(())
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
        let (there, priority) = interfaces::inside(netns, || {
            Ok((
                clsact::is_there(index)?,
                clsact::free_priority(index, side, from)?,
            ))
        })
        .and_then(|found| found)
        .map_err(EngineError::io("asking for the filters of an interface"))?;
        session.journal(Undo::TcFilter {
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
        interfaces::inside(netns, || {
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

/// What the plan wants held: rule, side, how, seed.
fn wanted(session: &Session) -> Vec<(u32, Side, Netem, u64)> {
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
            wanted.push((rule, side, netem.as_ref().clone(), planned.wire.seed));
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
    Ok(format!("{PREFIX}{:08x}", random()?))
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
