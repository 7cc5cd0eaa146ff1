//! Connections that targets have when a fault is armed which resets all of them, and not just those that are spoken on.
//!
//! They are the fault's first matches: nothing counts in its slot before it is armed, so that numbers, `p` and `times` go on
//! from there in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chaos_common::counters::Counters;
use chaos_common::decide::{Verdict, decide};
use chaos_common::event::{Event, kind, verdict};
use chaos_common::ops;
use chaos_common::rule::RuleState;

use super::{
    Asked, Context, Declaration, Here, MatrixRow, Mechanism, Offer, Offered, Result, Unavailable,
};
use murphy_fault::plan::{Hook, Interface, Names, Planned, interface};
use murphy_fault::{Effect, Fault, Proto, Wire};
use murphy_kernel::connections::{Connection, Connections, check};
use murphy_kernel::listen::Listen;
use murphy_sys::clock::boot_ns;
use murphy_sys::process::{Identity, ProcFolder};
use murphy_sys::stat;

/// A connection, and who has it.
struct Owned {
    connection: Connection,
    /// One of the processes that have it.
    pid: u32,
    /// The classes they are in.
    classes: u64,
}

/// What came of the connections for one rule.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    counters: Counters,
    state: RuleState,
}

/// Whether a fault is about connections that exist.
fn are_meant(fault: &Fault) -> bool {
    fault.effect == Effect::Wire(Wire::ResetAll)
}

const NEEDS: &[Interface] = &[interface("SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY)", "4.5")];

static DECLARATION: Declaration = Declaration {
    needs: NEEDS,
    rows: &[MatrixRow {
        needs: NEEDS,
        ..MatrixRow::of("`egress:reset=all`", &[Hook::Reset])
    }],
    ..Declaration::new("connections", "faults/egress.md", "reset")
};

/// The mechanism.
#[derive(Default)]
pub(super) struct ExistingConnections {
    /// Asks the kernel for connections, and resets them.
    kernel: Option<Connections>,
}

impl Mechanism for ExistingConnections {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn probe(&self, _: &Here, _: &BTreeSet<Hook>) -> std::result::Result<(), Unavailable> {
        check().map_err(|error| Unavailable::new(error.to_string()))
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        match asked {
            Asked::Fault(fault) if are_meant(fault) => Offer::for_both(Offered::Part),
            Asked::Fault(_) | Asked::Registry(_) | Asked::Own(_) => None,
        }
    }

    /// Finds out whether this kernel can reset connections, before anything is made.
    fn prepare(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.plan.rules.iter().any(|rule| are_meant(&rule.fault)) {
            self.kernel = Some(Connections::new()?);
        }
        Ok(())
    }

    /// Resets what exists, as long as nothing else counts.
    fn arm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(mut by) = self.kernel.take() else {
            return Ok(());
        };
        let begun = reset(&mut by, cx)?;
        for (slot, begun) in begun {
            cx.kernel()?.begin_with(slot, begun.counters, begun.state)?;
        }
        Ok(())
    }

    fn is_fixed(&self, rule: &Planned) -> bool {
        are_meant(&rule.fault)
    }
}

/// Resets the connections that targets have, as the rules of the plan say. Returns what was counted
/// for each rule that matched, by its slot.
fn reset(kernel: &mut Connections, cx: &mut Context<'_>) -> Result<BTreeMap<u32, Begun>> {
    let mut begun = BTreeMap::new();
    let plan = cx.plan;
    let rules = || plan.rules.iter().filter(|rule| are_meant(&rule.fault));
    for owned in all(kernel, (cx.members)().into_iter())? {
        for rule in rules() {
            let connection = &owned.connection;
            if owned.classes >> rule.class & 1 == 0
                || !accepts(&rule.fault, connection, &plan.names)
            {
                continue;
            }
            let Begun { counters, state } = begun.entry(rule.wire.slot).or_default();
            let became = ask(rule, counters, state, || kernel.end(connection).is_ok());
            let heard = match cx.listen {
                Listen::Nothing => false,
                Listen::Injections => became == verdict::INJECTED,
                Listen::Matches => true,
            };
            if heard {
                cx.events.push(event(rule, &owned, became, state.matches));
            }
            if became == verdict::INJECTED {
                break;
            }
        }
    }
    Ok(begun)
}

/// The connections of processes, each once: processes that fork share theirs.
fn all(
    kernel: &mut Connections,
    members: impl Iterator<Item = (Identity, u64)>,
) -> Result<Vec<Owned>> {
    let mut found: Vec<Owned> = Vec::new();
    let mut known = BTreeMap::new();
    for (member, classes) in members {
        // One that ended meanwhile has none.
        let Ok(process) = member.process() else {
            continue;
        };
        let pid = member.id;
        let connections = match kernel.of(&process) {
            Ok(connections) => connections,
            Err(_) if !stat::still_runs(member) => continue,
            Err(error) => return Err(error.into()),
        };
        for connection in connections {
            let at = *known.entry(connection.cookie).or_insert(found.len());
            match found.get_mut(at) {
                Some(owned) => owned.classes |= classes,
                None => found.push(Owned {
                    connection,
                    pid,
                    classes,
                }),
            }
        }
    }
    Ok(found)
}

