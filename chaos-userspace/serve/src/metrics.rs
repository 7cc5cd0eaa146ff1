//! What a scraper reads at `/metrics`. Names, labels and units are part of the interface: docs/serve.md lists them.

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use murphy_fault::{Fault, Key};
use murphy_state::results::{ConditionReport, FaultReport};

/// Every metric of the daemon.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    matched: IntCounterVec,
    injected: IntCounterVec,
    suppressed: IntCounterVec,
    expired: IntCounterVec,
    failed: IntCounterVec,
    observed: IntCounterVec,
    altered: IntCounterVec,
    applied: IntCounterVec,
    /// Injections that began.
    pub(super) started: IntCounter,
    refused: IntCounterVec,
    reverts: IntCounterVec,
    active: IntGauge,
}

/// What was counted of a fault up to now, so that only what is new is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    matched: u64,
    injected: u64,
    suppressed: [u64; 6],
    expired: u64,
    failed: u64,
    /// `None` where nobody observes: then there is no series.
    observed: Option<u64>,
    altered: Option<u64>,
    /// `None` for rules: only conditions have this series.
    applied: Option<u64>,
}

/// The values of the label `reason` of `murphy_suppressed_total`.
const SUPPRESSED: [&str; 6] = [
    "probability",
    "when",
    "times",
    "after",
    "pulse",
    "rate_limit",
];

/// The values of the label `reason` of `murphy_reverts_total`.
const REVERTS: [&str; 6] = ["time", "targets", "lease", "request", "operator", "died"];

impl From<&FaultReport> for Counted {
    fn from(report: &FaultReport) -> Self {
        let by = report.suppressed;
        Self {
            matched: report.matched,
            injected: report.injected,
            suppressed: [
                by.probability,
                by.when,
                by.times,
                by.after,
                by.pulse,
                by.rate_limit,
            ],
            expired: report.expired,
            failed: report.failed,
            observed: report.observed,
            altered: report.altered,
            applied: None,
        }
    }
}

