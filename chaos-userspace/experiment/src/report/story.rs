//! What a journal tells: verdict, steps, fault windows, samples, figures. Every format shows this.

use serde::Serialize;
use serde_json::Value;

use super::figures::{self, Figures};
use super::insight;
use super::journal::{Entry, Journal, SteadyState};
use super::samples::{self, Series};

/// What became of the hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It held.
    Held,
    /// There was none to hold.
    NoHypothesis,
    /// It was missed after or during the method.
    Deviated,
    /// It was not met to begin with: nothing was done.
    NotMetBefore,
    /// The experiment could not be carried through.
    Failed,
    /// A safety limit or an error ended it.
    Aborted,
    /// Somebody stopped it.
    Interrupted,
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Held => "the hypothesis held",
            Self::NoHypothesis => "completed, without a hypothesis",
            Self::Deviated => "the hypothesis was refuted",
            Self::NotMetBefore => "not in steady state to begin with",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
        }
    }

    /// `good`, `bad` or `open`, for colours and signs.
    pub fn tone(self) -> &'static str {
        match self {
            Self::Held => "good",
            Self::Deviated | Self::Failed | Self::Aborted => "bad",
            Self::NoHypothesis | Self::NotMetBefore | Self::Interrupted => "open",
        }
    }
}

/// Something that was done.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// `before`, `during`, `method`, `after` or `rollback`.
    pub phase: &'static str,
    /// The activity's name.
    pub name: String,
    /// `action` or `probe`.
    pub kind: String,
    /// Seconds from the beginning.
    pub at: f64,
    /// Seconds that it took.
    pub took: f64,
    /// Whether it did what it should.
    pub ok: bool,
    /// How it ended, in words.
    pub outcome: String,
    /// What it gave, shortened.
    pub output: String,
    /// Status 77: the machine lacks what it needs.
    pub missing: bool,
}

/// When faults were in place, in seconds from the beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// What was injected.
    pub name: String,
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub to: f64,
}

/// The counters of a fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    /// The expression.
    pub fault: String,
    /// Operations that it could have hit.
    pub matched: u64,
    /// Those that it hit.
    pub injected: u64,
    /// Those that a trigger spared.
    pub suppressed: u64,
    /// Those after its time.
    pub expired: u64,
    /// Those that it could not hit.
    pub failed: u64,
    /// Of those injected: calls that came back to their callers with that result. Absent if nobody observed.
    pub observed: Option<u64>,
    /// Of those injected: calls that came back with another result. Absent as `observed` is.
    pub altered: Option<u64>,
}

/// A part of the score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// 0 to 100.
    pub points: f64,
    /// Its share of the whole, in per cent.
    pub weight: f64,
}

/// The resilience score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// 0 to 100.
    pub total: f64,
    /// What it is made of.
    pub parts: Vec<Part>,
}

/// A conclusion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Insight {
    /// `good`, `bad` or `open`.
    pub tone: &'static str,
    /// What the figures say.
    pub finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// An experiment that was run.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The experiment's title.
    pub title: String,
    /// Its description.
    pub description: String,
    /// The hypothesis' title.
    pub hypothesis: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The journal's status.
    pub status: String,
    /// When it began, ISO 8601.
    pub start: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Where.
    pub node: String,
    /// On what.
    pub platform: String,
    /// All that was done, in order of time.
    pub steps: Vec<Step>,
    /// When faults were in place.
    pub windows: Vec<Window>,
    /// What the kernel counted.
    pub faults: Vec<Counted>,
    /// What the probes saw.
    pub series: Vec<Series>,
    /// What follows from that.
    pub figures: Figures,
    /// The score, where the journal has one.
    pub score: Option<Score>,
    /// The safety limit that ended it.
    pub breach: Option<String>,
    /// What follows from it all.
    pub insights: Vec<Insight>,
    /// The experiment itself.
    #[serde(skip)]
    pub experiment: String,
}

impl Story {
    /// Whether what callers saw was counted, of one fault at least.
    pub(super) fn is_observed(&self) -> bool {
        self.faults.iter().any(|fault| fault.observed.is_some())
    }

