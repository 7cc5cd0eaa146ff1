//! Figures of several repetitions, as a table and as JSON lines.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// One case: what was measured, and what each repetition gave.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) group: String,
    pub(super) case: String,
    pub(super) what: String,
    pub(super) unit: String,
    pub(super) values: Vec<f64>,
    /// Points of a curve, in place of values: written to the file, and not printed.
    pub(super) curve: Vec<(f64, f64)>,
}

impl Row {
    /// From a line that a measuring program printed.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let values = value["values"].as_array().into_iter().flatten();
        let row = Self {
            group: text("group"),
            case: text("case"),
            what: text("what"),
            unit: text("unit"),
            values: values.filter_map(Value::as_f64).collect(),
            curve: match value.get("curve") {
                Some(points) => serde_json::from_value(points.clone())?,
                None => Vec::new(),
            },
        };
        ensure!(
            row.values.is_empty() != row.curve.is_empty(),
            "neither values nor a curve in {line}"
        );
        Ok(row)
    }

    /// Mean, and half the width of its 95 % confidence interval.
    pub(super) fn mean(&self) -> (f64, f64) {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let squares = self.values.iter().map(|value| (value - mean).powi(2));
        let deviation = (squares.sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        (mean, student(self.values.len()) * deviation / n.sqrt())
    }

    /// The middle of the values.
    pub(super) fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// The least and the greatest of the values.
    pub(super) fn spread(&self) -> (f64, f64) {
        let values = self.values.iter().copied();
        (
            values.clone().fold(f64::MAX, f64::min),
            values.fold(f64::MIN, f64::max),
        )
    }

    fn json(&self, place: &str) -> Value {
        if !self.curve.is_empty() {
            return json!({
                "place": place, "group": self.group, "case": self.case, "what": self.what, "unit": self.unit,
                "curve": self.curve,
            });
        }
        let (mean, half) = self.mean();
        json!({
            "place": place, "group": self.group, "case": self.case, "what": self.what, "unit": self.unit,
            "median": self.median(), "mean": mean, "ci95": half, "values": self.values,
        })
    }
}

/// Student's t for a two-sided 95 % interval of so many values.
fn student(values: usize) -> f64 {
    const T: [f64; 15] = [
        0.0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14,
    ];
    match values {
        0 => 0.0,
        n => T.get(n - 1).copied().unwrap_or(2.1),
    }
}

/// Prints rows of one place, each beside the first one of its kind.
pub(super) fn print(place: &str, rows: &[Row]) {
    let mut kind = (String::new(), String::new());
    let mut first = 0.0;
    for row in rows.iter().filter(|row| row.curve.is_empty()) {
        let own = (row.group.clone(), row.what.clone());
        let (mean, half) = row.mean();
        if own != kind {
            println!(
                "\n{} of {}, {place}\n{:<44} {:>9} {:>9} {:>9} {:>9}",
                row.what, row.group, row.unit, "median", "mean", "± 95 %", "× first"
            );
            kind = own;
            first = mean;
        }
        let ratio = match first {
            0.0 => "-".to_owned(),
            first => format!("{:.3}", mean / first),
        };
        println!(
            "{:<44} {:>9.1} {mean:>9.1} {half:>9.1} {ratio:>9}",
            row.case,
            row.median(),
        );
    }
}

/// Appends rows to a file.
pub(super) fn write(file: &Path, place: &str, rows: &[Row]) -> Result<()> {
    let mut out = OpenOptions::new().create(true).append(true).open(file)?;
    for row in rows {
        writeln!(out, "{}", row.json(place))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_equal_values_is_a_point() {
        let line = r#"{"group":"g","case":"c","what":"w","unit":"ns","values":[2.0,2.0,2.0]}"#;
        let row = Row::parse(line).unwrap();
        assert_eq!(row.mean(), (2.0, 0.0));
        assert_eq!(row.median(), 2.0);
        assert!(Row::parse(r#"{"values":[]}"#).is_err());
    }

    #[test]
    fn an_interval_is_students() {
        let line = r#"{"values":[1.0,2.0,3.0]}"#;
        let (mean, half) = Row::parse(line).unwrap().mean();
        assert_eq!(mean, 2.0);
        assert!((half - 4.30 / 3f64.sqrt()).abs() < 1e-9);
    }
}
