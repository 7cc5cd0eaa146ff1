//! Holding what is asked against the rules.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::overlap::overlap;
use super::place::{self, Tree};
use super::{Label, Pattern, Policy, Refusal};
use crate::{Process, Survey};
use murphy_fault::plan::{Plan, Selector, Target, Who};
use murphy_fault::{EffectKey, Fault, Op};
use murphy_state::RUN_DIR;

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
    /// As the process it will be: its name is that of the path it is executed by, its file is where that path leads.
    fn process(&self) -> Process {
        let name = self.program.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        Process {
            comm: name[..name.floor_char_boundary(15)].to_owned(),
            exe: Some(place::resolve(self.program).path),
            exe_id: place::id(self.program),
            uid: Some(self.uid),
            ..Process::default()
        }
    }

    /// The same process once the kernel has replaced a script by its interpreter.
    fn interpreter(&self) -> Option<Process> {
        let mut program = interpreter(self.program)?;
        // An interpreter may be a script itself; the kernel follows five (bprm_execve).
        for _ in 0..5 {
            match interpreter(&program) {
                Some(next) => program = next,
                None => break,
            }
        }
        Some(Process {
            exe: Some(place::resolve(&program).path),
            exe_id: place::id(&program),
            ..self.process()
        })
    }
}

/// The program that the kernel executes for a script: what its first line names (execve(2)).
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    // The kernel reads no more of it (BINPRM_BUF_SIZE).
    let file = fs::File::open(script).ok()?;
    file.take(256).read_to_end(&mut line).ok()?;
    let rest = line.strip_prefix(b"#!")?;
    let mut words = rest.split(u8::is_ascii_whitespace);
    let name = words.find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(name).into())
}

/// Paths that no fault may be put on: without them there is no machine to come back to.
const NEVER: [&str; 2] = ["/boot", RUN_DIR];

impl Policy {
    /// Everything that this file refuses.
    pub(super) fn refusals(&self, asked: &Asked<'_>, labels: &[Label]) -> Vec<Refusal> {
        let mut refusals = self.environment(labels);
        self.limits(asked, &mut refusals);
        self.targets(asked, &mut refusals);
        for fault in asked.plan.faults() {
            self.fault(fault, &mut refusals);
            self.ports(fault, &mut refusals);
            self.interfaces(fault, &mut refusals);
            self.paths(fault, &mut refusals);
        }
        refusals
    }

    fn limits(&self, asked: &Asked<'_>, refusals: &mut Vec<Refusal>) {
        let limits = &self.rules.limits;
        if let Some(most) = &limits.max_duration {
            let rules = asked.plan.rules.iter();
            let rules = rules.map(|rule| (&rule.fault, rule.wire.until_ns));
            let conditions = asked.plan.conditions.iter();
            let conditions = conditions.map(|one| (&one.fault, one.until_ns.unwrap_or(u64::MAX)));
            if let Some((fault, until_ns)) = rules.chain(conditions).max_by_key(|(_, until)| *until)
                && Duration::from_nanos(until_ns) > most.get_ref().0
            {
                let length = match until_ns {
                    u64::MAX => "without an end".to_owned(),
                    nanos => format!("for {:?}", Duration::from_nanos(nanos)),
                };
                refusals.push(Refusal {
                    rule: self.said(most),
                    asked: format!("{fault} is asked {length}"),
                    remedy: format!("--for {:?} or less", most.get_ref().0),
                });
            }
        }
        if let Some(most) = &limits.max_faults
            && asked.plan.faults().count() > *most.get_ref()
        {
            refusals.push(Refusal {
                rule: self.said(most),
                asked: format!("{} faults are asked", asked.plan.faults().count()),
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
                remedy: "say it: --reason TEXT, or `reason` in a request to the daemon".to_owned(),
            });
        }
    }

