//! Between the words and the deed: what the policies say, what `--dry-run` shows, what the audit log and collectors of spans get.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::args::FaultArgs;
use super::control::{print, print_json};
use super::failure::Failure;
use super::output::{listed, tell};
use super::spans::Spans;
use murphy_engine::audit::{self, Audit, Operation};
use murphy_engine::policy::{Asked, Command, Policies, Refusal};
use murphy_engine::{self as engine, Survey};
use murphy_fault::plan::{Plan, Target};
use murphy_kernel::symbol;
use murphy_state::Record;
use murphy_state::results::Report;

/// How many targets `--dry-run` lists.
const LISTED: usize = 20;

/// Leave to inject, and where that is noted.
pub(super) struct Permit {
    audit: Audit,
    survey: Survey,
    /// Who does what, once that is noted.
    subject: Option<Value>,
    spans: Option<Spans>,
}

/// Asks the policies. `None` after `--dry-run`: nothing is to be done.
pub(super) fn ask(
    args: &FaultArgs,
    plan: &Plan,
    command: Option<Command<'_>>,
) -> Result<Option<Permit>, Failure> {
    let policies = Policies::load(&args.policy)?;
    let places = args
        .audit
        .iter()
        .map(String::as_str)
        .chain(policies.audit());
    let mut audit = Audit::open(places)?;
    // Looking at every process takes its time; nobody would look at the result.
    let survey = if policies.files().next().is_some() || args.dry_run || !audit.is_empty() {
        Survey::of(plan)?
    } else {
        Survey::default()
    };
    let refusals = policies.refusals(&Asked {
        plan,
        command,
        survey: &survey,
        reason: args.reason.as_deref(),
    });
    if args.dry_run {
        if refusals.is_empty() {
            engine::rehearse(plan)?;
        }
        show(args, plan, command, &survey, &refusals)?;
    }
    if !refusals.is_empty() {
        if !args.dry_run {
            let faults: Vec<_> = plan.faults().map(ToString::to_string).collect();
            audit.tell(
                Operation::ChaosSafetyRefused,
                &json!({
                    "uid": rustix::process::getuid().as_raw(),
                    "argv": std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
                    "faults": faults,
                    "reason": args.noted_reason(),
                    "refusals": refusals,
                }),
            )?;
        }
        return Err(Failure::Policy(refusals));
    }
    Ok((!args.dry_run).then_some(Permit {
        audit,
        survey,
        subject: None,
        spans: None,
    }))
}

impl Permit {
    /// Notes that an injection is about to begin.
    pub(super) fn started(&mut self, record: &Record) -> Result<(), Failure> {
        self.spans = Spans::begin(record);
        if self.audit.is_empty() {
            return Ok(());
        }
        let subject = audit::subject(record, &self.survey);
        self.audit.tell(
            Operation::ChaosExperimentStarted,
            &with(&subject, "started", json!({})),
        )?;
        self.subject = Some(subject);
        Ok(())
    }

    /// Notes how it ended.
    pub(super) fn ended(&mut self, ended: &str, report: &Report) {
        if let Some(spans) = &mut self.spans {
            spans.ended(ended, report);
        }
        self.completed(audit::result(ended, report));
    }

    /// Sends the spans, when nothing is left to do: it may take its time.
    pub(super) fn over(&mut self) {
        if let Some(spans) = self.spans.take() {
            spans.send();
        }
    }

    /// Notes that it failed, if its end is not noted yet.
    pub(super) fn failed(&mut self, failure: &Failure) {
        if let Some(spans) = &mut self.spans {
            spans.failed(failure);
        }
        self.completed(json!({
            "error_type": failure.kind(),
            "error_message": failure.to_string(),
        }));
    }

    fn completed(&mut self, details: Value) {
        let Some(subject) = self.subject.take() else {
            return;
        };
        let details = with(&subject, "completed", details);
        if let Err(error) = self
            .audit
            .tell(Operation::ChaosExperimentCompleted, &details)
        {
            tell(&format!("murphy: {error}"));
        }
    }
}

fn with(subject: &Value, phase: &str, details: Value) -> Value {
    let mut all = subject.clone();
    all["experiment_phase"] = phase.into();
    if let (Some(all), Value::Object(details)) = (all.as_object_mut(), details) {
        all.extend(details);
    }
    all
}

/// What would be done.
fn show(
    args: &FaultArgs,
    plan: &Plan,
    command: Option<Command<'_>>,
    survey: &Survey,
    refusals: &[Refusal],
) -> Result<(), Failure> {
    let programs = || {
        plan.hooks.iter().flat_map(|&hook| {
            let function = symbol(hook).map(|name| format!("kprobe/{name}"));
            let programs = hook.programs().iter();
            programs.map(move |&(program, place)| {
                (
                    program,
                    function.clone().unwrap_or_else(|| place.to_owned()),
                )
            })
        })
    };
    if args.json {
        let faults: Vec<_> = plan
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "fault": rule.fault.to_string(),
                    "backend": rule.backend,
                    "seed": rule.wire.seed,
                })
            })
            .collect();
        let tables: BTreeMap<_, _> = plan
            .tables
            .iter()
            .map(|(file, table)| (file.as_str(), table.numbers().len()))
            .collect();
        let programs: Vec<_> = programs()
            .map(|(program, place)| json!({ "program": program, "place": place }))
            .collect();
        let conditions: Vec<_> = plan
            .conditions
            .iter()
            .map(|one| one.fault.to_string())
            .collect();
        let mut shown = json!({
            "dry_run": true,
            "faults": faults,
            "names": plan.names,
            "tables": tables,
            "programs": programs,
            "target": plan.target,
            "targets": plan.running(),
            "command": command.map(|command| command.program),
            "blast_radius": {
                "processes": survey.hit.len(),
                "of": survey.all,
                "share_percent": survey.share(),
            },
            "processes": survey.hit,
            "refusals": refusals,
        });
        if let (Some(shown), false) = (shown.as_object_mut(), conditions.is_empty()) {
            shown.insert("conditions".to_owned(), conditions.into());
        }
        return print_json(&shown);
    }
    let mut lines = Vec::new();
    for rule in &plan.rules {
        lines.push(format!("fault    {}, by {}", rule.fault, rule.backend));
    }
    for condition in &plan.conditions {
        lines.push(format!(
            "fault    {}, while it is in force",
            condition.fault
        ));
    }
    for (name, addresses) in plan.names.iter() {
        lines.push(format!("name     {name} is {}", listed(addresses)));
    }
    for (file, table) in plan.tables.iter() {
        let count = table.numbers().len();
        lines.push(format!("table    {file} has {count} numbers"));
    }
    for (program, place) in programs() {
        lines.push(format!("program  {program} at {place}"));
    }
    match (&plan.target, command) {
        (Target::Command, Some(command)) => lines.push(format!(
            "target   {} and its descendants, as user {}",
            command.program.display(),
            command.uid
        )),
        _ => {
            for process in survey.hit.iter().take(LISTED) {
                lines.push(format!("target   {process}"));
            }
            if survey.hit.len() > LISTED {
                lines.push(format!("target   and {} more", survey.hit.len() - LISTED));
            }
            lines.push(format!(
                "blast radius: {} of {} processes, {:.1} %",
                survey.hit.len(),
                survey.all,
                survey.share()
            ));
        }
    }
    lines.push(match refusals.len() {
        0 => "no policy refuses it; nothing was attached".to_owned(),
        several => format!("refused on {several} counts; nothing was attached"),
    });
    print(&lines.join("\n"))
}
