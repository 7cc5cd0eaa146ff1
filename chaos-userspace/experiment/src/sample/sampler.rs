//! The threads that ask.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::measure::Sample;
use super::{Plan, Probe};
use crate::model::Activity;
use crate::providers::{self, Hosts};
use crate::stop::{Reason, Stop};
use crate::substitute::Names;
use crate::tolerance;

/// What asking needs.
#[derive(Clone, Debug)]
pub struct Hosting {
    /// Values for placeholders.
    pub names: Arc<Names>,
    /// What providers live on.
    pub hosts: Arc<Hosts>,
}

/// Probes under way; they end with it.
#[derive(Debug)]
pub struct Sampler {
    begun: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

fn lock(samples: &Mutex<Vec<Sample>>) -> MutexGuard<'_, Vec<Sample>> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sampler {
    /// Begins to ask; each probe on a thread of its own.
    ///
    /// # Errors
    ///
    /// No thread, or no descriptor.
    pub fn start(plan: &Plan, hosting: &Hosting, begun: Instant) -> io::Result<Self> {
        let mut sampler = Self {
            begun,
            samples: Arc::default(),
            stop: Arc::new(Stop::new()?),
            threads: Vec::new(),
        };
        for (place, probe) in plan.probes.iter().enumerate() {
            let (probe, interval, hosting) = (probe.clone(), plan.interval, hosting.clone());
            let (samples, stop) = (Arc::clone(&sampler.samples), Arc::clone(&sampler.stop));
            let ask = move || {
                let mut next = Instant::now();
                while stop.reason().is_none() {
                    let (at, asked) = (begun.elapsed(), Instant::now());
                    let Some(good) = good(&probe, &hosting, &stop) else {
                        return;
                    };
                    let sample = Sample {
                        probe: place,
                        at: at.as_secs_f64(),
                        seconds: asked.elapsed().as_secs_f64(),
                        good,
                    };
                    lock(&samples).push(sample);
                    // An answer that takes longer than the interval is not made up for.
                    next = (next + interval).max(Instant::now());
                    stop.sleep(next.saturating_duration_since(Instant::now()));
                }
            };
            let thread = std::thread::Builder::new()
                .name("sample".to_owned())
                .spawn(ask)?;
            sampler.threads.push(thread);
        }
        Ok(sampler)
    }

    /// The answers so far, in the order of their time.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = lock(&self.samples).clone();
        samples.sort_by(|a, b| a.at.total_cmp(&b.at));
        samples
    }

    /// Whether the last answers of every probe since a moment were good, so many of each.
    pub fn is_steady(&self, since: f64, probes: usize, many: usize) -> bool {
        let samples = self.samples();
        (0..probes).all(|probe| {
            let own = samples
                .iter()
                .rev()
                .filter(|s| s.probe == probe && s.at >= since);
            let last: Vec<_> = own.take(many).collect();
            last.len() == many && last.iter().all(|s| s.good)
        })
    }

    /// Seconds since the beginning.
    pub fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// How often it is worth looking at what has been answered.
    pub fn glance(interval: Duration) -> Duration {
        interval.clamp(Duration::from_millis(20), Duration::from_millis(250))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.raise(Reason::Ungraceful);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Whether a probe answers within its tolerance; nothing if it was stopped.
fn good(probe: &Probe, hosting: &Hosting, stop: &Stop) -> Option<bool> {
    let Hosting { names, hosts } = hosting;
    match providers::run(&probe.activity, names, hosts, stop) {
        Ok(output) => {
            let tolerance = probe.activity.tolerance().unwrap_or(&Value::Null);
            let ask = |asked: &Map<String, Value>| {
                providers::run(&Activity::new(asked.clone()), names, hosts, stop).ok()
            };
            Some(tolerance::within(tolerance, &output, names, &ask).unwrap_or(false))
        }
        Err(providers::Failure::Stopped(_)) => None,
        Err(_) => Some(false),
    }
}
