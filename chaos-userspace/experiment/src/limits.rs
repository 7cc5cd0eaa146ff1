//! Safety limits: when an experiment is stopped and rolled back by itself.
//!
//! The defaults are those of the chaos suites that murphy learned from: an error rate of 5 % or a 99th percentile of
//! 5 s over a minute, at once above 50 %, one service, 100 processes, five minutes.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::model::{Problem, join};
use super::sample::measure::{Figures, Sample};
use murphy_fault::expr;

/// No experiment lasts longer, whatever its file says.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);
/// The window of bounds that count when they are crossed for a time, in seconds.
const WINDOW: f64 = 60.0;
/// Fewer answers prove nothing.
const ENOUGH: usize = 5;
/// The window of what is judged at once, and of whether a service is affected.
const SOON: f64 = 10.0;

/// A limit that was crossed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// Its name, as in the file.
    pub limit: &'static str,
    /// What it allows and what was seen.
    pub text: String,
}

/// A bound that counts when it is crossed for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lasting {
    /// The bound: a share, or seconds.
    pub bound: f64,
    /// For how long, in seconds.
    pub over: f64,
}

/// All limits; `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Share of answers that are not good, over a window.
    pub error_rate: Option<Lasting>,
    /// The 99th percentile of latency in seconds, over a window.
    pub latency_p99: Option<Lasting>,
    /// Share of answers that are not good, at once.
    pub error_rate_at_once: Option<f64>,
    /// Share of good answers since the fault began.
    pub availability: Option<f64>,
    /// How many services may be affected.
    pub services: Option<u64>,
    /// How many processes faults may hit.
    pub processes: Option<u64>,
    /// How many affected services are a cascade.
    pub cascade: Option<u64>,
    /// How long the method may last, in seconds.
    pub duration: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            error_rate: Some(Lasting {
                bound: 0.05,
                over: WINDOW,
            }),
            latency_p99: Some(Lasting {
                bound: 5.0,
                over: WINDOW,
            }),
            error_rate_at_once: Some(0.5),
            availability: Some(0.5),
            services: Some(1),
            processes: Some(100),
            cascade: Some(2),
            duration: 300.0,
        }
    }
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// All answers so far, in the order of their time.
    pub samples: &'a [Sample],
    /// The services of the probes, by their places.
    pub services: &'a [String],
    /// When the fault began and how late it is, in seconds since the beginning.
    pub fault_from: f64,
    /// How late it is.
    pub at: f64,
    /// How many processes are hit.
    pub processes: u64,
}

impl Now<'_> {
    /// The answers of the last seconds under the fault.
    fn recent(&self, seconds: f64) -> impl Iterator<Item = &Sample> {
        let from = self.fault_from.max(self.at - seconds);
        self.samples.iter().filter(move |sample| sample.at >= from)
    }

    /// Services of which most recent answers are not good.
    fn affected(&self) -> Vec<&str> {
        let mut affected = Vec::new();
        for service in self.services {
            let own = self
                .recent(SOON)
                .filter(|sample| self.services.get(sample.probe) == Some(service));
            let (bad, good): (Vec<_>, Vec<_>) = own.partition(|sample| !sample.good);
            if bad.len() > good.len() && !affected.contains(&service.as_str()) {
                affected.push(service.as_str());
            }
        }
        affected
    }
}

