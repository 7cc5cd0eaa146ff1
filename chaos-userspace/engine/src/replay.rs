//! Repeats the decisions of an events file.
//!
//! What repeats is the decision for a rule's match number `n` at a time since arming,
//! made with the same function as the kernel programs make it with. Which operation
//! becomes match number `n`, and when, is the program's own doing and not repeated.

use std::collections::{BTreeMap, HashSet};

use chaos_common::decide::{Verdict as Decision, decide, needs_state};

use super::record::{Header, Line, Match, Verdict};
use murphy_fault::plan::{Options, Plan, Target};
use murphy_fault::{Aim, Fault, Triggers};
use murphy_state::results::FaultReport;

/// What came of repeating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Decisions repeated.
    pub repeated: u64,
    /// Matches that nothing was decided about: the lease was over, or the program failed.
    pub undecided: u64,
    /// Decisions that the file lacks, because they came too fast.
    pub lost: u64,
    /// Whether the last line is there.
    pub complete: bool,
    /// Where file and decisions differ; a line of the file (from 1; 0: the file as a
    /// whole), and in what.
    pub differences: Vec<(usize, String)>,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line is not what the format says.
    #[error("line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Another version wrote the file.
    #[error("the file has format {0}; this murphy reads {format}", format = super::FORMAT)]
    Format(u32),
}

/// The faults of a header, each with the seed it had then.
///
/// # Errors
///
/// A fault that this program does not understand.
pub fn plan(header: &Header) -> Result<Plan, ReplayError> {
    let wrong = |problem: String| ReplayError::Line { line: 1, problem };
    let faults = header
        .faults
        .iter()
        .map(|said| {
            let mut fault: Fault = said
                .fault
                .parse()
                .map_err(|_| wrong(format!("`{}` is no fault", said.fault)))?;
            if let Triggers::Rule(trigger) = &mut fault.trigger {
                trigger.seed = Some(said.seed);
            }
            Ok(fault)
        })
        .collect::<Result<_, _>>()?;
    let options = Options {
        limit: header.limit_ns.map(std::time::Duration::from_nanos),
        seed: header.seed,
        skip_loader: false,
        observe: false,
    };
    Plan::new(faults, Target::Command, &options).map_err(|error| wrong(error.to_string()))
}

/// The fault without whom it hits, which no decision depends on.
fn for_all(fault: &str) -> String {
    // One that cannot be read is pointed out where it is used.
    match fault.parse::<Fault>() {
        Err(_) => fault.to_owned(),
        Ok(mut read) => {
            read.target = Aim::default();
            read.to_string()
        }
    }
}

/// The first line of an events file.
///
/// # Errors
///
/// It is none.
pub fn header(text: &str) -> Result<Header, ReplayError> {
    let first = text.lines().next().unwrap_or_default();
    let Line::Plan(header) = parse(1, first)? else {
        return Err(ReplayError::Line {
            line: 1,
            problem: "an events file begins with its plan".to_owned(),
        });
    };
    match header.format {
        super::FORMAT => Ok(header),
        other => Err(ReplayError::Format(other)),
    }
}

fn parse(line: usize, text: &str) -> Result<Line, ReplayError> {
    serde_json::from_str(text).map_err(|error| ReplayError::Line {
        line,
        problem: error.to_string(),
    })
}

/// Repeats every decision of an events file.
///
/// # Errors
///
/// The file is not one, or not understood. A last line cut short is as one that is missing.
pub fn replay(text: &str) -> Result<Replay, ReplayError> {
    let mut header = header(text)?;
    for said in &mut header.faults {
        said.fault = for_all(&said.fault);
    }
    let plan = plan(&header)?;
    let mut replay = Replay::default();
    let mut seen = HashSet::new();
    let mut told: BTreeMap<(u32, Verdict), u64> = BTreeMap::new();
    let mut end = None;
    let last = text.lines().count();
    for (number, line) in (1..).zip(text.lines()).skip(1) {
        let line = match parse(number, line) {
            Err(_) if number == last && !text.ends_with('\n') => break,
            other => other?,
        };
        match line {
            Line::Plan(_) => replay
                .differences
                .push((number, "a second plan".to_owned())),
            Line::End(line) => end = Some(line),
            Line::Match(line) => {
                if end.is_some() {
                    let after = "a match after the end".to_owned();
                    replay.differences.push((number, after));
                }
                *told.entry((line.rule, line.verdict)).or_default() += 1;
                let counts = plan.rules.get(line.rule as usize);
                let by_thread = counts.is_some_and(|rule| rule.fault.counts_by_thread());
                let thread = line.tid.filter(|_| by_thread);
                if line.n != 0 && !seen.insert((line.rule, thread, line.n)) {
                    let twice = format!("match {} of fault {} twice", line.n, line.rule);
                    replay.differences.push((number, twice));
                }
                one(&plan, &line, number, &mut replay);
            }
        }
    }
    let Some(end) = end else {
        return Ok(replay);
    };
    replay.complete = true;
    replay.lost = end.lost;
    if end.report.faults.len() != plan.rules.len() {
        let problem = "plan and report have different faults".to_owned();
        replay.differences.push((last, problem));
    }
    for (rule, fault) in (0..).zip(&end.report.faults) {
        for (name, verdicts, counted) in counters(fault) {
            let lines: u64 = verdicts
                .iter()
                .filter_map(|verdict| told.get(&(rule, *verdict)))
                .sum();
            if lines > counted || (end.lost == 0 && lines < counted) {
                replay.differences.push((
                    0,
                    format!(
                        "{lines} lines say {name} of fault {rule}, but the kernel counted {counted}"
                    ),
                ));
            }
        }
    }
    Ok(replay)
}

