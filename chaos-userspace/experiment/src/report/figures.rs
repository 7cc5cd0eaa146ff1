//! Figures out of samples: the same for journals of the Chaos Toolkit and of murphy.

use serde::Serialize;

use super::journal::Journal;
use super::samples::{Sample, Series};
use super::story::Window;

/// What the samples come to. `None`: there are too few to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// How many samples.
    pub samples: usize,
    /// Share of them that were right, of all.
    pub availability: Option<f64>,
    /// Share that was wrong while faults were in place.
    pub error_rate: Option<f64>,
    /// Half of the looks before the faults took no longer, in ms.
    pub p50_before: Option<f64>,
    /// Half of the looks took no longer while faults were in place, in ms.
    pub p50: Option<f64>,
    /// 95 of 100.
    pub p95_before: Option<f64>,
    /// 95 of 100 while faults were in place.
    pub p95: Option<f64>,
    /// 99 of 100 while faults were in place.
    pub p99: Option<f64>,
    /// Seconds from the fault to the first wrong sample.
    pub time_to_detect: Option<f64>,
    /// Seconds from the end of the fault to the first sample from which on all were right.
    pub time_to_recover: Option<f64>,
    /// Whether the last samples were right.
    pub recovered: Option<bool>,
    /// Seconds that the rollbacks took.
    pub rollback_seconds: Option<f64>,
}

/// The nearest-rank percentile of sorted values.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // a share of a length
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Fewer samples than these say nothing.
const ENOUGH: usize = 5;

/// The share of `part` in `whole`.
#[allow(clippy::cast_precision_loss)] // counts of samples
pub(super) fn share(part: usize, whole: usize) -> Option<f64> {
    (whole >= ENOUGH).then(|| part as f64 / whole as f64)
}

/// Computes them; what the journal's own metrics say stands above what is computed here.
pub(super) fn of(journal: &Journal, series: &[Series], windows: &[Window]) -> Figures {
    let mut all: Vec<Sample> = series
        .iter()
        .flat_map(|one| one.samples.iter().copied())
        .collect();
    all.sort_by(|a, b| a.at.total_cmp(&b.at));
    let begin = windows
        .iter()
        .map(|window| window.from)
        .fold(f64::INFINITY, f64::min);
    let end = windows
        .iter()
        .map(|window| window.to)
        .fold(f64::NEG_INFINITY, f64::max);
    let good = |samples: &[Sample]| share(samples.iter().filter(|s| s.ok).count(), samples.len());
    let took = |samples: &[Sample]| {
        let mut took: Vec<f64> = samples.iter().map(|sample| sample.ms).collect();
        took.sort_by(f64::total_cmp);
        if took.len() < ENOUGH {
            took.clear();
        }
        took
    };
    let before: Vec<_> = all.iter().copied().filter(|s| s.at < begin).collect();
    let during: Vec<_> = all
        .iter()
        .copied()
        .filter(|s| s.at >= begin && s.at <= end)
        .collect();
    let after: Vec<_> = all.iter().copied().filter(|s| s.at > end).collect();
    let (took_before, took_during) = (took(&before), took(&during));
    let first_wrong = during.iter().find(|sample| !sample.ok);
    // Right again, and for good.
    let last_wrong = after.iter().rposition(|sample| !sample.ok);
    let right_again = after.get(last_wrong.map_or(0, |at| at + 1));
    let back = journal.rollbacks.iter().map(|entry| entry.duration).sum();
    let mut figures = Figures {
        samples: all.len(),
        availability: good(&all),
        error_rate: good(&during).map(|good| 1.0 - good),
        p50_before: percentile(&took_before, 0.5),
        p50: percentile(&took_during, 0.5),
        p95_before: percentile(&took_before, 0.95),
        p95: percentile(&took_during, 0.95),
        p99: percentile(&took_during, 0.99),
        time_to_detect: first_wrong.map(|sample| sample.at - begin),
        time_to_recover: right_again
            .filter(|_| first_wrong.is_some())
            .map(|sample| sample.at - end),
        recovered: after.last().map(|sample| sample.ok),
        rollback_seconds: (!journal.rollbacks.is_empty()).then_some(back),
    };
    // The runner saw more than the samples say: when its first action began, and when nothing was injected any more.
    let all = journal
        .murphy
        .get("sampling")
        .map(|sampling| &sampling["all"]);
    let own = |key: &str| all.and_then(|all| all[key].as_f64());
    figures.time_to_detect = own("time_to_detect").or(figures.time_to_detect);
    figures.time_to_recover = own("time_to_recover").or(figures.time_to_recover);
    let rolled = journal
        .murphy
        .get("rollback_seconds")
        .and_then(serde_json::Value::as_f64);
    figures.rollback_seconds = rolled.or(figures.rollback_seconds);
    figures
}