impl From<&ConditionReport> for Counted {
    fn from(report: &ConditionReport) -> Self {
        Self {
            failed: report.failed,
            applied: Some(report.applied),
            ..Self::default()
        }
    }
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let of_fault = ["fault", "effect"];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help).namespace("murphy"), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let metrics = Self {
            matched: counter(
                "matched_total",
                "Operations of a target that a fault's filters accept.",
                &of_fault,
            )?,
            injected: counter(
                "injections_total",
                "Operations that a fault took effect on.",
                &of_fault,
            )?,
            suppressed: counter(
                "suppressed_total",
                "Matches that a trigger left alone.",
                &["fault", "effect", "reason"],
            )?,
            expired: counter(
                "expired_total",
                "Matches after the fault's time or the lease was over.",
                &of_fault,
            )?,
            failed: counter(
                "failed_total",
                "Matches that could not be carried out, and processes that a condition could not be \
                 applied to.",
                &of_fault,
            )?,
            observed: counter(
                "observed_total",
                "Injections that came back to their caller with the result that was injected.",
                &of_fault,
            )?,
            altered: counter(
                "altered_total",
                "Injections that came back to their caller with another result.",
                &of_fault,
            )?,
            applied: counter(
                "conditions_applied_total",
                "Processes that a condition was applied to.",
                &of_fault,
            )?,
            refused: counter(
                "refusals_total",
                "Requests for faults that were refused, by HTTP status.",
                &["status"],
            )?,
            reverts: counter(
                "reverts_total",
                "Injections that ended, by reason.",
                &["reason"],
            )?,
            started: IntCounter::with_opts(
                Opts::new("injections_started_total", "Injections that were armed.")
                    .namespace("murphy"),
            )?,
            active: IntGauge::with_opts(
                Opts::new("active_faults", "Faults in force.").namespace("murphy"),
            )?,
            registry,
        };
        let build = IntGaugeVec::new(
            Opts::new("build_info", "Always 1; the label says which murphy.").namespace("murphy"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // A series that begins with 1 has not increased, as Prometheus sees it.
        for reason in REVERTS {
            metrics.reverts.with_label_values(&[reason]);
        }
        let others: [Box<dyn Collector>; 3] = [
            Box::new(metrics.started.clone()),
            Box::new(metrics.active.clone()),
            Box::new(build),
        ];
        for collector in others {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Adds what is new in a fault's counters since `before`.
    pub(super) fn count(&self, fault: &Fault, before: Counted, now: Counted) {
        let of = labels(fault);
        if let Some(applied) = now.applied {
            let new = applied.saturating_sub(before.applied.unwrap_or_default());
            self.applied.with_label_values(&of).inc_by(new);
            let new = now.failed.saturating_sub(before.failed);
            self.failed.with_label_values(&of).inc_by(new);
            return;
        }
        for (counter, before, now) in [
            (&self.matched, before.matched, now.matched),
            (&self.injected, before.injected, now.injected),
            (&self.expired, before.expired, now.expired),
            (&self.failed, before.failed, now.failed),
        ] {
            counter
                .with_label_values(&of)
                .inc_by(now.saturating_sub(before));
        }
        for (counter, before, now) in [
            (&self.observed, before.observed, now.observed),
            (&self.altered, before.altered, now.altered),
        ] {
            if let Some(now) = now {
                counter
                    .with_label_values(&of)
                    .inc_by(now.saturating_sub(before.unwrap_or_default()));
            }
        }
        for (at, reason) in SUPPRESSED.into_iter().enumerate() {
            let new = now.suppressed[at].saturating_sub(before.suppressed[at]);
            self.suppressed
                .with_label_values(&[of[0], of[1], reason])
                .inc_by(new);
        }
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, status: u16) {
        self.refused
            .with_label_values(&[status.to_string().as_str()])
            .inc();
    }

    /// Counts an end. Its words are free; the label's values are these few.
    pub(super) fn ended(&self, why: &str) {
        let reason = match why {
            "the time is over" => "time",
            "all targets have ended" => "targets",
            "nobody renewed it in time" => "lease",
            _ if why.starts_with("stopped by ") => "request",
            _ if why.starts_with("stopped") => "operator",
            _ => "died",
        };
        self.reverts.with_label_values(&[reason]).inc();
    }

    /// The page, with `active` faults in force.
    pub(super) fn page(&self, active: usize) -> prometheus::Result<Vec<u8>> {
        self.active.set(i64::try_from(active).unwrap_or(i64::MAX));
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}

/// The values of `fault` and `effect`: both of a small, fixed set. Of an effect with several keys the first
/// names it, as in an expression.
fn labels(fault: &Fault) -> [&'static str; 2] {
    let stem = fault.ops.first().map_or("none", |op| op.kind().stem);
    let effect = fault.effect.keys().first().copied();
    [stem, effect.map_or("none", |key| Key::Effect(key).name())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is moved by something, and none is missing in the documentation.
    #[test]
    fn every_metric_is_used_and_documented() {
        let metrics = Metrics::new().unwrap();
        let fault: Fault = "write:error=EIO:p=50%".parse().unwrap();
        let now = Counted {
            matched: 6,
            injected: 2,
            suppressed: [1; 6],
            expired: 1,
            failed: 1,
            observed: Some(1),
            altered: Some(1),
            applied: None,
        };
        metrics.count(&fault, Counted::default(), now);
        metrics.count(&fault, now, now);
        let condition: Fault = "limit:nofile=used".parse().unwrap();
        let applied = Counted {
            applied: Some(3),
            ..Counted::default()
        };
        metrics.count(&condition, Counted::default(), applied);
        metrics.started.inc();
        metrics.refused(422);
        metrics.ended("the time is over");
        let page = String::from_utf8(metrics.page(1).unwrap()).unwrap();
        let documented = include_str!("../../../docs/serve.md");
        for family in metrics.registry.gather() {
            let name = family.name();
            assert!(page.contains(&format!("\n{name}")), "{name} is not used");
            assert!(
                documented.contains(&format!("`{name}")),
                "{name} is not documented"
            );
            assert!(!family.help().is_empty(), "{name}");
        }
        assert!(
            page.contains(r#"murphy_injections_total{effect="error",fault="read_write"} 2"#),
            "{page}"
        );
        assert!(
            page.contains(r#"murphy_conditions_applied_total{effect="nofile",fault="limit"} 3"#),
            "{page}"
        );
        assert!(
            page.contains(r#"murphy_observed_total{effect="error",fault="read_write"} 1"#),
            "{page}"
        );
    }

    #[test]
    fn what_nobody_observes_has_no_series() {
        let metrics = Metrics::new().unwrap();
        let fault: Fault = "write:error=EIO".parse().unwrap();
        let now = Counted {
            injected: 2,
            ..Counted::default()
        };
        metrics.count(&fault, Counted::default(), now);
        let page = String::from_utf8(metrics.page(1).unwrap()).unwrap();
        assert!(page.contains("murphy_injections_total"), "{page}");
        for absent in ["observed", "altered"] {
            assert!(!page.contains(absent), "{page}");
        }
    }
}
