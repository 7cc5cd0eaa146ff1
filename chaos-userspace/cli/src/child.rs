//! The command of `run`: found, started in its cgroup, as its user.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::failure::Failure;
use murphy_engine::Entry;
use murphy_sys::users::ids;

/// Whom the command runs as.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// A user by name or by number. A number without an entry in the user
    /// database has the group of the same number and no other.
    pub(super) fn of(name: &str) -> Result<Self, Failure> {
        let number = name.parse::<u32>().ok();
        // To the kernel this one means "leave it as it is" (setresuid(2)).
        if number == Some(u32::MAX) || name.is_empty() || name.starts_with('-') {
            return Err(Failure::NoUser(name.to_owned()));
        }
        let known = (|| {
            Some(Self {
                user: Uid::from_raw(*ids("-u", name)?.first()?),
                group: Gid::from_raw(*ids("-g", name)?.first()?),
                groups: ids("-G", name)?.into_iter().map(Gid::from_raw).collect(),
            })
        })();
        match (known, number) {
            (Some(known), _) => Ok(known),
            (None, Some(number)) => Ok(Self {
                user: Uid::from_raw(number),
                group: Gid::from_raw(number),
                groups: vec![Gid::from_raw(number)],
            }),
            (None, None) => Err(Failure::NoUser(name.to_owned())),
        }
    }

    /// The user's id.
    pub(super) fn uid(&self) -> u32 {
        self.user.as_raw()
    }

    fn assume(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.group)?;
        setuid(self.user)?;
        Ok(())
    }
}

/// Finds the program as execvp(3) would, so that a typing error is told before
/// anything is attached.
pub(super) fn find(command: &OsStr) -> Result<PathBuf, Failure> {
    use rustix::fs::{Access, access};
    let failure = |kind: io::ErrorKind, why: &str| Failure::Exec {
        command: match command.to_string_lossy() {
            name if name.is_empty() => "\"\"".to_owned(),
            name => name.into_owned(),
        },
        source: io::Error::new(kind, why),
    };
    let is_path = command.as_encoded_bytes().contains(&b'/');
    let candidates: Vec<PathBuf> = if is_path {
        vec![command.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
        std::env::split_paths(&path)
            .map(|folder| folder.join(command))
            .collect()
    };
    let mut failed = failure(io::ErrorKind::NotFound, "there is no such program");
    for candidate in candidates {
        if access(&candidate, Access::EXEC_OK).is_ok() && candidate.is_file() {
            return Ok(candidate);
        }
        if candidate.is_dir() {
            // One on PATH is not what was meant.
            if is_path {
                failed = failure(io::ErrorKind::IsADirectory, "it is a directory");
            }
        } else if candidate.exists() {
            failed = failure(io::ErrorKind::PermissionDenied, "it is not executable");
        }
    }
    Err(failed)
}

/// Starts the command in the cgroup and under the filter of `entry`.
///
/// It stays in murphy's process group: the terminal's signals reach it as ever. If it is `confined`
/// it leads a session of its own, without a terminal to type into, and can gain no privileges.
/// `signals` are those that shall be blocked in it.
pub(super) fn start(
    command: &[OsString],
    program: &Path,
    entry: Entry,
    identity: Option<&Identity>,
    confined: bool,
    signals: SigSet,
) -> Result<Child, Failure> {
    let mut start = Command::new(program);
    let (name, arguments) = command.split_first().ok_or(Failure::Io {
        doing: "starting the command",
        source: io::ErrorKind::InvalidInput.into(),
    })?;
    start.arg0(name).args(arguments);
    let identity = identity.cloned();
    let join = move || {
        if let Some(procs) = &entry.procs {
            // SAFETY: write(2) is async-signal-safe, and the descriptor is open until exec.
            let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            if written != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        if confined {
            nix::unistd::setsid()?;
            nix::sys::prctl::set_no_new_privs()?;
        }
        // While it has murphy's privileges: without no_new_privs a filter takes CAP_SYS_ADMIN.
        if let Some(filter) = &entry.filter {
            filter.enter()?;
        }
        signals.thread_set_mask()?;
        identity.as_ref().map_or(Ok(()), Identity::assume)
    };
    // SAFETY: this process has one thread while it forks, and the closure makes
    // system calls only.
    unsafe { start.pre_exec(join) };
    start.spawn().map_err(|source| Failure::Exec {
        command: name.to_string_lossy().into_owned(),
        source,
    })
}

/// The status murphy exits with for its command: its own, or 128 and the signal's number.
pub(super) fn exit_status(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(i32::from(super::status::FAILED));
    u8::try_from(code).unwrap_or(u8::MAX)
}
