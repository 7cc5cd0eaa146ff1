//! `murphy doctor`: what this kernel can do.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::args::DoctorArgs;
use super::failure::Failure;
use super::run::faults;
use super::status;
use murphy_engine::probe::{Findings, HookReport, Machine, Service, State, examine};
use murphy_fault::plan::{Backend, Options, Plan, Target};
use murphy_fault::{Aim, Key, Op};
use murphy_kernel::probe::youngest;
use murphy_kernel::symbol;
use murphy_mechanisms::declarations;

/// What was found, for scripts.
#[derive(Debug, Serialize)]
struct Diagnosis<'a> {
    #[serde(flatten)]
    findings: &'a Findings,
    faults: &'a [Service],
}

/// Tries what there is to try; gives 0 if what was asked for can be served.
pub(super) fn doctor(args: &DoctorArgs) -> Result<u8, Failure> {
    let asked = faults(&args.faults)?;
    let all = asked.is_empty();
    let hooks: BTreeSet<_> = if all {
        Service::hooks_of_all()
    } else {
        // What no plan can be made of is told as `run` tells it.
        let mut plain = asked.clone();
        // Whom they hit makes no difference to a machine.
        for fault in &mut plain {
            fault.target = Aim::default();
        }
        Plan::new(plain, Target::Command, &Options::default())?;
        asked.iter().flat_map(Service::hooks).collect()
    };
    let findings = examine(&hooks)?;
    let services: Vec<_> = if all {
        Service::of_all(&findings)
    } else {
        asked
            .iter()
            .map(|fault| Service::of_fault(&findings, fault))
            .collect()
    };
    let text = if args.json {
        let diagnosis = Diagnosis {
            findings: &findings,
            faults: &services,
        };
        serde_json::to_string(&diagnosis).map_err(|error| Failure::Io {
            doing: "writing JSON",
            source: error.into(),
        })? + "\n"
    } else {
        page(&findings, &services, &Marks::for_stdout())
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed standard output has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.map_err(Failure::io("writing the page"))?,
    }
    let mut served = services.iter().map(|service| service.served);
    let good = if all {
        served.any(|served| served)
    } else {
        served.all(|served| served)
    };
    Ok(if good { 0 } else { status::MISSING })
}

/// How good and bad are shown.
struct Marks {
    good: &'static str,
    bad: &'static str,
    unknown: &'static str,
    heading: (&'static str, &'static str),
}

impl Marks {
    const PLAIN: Self = Self {
        good: "ok",
        bad: "no",
        unknown: "? ",
        heading: ("", ""),
    };
    const COLOUR: Self = Self {
        good: "\x1b[32m✓\x1b[0m",
        bad: "\x1b[31m✗\x1b[0m",
        unknown: "\x1b[33m?\x1b[0m",
        heading: ("\x1b[1m", "\x1b[0m"),
    };

    /// Colours and signs are for people.
    fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if io::stdout().is_terminal() && wanted {
            Self::COLOUR
        } else {
            Self::PLAIN
        }
    }
}

/// The whole page. Writing to a string cannot fail.
fn page(findings: &Findings, services: &[Service], marks: &Marks) -> String {
    let mut text = String::new();
    let (on, off) = marks.heading;
    let _ = writeln!(text, "{on}Machine{off}");
    for (what, is) in machine(&findings.machine) {
        let _ = writeln!(text, "  {what:<17} {is}");
    }
    let _ = writeln!(text, "\n{on}Hooks{off}");
    for report in &findings.hooks {
        hook(&mut text, report, marks);
    }
    let _ = writeln!(text, "\n{on}Faults{off}");
    let width = services.iter().map(|service| service.fault.chars().count());
    let width = width.max().unwrap_or(0).min(40);
    for service in services {
        fault(&mut text, service, width, &findings.machine, marks);
    }
    let _ = writeln!(text, "\n{on}Backends{off}");
    for backend in Backend::ALL {
        let (whom, effects, filters) = matrix(backend);
        let _ = writeln!(text, "  {:<9} {whom}", backend.name());
        let _ = writeln!(text, "            effects: {effects}");
        let _ = writeln!(text, "            filters: {filters}");
    }
    if !findings.machine.privileged() {
        let _ = writeln!(
            text,
            "\nHooks are tried by root only: sudo murphy doctor shows the rest."
        );
    }
    text
}

/// Whom a backend serves, with which effects and filters on some operation.
fn matrix(backend: Backend) -> (&'static str, String, String) {
    let mut of = declarations().into_iter();
    let of = of.find(|of| of.backend == Some(backend));
    let whom = of.map_or("", |of| of.summary);
    let of = |has: &dyn Fn(Key, Op) -> bool| {
        let keys = Key::all();
        let had = keys.filter(|key| Op::all().any(|op| key.fits(op) && has(*key, op)));
        had.map(Key::name).collect::<Vec<_>>().join(" ")
    };
    let effects = of(&|key, op| match key {
        Key::Effect(effect) => backend.has_effect(op, effect),
        Key::Filter(_) | Key::Trigger(_) | Key::Target(_) => false,
    });
    let filters = of(&|key, op| match key {
        Key::Filter(filter) => backend.serves(op) && backend.has_filter(op, filter),
        Key::Effect(_) | Key::Trigger(_) | Key::Target(_) => false,
    });
    (whom, effects, filters)
}

