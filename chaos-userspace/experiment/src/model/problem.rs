//! What is wrong with an experiment file, and where.

use std::fmt;
use std::path::Path;

use super::source::{Position, Positions};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as `method[0].provider.path`; empty if it is the whole file.
    pub field: String,
    /// Line and column, once known.
    pub position: Option<Position>,
    /// What is wrong and what was expected.
    pub text: String,
}

impl Problem {
    /// A mistake in a field.
    pub fn new(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            position: None,
            text: text.into(),
        }
    }

    /// Looks its position up.
    #[must_use]
    pub fn located(mut self, positions: &Positions) -> Self {
        self.position = self.position.or_else(|| positions.find(&self.field));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

/// All mistakes of a file.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.file, .problems))]
pub struct Invalid {
    /// The file, as it was named.
    pub file: String,
    /// The mistakes, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// A file with one mistake.
    pub fn one(file: &Path, problem: Problem) -> Self {
        Self {
            file: file.display().to_string(),
            problems: vec![problem],
        }
    }
}

fn lines(file: &str, problems: &[Problem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| match problem.position {
            Some(_) => format!("{file}:{problem}"),
            None => format!("{file}: {problem}"),
        })
        .collect();
    lines.join("\n")
}
