//! Faults from a test's own code: a guard that injects while it lives.
//!
//! ```no_run
//! use murphy::Injection;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let guard = Injection::new(["connect:error=ECONNREFUSED:port=6379"]).this_process().start()?;
//! // … whatever is to survive this …
//! assert!(guard.report()?.faults[0].injected > 0);
//! drop(guard); // everything is reverted here, whatever happened in between
//! # Ok(())
//! # }
//! ```
//!
//! The injecting is done by a process of its own, murphy's command: it is found as `$MURPHY_BIN`, else as `murphy` on the
//! `PATH`, unless [`Injection::program`] names it. Faults end within [`KEEPALIVE`] if the test is killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use murphy_engine::injector::{Armed, Order, OrderError};
use murphy_state::results::Report;
use murphy_state::{StateError, client};

/// How long faults outlive a test that was killed, at most.
pub const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long reverting may take before the injector is killed.
const REVERTING: Duration = Duration::from_secs(30);

/// Faults, and whom they are to hit.
#[derive(Clone, Debug)]
#[must_use = "nothing is injected before `start`"]
pub struct Injection {
    order: Order,
    program: PathBuf,
}

/// Why faults could not be injected, asked about or reverted.
#[derive(Debug, thiserror::Error)]
pub enum InjectionError {
    /// They never were.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The injector does not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// No thread could be started that renews them.
    #[error("starting a thread that renews the faults: {0}")]
    Thread(#[source] io::Error),
    /// The injector had to be killed, or had ended before: nobody knows what came of the faults.
    #[error("nobody knows what came of the faults: {0}")]
    NoReport(String),
}

impl Injection {
    /// Faults as expressions, such as `write:error=ENOSPC:p=5%`.
    pub fn new(faults: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let program = std::env::var_os("MURPHY_BIN").unwrap_or_else(|| "murphy".into());
        Self {
            order: Order::new(faults.into_iter().map(Into::into)),
            program: program.into(),
        }
    }

    /// Uses this program instead of `$MURPHY_BIN` or `murphy`.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Hits this process: all its threads, and its children.
    pub fn this_process(self) -> Self {
        let pid = std::process::id();
        self.process(pid)
    }

    /// Hits a process and its descendants, for example a child's [`std::process::Child::id`].
    pub fn process(self, pid: u32) -> Self {
        self.option("--pid", &pid.to_string())
    }

    /// Adds any option of `murphy inject`, such as `--seed`, `--comm`, `--for`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.order = self.order.option(name, value);
        self
    }

    /// Injects until the guard is dropped.
    ///
    /// # Errors
    ///
    /// murphy refused, in its own words. Nothing is injected.
    pub fn start(self) -> Result<Guard, InjectionError> {
        let order = self.order.duration("--keepalive", KEEPALIVE);
        let armed = order.start(&self.program)?;
        let (stop, stopped) = channel();
        let id = armed.id.clone();
        let renew = move || {
            while stopped.recv_timeout(KEEPALIVE / 4) == Err(RecvTimeoutError::Timeout) {
                // It may have ended by itself: then there is nothing to renew any more.
                let Ok((dir, _)) = client::find(&id) else {
                    return;
                };
                let _ = client::renew(&dir, &id);
            }
        };
        let mut guard = Guard {
            armed,
            renewing: None,
        };
        match thread::Builder::new().spawn(renew) {
            Ok(renewing) => {
                guard.renewing = Some((stop, renewing));
                Ok(guard)
            }
            Err(error) => {
                // Nothing would renew it: what cannot be reverted now ends by itself.
                let _ = guard.end();
                Err(InjectionError::Thread(error))
            }
        }
    }
}

/// Faults in force; dropping it reverts them.
#[derive(Debug)]
#[must_use = "dropping it reverts the faults"]
pub struct Guard {
    armed: Armed,
    /// `None` once stopped.
    renewing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Guard {
    /// The injection's id, as `murphy status` shows it.
    pub fn id(&self) -> &str {
        &self.armed.id
    }

    /// What came of the faults so far.
    ///
    /// # Errors
    ///
    /// The injector has ended or does not answer.
    pub fn report(&self) -> Result<Report, InjectionError> {
        let (dir, record) = client::find(&self.armed.id)?;
        Ok(client::status(&dir, &record.id)?.report)
    }

    /// Reverts the faults, and says what came of them.
    ///
    /// # Errors
    ///
    /// They had ended before, or something could not be undone.
    pub fn stop(mut self) -> Result<Report, InjectionError> {
        self.end()
    }

    fn end(&mut self) -> Result<Report, InjectionError> {
        let ended = client::find(&self.armed.id)
            .and_then(|(dir, record)| client::stop(&dir, &record, None, REVERTING));
        if let Some((stop, renewing)) = self.renewing.take() {
            drop(stop);
            let _ = renewing.join();
        }
        let stopped = ended?;
        stopped
            .report
            .ok_or(InjectionError::NoReport(stopped.ended))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.renewing.is_some() {
            // Nobody is there to be told; what cannot be reverted ends for want of renewal.
            let _ = self.end();
        }
    }
}

/// Where murphy's command is, for programs built beside it by cargo: tests and examples.
pub fn beside_this_program() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder: &Path| folder.join("murphy"))
        .find(|file| file.is_file())
}
