//! Compares a text with a golden file, or writes the file.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tests::{Outcome, program};

/// How the files are written anew.
const BLESS: &str = "MURPHY_BLESS=1 cargo xtask test --file golden --host-only";

/// How much of a difference a failure shows.
const SHOWN: usize = 80;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn blesses() -> bool {
    env::var_os("MURPHY_BLESS").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Fails if a golden file differs from a text; writes the text to the file when blessing.
pub(crate) fn golden(name: &str, got: &str) -> Outcome {
    let path = folder().join(name);
    if blesses() {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        return Ok(fs::write(path, got)?);
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == got {
        return Ok(());
    }
    let (old, new) = (
        tempfile::NamedTempFile::new()?,
        tempfile::NamedTempFile::new()?,
    );
    fs::write(&old, expected)?;
    fs::write(&new, got)?;
    let done = program("diff")
        .args([
            "-u",
            "--label",
            &format!("tests/golden/{name}"),
            "--label",
            "printed now",
        ])
        .args([old.path(), new.path()])
        .run()?;
    let lines: Vec<_> = done.stdout.lines().collect();
    let more = lines.len().saturating_sub(SHOWN);
    let shown = lines[..lines.len() - more].join("\n");
    let more = match more {
        0 => String::new(),
        more => format!("\n[… {more} more lines …]"),
    };
    anyhow::bail!("{shown}{more}\nIf this is meant: {BLESS}")
}

/// Fails if a folder of golden files holds one that is not in the list; removes it when blessing.
pub(crate) fn no_others(name: &str, expected: &BTreeSet<String>) -> Outcome {
    for entry in fs::read_dir(folder().join(name))?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if expected.contains(&file) {
            continue;
        }
        if blesses() {
            fs::remove_file(entry.path())?;
        }
        ensure!(
            blesses(),
            "tests/golden/{name}/{file} is of no use: {BLESS}"
        );
    }
    Ok(())
}
