//! The daemon's injections: started, kept alive, watched, ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;

use super::metrics::{Counted, Metrics};
use super::problem::Problem;
use super::request::Wanted;
use murphy_engine::injector::{Armed, OrderError};
use murphy_fault::Fault;
use murphy_state::results::Report;
use murphy_state::{Live, StateError, Stopped, client};
use murphy_sys::process::{Process, path_of_own_fd};

/// How long faults without a lease of their own outlive the daemon.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long reverting may take before an injector is killed.
const REVERTING: Duration = Duration::from_secs(20);

/// Happenings that a slow reader may lag behind.
const HAPPENINGS: usize = 256;

/// Something that happened to an injection of the daemon.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Happening {
    /// It is armed.
    Started {
        /// Its id.
        id: String,
        /// The faults as expressions.
        faults: Vec<String>,
        /// Processes that are hit.
        processes: usize,
    },
    /// It is reverted.
    Ended {
        /// Its id.
        id: String,
        /// Why.
        ended: String,
        /// What came of the faults; absent if its injector was killed.
        #[serde(skip_serializing_if = "Option::is_none")]
        report: Option<Report>,
    },
}

/// One of them.
struct Ours {
    faults: Vec<Fault>,
    counted: Vec<Counted>,
}

/// All of them.
pub(super) struct Injections {
    program: PathBuf,
    ours: Mutex<BTreeMap<String, Ours>>,
    /// What became of them, as numbers.
    pub(super) metrics: Metrics,
    happenings: Mutex<Option<broadcast::Sender<Happening>>>,
}

/// What an injector writes when it ends: see `cli::output::Outcome`.
#[derive(Debug, Deserialize)]
struct Outcome {
    ended: String,
    #[serde(flatten)]
    report: Report,
}

impl Injections {
    pub(super) fn new(program: PathBuf, metrics: Metrics) -> Self {
        Self {
            program,
            ours: Mutex::default(),
            metrics,
            happenings: Mutex::new(Some(broadcast::Sender::new(HAPPENINGS))),
        }
    }

    /// Starts an injection, and returns once it is armed.
    pub(super) async fn start(self: &Arc<Self>, wanted: Wanted) -> Result<Armed, Problem> {
        let this = Arc::clone(self);
        let (faults, lease) = (wanted.faults.clone(), wanted.lease);
        let begun = spawn_blocking(move || this.begin(&wanted)).await;
        let (armed, process, outcome) = match begun.map_err(Problem::internal)? {
            Ok(begun) => begun,
            Err(problem) => return Err(problem),
        };
        self.lock().insert(
            armed.id.clone(),
            Ours {
                counted: vec![Counted::default(); faults.len()],
                faults: faults.clone(),
            },
        );
        self.metrics.started.inc();
        self.tell(Happening::Started {
            id: armed.id.clone(),
            faults: faults.iter().map(ToString::to_string).collect(),
            processes: armed.processes,
        });
        let this = Arc::clone(self);
        let id = armed.id.clone();
        tokio::spawn(async move {
            watch(&id, &process, lease.is_none()).await;
            this.ended(&id, outcome);
        });
        Ok(armed)
    }

