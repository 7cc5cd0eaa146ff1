//! The small values that only faults on system calls have: what counts, signals, paths.

use serde::{Deserialize, Serialize};

use super::values::OutOfRange;

/// What counts the matches that `when`, `p` and `times` go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Each thread for itself, as strace counts.
    Thread,
}

impl Count {
    /// The name in an expression.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
        }
    }
}

/// The names of the signals from 1 on, as signal(7) has them for x86 and ARM.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// A signal, by its number, 1..=64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Signal(u8);

impl Signal {
    /// The signal of that number.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=64 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The name, for example `SIGTERM`, if it has one.
    pub fn name(self) -> Option<&'static str> {
        SIGNALS.get(usize::from(self.0) - 1).copied()
    }

    /// The signal of that name; like strace, with or without `SIG` and without regard to case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::names().find_map(|(known, signal)| {
            let short = known.strip_prefix("SIG")?;
            let fits = known.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name);
            fits.then_some(signal)
        })
    }

    /// Every name with its signal.
    pub fn names() -> impl Iterator<Item = (&'static str, Self)> {
        (1..=64)
            .map(Self)
            .filter_map(|signal| Some((signal.name()?, signal)))
    }
}

impl TryFrom<u8> for Signal {
    type Error = OutOfRange;

    fn try_from(number: u8) -> Result<Self, OutOfRange> {
        Self::new(number).ok_or(OutOfRange("a signal is 1 to 64"))
    }
}

impl From<Signal> for u8 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

/// A pattern of absolute paths: `?`, `*` and `[…]` within one name, `**` for any number of folders.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(glob::Pattern);

impl Glob {
    /// Begins with `/` or `*`; `**` is a folder's whole name. Anything else is `None`.
    pub fn new(pattern: &str) -> Option<Self> {
        if !pattern.starts_with(['/', '*']) {
            return None;
        }
        glob::Pattern::new(pattern).ok().map(Self)
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether an absolute path is meant.
    pub fn matches(&self, path: &std::path::Path) -> bool {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.0.matches_path_with(path, options)
    }
}

impl TryFrom<String> for Glob {
    type Error = OutOfRange;

    fn try_from(pattern: String) -> Result<Self, OutOfRange> {
        Self::new(&pattern).ok_or(OutOfRange(
            "a path begins with `/` or `*`, and `**` is a folder's whole name",
        ))
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names() {
        for number in 1..=64 {
            let ours = Signal(number).name();
            let theirs = nix::sys::signal::Signal::try_from(i32::from(number)).ok();
            assert_eq!(
                ours,
                theirs.map(nix::sys::signal::Signal::as_str),
                "{number}"
            );
        }
    }
}