    fn targets(&self, asked: &Asked<'_>, refusals: &mut Vec<Refusal>) {
        let rules = &self.rules.targets;
        let command = asked.command.map(|command| command.process());
        let interpreter = asked.command.and_then(|command| command.interpreter());
        let asked_command = asked.command.is_some();
        let processes: Vec<&Process> = asked.survey.hit.iter().chain(&command).collect();
        for forbidden in &rules.forbid {
            let pattern = forbidden.get_ref();
            let hit = processes
                .iter()
                .copied()
                .chain(&interpreter)
                .find(|process| pattern.has(process))
                .map(|process| format!("{process} would be hit"));
            if let Some(asked) = hit.or_else(|| reached(asked.plan, pattern)) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked,
                    remedy: match pattern.exclusion() {
                        _ if asked_command => "run another program, or run it as another user \
                                               by -u USER"
                            .to_owned(),
                        Some(exclusion) => format!("spare it: {exclusion}, or name other targets"),
                        None => "name processes by --pid, or by what the policy forbids of them"
                            .to_owned(),
                    },
                });
            }
        }
        let Some(allowed) = &rules.allow else { return };
        let patterns = allowed.get_ref();
        // Processes that come to be named later have to be allowed too.
        let stranger = followed(asked.plan.running())
            .map(|(_, selector)| selector)
            .find(|selector| !patterns.iter().any(|pattern| pattern.covers(selector)))
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
            if of(fault).any(|(op, effect)| forbidden.get_ref().has(op, effect)) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} is asked"),
                    remedy: "ask for another fault".to_owned(),
                });
            }
        }
        let Some(allowed) = &rules.allow else { return };
        let is_allowed = |(op, effect)| allowed.get_ref().iter().any(|one| one.has(op, effect));
        if !of(fault).all(is_allowed) {
            let names: Vec<&str> = allowed
                .get_ref()
                .iter()
                .map(|one| one.said.as_str())
                .collect();
            refusals.push(Refusal {
                rule: self.said(allowed),
                asked: format!("{fault} is asked"),
                remedy: format!("allowed are {}", names.join(", ")),
            });
        }
    }

    fn ports(&self, fault: &Fault, refusals: &mut Vec<Refusal>) {
        if !fault.may_use_sockets() {
            return;
        }
        let rules = &self.rules.network;
        // Without a filter every port is meant.
        let named = fault.remote_ports();
        let ports: &[RangeInclusive<u16>] = match &named[..] {
            [] => &[0..=u16::MAX],
            ports => ports,
        };
        let takes_ports = !fault.filter.port.is_empty()
            || fault.ops.iter().all(|op| {
                use murphy_fault::{FilterKey, Key};
                Key::Filter(FilterKey::Port).fits(*op)
            });
        let remedy = |ports: &str| {
            match takes_ports {
            true => format!("name {ports}: port="),
            false => "exclude sockets with on=file or path=/…, or ask for a fault on connect or on packets, with port=".to_owned(),
        }
        };
        for forbidden in &rules.forbid_ports {
            let no = &forbidden.get_ref().0;
            let meets = |ports: &&RangeInclusive<u16>| {
                ports.start() <= no.end() && no.start() <= ports.end()
            };
            if let Some(ports) = ports.iter().find(meets) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} may hit port {}", no.start().max(ports.start())),
                    remedy: remedy("other ports"),
                });
            }
        }
        if let Some(allowed) = &rules.allow_ports {
            let inside = |port: u16| allowed.get_ref().iter().any(|yes| yes.0.contains(&port));
            if let Some(port) = ports.iter().cloned().flatten().find(|port| !inside(*port)) {
                refusals.push(Refusal {
                    rule: self.said(allowed),
                    asked: format!("{fault} may hit port {port}"),
                    remedy: remedy("the ports that are allowed"),
                });
            }
        }
    }

    fn interfaces(&self, fault: &Fault, refusals: &mut Vec<Refusal>) {
        if fault.ops.iter().all(|op| op.is_syscall()) {
            return;
        }
        for forbidden in &self.rules.network.forbid_interfaces {
            let no = forbidden.get_ref().0.as_str();
            let meant = &fault.filter.interface;
            // Also one that comes up later.
            if meant.is_empty() || meant.iter().any(|name| overlap(name.as_str(), no)) {
                refusals.push(Refusal {
                    rule: self.said(forbidden),
                    asked: format!("{fault} may hit packets at {no}"),
                    remedy: "packets are hit at every interface unless interface= names some: name others, or ask for a \
                             fault on a call, such as connect"
                        .to_owned(),
                });
            }
        }
    }

    fn paths(&self, fault: &Fault, refusals: &mut Vec<Refusal>) {
        if !fault.may_use_files() {
            return;
        }
        for restricted in &self.rules.paths.restricted {
            let place = &restricted.get_ref().0;
            let pattern = match fault.files() {
                [] => Some("every path".to_owned()),
                files => {
                    let tree = Tree::new(place);
                    let reaches = files.iter().find(|glob| tree.is_reached_by(glob));
                    reaches.map(|glob| glob.as_str().to_owned())
                }
            };
            if let Some(pattern) = pattern {
                refusals.push(Refusal {
                    rule: self.said(restricted),
                    asked: match pattern.as_str() {
                        "every path" => format!("{fault} may hit every path"),
                        pattern => {
                            format!("{fault} may hit {}: {pattern} leads there", place.display())
                        }
                    },
                    remedy: "name the paths that your program works on: path=/srv/app/**"
                        .to_owned(),
                });
            }
        }
    }
}

