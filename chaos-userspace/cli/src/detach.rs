//! `inject --detach`: a second process injects, in a session of its own, and the first returns once it does.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe, setsid};
use rustix::fs::{Mode, OFlags};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::status;

/// What the first process tells once everything is armed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Armed {
    /// The name by which it is stopped.
    pub(super) id: String,
    /// The process that injects.
    pub(super) pid: u32,
    /// How many processes are hit now.
    pub(super) processes: usize,
}

/// Which of the two processes this is.
pub(super) enum Role {
    /// The one that was called; the other has armed, or ended with a status.
    Caller(Result<Armed, u8>),
    /// The one that injects.
    Injector(Injector),
}

/// The way back to the caller.
pub(super) struct Injector(File);

/// Forks. To be called while there is one thread, and before anything is made.
pub(super) fn detach() -> Result<Role, Failure> {
    let failed = |error: nix::Error| Failure::io("detaching")(error.into());
    let (reader, writer) = pipe().map_err(failed)?;
    for end in [reader.as_fd(), writer.as_fd()] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| Failure::io("detaching")(error.into()))?;
    }
    // SAFETY: this process has one thread, so the child's memory is whole and no lock is held in it.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            drop(reader);
            // The terminal's signals and its end are none of its business.
            setsid().map_err(failed)?;
            Ok(Role::Injector(Injector(File::from(writer))))
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = String::new();
            File::from(reader)
                .read_to_string(&mut said)
                .map_err(Failure::io("waiting for the injector"))?;
            if let Ok(armed) = serde_json::from_str(&said) {
                return Ok(Role::Caller(Ok(armed)));
            }
            // It has told why itself.
            let code = match waitpid(child, None).map_err(failed)? {
                WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(status::FAILED),
                _ => status::FAILED,
            };
            Ok(Role::Caller(Err(code)))
        }
    }
}

impl Injector {
    /// Says that everything is armed, and lets go of the caller's standard streams.
    ///
    /// # Errors
    ///
    /// The caller is gone: nobody would know of this injection.
    pub(super) fn armed(mut self, armed: &Armed) -> Result<(), Failure> {
        let mut tell = || -> io::Result<()> {
            let null =
                rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            self.0.write_all(&serde_json::to_vec(armed)?)?;
            // Whoever reads the caller's output to its end must not wait for this process.
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
            Ok(())
        };
        tell().map_err(Failure::io("telling that it is armed"))
    }
}
