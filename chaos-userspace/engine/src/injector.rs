//! Injections by processes of their own: how the daemon and a test's own code inject.
//!
//! The injector is murphy's command, `inject --detach`: it has its own guardian, which can only be forked
//! by a process with one thread, and what goes wrong in it hurts nobody else. It is asked and ended through
//! its control socket ([`murphy_state::client`]).

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

/// What an injector is to do.
#[derive(Clone, Debug, Default)]
pub struct Order {
    words: Vec<OsString>,
}

/// An injection that is armed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Armed {
    /// The name by which it is asked and stopped.
    pub id: String,
    /// The process that injects.
    pub pid: u32,
    /// How many processes were hit when it was armed.
    pub processes: usize,
}

/// Why nothing was injected.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The program could not be run.
    #[error("{program}: {source}")]
    Program {
        /// Which one.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// murphy refused, in its own words.
    #[error("{said}")]
    Refused {
        /// Its exit status: 1 failed, 2 usage, 75 somebody is in the way, 77 a privilege or feature is missing.
        status: Option<i32>,
        /// What it said.
        said: String,
    },
}

impl Order {
    /// Begins with the faults, as expressions.
    pub fn new(faults: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let mut order = Self::default();
        for fault in faults {
            order = order.option("--fault", fault.into());
        }
        order
    }

    /// Adds an option of `murphy inject` with its value.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        // In one word, so that no value is taken for an option.
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value.as_ref());
        self.words.push(word);
        self
    }

    /// Adds an option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.words.push(name.into());
        self
    }

    /// Adds an option whose value is a length of time.
    #[must_use]
    pub fn duration(self, name: &str, value: Duration) -> Self {
        self.option(name, format!("{}us", value.as_micros().max(1)))
    }

    /// Starts an injector, and returns once everything is armed.
    ///
    /// # Errors
    ///
    /// `program` is not to be had, or murphy refused; nothing is injected then.
    pub fn start(&self, program: &Path) -> Result<Armed, OrderError> {
        let failed = |source| OrderError::Program {
            program: program.display().to_string(),
            source,
        };
        let output = Command::new(program)
            .args(["inject", "--detach", "--json"])
            .args(&self.words)
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(OrderError::Refused {
            status: output.status.code(),
            said: said.trim().trim_start_matches("murphy: ").to_owned(),
        })
    }
}