/// What of a plan names processes of a pattern, or may come to hit some that no exclusion spares.
fn reached(plan: &Plan, pattern: &Pattern) -> Option<String> {
    let named = plan.classes.iter().filter_map(|class| match class {
        Target::Running(who) => who.hit.iter().find(|one| pattern.covers(one)),
        Target::Command => None,
    });
    if let Some(selector) = named.into_iter().next() {
        return Some(format!("{selector} would be hit"));
    }
    let (_, selector) = followed(plan.running())
        .find(|(who, selector)| pattern.may_meet(selector) && !pattern.is_spared(who))?;
    Some(format!(
        "{selector} would be hit, and {pattern} may be among them"
    ))
}

/// The selectors that also hit processes which come later. Of a process and a thread that are its descendants; those are not
/// looked at.
fn followed(classes: &[Target]) -> impl Iterator<Item = (&Who, &Selector)> {
    let who = classes.iter().filter_map(|class| match class {
        Target::Running(who) => Some(who),
        Target::Command => None,
    });
    who.flat_map(|who| who.hit.iter().map(move |selector| (who, selector)))
        .filter(|(_, selector)| !matches!(selector, Selector::Pid(_) | Selector::Tid(_)))
}

/// Paths that murphy itself leaves alone, whatever the policies say.
pub(super) fn own_paths(asked: &Asked<'_>) -> Vec<Refusal> {
    let faults = asked.plan.faults();
    let faults: Vec<&Fault> = faults.filter(|fault| !fault.files().is_empty()).collect();
    if faults.is_empty() {
        return Vec::new();
    }
    let trees: Vec<Tree> = NEVER
        .iter()
        .map(|path| Tree::new(Path::new(path)))
        .collect();
    let root = PathBuf::from("/");
    let mut refusals = Vec::new();
    for fault in faults {
        let pattern = fault.files().iter().find(|glob| {
            trees.iter().any(|tree| tree.is_reached_by(glob))
                || place::resolve(Path::new(glob.as_str())).path == root
        });
        if let Some(pattern) = pattern {
            refusals.push(Refusal {
                rule: format!("murphy puts no fault on /, {}", NEVER.join(", ")),
                asked: format!("{fault} may hit it: {} leads there", pattern.as_str()),
                remedy: "name a path below which your program works: path=/srv/app/**".to_owned(),
            });
        }
    }
    refusals
}

/// What a fault does, one effect on one operation at a time.
fn of(fault: &Fault) -> impl Iterator<Item = (Op, EffectKey)> {
    let effects = fault.effect.keys();
    let each = move |op: &Op| {
        let op = *op;
        effects.clone().into_iter().map(move |effect| (op, effect))
    };
    fault.ops.iter().flat_map(each)
}
