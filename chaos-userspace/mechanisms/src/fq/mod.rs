//! Holds packets back by fq where the kernel has no netem, if they are to be late and nothing else:
//! a program stamps on each when it may depart, and fq lets go of none before.
//!
//! Relies on `sch_fq` and `bpf_skb_set_tstamp` (Linux 5.18) beside what
//! [`redirect`](super::redirect) does. If everything of murphy dies, ifbs and filters stay: they are
//! journalled.

use std::collections::BTreeSet;

use super::redirect::{LEAVES, Redirects, Wanted, try_filters, wanted};
use super::{
    Asked, Bench, Context, Declaration, MatrixRow, Mechanism, MechanismError, Offer, Offered,
    Result, Site,
};
use murphy_fault::plan::{ATOMICS, Hook};
use murphy_fault::{Effect, Fault, Nanos, Netem};
use murphy_kernel::KernelError;
use murphy_kernel::clsact::Side;
use murphy_kernel::netem::{self, EDT, Queue};
use murphy_sys::netns::{self, Netns};

/// What is said where netem is missing and nothing more than delays are asked for.
const NO_NETEM: &str = "this kernel has no netem (CONFIG_NET_SCH_NETEM): packets are held by fq, on an ifb of murphy's";

static DECLARATION: Declaration = Declaration {
    owns: |hook| matches!(hook, Hook::Edt),
    lacks: "this kernel has no fq",
    leaves: LEAVES,
    rows: &[MatrixRow {
        needs: &[ATOMICS],
        ..MatrixRow::of("a plain `delay` without netem, by fq", &[Hook::Edt])
    }],
    ..Declaration::new("fq", "faults/netem.md", "netem")
};

/// The mechanism.
#[derive(Default)]
pub(super) struct Fq {
    redirects: Redirects,
    /// Whether the program is loaded that says when packets may depart.
    is_loaded: bool,
}

impl Mechanism for Fq {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        match asked {
            Asked::Fault(fault) if is_only_late(fault) => {
                let hooks = vec![Hook::Edt, Hook::Socket, Hook::Connect];
                Offer::for_both(Offered::Programs(vec![hooks]))
            }
            Asked::Fault(_) | Asked::Registry(_) | Asked::Own(_) => None,
        }
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        bench.network.clone()?;
        // No rule's: nothing is sent there.
        let rule = 2;
        let late = Netem {
            delay: Some(Nanos(1_000_000)),
            ..Netem::default()
        };
        let queue = Queue::Fq {
            limit: late.limit(),
        };
        let mut attach = || {
            let to = netem::make(&format!("probe{rule}"), queue)?;
            netem::stamp(to, bench.kernel.descriptor(hook, EDT)?, rule + 1)?;
            try_filters(bench, hook, (rule, Side::Egress), to)
        };
        attach().map_err(|error: KernelError| error.to_string())
    }

    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        let Site::Network(netns) = *site else {
            return Ok(());
        };
        let plan = cx.plan;
        let is_own = |rule: u32| {
            let rule = plan.rules.get(rule as usize);
            rule.is_some_and(|rule| is_only_late(&rule.fault))
        };
        let taken = cx.declined.extract_if(.., |one| is_own(one.rule));
        let own: BTreeSet<_> = taken.map(|declined| declined.rule).collect();
        let mut all = wanted(cx);
        all.retain(|wanted| own.contains(&wanted.rule));
        let is_loaded = &mut self.is_loaded;
        let mut make = |cx: &mut Context<'_>, netns: Option<&Netns>, name: &str, of: &Wanted| {
            make(cx, is_loaded, netns, name, of)
        };
        self.redirects.cover(cx, netns, &all, &mut make)
    }
}

/// Whether a fault makes packets late and does nothing else to them.
fn is_only_late(fault: &Fault) -> bool {
    matches!(&fault.effect, Effect::Netem(netem) if netem.only_delay().is_some())
}

/// Makes an ifb with an fq qdisc, whose packets are stamped.
fn make(
    cx: &mut Context<'_>,
    is_loaded: &mut bool,
    netns: Option<&Netns>,
    name: &str,
    wanted: &Wanted,
) -> Result<u32> {
    cx.notices.warn(NO_NETEM.to_owned());
    let kernel = cx.kernel()?;
    if !std::mem::replace(is_loaded, true) {
        kernel.load_programs(Hook::Edt)?;
    }
    let program = kernel.descriptor(Hook::Edt, EDT)?;
    let queue = Queue::Fq {
        limit: wanted.netem.limit(),
    };
    let made = netns::inside(netns, || {
        let index = netem::make(name, queue)?;
        netem::stamp(index, program, wanted.slot + 1)?;
        Ok::<_, KernelError>(index)
    })
    .map_err(MechanismError::io("entering a network namespace"))??;
    Ok(made)
}
