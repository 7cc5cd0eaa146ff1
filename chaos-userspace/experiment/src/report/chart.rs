//! Plots as SVG, drawn by hand: they stand inside the page and take their colours from its style sheet.

use std::fmt::Write as _;

use super::samples::Series;
use super::story::{Story, Window};

/// Everything is drawn on this width; the page scales it.
const WIDTH: f64 = 920.0;
/// Room for names on the left.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 20.0;
/// Room for the axis below.
const AXIS: f64 = 24.0;

/// Seconds to places.
struct Scale {
    end: f64,
}

impl Scale {
    fn of(story: &Story) -> Self {
        let steps = story.steps.iter().map(|step| step.at + step.took);
        let samples = story
            .series
            .iter()
            .flat_map(|one| one.samples.iter().map(|sample| sample.at));
        let end = steps
            .chain(samples)
            .chain([story.seconds])
            .fold(0.0, f64::max);
        Self {
            end: end.max(0.001),
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// Texts go into markup.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A name that fits on the left.
fn short(text: &str) -> String {
    const FITS: usize = 24;
    match text.char_indices().nth(FITS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `write!` to a string cannot fail.
macro_rules! draw {
    ($to:expr, $($words:tt)*) => {
        let _ = writeln!($to, $($words)*);
    };
}

fn begin(height: f64, title: &str) -> String {
    let title = escaped(title);
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n")
}

fn shade(svg: &mut String, scale: &Scale, windows: &[Window], height: f64) {
    for window in windows {
        let (x, end) = (scale.x(window.from), scale.x(window.to));
        draw!(
            svg,
            "<rect class=\"fault\" x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {:.1} s to {:.1} s</title></rect>",
            (end - x).max(1.0),
            escaped(&window.name),
            window.from,
            window.to
        );
    }
}

/// A step that gives about five marks, of 1, 2 or 5 times a power of ten.
fn step(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| step * power >= rough);
    step.unwrap_or(10.0) * power
}

fn seconds_axis(svg: &mut String, scale: &Scale, y: f64) {
    draw!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
        WIDTH - RIGHT
    );
    let step = step(scale.end);
    let mut mark = 0.0;
    while mark <= scale.end {
        let x = scale.x(mark);
        draw!(
            svg,
            "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            y + 16.0,
            number(mark)
        );
        mark += step;
    }
}

/// No more digits than it takes.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Every activity as a bar, the time of the faults shaded behind.
pub(super) fn timeline(story: &Story) -> String {
    const ROW: f64 = 22.0;
    const MOST: usize = 60;
    let scale = Scale::of(story);
    // Checks that go on all the time have plots of their own.
    let steps: Vec<_> = story
        .steps
        .iter()
        .filter(|step| step.phase != "during")
        .take(MOST)
        .collect();
    #[allow(clippy::cast_precision_loss)] // a few rows
    let height = steps.len() as f64 * ROW + 6.0;
    let mut svg = begin(height + AXIS, "timeline");
    shade(&mut svg, &scale, &story.windows, height);
    let mut y = 4.0;
    for step in steps {
        let x = scale.x(step.at);
        let width = (scale.x(step.at + step.took) - x).max(3.0);
        let class = match (step.ok, step.phase) {
            (false, _) => "bar bad",
            (true, "method") => "bar method",
            (true, "rollback") => "bar rollback",
            _ => "bar check",
        };
        let name = escaped(&step.name);
        let middle = y + 13.0;
        draw!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            escaped(&short(&step.name))
        );
        draw!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\" rx=\"2\"><title>{name}, {}: {:.1} s, took {:.3} s, {}</title></rect>",
            y + 3.0,
            step.phase,
            step.at,
            step.took,
            escaped(&step.outcome)
        );
        if !step.ok {
            // What went wrong stands where there is room for it.
            let (at, anchor) = if x + width < WIDTH * 0.7 {
                (x + width + 6.0, "start")
            } else {
                (x - 6.0, "end")
            };
            draw!(
                svg,
                "<text class=\"trouble\" x=\"{at:.1}\" y=\"{middle:.1}\" text-anchor=\"{anchor}\">✕ {}</text>",
                escaped(&short(&step.outcome))
            );
        }
        y += ROW;
    }
    seconds_axis(&mut svg, &scale, height);
    svg + "</svg>"
}

/// How long a probe took, over time; looks that went wrong are crosses at the top.
pub(super) fn latency(story: &Story, series: &Series) -> String {
    const HEIGHT: f64 = 120.0;
    const TOP: f64 = 18.0;
    let scale = Scale::of(story);
    let most = series
        .samples
        .iter()
        .map(|sample| sample.ms)
        .fold(0.0, f64::max)
        .max(1.0);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let y = |ms: f64| TOP + (1.0 - ms / top) * (HEIGHT - TOP);
    let mut svg = begin(HEIGHT + AXIS, &format!("latency of {}", series.name));
    shade(&mut svg, &scale, &story.windows, HEIGHT);
    let mut mark = 0.0;
    while mark <= top {
        let at = y(mark);
        draw!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        draw!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            LEFT - 10.0,
            at + 4.0,
            number(mark)
        );
        mark += step;
    }
    let points: Vec<_> = series
        .samples
        .iter()
        .map(|s| format!("{:.1},{:.1}", scale.x(s.at), y(s.ms)))
        .collect();
    draw!(
        svg,
        "<polyline class=\"line\" points=\"{}\"/>",
        points.join(" ")
    );
    for sample in &series.samples {
        let (x, at) = (scale.x(sample.at), y(sample.ms));
        let title = format!(
            "<title>{:.2} s: {:.1} ms, {}</title>",
            sample.at,
            sample.ms,
            if sample.ok { "right" } else { "wrong" }
        );
        if sample.ok {
            draw!(
                svg,
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"2.5\">{title}</circle>"
            );
        } else {
            draw!(
                svg,
                "<path class=\"cross\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\">{title}</path>",
                x - 3.5,
                at - 3.5
            );
        }
    }
    seconds_axis(&mut svg, &scale, HEIGHT);
    svg + "</svg>"
}

