//! What murphy says of a run: the kernel's view.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Finished, murphy, victim};

/// A run of a victim under faults: both views.
#[derive(Debug)]
pub struct Hit {
    /// How it ended, and what the victim printed.
    pub victim: Finished,
    /// What murphy reported.
    pub report: Value,
}

impl Hit {
    /// Runs `murphy run ARGS… --json -- victim STEPS…`.
    pub fn run(args: &[&str], steps: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("report.json");
        let finished = murphy(["run", "--json", "-o"])
            .args([&output])
            .args(args)
            .args(["--"])
            .args([victim::self_path()])
            .args(victim::words(steps.iter().copied()))
            .run()?;
        let text =
            std::fs::read_to_string(&output).with_context(|| format!("no report of {finished}"))?;
        Ok(Self {
            report: serde_json::from_str(&text).with_context(|| format!("{text}\n{finished}"))?,
            victim: finished,
        })
    }

    /// A counter of a fault, such as `injected`.
    pub fn count(&self, fault: usize, counter: &str) -> u64 {
        count(&self.report, fault, counter)
    }

    /// How often the victim saw this.
    pub fn seen(&self, word: &str) -> u64 {
        victim::seen(&self.victim.stdout, word)
    }
}

/// A counter of a fault in a report of `--json`. What is not there counts as a number nobody expects.
pub fn count(report: &Value, fault: usize, counter: &str) -> u64 {
    let fault = &report["faults"][fault];
    fault[counter]
        .as_u64()
        .or_else(|| fault["suppressed"][counter].as_u64())
        .unwrap_or(u64::MAX)
}