/// Whether a fault's filters let a connection through.
fn accepts(fault: &Fault, connection: &Connection, names: &Names) -> bool {
    let filter = &fault.filter;
    let Connection { local, remote, .. } = connection;
    let any_port = |ports: &[std::ops::RangeInclusive<u16>], port: u16| {
        ports.is_empty() || ports.iter().any(|range| range.contains(&port))
    };
    let is_there =
        filter.dst.is_empty() || (filter.dst.iter()).any(|value| names.mean(value, remote.ip()));
    let is_here = filter.src.is_empty() || filter.src.iter().any(|net| net.contains(local.ip()));
    any_port(&filter.port, remote.port())
        && any_port(&filter.sport, local.port())
        && is_there
        && is_here
        && (filter.proto.is_empty() || filter.proto.contains(&Proto::TCP))
}

/// Decides about one connection, does what was decided, and counts it: one of [`verdict`].
fn ask(
    rule: &Planned,
    counters: &mut Counters,
    state: &mut RuleState,
    end: impl FnOnce() -> bool,
) -> u32 {
    state.matches += 1;
    let (decided, next) = decide(&rule.wire, state.state, state.matches, 0);
    state.state = next;
    // It was over before, or its namespace lets nobody in.
    let (counter, became) = match decided == Verdict::Inject && !end() {
        true => (&mut counters.failed, verdict::FAILED),
        false => counters.of(decided),
    };
    *counter += 1;
    became
}

fn event(rule: &Planned, owned: &Owned, became: u32, n: u64) -> Event {
    let remote = owned.connection.remote;
    let (kind, detail) = match remote.ip() {
        IpAddr::V4(address) => {
            let mut first = [0; 8];
            first[..4].copy_from_slice(&address.octets());
            (kind::REMOTE4, [u64::from_ne_bytes(first), 0])
        }
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let word = |at: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[at..at + 8]);
                u64::from_ne_bytes(word)
            };
            (kind::REMOTE6, [word(0), word(8)])
        }
    };
    let name = ProcFolder::open(owned.pid).and_then(|folder| folder.read("comm"));
    let name = name.unwrap_or_default();
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(name.trim_ascii_end()) {
        *to = *from;
    }
    Event {
        time_ns: boot_ns(),
        // The moment of arming: what was decided with.
        elapsed_ns: 0,
        n,
        detail,
        pid: owned.pid,
        tid: owned.pid,
        rule: rule.wire.slot,
        operation: ops::EGRESS_RESET,
        verdict: became,
        kind,
        port: u32::from(remote.port()),
        pad: 0,
        comm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use murphy_fault::plan::{Options, Plan, Target};

    fn rule(text: &str) -> Planned {
        let faults = vec![text.parse().unwrap()];
        let plan = Plan::new(faults, Target::Command, &Options::default()).unwrap();
        plan.rules[0].clone()
    }

    #[test]
    fn filters_are_those_of_packets() {
        let mut names = Names::default();
        let db = murphy_fault::HostName::new("db").unwrap();
        names.set(db, ["10.0.0.2".parse().unwrap()]);
        for (filter, accepted) in [
            ("", true),
            (":port=5432", true),
            (":port=5000-5431,5433", false),
            (":sport=40000:proto=tcp", true),
            (":sport=5432", false),
            (":dst=10.0.0.0/8:src=10.0.0.1", true),
            (":dst=10.0.0.1", false),
            (":src=10.0.0.2", false),
            (":dst=db", true),
            (":proto=udp", false),
        ] {
            let connection = Connection {
                cookie: 1,
                local: "10.0.0.1:40000".parse().unwrap(),
                remote: "10.0.0.2:5432".parse().unwrap(),
                interface: 7,
                namespace: 0,
            };
            let rule = rule(&format!("egress:reset=all{filter}"));
            assert_eq!(
                accepts(&rule.fault, &connection, &names),
                accepted,
                "{filter}"
            );
        }
    }

    #[test]
    fn triggers_decide_and_what_cannot_be_ended_has_failed() {
        let rule = rule("egress:reset=all:times=2:when=2+");
        let Begun {
            mut counters,
            mut state,
        } = Begun::default();
        let mut ask = |ends: bool| ask(&rule, &mut counters, &mut state, || ends);
        let all = [ask(true), ask(false), ask(true), ask(true)];
        assert_eq!(
            all,
            [
                verdict::WHEN,
                verdict::FAILED,
                verdict::INJECTED,
                verdict::TIMES
            ]
        );
        assert_eq!((state.matches, state.state), (4, 2));
        let counted = (counters.when, counters.failed, counters.injected);
        assert_eq!((counted, counters.times), ((1, 1, 1), 1));
    }
}
