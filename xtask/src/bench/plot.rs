//! `cargo xtask bench plot`: curves from what the other benches wrote with `--json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde_json::Value;

use super::rows::Row;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the benches wrote
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    json: Vec<PathBuf>,
    /// Where the plots go
    #[arg(long, default_value = "docs/performance", value_name = "FOLDER")]
    into: PathBuf,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (760, 340);
const FONT: &str = "sans-serif";
/// Of series, told apart without red and green.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 120, 0),
    RGBColor(110, 110, 110),
    RGBColor(150, 60, 150),
];

/// A line: its name, and its cases with their places on the axis.
type Line = (&'static str, &'static [(f64, &'static str)]);

/// Draws each plot whose cases were measured.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut measured = Measured::default();
    for file in &args.json {
        measured.read(file)?;
    }
    fs::create_dir_all(&args.into)?;
    let plots: [(&str, Draw); 4] = [
        ("engine-rules.svg", rules),
        ("engine-targets.svg", targets),
        ("syscalls-write.svg", writes),
        ("network-jitter.svg", jitter),
    ];
    for (name, draw) in plots {
        let path = args.into.join(name);
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        match draw(&measured, &area) {
            Ok(()) => {
                area.present().map_err(drawn)?;
                drop(area);
                fs::write(&path, svg).with_context(|| path.display().to_string())?;
                println!("{}", path.display());
            }
            Err(why) => eprintln!("{name} is not drawn: {why:#}"),
        }
    }
    Ok(())
}

type Draw = fn(&Measured, &Area) -> Result<()>;

/// Errors of a backend that writes into memory: none that a user could mend.
fn drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

/// What the files hold: rows with the place where they were measured.
#[derive(Default)]
struct Measured(Vec<(String, Row)>);

impl Measured {
    fn read(&mut self, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for line in text.lines() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{}: not what --json writes: {line}", file.display()))?;
            let place = value["place"].as_str().unwrap_or_default().to_owned();
            self.0.push((place, Row::parse(line)?));
        }
        Ok(())
    }

    fn row(&self, place: &str, group: &str, what: &str, case: &str) -> Result<&Row> {
        self.0
            .iter()
            .find(|(of, row)| {
                of.starts_with(place) && row.group == group && row.what == what && row.case == case
            })
            .map(|(_, row)| row)
            .with_context(|| format!("no {what} of {group}, {case}"))
    }

    /// The kernel that something was measured on.
    fn place<'a>(&'a self, start: &'a str) -> &'a str {
        let found = self.0.iter().find(|(place, _)| place.starts_with(start));
        found.map_or(start, |(place, _)| place)
    }
}

/// The classifier's time by the number of rules.
fn rules(measured: &Measured, area: &Area) -> Result<()> {
    const LINES: [Line; 2] = [
        (
            "packets of a target, no rule matches its port",
            &[
                (1.0, "1 rule, not matching by port"),
                (8.0, "8 rules, not matching by port"),
                (64.0, "64 rules, not matching by port"),
            ],
        ),
        (
            "packets of another process",
            &[
                (1.0, "1 rule, for another process"),
                (64.0, "64 rules, for another process"),
            ],
        ),
    ];
    let title = format!(
        "ns of the classifier, by rules ({})",
        measured.place("host")
    );
    lines(
        measured,
        area,
        &title,
        "rules",
        ("packets", "program"),
        &LINES,
    )
}

/// What a new socket and a connection cost by the number of processes that are targets.
fn targets(measured: &Measured, area: &Area) -> Result<()> {
    const LINES: [Line; 2] = [
        (
            "socket(2)",
            &[
                (1.0, "socket, target 1 process"),
                (100.0, "socket, target 100 processes"),
                (10_000.0, "socket, target 10 000 processes"),
            ],
        ),
        (
            "connect(2)",
            &[
                (1.0, "connect, target 1 process"),
                (100.0, "connect, target 100 processes"),
                (10_000.0, "connect, target 10 000 processes"),
            ],
        ),
    ];
    let title = format!(
        "ns of the program at a target's call, by targets ({})",
        measured.place("host")
    );
    lines(
        measured,
        area,
        &title,
        "processes",
        ("sockets", "program"),
        &LINES,
    )
}

/// Medians, joined, each with a stroke from its least to its greatest repetition.
fn lines(
    measured: &Measured,
    area: &Area,
    title: &str,
    axis: &str,
    (group, what): (&str, &str),
    lines: &[Line],
) -> Result<()> {
    let mut series = Vec::new();
    for (name, cases) in lines {
        let points = cases.iter().map(|(x, case)| {
            let row = measured.row("host", group, what, case)?;
            Ok((*x, row.median(), row.spread()))
        });
        series.push((*name, points.collect::<Result<Vec<_>>>()?));
    }
    let all = series.iter().flat_map(|(_, points)| points);
    let (right, top) = all.fold((1.0_f64, 0.0_f64), |(x, y), point| {
        (x.max(point.0), y.max(point.2.1))
    });
    area.fill(&WHITE).map_err(drawn)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 15))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((0.8..right * 1.25).log_scale(), 0.0..top * 1.25)
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc("ns")
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|ns| format!("{ns}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(drawn)?;
    for ((name, points), colour) in series.iter().zip(COLOURS) {
        let middles = points.iter().map(|(x, y, _)| (*x, *y));
        chart
            .draw_series(LineSeries::new(middles.clone(), colour.stroke_width(2)))
            .map_err(drawn)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let strokes = points
            .iter()
            .map(|(x, _, (low, high))| PathElement::new([(*x, *low), (*x, *high)], colour));
        chart.draw_series(strokes).map_err(drawn)?;
        let dots = middles.map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(drawn)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

fn legend<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<()>
where
    X: Ranged,
    Y: Ranged,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 12))
        .draw()
        .map_err(drawn)
}

