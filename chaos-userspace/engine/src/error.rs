//! Why a plan was not carried out. By then everything is undone.

use std::io;
use std::path::PathBuf;

use super::tables::TableError;
use murphy_fault::plan::PlanError;
use murphy_fault::{HostName, InterfaceGlob, TableFile};
use murphy_kernel::KernelError;
use murphy_mechanisms::MechanismError;
use murphy_mechanisms::fuse_delay::BlockingError;
use murphy_mechanisms::seccomp::SeccompError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel does not do what the plan needs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Other rules do not make a plan with those in force.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What it needs is done at the beginning.
    #[error(
        "{0} cannot join rules in force: netem and what delayed calls wait for are set up, and what `reset=all` finds is reset, when an injection begins; end this one and begin another"
    )]
    Fixed(String),
    /// The command cannot be supervised.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// Threads cannot be made to wait.
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    /// The injection could not be noted, or may not begin.
    #[error(transparent)]
    State(#[from] murphy_state::StateError),
    /// The guardian could not be started or does not answer.
    #[error("the guardian, which cleans up if murphy is killed, does not answer: {0}")]
    Guardian(#[source] io::Error),
    /// A target does not exist.
    #[error("no process has the id {0}")]
    NoProcess(u32),
    /// A thread that does not exist.
    #[error("no thread has the id {0}")]
    NoThread(u32),
    /// A target that is never hit.
    #[error("process {pid} cannot be a target: it is {what}")]
    Exempt {
        /// Its id.
        pid: u32,
        /// What it is.
        what: &'static str,
    },
    /// A thread is named where a process is meant.
    #[error("{thread} is a thread of process {process}")]
    Thread {
        /// Its id.
        thread: u32,
        /// The process it belongs to.
        process: u32,
    },
    /// A target that does not exist, or cannot be told.
    #[error("there is no {what} to be hit or spared")]
    NoTarget {
        /// Which.
        what: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A target that is spared by default.
    #[error("{0} is spared by default: a fault on it may lock you out")]
    ExemptName(String),
    /// A name that stands for no address.
    #[error("`{name}` in `{fault}` has no address: {source}")]
    NoHost {
        /// The name.
        name: HostName,
        /// The fault that speaks of it.
        fault: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Names that stand for more than there is room for.
    #[error("the names of hosts stand for {count} addresses, and there is room for {most}")]
    TooManyAddresses {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A file that gives no table of delays.
    #[error("`{file}` in `{fault}` is no table of delays: {source}")]
    NoTable {
        /// The file.
        file: TableFile,
        /// The fault that names it.
        fault: String,
        /// Why not.
        source: TableError,
    },
    /// An interface that is not there.
    #[error("no interface is called `{name}` where the targets of `{fault}` are: there is {there}")]
    NoInterface {
        /// The name.
        name: InterfaceGlob,
        /// The fault that speaks of it.
        fault: String,
        /// Those that are there.
        there: String,
    },
    /// Names that stand for more than there is room for.
    #[error("the faults name {count} network interfaces, and there is room for {most}")]
    TooManyInterfaces {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Process ids here are not those that kernel programs see.
    #[error("--pid does not work inside a container's pid namespace yet")]
    PidNamespace,
    /// The run cgroup could not be made.
    #[error("making the cgroup {path}: {source}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `--skip-loader` needs a program of its own to stop at.
    #[error("{path}: {source}")]
    EntryPoint {
        /// The program.
        path: PathBuf,
        /// Why it has no entry point.
        source: io::Error,
    },
    /// Something else the operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl From<MechanismError> for EngineError {
    fn from(error: MechanismError) -> Self {
        match error {
            MechanismError::Kernel(error) => Self::Kernel(error),
            MechanismError::Seccomp(error) => Self::Seccomp(error),
            MechanismError::Blocking(error) => Self::Blocking(error),
            MechanismError::State(error) => Self::State(error),
            MechanismError::Guardian(error) => Self::Guardian(error),
            MechanismError::Io { doing, source } => Self::Io { doing, source },
        }
    }
}

impl EngineError {
    /// An error of input or output, with what was being done: "reading the record".
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// What its user can do about it.
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Kernel(error) => return error.remedy(),
            Self::Seccomp(error) => return error.remedy().map(str::to_owned),
            Self::Blocking(error) => return error.remedy().map(str::to_owned),
            Self::State(error) => return error.remedy(),
            Self::Thread { thread, process } => {
                return Some(format!(
                    "--pid {process} hits it with its threads, --tid {thread} that one alone"
                ));
            }
            Self::NoTarget { remedy, .. } => remedy,
            Self::ExemptName(_) => "--no-exempt lifts that",
            Self::NoThread(_) => "ps -eL lists the ids there are",
            Self::NoProcess(_) => "ps -e lists the ids there are",
            Self::NoHost { .. } => {
                "names are looked up where murphy runs, by its /etc/hosts and resolver (getent ahosts NAME \
                 does the same); else give addresses: dst=10.0.0.1,[fd00::1]"
            }
            Self::TooManyAddresses { .. } => {
                "a network says many addresses at once: dst=10.0.0.0/8"
            }
            Self::NoTable { .. } => {
                "whole numbers between blanks, 8192 for one jitter, as iproute2's maketable writes them; `#` begins a \
                 comment; murphy reads the file itself, where and as whom it runs"
            }
            Self::NoInterface { .. } => {
                "interfaces are those of the targets' network namespaces (ip link; nsenter -t PID -n ip link); one that \
                 is yet to come can be named by a pattern: interface=tun*"
            }
            Self::TooManyInterfaces { .. } => {
                "leave `interface` out to hit packets on all of them, or name fewer"
            }
            Self::PidNamespace => {
                "run murphy in the host's pid namespace (docker run --pid=host), or start the \
                 program with murphy run, which works in any"
            }
            Self::Cgroup { .. } => {
                "murphy makes a cgroup below its own; run it where that is writable, as root"
            }
            Self::EntryPoint { .. } => {
                "--skip-loader needs an ELF program; for a script say its interpreter: murphy run … -- sh SCRIPT"
            }
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}