impl Limits {
    /// The first limit that is crossed.
    pub fn crossed(&self, now: &Now<'_>) -> Option<Breach> {
        let breach = |limit, text| Some(Breach { limit, text });
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let elapsed = now.at - now.fault_from;
        if elapsed > self.duration {
            return breach(
                "duration",
                format!(
                    "the method has lasted {elapsed:.0} s; {:.0} s are allowed",
                    self.duration
                ),
            );
        }
        if let Some(most) = self.processes.filter(|most| now.processes > *most) {
            return breach(
                "processes",
                format!("{} processes are hit; {most} are allowed", now.processes),
            );
        }
        let affected = now.affected();
        let count = affected.len() as u64;
        if let Some(most) = self.services.filter(|most| count > *most) {
            return breach(
                "services",
                format!(
                    "{count} services are affected ({}); {most} are allowed",
                    affected.join(", ")
                ),
            );
        }
        if let Some(least) = self.cascade.filter(|least| count >= *least) {
            return breach(
                "cascade",
                format!(
                    "the failure has spread to {count} services ({}); {least} are a cascade",
                    affected.join(", ")
                ),
            );
        }
        let soon = Figures::of(now.recent(SOON), SOON);
        if let Some((most, seen)) = self.error_rate_at_once.zip(soon.error_rate)
            && soon.samples >= ENOUGH
            && seen > most
        {
            return breach(
                "error_rate_at_once",
                format!(
                    "{} of the answers were bad; {} are allowed",
                    percent(seen),
                    percent(most)
                ),
            );
        }
        let all = Figures::of(now.recent(f64::INFINITY), elapsed);
        if let Some((least, seen)) = self.availability.zip(all.availability)
            && all.samples >= 2 * ENOUGH
            && seen < least
        {
            return breach(
                "availability",
                format!(
                    "availability is {}; {} is the least",
                    percent(seen),
                    percent(least)
                ),
            );
        }
        if let Some(Lasting { bound, over }) = self.error_rate
            && elapsed >= over
            && let Some(seen) = Figures::of(now.recent(over), over).error_rate
            && seen > bound
        {
            return breach(
                "error_rate",
                format!(
                    "{} of the answers in {over:.0} s were bad; {} are allowed",
                    percent(seen),
                    percent(bound)
                ),
            );
        }
        if let Some(Lasting { bound, over }) = self.latency_p99
            && elapsed >= over
            && let Some(seen) = Figures::of(now.recent(over), over).latency_p99
            && seen > bound
        {
            return breach(
                "latency_p99",
                format!(
                    "the 99th percentile of latency in {over:.0} s was {seen:.2} s; {bound:.2} s are allowed"
                ),
            );
        }
        None
    }

    /// The limits a table says; what it does not name keeps its default, `false` or null is no limit.
    pub fn read(table: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) -> Self {
        let mut limits = Self::default();
        for (key, said) in table {
            let none = said.is_null() || *said == false;
            let wanted = match key.as_str() {
                "error_rate" => put(
                    &mut limits.error_rate,
                    lasting(said, share),
                    none,
                    "a share such as 5%, or {above: 5%, for: 60s}",
                ),
                "latency_p99" => put(
                    &mut limits.latency_p99,
                    lasting(said, seconds),
                    none,
                    "a duration such as 5s, or {above: 5s, for: 60s}",
                ),
                "error_rate_at_once" => put(
                    &mut limits.error_rate_at_once,
                    share(said),
                    none,
                    "a share such as 50%",
                ),
                "availability" => put(
                    &mut limits.availability,
                    share(said),
                    none,
                    "a share such as 50%",
                ),
                "services" => put(
                    &mut limits.services,
                    said.as_u64(),
                    none,
                    "a number of services",
                ),
                "processes" => put(
                    &mut limits.processes,
                    said.as_u64(),
                    none,
                    "a number of processes",
                ),
                "cascade" => put(
                    &mut limits.cascade,
                    said.as_u64(),
                    none,
                    "a number of services",
                ),
                "duration" => match seconds(said).filter(|said| *said <= LONGEST.as_secs_f64()) {
                    Some(said) => {
                        limits.duration = said;
                        None
                    }
                    None => Some("a duration of at most 30m"),
                },
                _ => Some(
                    "one of error_rate, latency_p99, error_rate_at_once, availability, services, processes, cascade, duration",
                ),
            };
            if let Some(wanted) = wanted {
                problems.push(Problem::new(
                    join(field, key),
                    format!("expected {wanted}, not {said}"),
                ));
            }
        }
        limits
    }
}

/// Sets a limit; says what was expected if it cannot be.
fn put<T>(
    limit: &mut Option<T>,
    said: Option<T>,
    none: bool,
    wanted: &'static str,
) -> Option<&'static str> {
    if said.is_none() && !none {
        return Some(wanted);
    }
    *limit = said;
    None
}

