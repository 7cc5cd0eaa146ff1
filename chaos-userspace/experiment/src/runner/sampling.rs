//! Sampling around the sequence: the normal state, limits while the method goes on, recovery, figures.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::World;
use crate::limits::Now;
use crate::progress::{Event, Phase};
use crate::providers::Failure;
use crate::sample::measure::{Measured, Timeline, measure};
use crate::sample::{Hosting, Plan, Sampler};
use crate::score::{self, Injected, Seen};
use crate::stop::Reason;

/// What is sampled in an experiment.
pub(super) struct Sampling {
    plan: Plan,
    sampler: Arc<Sampler>,
    /// Watches the limits; its end is dropped when that is over.
    watch: Option<(Sender<()>, JoinHandle<()>)>,
    fault_to: Option<f64>,
}

/// Begins to sample, and measures the normal state.
///
/// # Errors
///
/// The experiment is to stop; or no thread can be started.
pub(super) fn begin(world: &Arc<World>, plan: &Plan) -> Result<Sampling, Failure> {
    let broken = |error| Failure::Broken(format!("sampling: {error}"));
    let hosting = Hosting {
        names: Arc::clone(&world.names),
        hosts: Arc::clone(&world.hosts),
    };
    let sampler = Sampler::start(plan, &hosting, world.begun).map_err(broken)?;
    let mut sampling = Sampling {
        plan: plan.clone(),
        sampler: Arc::new(sampler),
        watch: None,
        fault_to: None,
    };
    if !plan.probes.is_empty() && world.settings.dry.is_none() {
        world.observer.tell(&Event::Phase(Phase::Baseline));
        if let Some(reason) = world.stop.sleep(plan.baseline) {
            return Err(Failure::Stopped(reason));
        }
    }
    sampling.watch = Some(watch(world, &sampling).map_err(broken)?);
    Ok(sampling)
}

/// Looks at the limits until it is over.
fn watch(world: &Arc<World>, sampling: &Sampling) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
    let (over, is_over) = channel::<()>();
    let (world, plan) = (Arc::clone(world), sampling.plan.clone());
    let sampler = Arc::clone(&sampling.sampler);
    let services: Vec<_> = plan
        .probes
        .iter()
        .map(|probe| probe.service.clone())
        .collect();
    let look = move || {
        let glance = Sampler::glance(plan.interval);
        let mut processes = (Instant::now(), 0);
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(glance) {
            let Some(fault_from) = world.fault_from() else {
                continue;
            };
            // Asking injectors costs more than looking at answers.
            if processes.0.elapsed() > Duration::from_secs(2) {
                processes = (Instant::now(), world.hosts.faults.processes());
                world
                    .observer
                    .tell(&Event::Counters(&world.hosts.faults.counters()));
            }
            let samples = sampler.samples();
            let now = Now {
                samples: &samples,
                services: &services,
                fault_from,
                at: sampler.now(),
                processes: processes.1,
            };
            if let Some(breach) = plan.limits.crossed(&now) {
                let reason = Reason::Breach(breach);
                world.stop.raise(reason.clone());
                world.background.raise(reason);
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("limits".to_owned())
        .spawn(look)?;
    Ok((over, thread))
}

impl Sampling {
    /// The limits have been kept, or not; from here on there is nothing to stop.
    pub(super) fn method_over(&mut self) {
        if let Some((over, thread)) = self.watch.take() {
            drop(over);
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }

    /// Everything is undone: waits for the normal state to return.
    pub(super) fn undone(&mut self, world: &World) {
        self.method_over();
        let from = self.sampler.now();
        self.fault_to = Some(from);
        if self.plan.probes.is_empty() || world.fault_from().is_none() {
            return;
        }
        world.observer.tell(&Event::Phase(Phase::Recovery));
        let until = Instant::now() + self.plan.recovery;
        let glance = Sampler::glance(self.plan.interval);
        let probes = self.plan.probes.len();
        while Instant::now() < until && !self.sampler.is_steady(from, probes, self.plan.steady) {
            if world.stop.sleep(glance).is_some() {
                return;
            }
        }
    }

    /// The figures, for the journal.
    pub(super) fn figures(self, world: &World, faults: &[Value]) -> Map<String, Value> {
        let samples = self.sampler.samples();
        let time = Timeline {
            fault_from: world.fault_from(),
            fault_to: self.fault_to,
            end: self.sampler.now(),
        };
        let own = |place: usize| samples.iter().filter(move |sample| sample.probe == place);
        let measured: Vec<Measured> = (0..self.plan.probes.len())
            .map(|place| measure(&own(place).collect::<Vec<_>>(), &time))
            .collect();
        let all = together(
            measure(&samples.iter().collect::<Vec<_>>(), &time),
            &measured,
        );
        let seen: Vec<Seen<'_>> = self
            .plan
            .probes
            .iter()
            .zip(&measured)
            .map(|(probe, measured)| Seen {
                service: &probe.service,
                critical: probe.critical,
                measured,
            })
            .collect();
        let probes: Vec<Value> = self
            .plan
            .probes
            .iter()
            .zip(&measured)
            .map(|(probe, measured)| {
                let mut row = json!({
                    "name": probe.activity.name(), "service": probe.service, "critical": probe.critical,
                });
                row["measured"] = json!(measured);
                row
            })
            .collect();
        let name = |place: usize| {
            self.plan
                .probes
                .get(place)
                .map(|probe| probe.activity.name())
        };
        let answers: Vec<Value> = samples
            .iter()
            .map(|s| json!({"probe": name(s.probe), "at": s.at, "duration": s.seconds, "good": s.good}))
            .collect();
        let mut figures = Map::new();
        figures.insert(
            "sampling".to_owned(),
            json!({
                "interval": self.plan.interval.as_secs_f64(), "timeline": time, "all": all, "probes": probes,
                "affected_services": score::affected(&seen)
            }),
        );
        figures.insert("samples".to_owned(), answers.into());
        figures.insert("score".to_owned(), json!(score::score(&all, &seen)));
        figures.insert(
            "insights".to_owned(),
            score::insights(&all, &seen, injected(faults)).into(),
        );
        figures
    }
}

/// All probes have recovered when the last of them has.
fn together(all: Measured, each: &[Measured]) -> Measured {
    let known: Vec<bool> = each.iter().filter_map(|one| one.recovered).collect();
    let times: Option<Vec<f64>> = each.iter().map(|one| one.time_to_recover).collect();
    Measured {
        recovered: (!known.is_empty()).then(|| known.iter().all(|recovered| *recovered)),
        time_to_recover: times
            .filter(|times| !times.is_empty())
            .map(|times| times.into_iter().fold(0.0, f64::max)),
        ..all
    }
}

/// What the kernel counted of all faults; nothing if there was none of ours.
fn injected(faults: &[Value]) -> Option<Injected> {
    let reports = faults
        .iter()
        .filter_map(|came| came["report"]["faults"].as_array());
    let mut sum = None;
    for fault in reports.flatten() {
        let Injected { matched, injected } = sum.unwrap_or_default();
        sum = Some(Injected {
            matched: matched + fault["matched"].as_u64().unwrap_or(0),
            injected: injected + fault["injected"].as_u64().unwrap_or(0),
        });
    }
    sum
}
