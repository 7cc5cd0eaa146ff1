//! One line per step on stderr: what it is, how it ended, how long it took.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

/// A step under way.
pub(crate) struct Step {
    name: String,
    started: Instant,
}

impl Step {
    /// Announces a step on a terminal; elsewhere only its end is a line.
    pub(crate) fn start(name: impl Display) -> Self {
        let name = name.to_string();
        if stderr().is_terminal() {
            eprint!("   …      {name}");
            // A progress line that cannot be shown is no reason to stop.
            let _ = stderr().flush();
        }
        Self {
            name,
            started: Instant::now(),
        }
    }

    /// Ends it with a word (`done`, `skipped`, `FAILED`) and a remark.
    pub(crate) fn end(self, word: &str, remark: &str) -> Duration {
        let took = self.started.elapsed();
        let clear = if stderr().is_terminal() {
            "\r\x1b[K"
        } else {
            ""
        };
        let sep = if remark.is_empty() { "" } else { ": " };
        eprintln!(
            "{clear}   {word:<7}{:>6.1}s  {}{sep}{remark}",
            took.as_secs_f64(),
            self.name
        );
        took
    }
}
