//! Why a mechanism does not work here.

use std::io;

use super::fuse_delay::BlockingError;
use super::seccomp::SeccompError;
use murphy_kernel::KernelError;
use murphy_state::StateError;

/// An error of a mechanism.
#[derive(Debug, thiserror::Error)]
pub enum MechanismError {
    /// The kernel does not do what the plan needs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The command cannot be supervised.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// Threads cannot be made to wait.
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    /// What is about to be made could not be noted in the record.
    #[error(transparent)]
    State(#[from] StateError),
    /// The guardian does not answer.
    #[error("the guardian, which cleans up if murphy is killed, does not answer: {0}")]
    Guardian(#[source] io::Error),
    /// Something else the operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl MechanismError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// No programs are loaded.
pub(super) fn not_loaded() -> MechanismError {
    MechanismError::Io {
        doing: "using the kernel programs",
        source: io::ErrorKind::NotConnected.into(),
    }
}