/// A `write` of a byte under each tool, on a logarithmic axis.
fn writes(measured: &Measured, area: &Area) -> Result<()> {
    const CASES: [&str; 8] = [
        "alone",
        "murphy, for another process: bpf",
        "murphy, suppressed: bpf",
        "murphy, injecting: bpf",
        "murphy, suppressed: seccomp",
        "murphy, injecting: seccomp",
        "strace --seccomp-bpf, suppressed",
        "strace, suppressed",
    ];
    const NAMES: i32 = 230;
    let rows = CASES
        .iter()
        .map(|case| measured.row("VM", "write", "time of a call", case))
        .collect::<Result<Vec<_>>>()?;
    let least = rows
        .iter()
        .map(|row| row.spread().0)
        .fold(f64::MAX, f64::min);
    let most = rows.iter().map(|row| row.spread().1).fold(0.0, f64::max);
    let from = 10_f64.powf(least.log10().floor());
    let count = rows.len() as f64;
    area.fill(&WHITE).map_err(drawn)?;
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!(
                "ns of a write(2) of one byte to /dev/null, on a logarithmic axis ({})",
                measured.place("VM")
            ),
            (FONT, 15),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((from..most * 1.5).log_scale(), 0.0..count)
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("ns")
        .x_label_formatter(&|x| format!("{x}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(drawn)?;
    let right = Pos::new(HPos::Right, VPos::Center);
    for (place, row) in rows.iter().enumerate() {
        let y = count - 1.0 - place as f64;
        let ours = row.case.starts_with("murphy");
        let colour = COLOURS[if ours { 0 } else { 2 }];
        let (low, high) = row.spread();
        let bar = Rectangle::new(
            [(from, y + 0.2), (row.median(), y + 0.8)],
            colour.mix(0.7).filled(),
        );
        let stroke = PathElement::new([(low, y + 0.5), (high, y + 0.5)], BLACK);
        chart.draw_series([bar]).map_err(drawn)?;
        chart.draw_series([stroke]).map_err(drawn)?;
        let (x, y) = chart.backend_coord(&(from, y + 0.5));
        let style = (FONT, 12).into_text_style(area).pos(right);
        area.draw(&Text::new(row.case.clone(), (x - 8, y), style))
            .map_err(drawn)?;
    }
    Ok(())
}

/// The distribution functions of delays that vary, share of packets by ms: plain netem's, and murphy's beside it.
fn jitter(measured: &Measured, area: &Area) -> Result<()> {
    const KINDS: [&str; 4] = ["uniform", "normal", "pareto", "paretonormal"];
    area.fill(&WHITE).map_err(drawn)?;
    let parts = area.split_evenly((1, KINDS.len()));
    for (kind, part) in KINDS.iter().zip(parts) {
        let group = format!("{kind} jitter");
        let curves = ["plain netem", "murphy"]
            .map(|case| Ok((case, measured.row("VM", &group, "delay", case)?)));
        let curves = curves.into_iter().collect::<Result<Vec<_>>>()?;
        // The last of all packets are far from the others.
        let most = |row: &'_ Row| {
            let most = row.curve.iter().filter(|point| point.1 < 99.5);
            most.copied().collect::<Vec<_>>()
        };
        let points = || curves.iter().flat_map(|(_, row)| most(row));
        ensure!(points().next().is_some(), "{group}: no curve");
        let left = points().map(|point| point.0).fold(f64::MAX, f64::min);
        let right = points().map(|point| point.0).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&part)
            .caption(*kind, (FONT, 14))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(46)
            .build_cartesian_2d(left..right, 0.0..100.0)
            .map_err(drawn)?;
        chart
            .configure_mesh()
            .x_labels(4)
            .x_label_formatter(&|ms| format!("{ms:.0}"))
            .y_label_formatter(&|share| format!("{share:.0} %"))
            .x_desc("ms")
            .light_line_style(WHITE)
            .draw()
            .map_err(drawn)?;
        // Grey and broad beneath, blue and narrow above: where they agree both are seen.
        for ((case, row), (colour, width)) in curves.iter().zip([(COLOURS[2], 4), (COLOURS[0], 1)])
        {
            chart
                .draw_series(LineSeries::new(most(row), colour.stroke_width(width)))
                .map_err(drawn)?
                .label(*case)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(width))
                });
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    }
    Ok(())
}