fn machine(machine: &Machine) -> Vec<(&'static str, String)> {
    let unknown = || "cannot be read".to_owned();
    vec![
        (
            "kernel",
            format!("{} {}", machine.kernel, machine.architecture),
        ),
        ("lockdown", machine.lockdown.clone().unwrap_or_else(unknown)),
        (
            "security modules",
            machine
                .security_modules
                .as_ref()
                .map_or_else(unknown, |list| list.join(" ")),
        ),
        (
            "capabilities",
            match machine.capabilities.missing.as_slice() {
                [] => "all that murphy needs".to_owned(),
                missing => format!("missing: {}", missing.join(" ")),
            },
        ),
        (
            "cgroup2",
            machine.cgroup2.as_ref().map_or_else(
                || "not mounted; mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
                |cgroup| {
                    let beside = if cgroup.hybrid {
                        " (hybrid: cgroup v1 beside it)"
                    } else {
                        ""
                    };
                    let (mount, own) = (cgroup.mount.display(), cgroup.own.display());
                    format!("{mount}{beside}; own: {own}")
                },
            ),
        ),
        (
            "type information",
            if machine.btf {
                murphy_kernel::btf::VMLINUX.to_owned()
            } else {
                format!("none: no {}", murphy_kernel::btf::VMLINUX)
            },
        ),
        (
            "supervising",
            match &machine.seccomp_refused {
                None => "by seccomp user notification".to_owned(),
                Some(error) => format!("refused: {error}"),
            },
        ),
        (
            "private bpffs",
            match &machine.bpffs_refused {
                None => "can be mounted".to_owned(),
                Some(error) => format!("refused: {error}"),
            },
        ),
    ]
}

fn hook(text: &mut String, report: &HookReport, marks: &Marks) {
    let (mark, state) = match report.state {
        State::Ran => (marks.good, "took effect"),
        State::Attached => (marks.good, "attached"),
        State::Refused => (marks.bad, "refused"),
        State::NotTried => (marks.unknown, "not tried"),
    };
    let state = if report.by.is_empty() {
        state.to_owned()
    } else {
        format!("{state} by {}", report.by.join(", "))
    };
    let function = symbol(report.hook).map(|name| format!("kprobe/{name}"));
    let places = function.unwrap_or_else(|| places(&report.places));
    let since = youngest(&report.needs).map_or_else(String::new, |need| {
        format!("Linux {} {}", need.since, need.interface)
    });
    let _ = writeln!(text, "  {mark} {places:<40} {state:<26} {since}");
    if let Some(reason) = &report.reason {
        let _ = writeln!(text, "       {reason}");
    }
    for need in report.needs.iter().filter(|need| need.here == Some(false)) {
        let _ = writeln!(
            text,
            "       this kernel has no {} for it; Linux {} has",
            need.interface, need.since
        );
    }
}

/// What several places begin with is said once.
fn places(places: &[&str]) -> String {
    let mut short = String::new();
    let mut before = "";
    for place in places {
        let (start, name) = place.split_once('/').unwrap_or(("", place));
        if short.is_empty() {
            short.push_str(place);
        } else if start == before {
            let _ = write!(short, ", {}", name.trim_start_matches("sched_process_"));
        } else {
            let _ = write!(short, ", {place}");
        }
        before = start;
    }
    short
}

fn fault(text: &mut String, service: &Service, width: usize, machine: &Machine, marks: &Marks) {
    let name = &service.fault;
    if let Some(backend) = &service.backend {
        let only = match service.commands.as_slice() {
            [one] => format!(" ({one} only)"),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {} {name:<width$}  {backend}{only}", marks.good);
        if !service.inject_lacks.is_empty() {
            let lacks = service.inject_lacks.join(", ");
            let _ = writeln!(text, "       {:<width$} inject lacks: {lacks}", "");
        }
        return;
    }
    let missing = service.missing.join(", ");
    if !machine.privileged() {
        let _ = writeln!(text, "  {} {name:<width$}  needs {missing}", marks.unknown);
        return;
    }
    let _ = writeln!(text, "  {} {name:<width$}  missing: {missing}", marks.bad);
    if let Some(instead) = &service.r#try {
        let _ = writeln!(text, "       {:<width$} try: {instead}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_beginnings_are_said_once() {
        assert_eq!(
            places(&["cgroup/connect4", "cgroup/connect6"]),
            "cgroup/connect4, connect6"
        );
        assert_eq!(places(&["tc egress"]), "tc egress");
    }
}