/// The share of looks that went wrong, over time, of all probes together.
pub(super) fn errors(story: &Story) -> String {
    const HEIGHT: f64 = 80.0;
    const TOP: f64 = 10.0;
    const BINS: usize = 48;
    let scale = Scale::of(story);
    let mut bins = [(0u32, 0u32); BINS];
    for sample in story.series.iter().flat_map(|one| &one.samples) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )] // clamped
        let bin = ((sample.at / scale.end * BINS as f64).max(0.0) as usize).min(BINS - 1);
        bins[bin].0 += 1;
        bins[bin].1 += u32::from(!sample.ok);
    }
    let mut svg = begin(HEIGHT + AXIS, "errors");
    shade(&mut svg, &scale, &story.windows, HEIGHT);
    for (share, text) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let at = TOP + (1.0 - share) * (HEIGHT - TOP);
        draw!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        draw!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            LEFT - 10.0,
            at + 4.0
        );
    }
    #[allow(clippy::cast_precision_loss)] // few
    let width = (WIDTH - LEFT - RIGHT) / BINS as f64;
    let mut x = LEFT;
    for (all, wrong) in bins {
        if wrong > 0 {
            let share = f64::from(wrong) / f64::from(all);
            let height = share * (HEIGHT - TOP);
            draw!(
                svg,
                "<rect class=\"wrong\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{wrong} of {all} wrong</title></rect>",
                x + 1.0,
                HEIGHT - height,
                width - 2.0
            );
        }
        x += width;
    }
    seconds_axis(&mut svg, &scale, HEIGHT);
    svg + "</svg>"
}

/// The score, or where there is none the availability, of run after run.
pub(super) fn history(stories: &[Story]) -> String {
    const HEIGHT: f64 = 140.0;
    const TOP: f64 = 14.0;
    let value = |story: &Story| {
        let score = story.score.as_ref().map(|score| score.total);
        score.or(story.figures.availability.map(|share| share * 100.0))
    };
    let y = |points: f64| TOP + (1.0 - points / 100.0) * (HEIGHT - TOP);
    let mut svg = begin(HEIGHT + AXIS, "history");
    for points in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let at = y(points);
        draw!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        draw!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{points}</text>",
            LEFT - 10.0,
            at + 4.0
        );
    }
    #[allow(clippy::cast_precision_loss)] // few
    let gap = (WIDTH - LEFT - RIGHT) / stories.len().max(1) as f64;
    let mut x = LEFT + gap / 2.0;
    let mut points = Vec::new();
    let mut dots = String::new();
    for (index, story) in stories.iter().enumerate() {
        let title = format!("{} {}: {}", story.start, story.title, story.verdict.words());
        draw!(
            dots,
            "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT + 16.0,
            index + 1
        );
        if let Some(value) = value(story) {
            points.push(format!("{x:.1},{:.1}", y(value)));
            draw!(
                dots,
                "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"5\"><title>{}: {value:.0}</title></circle>",
                story.verdict.tone(),
                y(value),
                escaped(&title)
            );
        }
        x += gap;
    }
    draw!(
        svg,
        "<polyline class=\"line\" points=\"{}\"/>",
        points.join(" ")
    );
    svg + &dots + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (range, expected) in [
            (10.0, 2.0),
            (1.0, 0.2),
            (60.0, 20.0),
            (0.03, 0.01),
            (500.0, 100.0),
        ] {
            assert!(
                (step(range) - expected).abs() < 1e-9,
                "{range}: {}",
                step(range)
            );
        }
    }

    #[test]
    fn markup_in_names_is_text() {
        assert_eq!(
            escaped("<b a=\"1\">&\u{7}"),
            "&lt;b a=&quot;1&quot;&gt;&amp; "
        );
        assert_eq!(
            short("0123456789012345678901234567"),
            "012345678901234567890123…"
        );
    }
}