    /// Reads a journal.
    pub fn of(journal: &Journal) -> Self {
        let text = |key: &str| {
            journal
                .experiment
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let steps = steps(journal);
        let windows = windows(journal, &steps);
        let series = samples::read(journal);
        let figures = figures::of(journal, &series, &windows);
        let hypothesis = &journal.experiment.get("steady-state-hypothesis");
        let mut story = Self {
            title: text("title"),
            description: text("description"),
            hypothesis: hypothesis
                .map_or("", |h| h["title"].as_str().unwrap_or(""))
                .to_owned(),
            verdict: verdict(journal),
            status: journal.status.clone(),
            start: journal.start.map_or_else(String::new, |start| {
                start.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
            }),
            seconds: length(journal),
            node: journal.node.clone(),
            platform: journal.platform.clone(),
            steps,
            windows,
            faults: counted(journal),
            series,
            figures,
            score: score(journal),
            breach: breach(journal),
            insights: Vec::new(),
            experiment: serde_json::to_string_pretty(&journal.experiment).unwrap_or_default(),
        };
        story.insights = insight::of(&story, journal);
        story
    }
}

fn verdict(journal: &Journal) -> Verdict {
    let states = &journal.steady_states;
    let missed =
        |state: &Option<SteadyState>| state.as_ref().is_some_and(|state| !state.steady_state_met);
    match journal.status.as_str() {
        "aborted" => Verdict::Aborted,
        "interrupted" => Verdict::Interrupted,
        _ if journal.deviated || missed(&states.after) => Verdict::Deviated,
        "failed" => Verdict::Failed,
        _ if missed(&states.before) => Verdict::NotMetBefore,
        _ if states.during.iter().any(|state| !state.steady_state_met) => Verdict::Deviated,
        "completed" if states.before.is_none() && states.after.is_none() => Verdict::NoHypothesis,
        "completed" => Verdict::Held,
        _ => Verdict::Failed,
    }
}

/// Seconds from the beginning of the experiment.
pub(super) fn since(journal: &Journal, moment: Option<jiff::Timestamp>) -> f64 {
    match (journal.start, moment) {
        (Some(start), Some(moment)) => moment.duration_since(start).as_secs_f64(),
        _ => 0.0,
    }
}

fn length(journal: &Journal) -> f64 {
    match journal.end {
        Some(_) => since(journal, journal.end),
        None => journal.duration,
    }
}

fn steps(journal: &Journal) -> Vec<Step> {
    let states = &journal.steady_states;
    let probes =
        |state: &Option<SteadyState>| state.clone().map_or_else(Vec::new, |state| state.probes);
    let during = states
        .during
        .iter()
        .flat_map(|state| state.probes.iter().cloned());
    let mut steps: Vec<_> = [
        ("before", probes(&states.before)),
        ("method", journal.run.clone()),
        ("during", during.collect()),
        ("after", probes(&states.after)),
        ("rollback", journal.rollbacks.clone()),
    ]
    .into_iter()
    .flat_map(|(phase, entries)| {
        entries
            .into_iter()
            .map(move |entry| step(journal, phase, &entry))
    })
    .collect();
    steps.sort_by(|a, b| a.at.total_cmp(&b.at));
    steps
}

fn step(journal: &Journal, phase: &'static str, entry: &Entry) -> Step {
    let exit = entry.exit().filter(|exit| *exit != 0);
    // A probe's exit status is for its tolerance to judge.
    let refused = exit.filter(|_| entry.kind() == "action");
    let ok = entry.status == "succeeded" && entry.tolerance_met != Some(false) && refused.is_none();
    let outcome = match (entry.status.as_str(), entry.tolerance_met, exit) {
        ("succeeded", Some(false), _) => "out of tolerance".to_owned(),
        ("succeeded", Some(true), _) => "within tolerance".to_owned(),
        ("succeeded", None, Some(exit)) => format!("exit status {exit}"),
        ("succeeded", ..) => "done".to_owned(),
        ("", ..) => "not ended".to_owned(),
        (other, ..) => entry
            .trouble()
            .map_or_else(|| other.to_owned(), |why| format!("{other}: {why}")),
    };
    Step {
        phase,
        name: entry.name().to_owned(),
        kind: entry.kind().to_owned(),
        at: since(journal, entry.start),
        took: entry.duration,
        ok,
        outcome,
        output: shown(&entry.output),
        missing: exit == Some(77) && (entry.murphy_words().is_some() || entry.injects()),
    }
}

/// Longer outputs are cut: the journal has them whole.
const SHOWN: usize = 2000;

fn shown(output: &Value) -> String {
    let text = match output {
        Value::Null => return String::new(),
        Value::Object(map) if map.contains_key("stdout") => ["stdout", "stderr"]
            .iter()
            .filter_map(|key| map.get(*key)?.as_str())
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// From the end of an injection (a detached one returns once it is armed) to the rollback that ends it. Where nothing is
/// murphy's, from the method's first action to the first rollback.
fn windows(journal: &Journal, steps: &[Step]) -> Vec<Window> {
    let end = length(journal);
    let back = |name: &str| {
        let stops = |entry: &&Entry| {
            entry.murphy_words().is_some_and(|words| {
                words.first().is_some_and(|word| word == "stop")
                    && words
                        .iter()
                        .skip(1)
                        .any(|word| word == name || word == "--all")
            })
        };
        let stopped = journal.run.iter().chain(&journal.rollbacks).find(stops);
        let first = journal.rollbacks.first();
        stopped.or(first).map(|entry| since(journal, entry.start))
    };
    let mut windows = Vec::new();
    for entry in &journal.run {
        if !entry.injects()
            || entry.status != "succeeded"
            || entry.exit().is_some_and(|exit| exit != 0)
        {
            continue;
        }
        let words = entry.murphy_words().unwrap_or_default();
        let value = |flag: &str| {
            let at = words.iter().position(|word| word == flag)?;
            words.get(at + 1).map(String::as_str)
        };
        let name = value("--name").unwrap_or_else(|| entry.name());
        let detached = words.iter().any(|word| word == "--detach") || words.is_empty();
        let (from, limit) = match detached {
            true => (since(journal, entry.end), None),
            false => (since(journal, entry.start), Some(since(journal, entry.end))),
        };
        let lasting = value("--for").and_then(|text| murphy_fault::expr::duration(text).ok());
        let lasting = lasting.map(|time| from + std::time::Duration::from(time).as_secs_f64());
        let to = [limit, back(name), lasting, Some(end)]
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, f64::min);
        windows.push(Window {
            name: name.to_owned(),
            from,
            to: to.max(from),
        });
    }
    if windows.is_empty() {
        let timeline = journal
            .murphy
            .get("sampling")
            .map(|sampling| &sampling["timeline"]);
        let moment = |key: &str| timeline.and_then(|timeline| timeline[key].as_f64());
        if let Some(from) = moment("fault_from") {
            windows.push(Window {
                name: "method".to_owned(),
                from,
                to: moment("fault_to").unwrap_or(end).max(from),
            });
        }
    }
    if windows.is_empty() {
        let action = steps
            .iter()
            .find(|step| step.phase == "method" && step.kind == "action" && step.ok);
        if let Some(action) = action {
            let first_back = steps
                .iter()
                .find(|step| step.phase == "rollback")
                .map(|step| step.at);
            windows.push(Window {
                name: action.name.clone(),
                from: action.at + action.took,
                to: first_back.unwrap_or(end),
            });
        }
    }
    windows
}

/// The counters, wherever murphy wrote them: in outputs as JSON, in its provider's entries. The last of a fault counts.
fn counted(journal: &Journal) -> Vec<Counted> {
    let mut found = Vec::<Counted>::new();
    for entry in journal.run.iter().chain(&journal.rollbacks) {
        search(&entry.output, &mut found);
        search(&entry.murphy, &mut found);
    }
    for value in journal.murphy.values() {
        search(value, &mut found);
    }
    found
}

fn search(value: &Value, found: &mut Vec<Counted>) {
    match value {
        Value::Object(map) => {
            let number = |key: &str| match map.get(key) {
                Some(Value::Object(parts)) => Some(parts.values().filter_map(Value::as_u64).sum()),
                Some(value) => value.as_u64(),
                None => None,
            };
            if let (Some(fault), Some(matched)) =
                (map.get("fault").and_then(Value::as_str), number("matched"))
            {
                let counted = Counted {
                    fault: fault.to_owned(),
                    matched,
                    injected: number("injected").unwrap_or(0),
                    suppressed: number("suppressed").unwrap_or(0),
                    expired: number("expired").unwrap_or(0),
                    failed: number("failed").unwrap_or(0),
                    observed: number("observed"),
                    altered: number("altered"),
                };
                match found.iter_mut().find(|other| other.fault == counted.fault) {
                    Some(other) => *other = counted,
                    None => found.push(counted),
                }
                return;
            }
            map.values().for_each(|value| search(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| search(value, found)),
        Value::String(text) if text.contains("\"matched\"") => {
            // A whole text, or a line of it, may be JSON.
            for part in std::iter::once(text.as_str()).chain(text.lines()) {
                if let Ok(value @ (Value::Object(_) | Value::Array(_))) =
                    serde_json::from_str(part.trim())
                {
                    search(&value, found);
                }
            }
        }
        _ => {}
    }
}

/// The total and the points of each part, as the runner's score has them.
fn score(journal: &Journal) -> Option<Score> {
    let score = journal.murphy.get("score")?;
    let parts = [
        ("availability", 40.0),
        ("recovery", 30.0),
        ("blast_radius", 20.0),
        ("degradation", 10.0),
    ];
    let parts = parts.into_iter().filter_map(|(name, weight)| {
        Some(Part {
            name: name.replace('_', " "),
            points: score[name].as_f64()?,
            weight,
        })
    });
    Some(Score {
        total: score["total"].as_f64()?,
        parts: parts.collect(),
    })
}

fn breach(journal: &Journal) -> Option<String> {
    let breach = journal
        .murphy
        .get("breach")
        .or_else(|| journal.murphy.get("abort"))?;
    match breach {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => {
            let text = ["text", "reason", "message"]
                .iter()
                .find_map(|key| map.get(*key)?.as_str());
            let limit = map.get("limit").and_then(Value::as_str);
            match (limit, text) {
                (Some(limit), Some(text)) => Some(format!("{limit}: {text}")),
                (limit, text) => limit.or(text).map(str::to_owned),
            }
        }
        _ => None,
    }
}
