//! The resilience score, 0 to 100, and what the figures suggest.

use serde::Serialize;

use super::sample::measure::Measured;

/// The share of good answers from which on a service counts as working.
const WORKING: f64 = 0.95;
/// Availability is good from here.
const GOOD_AVAILABILITY: f64 = 0.999;

/// A probe's figures, as the score needs them.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The service it stands for.
    pub service: &'a str,
    /// Whether the whole depends on it.
    pub critical: bool,
    /// Whether it is where the fault was meant to be seen.
    pub measured: &'a Measured,
}

/// The score and its parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// 0.4 availability + 0.3 recovery + 0.2 blast radius + 0.1 degradation.
    pub total: f64,
    /// What it is made of.
    pub parts: Parts,
}

/// The parts of a score, each 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parts {
    /// Good answers under the fault, in percent.
    pub availability: f64,
    /// By the time to recover: below 10 s 100, up to 30 s 80, up to 60 s 60, else 40; 0 if it did not.
    pub recovery: f64,
    /// By the services that were affected: none 100, one 80, two 50, more 20.
    pub blast_radius: f64,
    /// All worked 100, all critical ones 80, something 50, nothing 0.
    pub degradation: f64,
}

/// Computes the score; nothing if there is no answer from under the fault.
pub fn score(all: &Measured, probes: &[Seen<'_>]) -> Option<Score> {
    let availability = all.fault.availability? * 100.0;
    let worst = probes
        .iter()
        .map(|seen| match seen.measured.recovered {
            Some(true) | None => seen.measured.time_to_recover.unwrap_or(0.0),
            Some(false) => f64::INFINITY,
        })
        .fold(0.0, f64::max);
    let recovery = match worst {
        t if t < 10.0 => 100.0,
        t if t <= 30.0 => 80.0,
        t if t <= 60.0 => 60.0,
        t if t.is_finite() => 40.0,
        _ => 0.0,
    };
    let working = |seen: &&Seen<'_>| {
        seen.measured
            .fault
            .availability
            .is_none_or(|a| a >= WORKING)
    };
    let affected = affected(probes);
    let blast_radius = match affected.len() {
        0 => 100.0,
        1 => 80.0,
        2 => 50.0,
        _ => 20.0,
    };
    let degradation = if probes.iter().all(|seen| working(&seen)) {
        100.0
    } else if probes
        .iter()
        .filter(|seen| seen.critical)
        .all(|seen| working(&seen))
        && probes.iter().any(|seen| seen.critical)
    {
        80.0
    } else if availability > 0.0 {
        50.0
    } else {
        0.0
    };
    Some(Score {
        total: 0.4 * availability + 0.3 * recovery + 0.2 * blast_radius + 0.1 * degradation,
        parts: Parts {
            availability,
            recovery,
            blast_radius,
            degradation,
        },
    })
}

/// The services that did not work under the fault, each once.
pub fn affected<'a>(probes: &[Seen<'a>]) -> Vec<&'a str> {
    let mut services: Vec<&str> = probes
        .iter()
        .filter(|seen| {
            seen.measured
                .fault
                .availability
                .is_some_and(|a| a < WORKING)
        })
        .map(|seen| seen.service)
        .collect();
    services.sort_unstable();
    services.dedup();
    services
}

/// The share of matched operations that were injected, 0 to 1, and how many matched; of all faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Injected {
    /// Operations that a fault looked at.
    pub matched: u64,
    /// Operations that it hit.
    pub injected: u64,
}

