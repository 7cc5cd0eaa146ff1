//! Rivals that are built rather than installed.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{
    progress::Step,
    vm::build::{self, Profile, static_cargo},
};

/// Builds the proxy of Toxiproxy's kind, linked statically as murphy is, in its own workspace: `xtask/rivals`.
pub(super) fn toxic_proxy() -> Result<PathBuf> {
    let step = Step::start("building the proxy to measure against");
    let mut cargo = static_cargo("build", Profile::Release);
    cargo.current_dir(build::workspace().join("xtask/rivals"));
    let built = build::artifacts(cargo)?;
    if !built.errors.is_empty() {
        bail!("{}", built.errors);
    }
    let found = built
        .artifacts
        .into_iter()
        .find(|made| made.name == "toxic-proxy");
    step.end("done", "");
    found
        .map(|made| made.path)
        .context("cargo built no toxic-proxy")
}
