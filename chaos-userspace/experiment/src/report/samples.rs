//! What probes saw over time: murphy's samples, or where there are none the probes that the journal has anyway.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::journal::{Entry, Journal, timestamp};
use super::story::since;

/// One look of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds from the beginning.
    pub at: f64,
    /// Milliseconds that it took.
    pub ms: f64,
    /// Whether what it saw was right.
    pub ok: bool,
}

/// All looks of one probe, in order of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// The probe's name.
    pub name: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// Gathers them.
pub(super) fn read(journal: &Journal) -> Vec<Series> {
    let mut found = BTreeMap::<String, Vec<Sample>>::new();
    if let Some(sampling) = journal.murphy.get("sampling") {
        sampled(sampling, &mut found);
    } else if let Some(samples) = journal.murphy.get("samples") {
        native(journal, samples, None, &mut found);
    }
    if found.is_empty() {
        let states = &journal.steady_states;
        let checks = states
            .before
            .iter()
            .chain(&states.during)
            .chain(&states.after);
        for entry in checks.flat_map(|state| &state.probes) {
            found
                .entry(entry.name().to_owned())
                .or_default()
                .push(of(journal, entry));
        }
    }
    let sorted = |(name, mut samples): (String, Vec<Sample>)| {
        samples.sort_by(|a, b| a.at.total_cmp(&b.at));
        Series { name, samples }
    };
    found.into_iter().map(sorted).collect()
}

fn of(journal: &Journal, entry: &Entry) -> Sample {
    Sample {
        at: since(journal, entry.start),
        ms: entry.duration * 1000.0,
        ok: entry.status == "succeeded" && entry.tolerance_met != Some(false),
    }
}

/// murphy's own: rows of seconds, the place of the probe, seconds that it took, and whether it was good.
fn sampled(sampling: &Value, found: &mut BTreeMap<String, Vec<Sample>>) {
    for row in sampling["samples"].as_array().into_iter().flatten() {
        let (Some(at), Some(took), Some(ok)) = (row[0].as_f64(), row[2].as_f64(), row[3].as_bool())
        else {
            continue;
        };
        let place = row[1]
            .as_u64()
            .and_then(|place| usize::try_from(place).ok())
            .unwrap_or(0);
        let name = sampling["probes"][place]["name"]
            .as_str()
            .unwrap_or("probe");
        found.entry(name.to_owned()).or_default().push(Sample {
            at,
            ms: took * 1000.0,
            ok,
        });
    }
}

/// A list of samples that name their probe, or lists by probe.
fn native(
    journal: &Journal,
    value: &Value,
    probe: Option<&str>,
    found: &mut BTreeMap<String, Vec<Sample>>,
) {
    match value {
        Value::Array(items) => {
            for item in items {
                native(journal, item, probe, found);
            }
        }
        Value::Object(map) => {
            let first = |keys: &[&str]| keys.iter().find_map(|key| map.get(*key));
            let at = first(&["at", "t", "time", "seconds", "start"]);
            let at = at.and_then(|at| match at {
                Value::String(text) => Some(since(journal, timestamp(text))),
                other => other.as_f64(),
            });
            let name = first(&["probe", "name"]).and_then(Value::as_str).or(probe);
            let Some(at) = at else {
                // Lists by probe: {"name": …, "samples": […]} or {NAME: […]}.
                if let Some(inner) = map.get("samples") {
                    native(journal, inner, name, found);
                } else {
                    for (name, inner) in map {
                        native(journal, inner, Some(name), found);
                    }
                }
                return;
            };
            let ok = first(&["ok", "met", "success", "tolerance_met", "good"]);
            let ms = first(&["ms", "latency_ms", "duration_ms"]).and_then(Value::as_f64);
            let seconds =
                first(&["latency", "duration", "took", "latency_seconds"]).and_then(Value::as_f64);
            found
                .entry(name.unwrap_or("probe").to_owned())
                .or_default()
                .push(Sample {
                    at,
                    ms: ms
                        .or(seconds.map(|seconds| seconds * 1000.0))
                        .unwrap_or(0.0),
                    ok: ok.and_then(Value::as_bool).unwrap_or(true),
                });
        }
        _ => {}
    }
}