    /// The part of it that waits for another process.
    fn begin(&self, wanted: &Wanted) -> Result<(Armed, AsyncFd<OwnedFd>, File), Problem> {
        // Its result comes through memory of the daemon's: nothing is left of it if both die.
        let outcome =
            memfd_create("murphy-outcome", MemfdFlags::CLOEXEC).map_err(Problem::internal)?;
        let path = path_of_own_fd(&outcome);
        let order = wanted
            .order
            .clone()
            .option("--output", path)
            .duration("--keepalive", wanted.lease.unwrap_or(KEEPALIVE));
        let armed = order
            .start(&self.program)
            .inspect_err(|error: &OrderError| {
                if let OrderError::Program { .. } = error {
                    super::complain(format!("murphy: {error}"));
                }
            })?;
        let process = pidfd(armed.pid).map_err(|error| {
            Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("the injector of {} ended at once: {error}", armed.id),
            )
        })?;
        Ok((armed, process, File::from(outcome)))
    }

    /// An injection's injector has ended.
    fn ended(&self, id: &str, mut outcome: File) {
        let mut text = String::new();
        let outcome = outcome
            .rewind()
            .and_then(|()| outcome.read_to_string(&mut text))
            .ok()
            .and_then(|_| serde_json::from_str::<Outcome>(&text).ok());
        if let Some(outcome) = &outcome {
            self.count(id, &outcome.report);
        }
        self.lock().remove(id);
        let ended = outcome.as_ref().map_or_else(
            || "its injector was killed".to_owned(),
            |outcome| outcome.ended.clone(),
        );
        self.metrics.ended(&ended);
        self.tell(Happening::Ended {
            id: id.to_owned(),
            ended,
            report: outcome.map(|outcome| outcome.report),
        });
    }

    fn count(&self, id: &str, report: &Report) {
        let mut ours = self.lock();
        let Some(ours) = ours.get_mut(id) else { return };
        // Rules and conditions are reported apart, each in the order given.
        let (mut rules, mut conditions) = (report.faults.iter(), report.conditions.iter());
        for (fault, counted) in ours.faults.iter().zip(&mut ours.counted) {
            let now = match fault.is_condition() {
                true => conditions.next().map(Counted::from),
                false => rules.next().map(Counted::from),
            };
            if let Some(now) = now {
                self.metrics.count(fault, *counted, now);
                *counted = now;
            }
        }
    }

    /// The page of metrics, up to date.
    pub(super) async fn page(self: &Arc<Self>) -> Result<Vec<u8>, Problem> {
        let this = Arc::clone(self);
        let page = spawn_blocking(move || {
            let ids: Vec<String> = this.lock().keys().cloned().collect();
            for id in ids {
                // One that is ending is counted when it has ended.
                if let Ok(live) = live(&id) {
                    this.count(&id, &live.report);
                }
            }
            let active = this.lock().values().map(|ours| ours.faults.len()).sum();
            this.metrics.page(active)
        });
        page.await
            .map_err(Problem::internal)?
            .map_err(Problem::internal)
    }

    /// Everything that is active on the machine, the daemon's or not.
    pub(super) async fn all(&self) -> Result<Vec<Live>, Problem> {
        let all = || {
            let found = client::survey(None).found.into_iter();
            found.filter_map(|asked| asked.into_live().1.ok())
        };
        spawn_blocking(move || all().collect())
            .await
            .map_err(Problem::internal)
    }

    /// One of them.
    pub(super) async fn one(&self, id: String) -> Result<Live, Problem> {
        let live = spawn_blocking(move || match live(&id) {
            Err(StateError::NotActive(_)) => {
                let found = client::survey(Some(&id)).found.into_iter().next();
                let missing = || StateError::NotActive(id.clone());
                found.ok_or_else(missing)?.into_live().1
            }
            live => live,
        });
        Ok(live.await.map_err(Problem::internal)??)
    }

    /// Lets one go on for another lease; for how many seconds.
    pub(super) async fn renew(&self, id: String) -> Result<f64, Problem> {
        let renewed = spawn_blocking(move || client::renew_any(&id));
        renewed
            .await
            .map_err(Problem::internal)?
            .map_err(|error| match error {
                StateError::Refused { .. } => Problem::new(StatusCode::CONFLICT, error.to_string()),
                error => error.into(),
            })
    }

    /// Reverts one, and returns when that is done.
    pub(super) async fn stop(
        &self,
        id: String,
        reason: Option<String>,
        by: Option<String>,
    ) -> Result<Stopped, Problem> {
        let stopped = spawn_blocking(move || {
            let ids = std::slice::from_ref(&id);
            let mut ended = client::stop_ids(ids, reason.as_deref(), by.as_deref(), REVERTING)?;
            match (ended.stopped.pop(), ended.failed.pop()) {
                (Some(stopped), None) => Ok(stopped),
                (_, Some(error)) => Err(error),
                (None, None) => Err(StateError::NotActive(id)),
            }
        });
        Ok(stopped.await.map_err(Problem::internal)??)
    }

    /// Reverts all of the daemon's, at once; what could not be.
    pub(super) async fn stop_all(self: &Arc<Self>) -> Vec<Problem> {
        let ids: Vec<String> = self.lock().keys().cloned().collect();
        let stopping: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let this = Arc::clone(self);
                let reason = Some("the daemon ends".to_owned());
                tokio::spawn(async move { this.stop(id, reason, None).await })
            })
            .collect();
        let mut failed = Vec::new();
        for stopped in stopping {
            match stopped.await {
                Ok(Ok(_)) => {}
                // It ended by itself meanwhile: a Ctrl-C reaches its injector, too.
                Ok(Err(problem)) if problem.is_absence() => {}
                Ok(Err(problem)) => failed.push(problem),
                Err(error) => failed.push(Problem::internal(error)),
            }
        }
        failed
    }

    /// Everything that happens from now on; `None` when the daemon ends.
    pub(super) fn happenings(&self) -> Option<broadcast::Receiver<Happening>> {
        let happenings = self.happenings.lock();
        let happenings = happenings.unwrap_or_else(PoisonError::into_inner);
        happenings.as_ref().map(broadcast::Sender::subscribe)
    }

    /// Nothing more is told: who listens is let go.
    pub(super) fn hush(&self) {
        let happenings = self.happenings.lock();
        happenings.unwrap_or_else(PoisonError::into_inner).take();
    }

    fn tell(&self, happening: Happening) {
        let happenings = self.happenings.lock();
        if let Some(sender) = &*happenings.unwrap_or_else(PoisonError::into_inner) {
            // That nobody listens is no error.
            let _ = sender.send(happening);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ours>> {
        // What it holds is whole at every moment.
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one of this user's or root's is.
fn live(id: &str) -> Result<Live, StateError> {
    let (dir, record) = client::find(id)?;
    client::status(&dir, &record.id)
}

/// Waits until an injector has ended; keeps it alive as long as the daemon lives, if no client has to.
async fn watch(id: &str, process: &AsyncFd<OwnedFd>, keep: bool) {
    loop {
        tokio::select! {
            _ = process.readable() => return,
            () = tokio::time::sleep(KEEPALIVE / 3), if keep => {
                let id = id.to_owned();
                let renewed = spawn_blocking(move || {
                    let (dir, record) = client::find(&id)?;
                    client::renew(&dir, &record.id)
                });
                // If it does not answer it ends for want of renewal: that is what the keepalive is for.
                let _ = renewed.await;
            }
        }
    }
}

fn pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let process = Process::open(pid)?.into_pidfd();
    // SAFETY: an `OwnedFd` owns one open descriptor for all its life.
    Ok(unsafe { AsyncFd::register(process) }?)
}
