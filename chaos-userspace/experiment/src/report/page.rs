//! The HTML page: one file, no script, nothing loaded from anywhere.

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use super::several::{self, Row};
use super::story::Story;
use super::{ReportError, chart, figure_rows};

const TEMPLATE: &str = include_str!("page.html.j2");

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    story: &'a Story,
    words: &'static str,
    tone: &'static str,
    timeline: String,
    errors: Option<String>,
    latency: Vec<Plot>,
    figures_told: Vec<(&'static str, String)>,
    experiment: &'a str,
    observed: bool,
}

#[derive(Serialize)]
struct Plot {
    name: String,
    svg: String,
}

#[derive(Serialize)]
struct Compared {
    heads: Vec<String>,
    rows: Vec<Row>,
    history: Option<String>,
}

/// Renders one story, or several with what they have in common before them.
pub(super) fn render(stories: &[Story]) -> Result<String, ReportError> {
    let told: Vec<Told<'_>> = stories.iter().map(tell).collect();
    let compared = (stories.len() > 1).then(|| Compared {
        heads: several::heads(stories),
        rows: several::rows(stories),
        history: (stories.len() > 2).then(|| chart::history(stories)),
    });
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("s", |value: f64| format!("{value:.1}"));
    environment.add_template("page", TEMPLATE)?;
    let title = match stories {
        [one] => one.title.clone(),
        several => format!("{} experiments", several.len()),
    };
    let values = context! {
        title,
        told => Value::from(Serde(&told)),
        compared => Value::from(Serde(&compared)),
        version => env!("CARGO_PKG_VERSION"),
    };
    Ok(environment.get_template("page")?.render(values)?)
}

fn tell(story: &Story) -> Told<'_> {
    let plot = |series: &super::samples::Series| Plot {
        name: series.name.clone(),
        svg: chart::latency(story, series),
    };
    let plotted = story
        .series
        .iter()
        .filter(|series| series.samples.len() > 1);
    Told {
        story,
        words: story.verdict.words(),
        tone: story.verdict.tone(),
        timeline: chart::timeline(story),
        errors: (story.figures.samples > 1).then(|| chart::errors(story)),
        latency: plotted.map(plot).collect(),
        figures_told: figure_rows(story),
        experiment: &story.experiment,
        observed: story.is_observed(),
    }
}
