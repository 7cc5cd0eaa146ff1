//! What goes wrong on the command line: its words, its remedy, its exit status.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use super::output::{tell, tell_coloured};
use super::status;
use murphy_engine::EngineError;
use murphy_engine::audit::AuditError;
use murphy_engine::policy::{NOT_ALLOWED, PolicyError, Refusal};
use murphy_engine::replay::ReplayError;
use murphy_fault::ParseError;
use murphy_fault::plan::PlanError;
use murphy_serve::ServeError;
use murphy_state::StateError;

/// Why a command ended without having done its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    PolicyFile(#[from] PolicyError),
    /// What was asked is not allowed here.
    #[error("{}", sentences(.0))]
    Policy(Vec<Refusal>),
    #[error("{0}")]
    Audit(#[from] AuditError),
    /// CMD could not be executed.
    #[error("{command}: {source}")]
    Exec { command: String, source: io::Error },
    /// Exclusions alone.
    #[error("this says whom to spare, but not whom to hit")]
    NobodyHit,
    #[error("{0}")]
    Serve(#[from] ServeError),
    #[error("no group is called {0}")]
    NoGroup(String),
    #[error("no user is called {0}")]
    NoUser(String),
    /// What stands for no network namespace.
    #[error("`{}` is no network namespace", .0.escape_debug())]
    NoNamespace(String),
    #[error("writing {path}: {source}")]
    Output { path: PathBuf, source: io::Error },
    #[error("reading {path}: {source}")]
    Input { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Replay { path: PathBuf, source: ReplayError },
    #[error("{0}")]
    Experiment(#[from] super::experiment::ExperimentFailure),
    /// An experiment of a suite, none of which was played.
    #[error("{0}")]
    Experiments(murphy_experiment::Invalid),
    /// A file that says nothing, or something wrong; `at` begins with its name.
    #[error("{at}: {wrong}")]
    Said {
        at: String,
        wrong: String,
        remedy: Option<String>,
    },
    #[error("{doing}: {source}")]
    Io {
        doing: &'static str,
        source: io::Error,
    },
}

impl Failure {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether it is about executing CMD, which has statuses of its own.
    pub(super) fn is_of_exec(&self) -> bool {
        matches!(self, Self::Exec { .. })
    }

    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Parse(_)
            | Self::Plan(_)
            | Self::NoUser(_)
            | Self::NoNamespace(_)
            | Self::NoGroup(_)
            | Self::Serve(ServeError::Token { .. })
            | Self::Input { .. }
            | Self::Replay { .. }
            | Self::NobodyHit
            | Self::State(StateError::Name(_))
            | Self::PolicyFile(PolicyError::Syntax { .. })
            | Self::Said { .. }
            | Self::Experiments(_)
            | Self::Engine(
                EngineError::NoProcess(_)
                | EngineError::NoThread(_)
                | EngineError::NoTarget { .. }
                | EngineError::Exempt { .. }
                | EngineError::ExemptName(_)
                | EngineError::NoHost { .. }
                | EngineError::TooManyAddresses { .. }
                | EngineError::NoTable { .. }
                | EngineError::Thread { .. },
            ) => status::USAGE,
            Self::Engine(EngineError::Kernel(error)) if error.is_missing_feature() => {
                status::MISSING
            }
            Self::Engine(EngineError::Seccomp(error)) if error.is_missing_feature() => {
                status::MISSING
            }
            Self::Engine(EngineError::Blocking(error)) if error.is_missing_feature() => {
                status::MISSING
            }
            Self::Engine(EngineError::PidNamespace) | Self::Policy(_) => status::MISSING,
            Self::Engine(EngineError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                status::MISSING
            }
            Self::Engine(EngineError::Io { source, .. })
                if source.kind() == io::ErrorKind::ResourceBusy =>
            {
                status::BUSY
            }
            Self::Serve(ServeError::Busy(_)) => status::BUSY,
            Self::Engine(EngineError::State(error)) | Self::State(error) if error.is_busy() => {
                status::BUSY
            }
            Self::Exec { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => status::NOT_FOUND,
                _ => status::NOT_EXECUTABLE,
            },
            Self::Experiment(failure) => failure.status(),
            Self::Serve(_)
            | Self::Engine(_)
            | Self::State(_)
            | Self::PolicyFile(_)
            | Self::Audit(_)
            | Self::Output { .. }
            | Self::Io { .. } => status::FAILED,
        }
    }

    /// What its user can do about it.
    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Engine(error) => return error.remedy(),
            Self::State(error) | Self::Serve(ServeError::State(error)) => return error.remedy(),
            Self::PolicyFile(error) => return error.remedy(),
            Self::Policy(refusals) => return refusals.first().map(|first| first.remedy.clone()),
            Self::Audit(_) => {
                "what has to be noted and cannot be is not done: make it writable, or take --audit away"
            }
            Self::Said { remedy, .. } => return remedy.clone(),
            Self::Exec { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "check the spelling, and of a script the interpreter in its first line"
                }
                io::ErrorKind::IsADirectory => "name a program; words after -- are the command",
                io::ErrorKind::PermissionDenied => {
                    "it has to be executable for the user it runs as: chmod +x, or -u"
                }
                _ => "say its interpreter, for example: murphy run … -- sh FILE",
            },
            Self::Experiment(failure) => failure.remedy()?,
            Self::Experiments(_) => "nothing was played; murphy experiment validate checks one",
            Self::NobodyHit => "--all hits everybody else",
            Self::Replay { .. } => "name a file that run or inject wrote with --events",
            Self::NoGroup(_) => "a name or a number that `getent group` lists",
            Self::Serve(ServeError::Token { .. }) => {
                "head -c 24 /dev/urandom | base64 > FILE, and chmod 600 FILE"
            }
            Self::Serve(ServeError::Busy(_)) => "stop that one, or choose another --socket",
            Self::Serve(ServeError::InTheWay(_)) => "remove it, or choose another --socket",
            Self::NoNamespace(_) => {
                "a name of `ip netns list`, an absolute path, or the id of a process that is in it"
            }
            Self::NoUser(_) => "a name or a number that `getent passwd` lists",
            _ => return None,
        };
        Some(remedy.to_owned())
    }

    /// What kind of thing went wrong, for those who count.
    pub(super) fn kind(&self) -> &'static str {
        match self.status() {
            status::USAGE => "usage",
            status::BUSY => "busy",
            status::MISSING => "missing_feature",
            _ => "failed",
        }
    }

    /// Tells the user, on standard error, with what helps.
    pub(super) fn show(&self) {
        if let Self::Parse(error) = self {
            tell_coloured(&error.render(colour()));
            return;
        }
        tell(&format!("murphy: {self}"));
        if let Some(remedy) = self.remedy() {
            tell(&format!("  help: {remedy}"));
        }
        if let Self::Engine(EngineError::Kernel(error)) = self
            && let Some(log) = error.verifier_log()
        {
            tell(&format!("  {}", keep(&log)));
        }
    }
}

/// Each refusal in a line.
fn sentences(refusals: &[Refusal]) -> String {
    let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    format!("{NOT_ALLOWED}{}", lines.join("\n  and "))
}

/// A warning in red, where there are colours.
pub(super) fn warn(text: &str) {
    let (red, plain) = if colour() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    tell_coloured(&format!("{red}murphy: warning: {text}{plain}"));
}

/// Colours are for people: standard error is a terminal and `NO_COLOR` is not set.
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Keeps the verifier's whole log where only this user can read it.
fn keep(log: &str) -> String {
    let kept = tempfile::Builder::new()
        .prefix("murphy-verifier-")
        .suffix(".log")
        .tempfile()
        .and_then(|mut file| {
            io::Write::write_all(&mut file, log.as_bytes())?;
            Ok(file.keep()?.1)
        });
    match kept {
        Ok(path) => format!("the verifier's whole log: {}", path.display()),
        Err(error) => format!("the verifier's log could not be kept: {error}"),
    }
}
