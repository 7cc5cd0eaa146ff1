//! Holding what is asked against the rules.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Label, Policy, Refusal};
use crate::engine::{Process, Survey};
use crate::faults::{Fault, Key, Op};
use crate::plan::{Plan, Planned, Selector, Target};
use crate::state::RUN_DIR;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The faults and their target.
    pub plan: &'a Plan,
    /// Of `run`: what is run.
    pub command: Option<Command<'a>>,
    /// Who is hit now, and among how many.
    pub survey: &'a Survey,
    /// Why.
    pub reason: Option<&'a str>,
}

/// What `run` runs.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The file that is executed.
    pub program: &'a Path,
    /// The user it runs as.
    pub uid: u32,
}

impl Command<'_> {
    /// As the process it will be.
    fn process(&self) -> Process {
        let name = self.program.file_name().unwrap_or_default();
        Process {
            comm: name.to_string_lossy().chars().take(15).collect(),
            exe: Some(self.program.to_owned()),
            uid: Some(self.uid),
            ..Process::default()
        }
    }
}

/// Paths that no fault may be put on: without them there is no machine to come back to.
const NEVER: [&str; 2] = ["/boot", RUN_DIR];

impl Policy {
    /// Everything that this file refuses.
    pub(super) fn refusals(&self, asked: &Asked<'_>, labels: &[Label]) -> Vec<Refusal> {
        let mut refusals = self.environment(labels);
        self.limits(asked, &mut refusals);
        self.targets(asked, &mut refusals);
        for planned in &asked.plan.rules {
            self.fault(&planned.fault, &mut refusals);
            self.network(&planned.fault, asked, &mut refusals);
            self.paths(&planned.fault, &mut refusals);
        }
        refusals
    }

    fn limits(&self, asked: &Asked<'_>, refusals: &mut Vec<Refusal>) {
        let limits = &self.rules.limits;
        if let Some(most) = &limits.max_duration {
            let longest = |rule: &&Planned| rule.wire.until_ns;
            if let Some(rule) = asked.plan.rules.iter().max_by_key(longest)
                && Duration::from_nanos(rule.wire.until_ns) > most.get_ref().0
            {
                let length = match rule.wire.until_ns {
                    u64::MAX => "without an end".to_owned(),
                    nanos => format!("for {:?}", Duration::from_nanos(nanos)),
                };
                refusals.push(Refusal {
                    rule: self.said(most),
                    asked: format!("{} is asked {length}", rule.fault),
                    remedy: format!("--for {:?} or less", most.get_ref().0),
                });
            }
        }
        if let Some(most) = &limits.max_faults
            && asked.plan.rules.len() > *most.get_ref()
        {
            refusals.push(Refusal {
                rule: self.said(most),
                asked: format!("{} faults are asked", asked.plan.rules.len()),
                remedy: format!("{} or fewer", most.get_ref()),
            });
        }
        let (hit, all) = (asked.survey.hit.len(), asked.survey.all);
        if let Some(most) = &limits.max_processes
            && hit > *most.get_ref()
        {
            refusals.push(Refusal {
                rule: self.said(most),
                asked: format!("{hit} processes would be hit"),
                remedy: "name fewer targets, or spare some with !".to_owned(),
            });
        }
        let share = asked.survey.share();
        if let Some(most) = &limits.max_share
            && share > most.get_ref().0
        {
            refusals.push(Refusal {
                rule: self.said(most),
                asked: format!("{hit} of {all} processes would be hit, {share:.1} %"),
                remedy: "name fewer targets, or spare some with !".to_owned(),
            });
        }
        if let Some(wanted) = &limits.require_reason
            && *wanted.get_ref()
            && asked.reason.is_none_or(|reason| reason.trim().is_empty())
        {
            refusals.push(Refusal {
                rule: self.said(wanted),
                asked: "no reason is given".to_owned(),
                remedy: "say it: --reason TEXT".to_owned(),
            });
        }
    }

