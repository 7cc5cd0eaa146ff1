//! The whole answer to every malformed expression that the unit tests have.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::ensure;
use tests::{Outcome, murphy};

use super::compare::golden;

// The table of the unit tests, which check the word under the caret.
#[path = "../../../chaos-userspace/fault/src/expr/tests/malformed_table.rs"]
mod malformed_table;

pub(crate) fn answers() -> Outcome {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    for (expression, ..) in malformed_table::TABLE {
        // A phrase has a row of its own there; no command line holds a zero byte.
        if !seen.insert(expression) || expression.contains('\0') {
            continue;
        }
        let done = murphy(["run", "--dry-run", "-e", expression, "--", "true"]).run()?;
        ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
        writeln!(text, "=== {expression:?}\n{}", done.stderr)?;
    }
    golden("malformed.txt", &text)
}
