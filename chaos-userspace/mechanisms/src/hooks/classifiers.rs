//! Classifiers on the interfaces of a network namespace.

use super::Hooks;
use crate::bench::{Bench, LOOPBACK, PRIORITY};
use crate::{Context, MechanismError, Result};
use murphy_fault::plan::Hook;
use murphy_kernel::{KernelError, Place, clsact};
use murphy_state::cleanup::Cleanup;
use murphy_sys::netns::{Interface, Netns, inside, up};

impl Hooks {
    /// Attaches every classifier of the plan to the interfaces of a network namespace that are up and
    /// that some fault names. Interfaces that have it already keep it.
    pub(super) fn classify(&mut self, cx: &mut Context<'_>, netns: Option<&Netns>) -> Result<()> {
        let hooks: Vec<_> = cx.plan.hooks.iter().copied().collect();
        for hook in hooks.into_iter().filter(|hook| hook.is_classifier()) {
            self.attach_classifier(cx, hook, netns)?;
        }
        Ok(())
    }

    fn attach_classifier(
        &mut self,
        cx: &mut Context<'_>,
        hook: Hook,
        netns: Option<&Netns>,
    ) -> Result<()> {
        // Below the priorities that the kernel hands out itself (from 49152 down), and unlike that
        // of another injector.
        let priority = (std::process::id() % 49_000 + 1) as u16;
        let interfaces = inside(netns, up)
            .and_then(|list| list)
            .map_err(MechanismError::io("listing network interfaces"))?;
        for Interface { name, index } in interfaces {
            let covered = (hook, netns.map(|netns| netns.identity().to_owned()), index);
            if self.classified.contains(&covered) || !cx.plan.looks_at(hook, &name) {
                continue;
            }
            self.classified.insert(covered);
            let kernel = cx.kernel()?;
            let place = Place::Interface { name: &name };
            let by_link = inside(netns, || kernel.attach(hook, place))
                .map_err(MechanismError::io("entering a network namespace"))?;
            match by_link {
                Ok(()) => {}
                Err(error) if error.is_no_tcx() => {
                    attach_filter(cx, hook, netns, (&name, index), priority)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Tries both ways, since a session takes the first that works.
pub(super) fn try_hook(bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
    bench.network.clone()?;
    let name = LOOPBACK;
    let by_link = bench.kernel.attach(hook, Place::Interface { name });
    if by_link.is_ok() {
        bench.by.push("tcx");
    }
    let priority = PRIORITY;
    let by_filter = bench
        .loopback()
        .and_then(|_| bench.kernel.attach(hook, Place::Filter { name, priority }));
    if by_filter.is_ok() {
        bench.by.push("clsact");
    }
    match (by_link, by_filter) {
        (Err(link), Err(filter)) => Err(format!("by tcx: {link}; by clsact: {filter}")),
        // A session tries a filter only where the kernel does not know tcx.
        (Err(link), Ok(())) if !link.is_no_tcx() => Err(link.to_string()),
        _ => Ok(()),
    }
}

/// Attaches a classifier as a filter of clsact, which no descriptor owns.
fn attach_filter(
    cx: &mut Context<'_>,
    hook: Hook,
    netns: Option<&Netns>,
    (name, index): (&str, u32),
    priority: u16,
) -> Result<()> {
    let made_clsact = !inside(netns, || clsact::is_there(index))
        .and_then(|there| there)
        .map_err(MechanismError::io("asking for the clsact qdisc"))?;
    for &(_, place) in hook.programs() {
        cx.journal.journal(Cleanup::TcFilter {
            netns: netns.map(Netns::path),
            ifindex: index,
            interface: name.to_owned(),
            side: clsact::Side::of_place(place),
            priority,
            made_clsact,
        })?;
    }
    let kernel = cx.kernel()?;
    inside(netns, || {
        clsact::ensure(index).map_err(KernelError::io(format!("adding clsact to {name}")))?;
        kernel.attach(hook, Place::Filter { name, priority })
    })
    .map_err(MechanismError::io("entering a network namespace"))??;
    Ok(())
}