    fn targets(&self, asked: &Asked<'_>, refusals: &mut Vec<Refusal>) {
        let rules = &self.rules.targets;
        let command = asked.command.map(|command| command.process());
        let processes: Vec<&Process> = asked.survey.hit.iter().chain(&command).collect();
        let running = asked.plan.running().iter();
        let selectors: Vec<&Selector> = running
            .filter_map(|class| match class {
                Target::Running(who) => Some(&who.hit),
                Target::Command => None,
            })
            .flatten()
            .collect();
        for forbidden in &rules.forbid {
            let pattern = forbidden.get_ref();
            let named = selectors
                .iter()
                .find(|selector| pattern.covers(selector))
                .map(ToString::to_string);
            let hit = processes
                .iter()
                .find(|process| pattern.has(process))
                .map(|process| Process::to_string(process));
            if let Some(who) = named.or(hit) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{who} would be hit"),
                    remedy: "spare it with !, or name other targets".to_owned(),
                });
            }
        }
        let Some(allowed) = &rules.allow else { return };
        let patterns = allowed.get_ref();
        // Who comes to be named later has to be allowed too, and nobody can look at that now.
        let stranger = selectors
            .iter()
            .find(|selector| {
                selector.is_standing() && !patterns.iter().any(|pattern| pattern.covers(selector))
            })
            .map(ToString::to_string);
        let process = processes
            .iter()
            .find(|process| !patterns.iter().any(|pattern| pattern.has(process)))
            .map(|process| Process::to_string(process));
        if let Some(who) = stranger.or(process) {
            let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            refusals.push(Refusal {
                rule: self.said(allowed),
                asked: format!("{who} would be hit"),
                remedy: format!("allowed are {}", names.join(", ")),
            });
        }
    }

    fn fault(&self, fault: &Fault, refusals: &mut Vec<Refusal>) {
        let rules = &self.rules.faults;
        for forbidden in &rules.forbid {
            if of(fault).iter().any(|one| one.is(forbidden.get_ref())) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} is asked"),
                    remedy: "ask for another fault".to_owned(),
                });
            }
        }
        if let Some(allowed) = &rules.allow
            && !of(fault)
                .iter()
                .all(|one| allowed.get_ref().iter().any(|pattern| one.is(pattern)))
        {
            refusals.push(Refusal {
                rule: self.said(allowed),
                asked: format!("{fault} is asked"),
                remedy: format!("allowed are {}", allowed.get_ref().join(", ")),
            });
        }
    }

    fn network(&self, fault: &Fault, asked: &Asked<'_>, refusals: &mut Vec<Refusal>) {
        if !fault.ops.iter().any(|op| is_network(*op)) {
            return;
        }
        let rules = &self.rules.network;
        // Without a filter, or with one on the other end only, every port is meant.
        let ports: &[RangeInclusive<u16>] = match &fault.filter.port[..] {
            [] => &[0..=u16::MAX],
            ports => ports,
        };
        for forbidden in &rules.forbid_ports {
            let no = &forbidden.get_ref().0;
            let meets = |ports: &RangeInclusive<u16>| {
                ports.start() <= no.end() && no.start() <= ports.end()
            };
            if ports.iter().any(meets) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} may hit port {}", no.start()),
                    remedy: "name other ports: port=".to_owned(),
                });
            }
        }
        if let Some(allowed) = &rules.allow_ports {
            let inside = |port: u16| allowed.get_ref().iter().any(|yes| yes.0.contains(&port));
            if let Some(port) = ports.iter().cloned().flatten().find(|port| !inside(*port)) {
                refusals.push(Refusal {
                    rule: self.said(allowed),
                    asked: format!("{fault} may hit port {port}"),
                    remedy: "name the ports that are allowed: port=".to_owned(),
                });
            }
        }
        if fault.ops.iter().all(|op| op.is_syscall()) {
            return;
        }
        for forbidden in &rules.forbid_interfaces {
            let named: BTreeSet<&String> = asked.survey.interfaces.iter().collect();
            let meant = &fault.filter.interface;
            let is = |name: &&&String| {
                glob::Pattern::new(forbidden.get_ref()).is_ok_and(|glob| glob.matches(name))
                    && (meant.is_empty() || meant.iter().any(|glob| glob.matches(name)))
            };
            if let Some(interface) = named.iter().find(is) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} would be attached to {interface}"),
                    remedy:
                        "packets are hit on every interface that is up, unless interface= names some: name \
                             others, or ask for a fault on a call, such as connect"
                            .to_owned(),
                });
            }
        }
    }

    fn paths(&self, fault: &Fault, refusals: &mut Vec<Refusal>) {
        for restricted in &self.rules.paths.restricted {
            if let Some(pattern) = on_path(fault, restricted.get_ref()) {
                refusals.push(Refusal {
                    rule: self.said(restricted),
                    asked: format!("{fault} may hit {pattern}"),
                    remedy: "name other paths: path=".to_owned(),
                });
            }
        }
    }
}

/// Paths that murphy itself leaves alone, whatever the policies say.
pub(super) fn own_paths(asked: &Asked<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for planned in &asked.plan.rules {
        let paths = NEVER.map(PathBuf::from);
        let named = |path: &PathBuf| on_path(&planned.fault, path);
        if let Some(pattern) = paths.iter().find_map(named) {
            refusals.push(Refusal {
                rule: format!("murphy puts no fault on /, {}", NEVER.join(", ")),
                asked: format!("{} may hit {pattern}", planned.fault),
                remedy: "name a path below which your program works: path=/srv/app/**".to_owned(),
            });
        }
    }
    refusals
}

/// The path filter of a fault that names something at or below a path, or everything there is.
fn on_path(fault: &Fault, path: &Path) -> Option<String> {
    let text = path.to_str()?;
    fault
        .files()
        .iter()
        .find(|glob| {
            let literal = glob.as_str().split(['*', '?', '[']).next().unwrap_or("");
            glob.as_str() == "/"
                || Path::new(literal).starts_with(path)
                // `/**`, `/b*`: it reaches what is restricted.
                || literal != glob.as_str() && text.starts_with(literal)
        })
        .map(|glob| glob.as_str().to_owned())
}

fn is_network(op: Op) -> bool {
    !op.is_syscall()
        || matches!(
            op.name(),
            "connect"
                | "bind"
                | "sendto"
                | "sendmsg"
                | "sendmmsg"
                | "recvfrom"
                | "recvmsg"
                | "recvmmsg"
                | "accept"
                | "accept4"
                | "listen"
                | "socket"
        )
}

/// One thing that a fault does.
struct One {
    op: &'static str,
    effect: &'static str,
}

impl One {
    /// Whether `OPERATION`, or `OPERATION:EFFECT`, means it; both may be globs.
    fn is(&self, pattern: &str) -> bool {
        let (op, effect) = pattern.split_once(':').unwrap_or((pattern, "*"));
        let matches = |pattern: &str, word: &str| {
            glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(word))
        };
        matches(op, self.op) && matches(effect, self.effect)
    }
}

fn of(fault: &Fault) -> Vec<One> {
    let each = |op: &Op| {
        let op = op.name();
        fault.effect.keys().into_iter().map(move |key| One {
            op,
            effect: Key::Effect(key).name(),
        })
    };
    fault.ops.iter().flat_map(each).collect()
}
