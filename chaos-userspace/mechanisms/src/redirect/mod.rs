//! Sends packets through an ifb that holds them: in each network namespace an ifb for each fault
//! and direction, and filters on every interface that is up and that some fault names, which
//! redirect packets to it. No mechanism: netem and fq do it alike, and each says what queue its
//! ifbs have.
//!
//! Relies on `ifb` and `act_mirred`. Ifbs and filters outlive murphy: they are journalled.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::mark;

use super::bench::{Bench, PRIORITY};
use super::{Context, MechanismError, Result};
use murphy_fault::plan::Hook;
use murphy_fault::{self as faults, Effect, Op};
use murphy_kernel::clsact::{self, Side};
use murphy_kernel::{KernelError, netem};
use murphy_state::cleanup::{Cleanup, Leftover};
use murphy_sys::netns::{self, Interface, Netns, OWN_PREFIX};

/// The kernel hands out priorities from 49152 (0xC000) down to filters that name none, and people name low ones. Ours come
/// after all of them: what others do to a packet is done before it leaves for the ifb.
const FIRST_PRIORITY: u16 = 0xC001;

/// How long what waits in front of `rate` may take to leave when the fault is over, in ms.
const QUEUE_MS: u64 = 10_000;

/// What stays in the kernel if every process of murphy is killed.
pub(super) const LEAVES: &[Leftover] = &[Leftover::Ifb, Leftover::TcFilter];

/// What makes an ifb of a name, in a network namespace. Returns the number of the ifb.
pub(super) type Make<'m> =
    dyn FnMut(&mut Context<'_>, Option<&Netns>, &str, &Wanted) -> Result<u32> + 'm;

/// The ifbs of a mechanism, and the filters that send packets there.
#[derive(Default)]
pub(super) struct Redirects {
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

impl Redirects {
    /// Sends packets of every interface of a network namespace that is up to where they are to be held.
    pub(super) fn cover(
        &mut self,
        cx: &mut Context<'_>,
        netns: Option<&Netns>,
        wanted: &[Wanted],
        make: &mut Make<'_>,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        if self.namespaces.insert(identity(netns)) {
            for wanted in wanted {
                self.make(cx, netns, wanted, make)?;
            }
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

    fn make(
        &mut self,
        cx: &mut Context<'_>,
        netns: Option<&Netns>,
        wanted: &Wanted,
        make: &mut Make<'_>,
    ) -> Result<()> {
        let name = name()?;
        let cleanup = Cleanup::Ifb {
            netns: netns.map(Netns::path),
            name: name.clone(),
            wait_ms: wait_ms(&wanted.netem),
        };
        cx.journal.journal(cleanup.clone())?;
        let index = match make(cx, netns, &name, wanted) {
            Ok(index) => index,
            Err(error) => {
                // Another mechanism may make one of its own. What cannot be removed stays
                // journalled.
                if cleanup.undo().is_ok() {
                    cx.journal.forget(std::slice::from_ref(&cleanup));
                }
                return Err(error);
            }
        };
        self.ifbs.push(Ifb {
            netns: identity(netns),
            side: wanted.side,
            rule: wanted.rule,
            index,
        });
        Ok(())
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

/// Sends no packet through an ifb on the loopback interface of a network namespace that ends with
/// the trial: what a session does, in the same steps. The rule has no packets.
pub(super) fn try_filters(
    bench: &mut Bench<'_>,
    hook: Hook,
    (rule, side): (u32, Side),
    to: u32,
) -> std::result::Result<(), KernelError> {
    let index = bench.loopback()?;
    for &(name, _) in hook.programs() {
        netem::redirect(&netem::Filter {
            ifindex: index,
            side,
            priority: PRIORITY + 1 + u16::from(hook == Hook::Edt),
            handle: 1,
            program: bench.kernel.descriptor(hook, name)?,
            name,
            class: mark::ASKS | (rule + 1),
            to,
        })?;
    }
    Ok(())
}

/// What the plan wants held.
pub(super) struct Wanted {
    /// The fault's place in the plan.
    pub(super) rule: u32,
    /// Where kernel programs find what the fault is.
    pub(super) slot: u32,
    pub(super) side: Side,
    pub(super) netem: faults::Netem,
    pub(super) seed: u64,
}

pub(super) fn wanted(cx: &Context<'_>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (rule, planned) in (0..).zip(&cx.plan.rules) {
        let Effect::Netem(netem) = &planned.fault.effect else {
            continue;
        };
        for op in &planned.fault.ops {
            let side = match op {
                Op::Egress => Side::Egress,
                Op::Ingress => Side::Ingress,
                Op::Call(_) | Op::Dns | Op::Http | Op::Limit => continue,
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

fn identity(netns: Option<&Netns>) -> Option<PathBuf> {
    netns.map(|netns| netns.identity().to_owned())
}

/// A name that nobody else has (`IFNAMSIZ` is 16 with the 0).
fn name() -> Result<String> {
    Ok(format!("{OWN_PREFIX}{:08x}", random()?))
}

pub(super) fn random() -> Result<u32> {
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
