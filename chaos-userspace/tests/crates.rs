//! The borders between crates: who may depend on what, and how much a user of the library builds.

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Folders whose packages make up murphy. Others, for tests and building, may use more.
const OURS: [&str; 3] = ["chaos-common/", "chaos-userspace/", "chaos-ebpf/objects/"];

/// What the crate of faults must do without: all that knows a machine.
const IMPURE: [&str; 6] = ["aya", "tokio", "clap", "nix", "rustix", "libc"];

/// What a program that injects from its tests must not have to build.
const OF_THE_COMMAND: [&str; 6] = ["axum", "clap", "rustls", "minijinja", "ureq", "murphy-cli"];

/// The most packages that such a program builds for it.
const LIBRARY: usize = 90;

fn cargo(words: &[&str]) -> io::Result<String> {
    let done = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(words)
        .output()?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn packages() -> io::Result<Vec<Value>> {
    let words = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let mut all: Value = serde_json::from_str(&cargo(&words)?)?;
    Ok(serde_json::from_value(all["packages"].take())?)
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

/// The names of what a package needs to run, directly and indirectly.
fn needs(package: &str, features: &[&str]) -> io::Result<BTreeSet<String>> {
    let words = ["tree", "--offline", "-p", package, "-e", "normal,build"];
    let words = [&words[..], &["--prefix", "none"], features].concat();
    let tree = cargo(&words)?;
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let names = names.filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn one_crate_depends_on_aya() {
    let with_aya: Vec<_> = packages()
        .unwrap()
        .iter()
        .filter(|package| {
            let needed = package["dependencies"].as_array().unwrap().iter();
            needed
                .map(|needed| text(needed, "name"))
                .any(|name| name == "aya")
        })
        .map(|package| text(package, "name").to_owned())
        .collect();
    assert_eq!(with_aya, ["murphy-kernel"]);
}

#[test]
fn faults_know_no_machine() {
    let needed = needs("murphy-fault", &[]).unwrap();
    assert!(needed.contains("serde"), "{needed:?}");
    for name in IMPURE {
        assert!(!needed.contains(name), "murphy-fault depends on {name}");
    }
}

#[test]
fn the_library_is_small() {
    let needed = needs("murphy", &["--no-default-features"]).unwrap();
    for name in OF_THE_COMMAND {
        assert!(!needed.contains(name), "the library depends on {name}");
    }
    assert!(
        needed.len() <= LIBRARY,
        "{} packages: {needed:?}",
        needed.len()
    );
    let all = needs("murphy", &[]).unwrap();
    assert!(all.contains("clap"), "{all:?}");
}

#[test]
fn every_package_says_what_it_is() {
    let mut ours = 0;
    for package in packages().unwrap() {
        let name = text(&package, "name");
        for key in ["description", "readme", "repository", "license"] {
            assert!(!text(&package, key).is_empty(), "{name} has no {key}");
        }
        let words = package["keywords"].as_array().unwrap();
        assert!(!words.is_empty(), "{name} has no keywords");
        let manifest = text(&package, "manifest_path");
        ours += usize::from(OURS.iter().any(|folder| manifest.contains(folder)));
    }
    assert!(ours >= 12, "{ours}");
}
