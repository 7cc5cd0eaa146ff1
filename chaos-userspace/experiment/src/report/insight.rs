//! What follows from the figures, and what to do about it.
//!
//! Thresholds are those of the documents the experiments come from: availability below 95 % is a failure, an error rate above
//! 5 % critical, recovery within 30 s excellent and within two minutes good.

use serde_json::Value;

use super::journal::Journal;
use super::story::{Counted, Insight, Story, Verdict};

fn insight(tone: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Insight {
    Insight {
        tone,
        finding: finding.into(),
        advice: advice.into(),
    }
}

/// Everything that is worth saying, the gravest first.
pub(super) fn of(story: &Story, journal: &Journal) -> Vec<Insight> {
    let mut found = Vec::new();
    if let Some(breach) = &story.breach {
        found.push(insight(
            "bad",
            format!("a safety limit ended the experiment: {breach}"),
            "a weaker fault or fewer targets show where the limit is met",
        ));
    }
    injections(story, journal, &mut found);
    counters(story, &mut found);
    hypothesis(story, &mut found);
    // The runner has drawn its own conclusions from the same figures; a plain journal has none.
    if !own(journal, &mut found) {
        against_injected(story, &mut found);
        figures(story, &mut found);
    }
    found.sort_by_key(|one| match one.tone {
        "bad" => 0,
        "open" => 1,
        _ => 2,
    });
    found
}

/// Faults that never came to be make any verdict worthless.
fn injections(story: &Story, journal: &Journal, found: &mut Vec<Insight>) {
    for entry in journal.run.iter().filter(|entry| entry.injects()) {
        let refused = entry.exit().filter(|exit| *exit != 0);
        if entry.status == "succeeded" && refused.is_none() {
            continue;
        }
        let why = entry.output["stderr"]
            .as_str()
            .and_then(|text| text.lines().next())
            .map(str::to_owned);
        let why = why
            .or_else(|| entry.trouble())
            .unwrap_or_else(|| entry.status.clone());
        let advice = match refused {
            Some(77) => "murphy doctor says what this kernel can do, and what is missing",
            Some(75) => "another injection is in the way: murphy status",
            Some(2) => "the command line is wrong: run it by hand",
            _ => "run it by hand and look at what it says",
        };
        found.push(insight(
            "bad",
            format!("{} injected nothing: {why}", entry.name()),
            advice,
        ));
    }
    let rolled = story.steps.iter().any(|step| step.phase == "rollback");
    if !rolled && !story.windows.is_empty() && !matches!(story.verdict, Verdict::NotMetBefore) {
        found.push(insight(
            "open",
            "no rollback was played",
            "what murphy injected ends by its own deadline (--for); everything else is still as the method left it",
        ));
    }
    for step in story
        .steps
        .iter()
        .filter(|step| step.phase == "rollback" && !step.ok)
    {
        found.push(insight(
            "bad",
            format!(
                "the rollback {} did not succeed: {}",
                step.name, step.outcome
            ),
            "murphy status says what is still active, murphy stop --all ends it",
        ));
    }
}

fn counters(story: &Story, found: &mut Vec<Insight>) {
    for fault in &story.faults {
        let name = &fault.fault;
        if fault.matched == 0 {
            found.push(insight(
                "bad",
                format!("{name} matched nothing: the hypothesis was not put to a test"),
                "check target, port and address; a program that keeps its connections open does not connect again",
            ));
        } else if fault.injected == 0 {
            found.push(insight(
                "open",
                format!("{name} matched {} operations and hit none", fault.matched),
                "a longer time, or another p, when, after or pulse",
            ));
        }
        if fault.failed > 0 {
            found.push(insight(
                "bad",
                format!(
                    "{name} could not be carried out {} times of {}",
                    fault.failed, fault.matched
                ),
                "the operations went through; --trace shows which",
            ));
        }
        if let Some(altered) = fault.altered.filter(|altered| *altered > 0) {
            found.push(insight(
                "bad",
                format!(
                    "of {} operations that {name} hit, {altered} came back to their callers with another result",
                    fault.injected
                ),
                "somebody else's program, or a filter of seccomp, answers these calls, too",
            ));
        }
    }
}

/// What was injected against what was seen.
fn against_injected(story: &Story, found: &mut Vec<Insight>) {
    // A delay is no error: only what makes operations go wrong can be held against what was seen to go wrong.
    let breaks = |fault: &&Counted| {
        let words = [":error=", ":reset", ":status=", ":rcode=", ":unreachable="];
        words.iter().any(|word| fault.fault.contains(word))
    };
    let sum = |of: fn(&Counted) -> u64| story.faults.iter().filter(breaks).map(of).sum::<u64>();
    let (matched, injected) = (sum(|fault| fault.matched), sum(|fault| fault.injected));
    let (Some(seen), true) = (
        story.figures.error_rate,
        matched > 0 && injected > 0 && story.figures.samples >= 10,
    ) else {
        return;
    };
    #[allow(clippy::cast_precision_loss)] // counts
    let given = injected as f64 / matched as f64;
    let both = format!(
        "{} of the operations were hit, {} of the looks at the service went wrong",
        percent(given),
        percent(seen)
    );
    found.push(if seen <= given * 0.9 {
        insight("good", format!("{both}: retries, fallbacks or caches do their work"), "")
    } else if seen > given * 1.1 {
        insight(
            "bad",
            format!("{both}: failures spread beyond what was injected"),
            "look for one call that fails a whole request, retries without backoff, and pools that everything shares",
        )
    } else {
        insight("open", format!("{both}: failures are passed on as they come"), "retries with backoff, or a fallback, would mask them")
    });
}

fn hypothesis(story: &Story, found: &mut Vec<Insight>) {
    if story.verdict == Verdict::NotMetBefore {
        let missed = story
            .steps
            .iter()
            .find(|step| step.phase == "before" && !step.ok);
        let probe = missed.map_or("a probe", |step| step.name.as_str());
        found.push(insight(
            "open",
            format!("{probe} was out of tolerance before anything was injected"),
            "bring the system into its steady state, or correct the tolerance",
        ));
    }
    if story.verdict == Verdict::Deviated {
        for step in story
            .steps
            .iter()
            .filter(|step| matches!(step.phase, "after" | "during") && !step.ok)
            .take(3)
        {
            found.push(insight(
                "bad",
                format!(
                    "{} was missed {:.1} s into the experiment: {}",
                    step.name, step.at, step.outcome
                ),
                "this is the weakness that the experiment found",
            ));
        }
    }
    if story.verdict == Verdict::NoHypothesis {
        found.push(insight(
            "open",
            "there is no hypothesis: nothing was proven",
            "say in steady-state-hypothesis what shall hold",
        ));
    }
}

fn figures(story: &Story, found: &mut Vec<Insight>) {
    let figures = &story.figures;
    if figures.samples < 10 {
        found.push(insight(
            "open",
            format!("{} looks at the service are too few for figures", figures.samples),
            "murphy experiment run samples continuously; so does --hypothesis-strategy continuously",
        ));
        return;
    }
    if let Some(rate) = figures.error_rate.filter(|rate| *rate > 0.05) {
        found.push(insight(
            "bad",
            format!(
                "{} of the looks went wrong during the fault (critical: 5 %)",
                percent(rate)
            ),
            "",
        ));
    }
    if let (Some(before), Some(during)) = (figures.p95_before, figures.p95)
        && during > before * 2.0
        && during > before + 10.0
    {
        found.push(insight(
            "open",
            format!("the 95th percentile rose from {before:.0} to {during:.0} ms"),
            "a timeout below that, with a fallback, would bound it",
        ));
    }
    match (figures.recovered, figures.time_to_recover) {
        (Some(false), _) => found.push(insight(
            "bad",
            "the service had not recovered when the experiment ended",
            "look for connections, circuit breakers or caches that stay broken after the cause has gone",
        )),
        (_, Some(time)) if time > 120.0 => {
            found.push(insight("bad", format!("recovery took {time:.0} s (good: two minutes)"), "shorten backoff and half-open times"));
        }
        (_, Some(time)) if time > 30.0 => {
            found.push(insight("open", format!("recovery took {time:.0} s (excellent: 30 s)"), "shorten backoff and half-open times"));
        }
        (_, Some(time)) => found.push(insight("good", format!("recovery took {time:.1} s"), "")),
        _ => {}
    }
    if figures.availability.is_some_and(|share| share >= 1.0) && !story.windows.is_empty() {
        found.push(insight(
            "good",
            "every look at the service was right, also during the fault",
            "",
        ));
    }
}

/// What the runner has concluded itself; whether it has.
fn own(journal: &Journal, found: &mut Vec<Insight>) -> bool {
    let said = journal.murphy.get("insights").and_then(Value::as_array);
    let said = said.into_iter().flatten().filter_map(Value::as_str);
    let before = found.len();
    found.extend(said.map(|text| insight("open", text, "")));
    found.len() > before
}

/// A share for people.
pub(super) fn percent(share: f64) -> String {
    let share = share * 100.0;
    if share == share.trunc() || share >= 10.0 {
        format!("{share:.0} %")
    } else {
        format!("{share:.1} %")
    }
}
