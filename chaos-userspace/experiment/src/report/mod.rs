//! Reports of experiments: a journal of murphy's or of the Chaos Toolkit's as a page, Markdown, `JUnit` XML or JSON.
//!
//! [`Story`] is what a journal tells; every format shows the same story.

mod chart;
mod figures;
mod insight;
mod journal;
mod junit;
mod markdown;
mod page;
mod samples;
mod several;
mod story;

pub use figures::{Figures, percentile};
pub use journal::Journal;
pub use samples::{Sample, Series};
pub use story::{Counted, Insight, Part, Score, Step, Story, Verdict, Window};

use insight::percent;

use murphy_sys::printable;

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One page, self-contained
    Html,
    /// Markdown
    Md,
    /// `JUnit` XML
    Junit,
    /// JSON
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file is no journal.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
    /// JSON, but no journal.
    #[error("this is no journal: it has no `{0}`")]
    NoJournal(&'static str),
    /// The template.
    #[error("the page's template: {0}")]
    Template(#[from] minijinja::Error),
    /// The XML.
    #[error("JUnit XML: {0}")]
    Junit(#[from] quick_junit::SerializeError),
    /// The JSON that is written.
    #[error("writing JSON: {0}")]
    Written(serde_json::Error),
}

/// Reads a journal.
///
/// # Errors
/// When the text is no JSON, or lacks what every journal has.
pub fn read(text: &str) -> Result<Story, ReportError> {
    let broken = |error: &serde_json::Error| ReportError::Json {
        line: error.line(),
        column: error.column(),
        what: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| broken(&error))?;
    for key in ["experiment", "status"] {
        if value.get(key).is_none() {
            return Err(ReportError::NoJournal(key));
        }
    }
    let journal: Journal = serde_json::from_value(value).map_err(|error| broken(&error))?;
    Ok(Story::of(&journal))
}

/// Writes a report of one or more stories, in the order given.
///
/// # Errors
/// Those of the format.
pub fn render(stories: &[Story], format: Format) -> Result<String, ReportError> {
    match format {
        Format::Html => page::render(stories),
        Format::Md => Ok(markdown::render(stories)),
        Format::Junit => junit::render(stories),
        Format::Json => {
            let text = match stories {
                [one] => serde_json::to_string_pretty(one),
                several => serde_json::to_string_pretty(several),
            };
            text.map(|text| printable::json(&text).into_owned())
                .map_err(ReportError::Written)
        }
    }
}

/// A figure with what it takes to show and to compare it.
struct Figure {
    name: &'static str,
    value: Option<f64>,
    unit: &'static str,
    more_is_better: bool,
    is_share: bool,
}

impl Figure {
    fn told(&self) -> String {
        match self.value {
            None => "–".to_owned(),
            Some(share) if self.is_share => percent(share),
            Some(value) if self.unit == "ms" && value >= 10.0 || self.unit.is_empty() => {
                format!("{value:.0} {}", self.unit).trim_end().to_owned()
            }
            Some(value) => format!("{value:.1} {}", self.unit),
        }
    }
}

/// All figures, in the order in which they are shown.
fn figure_values(story: &Story) -> Vec<Figure> {
    let figure = |name, value, unit, more_is_better| Figure {
        name,
        value,
        unit,
        more_is_better,
        is_share: unit == "%",
    };
    let figures = &story.figures;
    vec![
        figure(
            "resilience score",
            story.score.as_ref().map(|score| score.total),
            "",
            true,
        ),
        figure("duration", Some(story.seconds), "s", false),
        figure("availability", figures.availability, "%", true),
        figure("errors during the fault", figures.error_rate, "%", false),
        figure("p50 before", figures.p50_before, "ms", false),
        figure("p50 during the fault", figures.p50, "ms", false),
        figure("p95 before", figures.p95_before, "ms", false),
        figure("p95 during the fault", figures.p95, "ms", false),
        figure("p99 during the fault", figures.p99, "ms", false),
        figure("time to detect", figures.time_to_detect, "s", false),
        figure("time to recover", figures.time_to_recover, "s", false),
        figure("rollback", figures.rollback_seconds, "s", false),
    ]
}

/// Those that are known, but the score, which is shown with its parts.
fn figure_rows(story: &Story) -> Vec<(&'static str, String)> {
    let known = figure_values(story)
        .into_iter()
        .skip(1)
        .filter(|figure| figure.value.is_some());
    known.map(|figure| (figure.name, figure.told())).collect()
}

#[cfg(test)]
mod tests;
