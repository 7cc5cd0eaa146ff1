//! Holds packets back by netem, on an ifb for each fault and direction.
//!
//! Relies on `sch_netem` beside what [`redirect`](super::redirect) does. If everything of murphy
//! dies, ifbs and filters stay: they are journalled.

use chaos_common::{control, mark};

use super::redirect::{LEAVES, Redirects, Wanted, random, try_filters, wanted};
use super::{
    Bench, Command, Context, Declaration, Declined, Exercise, FaultRow, MatrixRow, Mechanism,
    MechanismError, Result, Site,
};
use murphy_fault::plan::{Backend, Hook, Planned};
use murphy_fault::{self as faults, Effect, Nanos, Op};
use murphy_kernel::clsact::Side;
use murphy_kernel::netem::{self, Queue};
use murphy_kernel::{KernelError, Missing};
use murphy_sys::netns::{self, Netns};

static DECLARATION: Declaration = Declaration {
    owns: |hook| matches!(hook, Hook::EgressNetem | Hook::IngressNetem),
    lacks: "this kernel has no netem",
    leaves: LEAVES,
    faults: &[FaultRow {
        name: "netem",
        ops: &[Op::Egress, Op::Ingress],
        hooks: &[
            &[Hook::EgressNetem, Hook::Socket, Hook::Connect],
            &[Hook::IngressNetem, Hook::Socket, Hook::Connect],
        ],
    }],
    rows: &[MatrixRow::of(
        "netem (`delay rate …`)",
        &[Hook::EgressNetem, Hook::IngressNetem],
    )],
    exercises: &[Exercise {
        faults: &["net:delay=1ms:port=1:sport=1:dst=[2001:db8::]/32:src=[2001:db8::]/32:proto=17"],
        backend: Backend::Bpf,
        observe: false,
        command: Command::Run,
    }],
    ..Declaration::new("netem", "faults/netem.md", "netem")
};

/// The mechanism.
#[derive(Default)]
pub(super) struct Netem {
    redirects: Redirects,
    /// This kernel has no netem.
    is_missing: bool,
}

impl Mechanism for Netem {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        bench.network.clone()?;
        let at = match hook == Hook::IngressNetem {
            true => (1, Side::Ingress),
            false => (0, Side::Egress),
        };
        let netem = faults::Netem {
            delay: Some(Nanos(1_000_000)),
            ..faults::Netem::default()
        };
        let queue = Queue::Netem {
            netem: &netem,
            table: None,
            seed: 0,
        };
        netem::make(&format!("probe{}", at.0), queue)
            .and_then(|to| try_filters(bench, hook, at, to))
            .map_err(|error| error.to_string())
    }

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
    fn cover(&mut self, cx: &mut Context<'_>, netns: Option<&Netns>) -> Result<()> {
        let all = wanted(cx);
        if !self.is_missing {
            match self.redirects.cover(cx, netns, &all, &mut make) {
                Err(MechanismError::Kernel(KernelError::NoNetem(Missing::Netem))) => {
                    self.is_missing = true;
                }
                covered => return covered,
            }
        }
        cx.declined.extend(all.iter().map(|wanted| Declined {
            rule: wanted.rule,
            error: KernelError::NoNetem(Missing::Netem).into(),
        }));
        Ok(())
    }
}

/// Makes an ifb with a netem qdisc. None is left where the kernel has no netem.
fn make(cx: &mut Context<'_>, netns: Option<&Netns>, name: &str, wanted: &Wanted) -> Result<u32> {
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

/// What this session's packets are marked with: see [`mark`]. Never 0.
fn tag() -> Result<u64> {
    Ok(u64::from(random()? % 0xfff + 1) << mark::BITS.count_ones())
}
