//! Who injects into this process and its children: murphy, and what is used for that now.

use anyhow::Result;
use tests::{ChildGuard, murphy, program};

/// An injector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// `murphy inject`.
    Murphy,
    /// `strace -f -p`; a filter of its own (`--seccomp-bpf`) it cannot give to a process that runs.
    Strace,
}

impl By {
    pub(crate) const ALL: [Self; 2] = [Self::Murphy, Self::Strace];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Murphy => "murphy",
            Self::Strace => "strace -f -p",
        }
    }

    /// Starts it: connects to this port fail. Strace does not tell ports apart.
    pub(crate) fn start(self, port: u16) -> Result<ChildGuard> {
        let pid = std::process::id().to_string();
        match self {
            Self::Murphy => {
                let fault = format!("connect:error=EPERM:port={port}");
                murphy(["inject", "-q", "-e", &fault, "--pid", &pid]).spawn()
            }
            Self::Strace => program("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=connect"])
                .args(["-e", "inject=connect:error=EPERM", "-p", &pid])
                .spawn(),
        }
    }
}