/// `5%`, `0.05`.
fn share(said: &Value) -> Option<f64> {
    let share = match said {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
            None => text.parse().ok()?,
        },
        _ => return None,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// Seconds as a number, or a duration with a unit.
pub(super) fn seconds(said: &Value) -> Option<f64> {
    match said {
        Value::Number(number) => number.as_f64().filter(|seconds| *seconds >= 0.0),
        Value::String(text) => expr::duration(text)
            .ok()
            .map(|time| Duration::from(time).as_secs_f64()),
        _ => None,
    }
}

/// A bound alone keeps its window.
fn lasting(said: &Value, read: fn(&Value) -> Option<f64>) -> Option<Lasting> {
    match said {
        Value::Object(table) if table.keys().all(|key| key == "above" || key == "for") => {
            Some(Lasting {
                bound: read(table.get("above")?)?,
                over: table.get("for").map_or(Some(WINDOW), seconds)?,
            })
        }
        other => Some(Lasting {
            bound: read(other)?,
            over: WINDOW,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(bad: impl Fn(u32) -> bool, probes: usize) -> Vec<Sample> {
        (0..100)
            .flat_map(|i| (0..probes).map(move |probe| (i, probe)))
            .map(|(i, probe)| Sample {
                probe,
                at: f64::from(i),
                seconds: 0.1,
                good: !bad(i),
            })
            .collect()
    }

    fn now<'a>(samples: &'a [Sample], services: &'a [String]) -> Now<'a> {
        Now {
            samples,
            services,
            fault_from: 0.0,
            at: 99.0,
            processes: 1,
        }
    }

    #[test]
    fn each_limit_is_crossed_by_what_it_is_for() {
        let one = ["shop".to_owned()];
        let limits = Limits::default();
        let crossed = |samples: &[Sample], limits: &Limits| {
            limits
                .crossed(&now(samples, &one))
                .map(|breach| breach.limit)
        };
        assert_eq!(crossed(&answers(|_| false, 1), &limits), None);
        assert_eq!(
            crossed(&answers(|i| i % 10 == 0, 1), &limits),
            Some("error_rate")
        );
        assert_eq!(
            crossed(&answers(|i| i > 90, 1), &limits),
            Some("error_rate_at_once")
        );
        assert_eq!(
            crossed(&answers(|i| i < 60, 1), &limits),
            Some("availability")
        );
        let mut slow = answers(|_| false, 1);
        slow.iter_mut().for_each(|sample| sample.seconds = 6.0);
        assert_eq!(crossed(&slow, &limits), Some("latency_p99"));
        let short = Limits {
            duration: 50.0,
            ..limits.clone()
        };
        assert_eq!(crossed(&[], &short), Some("duration"));
        let two = ["shop".to_owned(), "cart".to_owned()];
        let both = answers(|_| true, 2);
        assert_eq!(limits.crossed(&now(&both, &two)).unwrap().limit, "services");
        let wide = Limits {
            services: None,
            ..limits.clone()
        };
        assert_eq!(wide.crossed(&now(&both, &two)).unwrap().limit, "cascade");
        let few = Limits {
            processes: Some(0),
            ..limits
        };
        assert_eq!(few.crossed(&now(&[], &one)).unwrap().limit, "processes");
    }

    #[test]
    fn limits_are_adjusted() {
        let table = json!({
            "error_rate": {"above": "20%", "for": "5s"}, "latency_p99": "500ms", "services": 3,
            "cascade": false, "availability": null, "duration": "10m"
        });
        let mut problems = Vec::new();
        let limits = Limits::read(table.as_object().unwrap(), "limits", &mut problems);
        assert_eq!(problems, []);
        assert_eq!(
            limits.error_rate,
            Some(Lasting {
                bound: 0.2,
                over: 5.0
            })
        );
        assert_eq!(
            limits.latency_p99,
            Some(Lasting {
                bound: 0.5,
                over: 60.0
            })
        );
        assert_eq!(
            (limits.services, limits.cascade, limits.availability),
            (Some(3), None, None)
        );
        assert_eq!((limits.duration, limits.processes), (600.0, Some(100)));
        for (table, field) in [
            (json!({"error_rate": "500%"}), "limits.error_rate"),
            (json!({"duration": "2h"}), "limits.duration"),
            (json!({"what": 1}), "limits.what"),
            (json!({"services": "many"}), "limits.services"),
        ] {
            let mut problems = Vec::new();
            Limits::read(table.as_object().unwrap(), "limits", &mut problems);
            assert_eq!(problems[0].field, field);
        }
    }
}
