//! From samples to figures: availability, errors, latency, detection, recovery. No clock, no thread.

use serde::Serialize;

/// One answer of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Which probe.
    pub probe: usize,
    /// When it was asked, in seconds since the beginning.
    pub at: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it answered within its tolerance.
    pub good: bool,
}

/// When what happened, in seconds since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// The first action began.
    pub fault_from: Option<f64>,
    /// Rollbacks were done, and nothing of ours was injected any more.
    pub fault_to: Option<f64>,
    /// Sampling ended.
    pub end: f64,
}

/// What a probe, or all of them, gave in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// How often it was asked.
    pub samples: usize,
    /// How often it did not answer well.
    pub failures: usize,
    /// Share of good answers, 0 to 1.
    pub availability: Option<f64>,
    /// Share of the others.
    pub error_rate: Option<f64>,
    /// Good answers a second.
    pub throughput: Option<f64>,
    /// Median of the time that good answers took, in seconds.
    pub latency_p50: Option<f64>,
    /// The 95th percentile.
    pub latency_p95: Option<f64>,
    /// The 99th percentile.
    pub latency_p99: Option<f64>,
}

impl Figures {
    /// Of samples that lie in a stretch of so many seconds.
    pub fn of<'a>(samples: impl Iterator<Item = &'a Sample>, seconds: f64) -> Self {
        let (mut count, mut times) = (0_usize, Vec::new());
        for sample in samples {
            count += 1;
            if sample.good {
                times.push(sample.seconds);
            }
        }
        times.sort_by(f64::total_cmp);
        let share = |part: usize| (count > 0).then(|| ratio(part, count));
        Self {
            samples: count,
            failures: count - times.len(),
            availability: share(times.len()),
            error_rate: share(count - times.len()),
            throughput: (seconds > 0.0).then(|| ratio(times.len(), 1) / seconds),
            latency_p50: percentile(&times, 50),
            latency_p95: percentile(&times, 95),
            latency_p99: percentile(&times, 99),
        }
    }
}

/// Counts of samples are far below what a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// By nearest rank, of times in order.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// What was measured of a probe, or of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Before the first action.
    pub baseline: Figures,
    /// While the fault was there.
    pub fault: Figures,
    /// After the rollbacks.
    pub recovery: Figures,
    /// From the first action to the first answer that was not good, in seconds.
    pub time_to_detect: Option<f64>,
    /// From the end of the fault to the first of the good answers that lasted; 0 if it was good already.
    pub time_to_recover: Option<f64>,
    /// Whether the last answer was good.
    pub recovered: Option<bool>,
    /// Good answers under the fault against those before it, 0 to 1.
    pub fault_tolerance: Option<f64>,
    /// The 95th percentile of latency under the fault against that before it.
    pub latency_factor: Option<f64>,
}

/// Measures samples that are in the order of their time.
pub fn measure(samples: &[&Sample], time: &Timeline) -> Measured {
    let from = time.fault_from.unwrap_or(f64::INFINITY);
    let to = time.fault_to.unwrap_or(f64::INFINITY).max(from);
    let between = |low: f64, high: f64| {
        let end = high.min(time.end);
        let inside = samples
            .iter()
            .copied()
            .filter(move |s| low <= s.at && s.at < high);
        Figures::of(inside, (end - low.min(end)).max(0.0))
    };
    let baseline = between(0.0, from);
    let fault = between(from, to);
    let recovery = between(to, f64::INFINITY);
    let bad_under_fault = samples.iter().find(|s| from <= s.at && !s.good);
    let last = samples.last();
    let factor = |under: Option<f64>, before: Option<f64>| {
        let (under, before) = under.zip(before)?;
        (before > 0.0).then(|| under / before)
    };
    Measured {
        time_to_detect: bad_under_fault.map(|s| s.at + s.seconds - from),
        time_to_recover: recovery_time(samples, to),
        recovered: last.filter(|s| s.at >= to).map(|s| s.good),
        fault_tolerance: factor(fault.availability, baseline.availability.or(Some(1.0)))
            .map(|f| f.min(1.0)),
        latency_factor: factor(fault.latency_p95, baseline.latency_p95),
        baseline,
        fault,
        recovery,
    }
}

/// From the end of the fault to the answer from which on all were good.
fn recovery_time(samples: &[&Sample], to: f64) -> Option<f64> {
    let after = samples.iter().filter(|s| s.at >= to).collect::<Vec<_>>();
    let last_bad = after.iter().rposition(|s| !s.good);
    match last_bad {
        None if after.is_empty() => None,
        None => Some(0.0),
        // The time it took to see it is part of it.
        Some(at) => after.get(at + 1).map(|s| s.at + s.seconds - to),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(goods: &[(f64, bool)]) -> Vec<Sample> {
        goods
            .iter()
            .map(|(at, good)| Sample {
                probe: 0,
                at: *at,
                seconds: 0.1,
                good: *good,
            })
            .collect()
    }

    #[test]
    fn a_fault_is_seen_and_recovered_from() {
        let all = samples(&[
            (0.0, true),
            (1.0, true),
            (2.0, true),
            (3.0, false),
            (4.0, false),
            (5.0, true),
            (6.0, false),
            (7.0, true),
            (8.0, true),
        ]);
        let time = Timeline {
            fault_from: Some(1.5),
            fault_to: Some(5.5),
            end: 9.0,
        };
        let measured = measure(&all.iter().collect::<Vec<_>>(), &time);
        assert_eq!(measured.baseline.availability, Some(1.0));
        assert_eq!((measured.fault.samples, measured.fault.failures), (4, 2));
        assert_eq!(measured.fault_tolerance, Some(0.5));
        assert!((measured.time_to_detect.unwrap() - 1.6).abs() < 1e-9);
        assert!((measured.time_to_recover.unwrap() - 1.6).abs() < 1e-9);
        assert_eq!(measured.recovered, Some(true));
    }

    #[test]
    fn nothing_measured_is_nothing_said() {
        let measured = measure(&[], &Timeline::default());
        assert_eq!(measured.fault.availability, None);
        assert_eq!(measured.time_to_recover, None);
        assert_eq!(measured.recovered, None);
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&times, 50), Some(50.0));
        assert_eq!(percentile(&times, 99), Some(99.0));
        assert_eq!(percentile(&[7.0], 1), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    proptest! {
        #[test]
        fn figures_hang_together(goods in proptest::collection::vec((0.0..100.0f64, any::<bool>()), 0..200),
                                 from in 0.0..100.0f64, length in 0.0..50.0f64) {
            let mut all = samples(&goods);
            all.sort_by(|a, b| a.at.total_cmp(&b.at));
            let time = Timeline { fault_from: Some(from), fault_to: Some(from + length), end: 101.0 };
            let m = measure(&all.iter().collect::<Vec<_>>(), &time);
            prop_assert_eq!(m.baseline.samples + m.fault.samples + m.recovery.samples, all.len());
            for figures in [&m.baseline, &m.fault, &m.recovery] {
                if let Some((a, e)) = figures.availability.zip(figures.error_rate) {
                    prop_assert!((a + e - 1.0).abs() < 1e-9);
                }
                prop_assert!(figures.latency_p50 <= figures.latency_p95 && figures.latency_p95 <= figures.latency_p99);
            }
            prop_assert!(m.time_to_detect.is_none_or(|t| t >= 0.0));
            prop_assert!(m.time_to_recover.is_none_or(|t| t >= 0.0));
            prop_assert!(m.fault_tolerance.is_none_or(|t| (0.0..=1.0).contains(&t)));
        }
    }
}