/// What the figures suggest, for people.
pub fn insights(all: &Measured, probes: &[Seen<'_>], injected: Option<Injected>) -> Vec<String> {
    let mut said = Vec::new();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let errors = all.fault.error_rate;
    if let Some(injected) = injected {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let share = injected.injected as f64 / injected.matched.max(1) as f64;
        match errors {
            _ if injected.matched == 0 => said.push(
                "The fault matched nothing: this experiment proves nothing. Check its target and its filters."
                    .to_owned(),
            ),
            _ if injected.injected == 0 => said.push(
                "The fault matched, and its triggers let nothing be injected: raise its probability or its times."
                    .to_owned(),
            ),
            Some(0.0) => said.push(format!(
                "{} of the operations were hit and no probe saw it: retries, fallbacks or caches absorb it.",
                percent(share)
            )),
            Some(errors) if errors < share => said.push(format!(
                "{} of the operations were hit, {} of the answers were bad: retries or fallbacks are working, not for all.",
                percent(share),
                percent(errors)
            )),
            Some(errors) if errors > share * 1.5 => said.push(format!(
                "{} of the operations were hit, but {} of the answers were bad: failures are amplified. Look for work that fails as a whole because a part does.",
                percent(share),
                percent(errors)
            )),
            _ => {}
        }
    }
    match all.fault.availability {
        Some(a) if a < WORKING => said.push(format!(
            "Availability under the fault was {}, below the 95 % at which a service counts as working.",
            percent(a)
        )),
        Some(a) if a < GOOD_AVAILABILITY => {
            said.push(format!("Availability under the fault was {}: degraded.", percent(a)));
        }
        _ => {}
    }
    if let Some(factor) = all.latency_factor.filter(|factor| *factor >= 2.0) {
        said.push(format!(
            "The 95th percentile of latency rose to {factor:.1} times the normal. Check timeouts and how long callers wait."
        ));
    }
    for seen in probes {
        match (seen.measured.recovered, seen.measured.time_to_recover) {
            (Some(false), _) => said.push(format!(
                "{} had not recovered when the experiment ended: it may need a restart or a reconnect.",
                seen.service
            )),
            (_, Some(t)) if t > 120.0 => said.push(format!(
                "{} took {t:.0} s to recover: more than two minutes; look at back-off and health checks.",
                seen.service
            )),
            (_, Some(t)) if t >= 30.0 => {
                said.push(format!("{} took {t:.0} s to recover.", seen.service));
            }
            _ => {}
        }
    }
    let affected = affected(probes);
    if affected.len() > 1 {
        said.push(format!(
            "The fault reached {} services: {}. A circuit breaker between them would contain it.",
            affected.len(),
            affected.join(", ")
        ));
    }
    if all.baseline.samples == 0 {
        said.push(
            "Nothing was measured before the fault: give `sample.baseline` some seconds."
                .to_owned(),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::measure::{Sample, Timeline, measure};
    use super::*;

    fn measured(baseline: &[bool], fault: &[bool], recovery: &[bool]) -> Measured {
        let mut samples = Vec::new();
        for (start, goods) in [(0.0, baseline), (100.0, fault), (200.0, recovery)] {
            for (i, good) in goods.iter().enumerate() {
                let at = start + f64::from(u32::try_from(i).unwrap());
                samples.push(Sample {
                    probe: 0,
                    at,
                    seconds: 0.0,
                    good: *good,
                });
            }
        }
        let time = Timeline {
            fault_from: Some(100.0),
            fault_to: Some(200.0),
            end: 300.0,
        };
        measure(&samples.iter().collect::<Vec<_>>(), &time)
    }

    fn seen(measured: &Measured) -> [Seen<'_>; 1] {
        [Seen {
            service: "shop",
            critical: true,
            measured,
        }]
    }

    #[test]
    fn rows_of_the_table() {
        let perfect = measured(&[true], &[true; 10], &[true]);
        assert_eq!(score(&perfect, &seen(&perfect)).unwrap().total, 100.0);
        let down = measured(&[true], &[false; 10], &[true]);
        let got = score(&down, &seen(&down)).unwrap();
        assert_eq!(
            (
                got.parts.availability,
                got.parts.recovery,
                got.parts.blast_radius,
                got.parts.degradation
            ),
            (0.0, 100.0, 80.0, 0.0)
        );
        assert_eq!(got.total, 46.0);
        let dead = measured(&[true], &[false; 10], &[false; 3]);
        assert_eq!(score(&dead, &seen(&dead)).unwrap().parts.recovery, 0.0);
        let slow: Vec<bool> = (0..40).map(|i| i > 20).collect();
        let slow = measured(&[true], &[true, false], &slow);
        let got = score(&slow, &seen(&slow)).unwrap();
        assert_eq!(
            (
                got.parts.availability,
                got.parts.recovery,
                got.parts.degradation
            ),
            (50.0, 80.0, 50.0)
        );
        let nothing = measured(&[true], &[], &[true]);
        assert_eq!(score(&nothing, &seen(&nothing)), None);
    }

    #[test]
    fn retries_that_work_are_pointed_out() {
        let fault: Vec<bool> = (0..20).map(|i| i >= 3).collect();
        let m = measured(&[true], &fault, &[true]);
        let said = insights(
            &m,
            &seen(&m),
            Some(Injected {
                matched: 100,
                injected: 20,
            }),
        );
        assert!(
            said[0].contains("20.0 %") && said[0].contains("15.0 %") && said[0].contains("working"),
            "{said:?}"
        );
        let said = insights(
            &m,
            &seen(&m),
            Some(Injected {
                matched: 100,
                injected: 5,
            }),
        );
        assert!(said[0].contains("amplified"), "{said:?}");
        let said = insights(&m, &seen(&m), Some(Injected::default()));
        assert!(said[0].contains("proves nothing"), "{said:?}");
    }

    proptest! {
        #[test]
        fn a_score_lies_between_0_and_100(baseline in proptest::collection::vec(any::<bool>(), 0..20),
                                         fault in proptest::collection::vec(any::<bool>(), 1..50),
                                         recovery in proptest::collection::vec(any::<bool>(), 0..90)) {
            let m = measured(&baseline, &fault, &recovery);
            let got = score(&m, &seen(&m)).unwrap();
            prop_assert!((0.0..=100.0).contains(&got.total));
            // One more good answer never lowers it.
            let mut better = fault.clone();
            if let Some(bad) = better.iter().position(|good| !good) {
                better[bad] = true;
                let m = measured(&baseline, &better, &recovery);
                prop_assert!(score(&m, &seen(&m)).unwrap().total >= got.total);
            }
        }
    }
}
