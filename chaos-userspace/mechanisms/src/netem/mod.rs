//! Holds packets back by netem: in each network namespace an ifb for each fault and direction, and
//! filters on every interface that is up and that some fault names, which redirect packets to it.
//! Where the kernel has no netem, [`fq`] holds packets that are only to be late.
//!
//! Relies on `ifb` and `act_mirred`. If everything of murphy dies, ifbs and filters stay: they are
//! journalled.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::{control, mark};

use super::{Context, Mechanism, MechanismError, Result, Site};
use murphy_fault::plan::{Hook, Planned};
use murphy_fault::{self as faults, Effect, Op};
use murphy_kernel::clsact::{self, Side};
use murphy_kernel::netem::{self, Queue};
use murphy_kernel::{KernelError, Missing};
use murphy_state::cleanup::Cleanup;
use murphy_sys::netns::{self, Interface, Netns, OWN_PREFIX};

/// The kernel hands out priorities from 49152 (0xC000) down to filters that name none, and people name low ones. Ours come
/// after all of them: what others do to a packet is done before it leaves for the ifb.
const FIRST_PRIORITY: u16 = 0xC001;

/// How long what waits in front of `rate` may take to leave when the fault is over, in ms.
const QUEUE_MS: u64 = 10_000;

/// What is said where netem is missing and nothing more than delays are asked for.
const NO_NETEM: &str = "this kernel has no netem (CONFIG_NET_SCH_NETEM): packets are held by fq, on an ifb of murphy's";

/// The mechanism.
#[derive(Default)]
pub(super) struct Netem {
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

impl Mechanism for Netem {
    fn load(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.kernel()?.set_control(control::PACKET_TAG, tag()?)?;
        Ok(())
    }

    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        match site {
            Site::Machine { .. } => Ok(()),
            Site::Network(netns) => self.cover(cx, *netns),
        }
    }

    fn is_fixed(&self, rule: &Planned) -> bool {
        matches!(rule.fault.effect, Effect::Netem(_))
    }
}

impl Netem {
    /// Sends packets of every interface of a network namespace that is up to where they are to be held.
    fn cover(&mut self, cx: &mut Context<'_>, netns: Option<&Netns>) -> Result<()> {
        if wanted(cx).is_empty() {
            return Ok(());
        }
        if self.namespaces.insert(identity(netns)) {
            self.make(cx, netns)?;
        }
        let interfaces = netns::inside(netns, netns::up)
            .and_then(|list| list)
            .map_err(MechanismError::io("listing network interfaces"))?;
        for (hook, side) in [
            (Hook::EgressNetem, Side::Egress),
            (Hook::IngressNetem, Side::Ingress),
        ] {
            if !cx.plan.hooks.contains(&hook) {
                continue;
            }
            for interface in &interfaces {
                if !cx.plan.looks_at(hook, &interface.name) {
                    continue;
                }
                let place = (identity(netns), interface.index, side);
                if self.entered.insert(place) {
                    self.filter(cx, hook, side, netns, interface)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the ifbs of a network namespace, for all faults of the plan that need one.
    fn make(&mut self, cx: &mut Context<'_>, netns: Option<&Netns>) -> Result<()> {
        for wanted in wanted(cx) {
            let name = name()?;
            cx.journal.journal(Cleanup::Ifb {
                netns: netns.map(Netns::path),
                name: name.clone(),
                wait_ms: wait_ms(&wanted.netem),
            })?;
            let index = match self.make_netem(cx, netns, &name, &wanted) {
                Err(MechanismError::Kernel(KernelError::NoNetem(Missing::Netem)))
                    if wanted.netem.only_delay().is_some() =>
                {
                    self.make_fq(cx, netns, &name, &wanted)?
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
        cx: &Context<'_>,
        netns: Option<&Netns>,
        name: &str,
        wanted: &Wanted,
    ) -> Result<u32> {
        let table = table(cx, &wanted.netem);
        let queue = Queue::Netem {
            netem: &wanted.netem,
            table: table.as_deref(),
            seed: wanted.seed,
        };
        let made = netns::inside(netns, || netem::make(name, queue))
            .map_err(MechanismError::io("entering a network namespace"))??;
        Ok(made)
    }

    /// What can be had without netem: packets are late by the time that a program stamps on them.
    fn make_fq(
        &mut self,
        cx: &mut Context<'_>,
        netns: Option<&Netns>,
        name: &str,
        wanted: &Wanted,
    ) -> Result<u32> {
        cx.notices.warn(NO_NETEM.to_owned());
        let kernel = cx.kernel()?;
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
        .map_err(MechanismError::io("entering a network namespace"))??;
        Ok(made)
    }

    fn filter(
        &self,
        cx: &mut Context<'_>,
        hook: Hook,
        side: Side,
        netns: Option<&Netns>,
        interface: &Interface,
    ) -> Result<()> {
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
        .map_err(MechanismError::io("asking for the filters of an interface"))?;
        cx.journal.journal(Cleanup::TcFilter {
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
        let kernel = cx.kernel()?;
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
        .map_err(MechanismError::io("entering a network namespace"))??;
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
    netem: faults::Netem,
    seed: u64,
}

fn wanted(cx: &Context<'_>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (rule, planned) in (0..).zip(&cx.plan.rules) {
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
fn table(cx: &Context<'_>, netem: &faults::Netem) -> Option<Vec<i16>> {
    let distribution = netem.distribution.as_ref()?;
    let Some(file) = distribution.table() else {
        return netem::table(distribution);
    };
    // A session begins with all files read.
    let table = cx.plan.tables.get(file)?;
    Some(table.numbers().to_vec())
}

fn identity(netns: Option<&Netns>) -> Option<PathBuf> {
    netns.map(|netns| netns.identity().to_owned())
}

/// A name that nobody else has (`IFNAMSIZ` is 16 with the 0).
fn name() -> Result<String> {
    Ok(format!("{OWN_PREFIX}{:08x}", random()?))
}

/// What this session's packets are marked with: see [`mark`]. Never 0.
fn tag() -> Result<u64> {
    Ok(u64::from(random()? % 0xfff + 1) << mark::BITS.count_ones())
}

fn random() -> Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| MechanismError::io("drawing a random number")(error.into()))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// How long to wait for what is held, when the fault is over.
fn wait_ms(netem: &faults::Netem) -> u64 {
    let queue = if netem.rate.is_some() || netem.slot.is_some() {
        QUEUE_MS
    } else {
        1_000
    };
    netem.longest().0 / 1_000_000 + queue
}
