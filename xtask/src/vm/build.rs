//! Static binaries for the guests, in a target folder of their own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

/// An executable that cargo made.
pub(crate) struct Artifact {
    /// The target's name: `murphy`, or a test file's stem.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `target/vm`, beside the ordinary builds, so that neither throws the other's away.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from)
        .join("vm")
}

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// How programs are built for the guests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Vm,
    /// For measurements.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Release => "release",
        }
    }
}

/// `cargo build` and so on, linked statically.
pub(crate) fn static_cargo(subcommand: &str, profile: Profile) -> Command {
    const STATIC: &str = "-C target-feature=+crt-static";
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace())
        .arg(subcommand)
        .args(["--profile", profile.name(), "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir())
        // With --target, the flags are not applied to build scripts and macros.
        .env("RUSTFLAGS", STATIC)
        .env("RUSTDOCFLAGS", STATIC)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Link-time optimisation triples the wait before each boot.
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    // A machine that builds once has nothing of it.
    if env::var_os("CI").is_none() {
        let key = format!(
            "CARGO_PROFILE_{}_INCREMENTAL",
            profile.name().to_uppercase()
        );
        cargo.env(key, "true");
    }
    cargo
}

/// What a cargo command made.
pub(crate) struct Built {
    pub(crate) artifacts: Vec<Artifact>,
    /// What did not compile, as cargo says it; empty if everything did.
    pub(crate) errors: String,
}

/// Runs a cargo command and lists the executables it made.
pub(crate) fn artifacts(mut cargo: Command) -> Result<Built> {
    cargo.args(["--quiet", "--message-format=json-render-diagnostics"]);
    let done = sh::output(&mut cargo)?;
    if sh::interrupted() {
        bail!("interrupted");
    }
    let messages = done
        .stdout
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let artifacts = messages
        .filter(|m| m["reason"] == "compiler-artifact")
        .filter_map(|m| {
            Some(Artifact {
                name: m["target"]["name"].as_str()?.to_owned(),
                path: m["executable"].as_str()?.into(),
            })
        })
        .collect();
    let errors = if done.status.success() {
        String::new()
    } else {
        format!(
            "{} failed:\n{}",
            sh::shown(&cargo),
            sh::tail(&done.stderr, 60)
        )
    };
    Ok(Built { artifacts, errors })
}

/// Builds murphy for the guests.
pub(crate) fn murphy(profile: Profile) -> Result<PathBuf> {
    let mut cargo = static_cargo("build", profile);
    cargo.args(["-p", "chaos-userspace", "--bin", "murphy"]);
    let built = artifacts(cargo)?;
    if !built.errors.is_empty() {
        bail!("{}", built.errors);
    }
    built
        .artifacts
        .into_iter()
        .find(|a| a.name == "murphy")
        .map(|a| a.path)
        .context("cargo built no murphy")
}

/// The murphy built last time, if any.
pub(crate) fn murphy_as_built() -> Option<PathBuf> {
    let path = target_dir()
        .join(TARGET)
        .join(Profile::Vm.name())
        .join("murphy");
    path.is_file().then_some(path)
}
