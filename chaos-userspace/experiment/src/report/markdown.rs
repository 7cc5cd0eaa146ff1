//! Markdown, for pull requests and wikis.

use std::fmt::Write as _;

use super::story::Story;
use super::{figure_rows, several};
use murphy_sys::printable;

/// What would be markup, or act on a terminal, becomes text.
fn plain(text: &str) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    printable::line(&text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}

macro_rules! line {
    ($to:expr) => { $to.push('\n'); };
    ($to:expr, $($words:tt)*) => { let _ = writeln!($to, $($words)*); };
}

/// Renders all stories, one after the other, with a comparison before several.
pub(super) fn render(stories: &[Story]) -> String {
    let mut text = String::new();
    if stories.len() > 1 {
        line!(text, "# {} experiments\n", stories.len());
        let heads: Vec<_> = several::heads(stories)
            .iter()
            .map(|head| plain(head))
            .collect();
        let two = stories.len() == 2;
        line!(
            text,
            "| | {} |{}",
            heads.join(" | "),
            if two { " Change |" } else { "" }
        );
        line!(
            text,
            "|---|{}",
            "---|".repeat(heads.len() + usize::from(two))
        );
        for row in several::rows(stories) {
            let cells: Vec<_> = row.cells.iter().map(|cell| plain(cell)).collect();
            let change = if two {
                format!(" {} |", row.change)
            } else {
                String::new()
            };
            line!(text, "| {} | {} |{change}", row.name, cells.join(" | "));
        }
        line!(text);
    }
    for story in stories {
        one(&mut text, story);
    }
    text.trim_end().to_owned() + "\n"
}

fn one(text: &mut String, story: &Story) {
    line!(text, "# {}\n", plain(&story.title));
    line!(
        text,
        "**{}** · {} · {}\n",
        story.verdict.words(),
        plain(&story.start),
        plain(&story.node)
    );
    if !story.hypothesis.is_empty() {
        line!(text, "Hypothesis: {}\n", plain(&story.hypothesis));
    }
    line!(text, "| | |\n|---|---|");
    if let Some(score) = &story.score {
        let part = |part: &super::story::Part| format!("{} {:.0}", part.name, part.points);
        let parts: Vec<_> = score.parts.iter().map(part).collect();
        line!(
            text,
            "| resilience score | {:.0} of 100 ({}) |",
            score.total,
            plain(&parts.join(", "))
        );
    }
    for (name, value) in figure_rows(story) {
        line!(text, "| {name} | {} |", plain(&value));
    }
    line!(text);
    if !story.insights.is_empty() {
        line!(text, "## Insights\n");
        for insight in &story.insights {
            let sign = match insight.tone {
                "good" => "✓",
                "bad" => "✕",
                _ => "○",
            };
            let advice = if insight.advice.is_empty() {
                String::new()
            } else {
                format!(" – {}", plain(&insight.advice))
            };
            line!(text, "- {sign} {}{advice}", plain(&insight.finding));
        }
        line!(text);
    }
    if !story.faults.is_empty() {
        let observed = story.is_observed();
        let more = |words: &'static str| if observed { words } else { "" };
        line!(
            text,
            "## What the kernel counted\n\n| Fault | Matched | Injected |{} Suppressed | Expired | Failed |\n|---|--:|--:|{}--:|--:|--:|",
            more(" Observed | Altered |"),
            more("--:|--:|")
        );
        for fault in &story.faults {
            let seen = match (fault.observed, fault.altered) {
                (Some(observed), altered) => format!(" {observed} | {} |", altered.unwrap_or(0)),
                (None, _) => more(" – | – |").to_owned(),
            };
            line!(
                text,
                "| `{}` | {} | {} |{seen} {} | {} | {} |",
                plain(&fault.fault),
                fault.matched,
                fault.injected,
                fault.suppressed,
                fault.expired,
                fault.failed
            );
        }
        line!(text);
    }
    line!(
        text,
        "## Log\n\n| At | Phase | Activity | Outcome | Took |\n|--:|---|---|---|--:|"
    );
    for step in &story.steps {
        let sign = if step.ok { "" } else { "✕ " };
        line!(
            text,
            "| {:.1} s | {} | {} | {sign}{} | {:.1} s |",
            step.at,
            step.phase,
            plain(&step.name),
            plain(&step.outcome),
            step.took
        );
    }
    line!(text);
}