type Counter = (&'static str, &'static [Verdict], u64);

fn counters(fault: &FaultReport) -> [Counter; 9] {
    [
        ("injected", &[Verdict::Injected], fault.injected),
        (
            "probability",
            &[Verdict::Probability],
            fault.suppressed.probability,
        ),
        ("when", &[Verdict::When], fault.suppressed.when),
        ("times", &[Verdict::Times], fault.suppressed.times),
        ("after", &[Verdict::After], fault.suppressed.after),
        ("pulse", &[Verdict::Pulse], fault.suppressed.pulse),
        (
            "rate_limit",
            &[Verdict::RateLimit],
            fault.suppressed.rate_limit,
        ),
        (
            "expired",
            &[Verdict::Expired, Verdict::Lease],
            fault.expired,
        ),
        ("failed", &[Verdict::Failed], fault.failed),
    ]
}

/// Repeats one decision.
fn one(plan: &Plan, line: &Match, number: usize, replay: &mut Replay) {
    let Some(rule) = plan.rules.get(line.rule as usize) else {
        let problem = format!("there is no fault {}", line.rule);
        replay.differences.push((number, problem));
        return;
    };
    if matches!(line.verdict, Verdict::Lease | Verdict::Failed) {
        replay.undecided += 1;
        return;
    }
    replay.repeated += 1;
    // Which matches `times`, `rate_limit` and `over` let through is decided by the order in which CPUs
    // reached it, not by their numbers; how many is held against the counters below.
    let again = match decide(&rule.wire, 0, line.n, line.elapsed_ns).0 {
        Decision::Inject => Verdict::Injected,
        Decision::Probability => Verdict::Probability,
        Decision::When => Verdict::When,
        Decision::Times => Verdict::Times,
        Decision::After => Verdict::After,
        Decision::Pulse => Verdict::Pulse,
        Decision::RateLimit => Verdict::RateLimit,
        Decision::Expired => Verdict::Expired,
    };
    let budget = needs_state(&rule.wire);
    let remembered = |verdict| {
        matches!(
            verdict,
            Verdict::Injected | Verdict::Times | Verdict::RateLimit
        )
    };
    let agrees = again == line.verdict || budget && remembered(again) && remembered(line.verdict);
    if !agrees {
        let problem = format!(
            "match {} of fault {}: the file says {}, the decision is {}",
            line.n,
            line.rule,
            line.verdict.name(),
            again.name()
        );
        replay.differences.push((number, problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"event":"plan","format":1,"murphy":"0","started_unix":0,"started_ns":0,"seed":1,"faults":[{"fault":"connect:error=EPERM:when=2","seed":5}]}"#;

    fn line(n: u64, verdict: &str) -> String {
        format!(
            r#"{{"event":"match","time_ns":9,"elapsed_ns":1,"rule":0,"n":{n},"op":"connect","verdict":"{verdict}"}}"#
        )
    }

    fn end(injected: u64, when: u64, lost: u64) -> String {
        format!(
            r#"{{"event":"end","ended":"x","armed_at_ns":8,"lost":{lost},"report":{{"armed":true,"seconds":1.0,"faults":[{{"fault":"x","seed":5,"matched":{},"injected":{injected},"suppressed":{{"probability":0,"when":{when},"times":0,"after":0,"pulse":0,"rate_limit":0}},"expired":0,"failed":0}}]}}}}"#,
            injected + when
        )
    }

    fn file(lines: &[String]) -> String {
        format!("{PLAN}\n{}\n", lines.join("\n"))
    }

    #[test]
    fn an_honest_file_agrees() {
        let text = file(&[line(1, "when"), line(2, "injected"), end(1, 1, 0)]);
        let replay = replay(&text).unwrap();
        assert_eq!(replay.differences, []);
        assert_eq!((replay.repeated, replay.complete), (2, true));
    }

    #[test]
    fn whatever_is_altered_is_told() {
        for (lines, problem) in [
            (
                vec![line(1, "injected"), line(2, "injected"), end(2, 0, 0)],
                "the file says injected, the decision is when",
            ),
            (vec![line(1, "when"), end(1, 1, 0)], "0 lines say injected"),
            (
                vec![line(1, "when"), line(1, "when"), end(0, 2, 0)],
                "twice",
            ),
            (
                vec![line(1, "when"), line(2, "injected"), end(0, 2, 1)],
                "1 lines say injected",
            ),
            (
                vec![line(1, "when").replace("\"rule\":0", "\"rule\":3")],
                "no fault 3",
            ),
        ] {
            let replay = replay(&file(&lines)).unwrap();
            let all: Vec<_> = replay.differences.iter().map(|(_, text)| text).collect();
            assert!(
                all.iter().any(|text| text.contains(problem)),
                "{problem}: {all:?}"
            );
        }
    }

    #[test]
    fn cut_short_is_no_difference_but_said() {
        let mut text = file(&[line(1, "when"), line(2, "injected")]);
        text.truncate(text.len() - 10);
        let replay = replay(&text).unwrap();
        assert!(!replay.complete && replay.differences.is_empty());
        assert_eq!(replay.repeated, 1);
    }

    #[test]
    fn what_is_no_events_file_is_refused() {
        assert!(replay("").is_err());
        assert!(replay("{}").is_err());
        assert!(replay(&PLAN.replace("\"format\":1", "\"format\":2")).is_err());
    }
}
