//! The borders between crates: who may depend on what, and how much a user of the library builds.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Folders whose packages make up murphy. Others, for tests and building, may use more.
const OURS: [&str; 3] = ["chaos-common/", "chaos-userspace/", "chaos-ebpf/objects/"];

/// What the crate of faults must do without: all that knows a machine.
const IMPURE: [&str; 6] = ["aya", "tokio", "clap", "nix", "rustix", "libc"];

/// Crates that depend on aya or one of its parts, and on which.
const WITH_AYA: [(&str, &[&str]); 3] = [
    ("murphy-kernel", &["aya", "aya-log", "aya-obj"]),
    ("chaos-ebpf", &["aya-ebpf", "aya-log-ebpf"]),
    // Tests look at the objects.
    ("tests", &["aya-obj"]),
];

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

/// What a package declares, optional or not: names, and whether only its tests need them.
fn declared(package: &Value) -> Vec<(&str, bool)> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.map(|one| (text(one, "name"), text(one, "kind") == "dev"))
        .collect()
}

/// The crates of murphy, from the bottom up: those that both sides share, those of the table in
/// ARCHITECTURE.md, and the package `murphy`.
fn layers() -> io::Result<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let page = fs::read_to_string(page)?;
    let rows = page
        .lines()
        .skip_while(|row| !row.starts_with("Crates below"));
    let rows = rows.take_while(|row| !row.starts_with("## "));
    let folder = |row: &str| {
        let (folder, _) = row.strip_prefix("| `")?.split_once("/` | |")?;
        Some(format!("murphy-{folder}"))
    };
    let shared = ["chaos-common", "murphy-objects"].map(str::to_owned);
    let all = shared.into_iter().chain(rows.filter_map(folder));
    Ok(all.chain(["murphy".to_owned()]).collect())
}

/// Dependencies that ARCHITECTURE.md forbids, a line each.
fn breaches(packages: &[Value], layers: &[String]) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in packages {
        let name = text(package, "name");
        let level = |name: &str| layers.iter().position(|layer| layer == name);
        for (needed, of_tests) in declared(package) {
            let is_above = level(name)
                .zip(level(needed))
                .is_some_and(|(own, of)| of >= own);
            // Of the workspace, `sys` uses the shared crate in its tests.
            let is_of_sys = name == "murphy-sys"
                && level(needed).is_some()
                && (needed, of_tests) != ("chaos-common", true);
            let is_impure = name == "murphy-fault" && !of_tests && IMPURE.contains(&needed);
            let of_aya = WITH_AYA.iter().find(|(with, _)| *with == name);
            let is_of_aya = (needed == "aya" || needed.starts_with("aya-"))
                && !of_aya.is_some_and(|(_, parts)| parts.contains(&needed));
            if is_above || is_of_sys || is_impure || is_of_aya {
                breaches.push(format!("{name} depends on {needed}"));
            }
        }
    }
    breaches
}

#[test]
fn crates_keep_to_their_borders() {
    let (packages, layers) = (packages().unwrap(), layers().unwrap());
    // Each crate of murphy has its place, so none is forgotten.
    for package in &packages {
        let (name, manifest) = (text(package, "name"), text(package, "manifest_path"));
        let is_ours = OURS.iter().any(|folder| manifest.contains(folder));
        assert_eq!(is_ours, layers.iter().any(|layer| layer == name), "{name}");
    }
    assert_eq!(breaches(&packages, &layers), [""; 0]);
}

#[test]
fn each_border_is_seen() {
    let (packages, layers) = (packages().unwrap(), layers().unwrap());
    for (name, needed, kind) in [
        ("murphy-sys", "murphy-fault", None),
        ("murphy-sys", "murphy-fault", Some("dev")),
        ("murphy-sys", "chaos-common", None),
        ("murphy-fault", "murphy-kernel", None),
        ("murphy-kernel", "murphy-state", Some("dev")),
        ("murphy-state", "murphy-mechanisms", None),
        ("murphy-engine", "murphy-cli", Some("build")),
        ("murphy-serve", "murphy", None),
        ("chaos-common", "murphy-objects", None),
        ("murphy-mechanisms", "aya-obj", None),
        ("murphy-cli", "aya-log", Some("dev")),
        ("tests", "aya", None),
        ("chaos-ebpf", "aya", None),
        ("murphy-fault", "libc", None),
        ("murphy-fault", "tokio", Some("build")),
    ] {
        let mut packages = packages.clone();
        let package = packages.iter_mut().find(|one| text(one, "name") == name);
        let needs = package.unwrap()["dependencies"].as_array_mut().unwrap();
        needs.push(json!({ "name": needed, "kind": kind, "optional": true }));
        let wanted = format!("{name} depends on {needed}");
        assert_eq!(breaches(&packages, &layers), [wanted]);
    }
}

#[test]
fn faults_know_no_machine() {
    let needed = needs("murphy-fault", &["--all-features", "--target", "all"]).unwrap();
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

/// Packages contain the licences, which are links to those of the workspace.
#[test]
fn every_package_has_its_licences() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = packages().unwrap();
    let is_published = |package: &&Value| package["publish"].is_null();
    let published: Vec<_> = all.iter().filter(is_published).collect();
    assert!(published.len() >= 12, "{}", published.len());
    for package in published {
        let name = text(package, "name");
        let folder = Path::new(text(package, "manifest_path")).parent().unwrap();
        let words = [
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "-p",
            name,
        ];
        let files = cargo(&words).unwrap();
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(
                files.lines().any(|file| file == licence),
                "{name} has no {licence}"
            );
            let read = |folder: &Path| fs::read(folder.join(licence)).unwrap();
            assert_eq!(read(folder), read(&root), "{name}: {licence}");
        }
    }
}
