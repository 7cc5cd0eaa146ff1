//! Programs that are built rather than fetched: bpf-linker and cargo-deny, into the cache's tools.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache::Cache, sh};

/// Debian's toolchain for the kernel programs, where rustup has no nightly with the library's source.
pub(crate) const DEBIAN_TOOLCHAIN: [&str; 4] =
    ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";

/// Whether rustup has a nightly that can build `core` for another target.
pub(crate) fn rustup_nightly() -> bool {
    let Some(rustup) = sh::which("rustup") else {
        return false;
    };
    let list = Command::new(rustup)
        .args(["component", "list", "--installed", "--toolchain", "nightly"])
        .output();
    list.is_ok_and(|o| {
        String::from_utf8_lossy(&o.stdout)
            .lines()
            .any(|l| l.starts_with("rust-src"))
    })
}

/// The version a tool in the cache reports.
pub(crate) fn version(cache: &Cache, name: &str) -> Option<String> {
    let out = sh::output(Command::new(cache.tool(name)).arg("--version")).ok()?;
    let text = out.stdout;
    out.status.success().then(|| {
        text.split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned()
    })
}

/// Builds bpf-linker. With rustup's nightly it links LLVM through the compiler's own library.
pub(crate) fn install_bpf_linker(cache: &Cache) -> Result<String> {
    let mut install = cargo_install(cache, "bpf-linker", BPF_LINKER);
    if !rustup_nightly() {
        const LLVM: &str = "/usr/lib/llvm-22";
        let path = std::env::var("PATH").unwrap_or_default();
        install
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM)
            .env("RUSTFLAGS", format!("-L{LLVM}/lib"))
            .env("PATH", format!("{LLVM}/bin:{path}"));
    }
    finish(install, "bpf-linker")
}

/// Builds cargo-deny.
pub(crate) fn install_cargo_deny(cache: &Cache) -> Result<String> {
    let mut install = cargo_install(cache, "cargo-deny", CARGO_DENY);
    install.arg("--no-default-features");
    finish(install, "cargo-deny")
}

fn cargo_install(cache: &Cache, name: &str, version: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args([
            "install",
            "--quiet",
            "--locked",
            name,
            "--version",
            version,
            "--root",
        ])
        .arg(cache.tools())
        // The workspace's own target folder, flags and toolchain file are not meant for it.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir("/");
    command
}

fn finish(mut command: Command, name: &str) -> Result<String> {
    sh::run(&mut command).with_context(|| format!("could not build {name}"))?;
    Ok(format!("built {name}"))
}
