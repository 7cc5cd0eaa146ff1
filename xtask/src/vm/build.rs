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
    /// The target's name: `murphy`, `behaviour`, or a crate's name.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of its package.
    pub(crate) package: PathBuf,
    /// Whether it is a test program.
    pub(crate) is_test: bool,
}

impl Artifact {
    /// Whether it is the program itself, not its unit tests.
    pub(crate) fn is_murphy(&self) -> bool {
        self.name == "murphy" && !self.is_test
    }
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

/// `cargo SUBCOMMAND`.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(subcommand);
    cargo
}

/// `cargo build` for tests. All builds for tests name the same packages and at least one test or
/// example: cargo compiles a crate anew for each set of features that the packages and their tests
/// ask for.
pub(crate) fn test_cargo() -> Command {
    let mut cargo = static_cargo("build", Profile::Vm);
    // Kernel programs are built for another target, and xtask as `cargo xtask` builds it.
    cargo.args([
        "--workspace",
        "--exclude",
        "chaos-ebpf",
        "--exclude",
        "xtask",
    ]);
    cargo
}

/// The package of the integration tests.
pub(crate) const TESTS: &str = "tests";

/// `cargo build` and so on, linked statically.
pub(crate) fn static_cargo(subcommand: &str, profile: Profile) -> Command {
    const STATIC: &str = "-C target-feature=+crt-static";
    let mut cargo = cargo(subcommand);
    cargo
        .current_dir(workspace())
        .args(["--profile", profile.name(), "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir())
        // With --target, the flags are not applied to build scripts and macros.
        .env("RUSTFLAGS", STATIC)
        .env("RUSTDOCFLAGS", STATIC)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    // A machine that builds once has nothing of it.
    if !sh::in_ci() {
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
    /// How many crates were compiled, rather than found compiled.
    pub(crate) compiled: usize,
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
    let made: Vec<Value> = done
        .stdout
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|m| m["reason"] == "compiler-artifact")
        .collect();
    let compiled = made.iter().filter(|m| m["fresh"] == false).count();
    let artifacts = made
        .iter()
        .filter_map(|m| {
            let manifest = Path::new(m["manifest_path"].as_str()?);
            Some(Artifact {
                name: m["target"]["name"].as_str()?.to_owned(),
                path: m["executable"].as_str()?.into(),
                package: manifest.parent()?.to_owned(),
                is_test: m["profile"]["test"] == true,
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
    Ok(Built {
        artifacts,
        compiled,
        errors,
    })
}

/// Builds murphy for the guests.
pub(crate) fn murphy(profile: Profile) -> Result<PathBuf> {
    let cargo = match profile {
        Profile::Vm => {
            let mut cargo = test_cargo();
            // With an example cargo activates the features of tests, too: a build without would be
            // another build of most dependencies. The example is the smallest program that does.
            cargo.args(["--bin", "murphy", "--example", "guard"]);
            cargo
        }
        Profile::Release => {
            let mut cargo = static_cargo("build", profile);
            cargo.args(["-p", "murphy", "--bin", "murphy"]);
            cargo
        }
    };
    let built = artifacts(cargo)?;
    if !built.errors.is_empty() {
        bail!("{}", built.errors);
    }
    built
        .artifacts
        .into_iter()
        .find(Artifact::is_murphy)
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
