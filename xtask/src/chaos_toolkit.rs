//! Chaos Toolkit, against which murphy's experiments are held: a Python environment in the cache.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::{cache::Cache, sh};

/// What is installed, at the versions whose behaviour is the reference.
pub(crate) const PACKAGES: [&str; 2] =
    ["chaostoolkit==1.19.0", "chaostoolkit-lib[jsonpath]==1.44.0"];

/// Written last, so that half an installation is none.
const MARK: &str = "murphy-installed";

/// What is installed, if that is all of it.
pub(crate) fn present(cache: &Cache) -> Option<String> {
    let installed = fs::read_to_string(cache.chaos_toolkit().join(MARK)).ok()?;
    let wanted = PACKAGES.join(" ");
    (installed == wanted).then_some(wanted)
}

/// Makes the environment where it is to stay: its scripts know their place.
pub(crate) fn install(cache: &Cache) -> Result<String> {
    let folder = cache.chaos_toolkit();
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    sh::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    sh::run(
        Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    let wanted = PACKAGES.join(" ");
    fs::write(folder.join(MARK), &wanted)?;
    Ok(wanted)
}
