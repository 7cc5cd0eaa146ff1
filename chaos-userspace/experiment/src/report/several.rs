//! Several runs beside each other.

use serde::Serialize;

use super::figure_values;
use super::insight::percent;
use super::story::Story;

/// A line of the table.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) cells: Vec<String>,
    /// From the first to the second of two.
    pub(super) change: String,
    /// Whether that is better.
    pub(super) tone: &'static str,
}

/// What the columns are called: what tells them apart.
pub(super) fn heads(stories: &[Story]) -> Vec<String> {
    let same = stories.windows(2).all(|two| two[0].title == two[1].title);
    let head = |story: &Story| match same {
        true => story.start.clone(),
        false => story.title.clone(),
    };
    stories.iter().map(head).collect()
}

/// Everything that can be held against each other.
pub(super) fn rows(stories: &[Story]) -> Vec<Row> {
    let text = |name, of: &dyn Fn(&Story) -> String| Row {
        name,
        cells: stories.iter().map(of).collect(),
        change: String::new(),
        tone: "open",
    };
    let mut rows = vec![
        text("Verdict", &|story| story.verdict.words().to_owned()),
        text("Begun", &|story| story.start.clone()),
    ];
    for index in 0..figure_values(&stories[0]).len() {
        let of = |story: &Story| figure_values(story).swap_remove(index);
        let first = of(&stories[0]);
        let values: Vec<_> = stories.iter().map(|story| of(story).value).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let (change, tone) = match values.as_slice() {
            [Some(before), Some(after)] => {
                changed(*before, *after, first.more_is_better, first.is_share)
            }
            _ => (String::new(), "open"),
        };
        rows.push(Row {
            name: first.name,
            cells: stories.iter().map(|story| of(story).told()).collect(),
            change,
            tone,
        });
    }
    rows
}

fn changed(
    before: f64,
    after: f64,
    more_is_better: bool,
    is_share: bool,
) -> (String, &'static str) {
    let by = after - before;
    // What is in the noise is no change.
    if by.abs() <= before.abs().max(after.abs()) * 0.02 {
        return ("same".to_owned(), "open");
    }
    let sign = if by > 0.0 { "+" } else { "−" };
    let text = match (is_share, before) {
        (true, _) => format!("{sign}{:.1} points", by.abs() * 100.0),
        (false, 0.0) => format!("{sign}{:.1}", by.abs()),
        _ => format!("{sign}{}", percent((by / before).abs())),
    };
    (
        text,
        if (by > 0.0) == more_is_better {
            "good"
        } else {
            "bad"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_direction() {
        assert_eq!(
            changed(0.9, 0.99, true, true),
            ("+9.0 points".to_owned(), "good")
        );
        assert_eq!(
            changed(100.0, 150.0, false, false),
            ("+50 %".to_owned(), "bad")
        );
        assert_eq!(
            changed(100.0, 101.0, false, false),
            ("same".to_owned(), "open")
        );
        assert_eq!(changed(0.0, 2.0, false, false), ("+2.0".to_owned(), "bad"));
    }
}
