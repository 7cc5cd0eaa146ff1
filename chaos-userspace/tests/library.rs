//! The library in `experiments/`: every file is whole, every fault is one, the map names every file and every scenario.

#![allow(
    clippy::unwrap_used,
    reason = "a file that cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use murphy::faults::Fault;
use murphy::plan::{Backend, Target};
use serde_json::Value;

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments")
}

/// `FOLDER/NAME.json` and what is in it.
fn files() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for folder in fs::read_dir(library())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        for file in fs::read_dir(folder.path()).unwrap().flatten() {
            let path = file.path();
            let name = format!(
                "{}/{}",
                folder.file_name().display(),
                file.file_name().display()
            );
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = fs::read_to_string(&path).unwrap();
                let value =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                found.push((name, value));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() > 50, "the library is not where it should be");
    found
}

fn words(activity: &Value) -> Vec<&str> {
    let words = activity["provider"]["arguments"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap()).collect()
}

/// The word with the defaults of the file's configuration in it; a variable that is not declared stays and is seen.
fn substituted(word: &str, file: &Value) -> String {
    let mut word = word.to_owned();
    for (name, value) in file["configuration"].as_object().unwrap() {
        let default = &value["default"];
        let text = default
            .as_str()
            .map_or_else(|| default.to_string(), str::to_owned);
        word = word.replace(&format!("${{{name}}}"), &text);
    }
    word
}

#[test]
fn every_file_is_whole() {
    let mut names = BTreeSet::new();
    for (name, file) in files() {
        let stem = name.trim_end_matches(".json").replace('/', "-");
        for key in ["title", "description"] {
            assert!(
                file[key].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {key}"
            );
        }
        let probe = &file["steady-state-hypothesis"]["probes"][0];
        assert!(probe.get("tolerance").is_some(), "{name}: no hypothesis");
        let (inject, status, stop) = (
            &file["method"][0],
            &file["method"][1],
            &file["rollbacks"][0],
        );
        assert_eq!(words(inject)[0], "inject", "{name}");
        assert!(
            words(inject).contains(&"--detach") && words(inject).contains(&"--for"),
            "{name}"
        );
        assert_eq!(
            words(status)[..3],
            ["status", "--id", stem.as_str()],
            "{name}"
        );
        assert_eq!(words(stop)[..2], ["stop", stem.as_str()], "{name}");
        let at = words(inject)
            .iter()
            .position(|word| *word == "--name")
            .unwrap();
        assert_eq!(words(inject)[at + 1], stem, "{name}");
        assert!(names.insert(stem), "{name}");
        assert!(file["extensions"][0]["name"] == "murphy", "{name}");
        // A variable that nobody declares would be passed on as it is.
        for word in words(inject) {
            assert!(!substituted(word, &file).contains("${"), "{name}: {word}");
        }
    }
}

/// `inject` leaves system calls to the kernel's programs: what they serve on some kernels only waits for those.
#[test]
fn every_fault_can_be_injected_or_is_said_to_be_awaited() {
    let readme = fs::read_to_string(library().join("README.md")).unwrap();
    let awaited = readme.split("\n## Waiting").nth(1).unwrap();
    let mut wrong = Vec::new();
    for (name, file) in files() {
        let words = words(&file["method"][0]);
        let faults = words
            .windows(2)
            .filter(|two| two[0] == "-e")
            .map(|two| substituted(two[1], &file));
        let refusals: Vec<String> = faults
            .filter_map(|fault| match fault.parse::<Fault>() {
                Ok(fault) => Backend::Bpf.refusal(&fault, &Target::Command),
                Err(error) => Some(error.to_string()),
            })
            .collect();
        let waits = awaited.contains(&format!("[{name}]"));
        if refusals.is_empty() == waits {
            wrong.push(format!("{name}, awaited: {waits}, {refusals:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The scenarios of the guide by its numbers, of the others by what they are called.
#[test]
fn the_map_is_complete() {
    let readme = fs::read_to_string(library().join("README.md")).unwrap();
    for (name, _) in files() {
        assert!(
            readme.contains(&format!("({name})")),
            "{name} is not in the map"
        );
    }
    for link in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        assert!(
            library().join(link).exists(),
            "{link} is in the map and not there"
        );
    }
    for (group, several) in [(1, 5), (2, 6), (3, 5), (4, 6), (5, 5)] {
        for number in 1..=several {
            let short = format!("5.{group}.{number}");
            assert!(readme.contains(&short), "P017 {short}");
        }
    }
    for scenario in [
        "high latency",
        "network partition",
        "packet loss",
        "CPU stress",
        "leak",
        "disk exhaustion",
        "random exceptions",
        "null values",
        "slow response",
        "state corruption",
        "race condition",
        "deadlock",
        "time skew",
        "clock drift",
        "DNS resolution",
        "partial network partition",
        "rate limiting",
        "API errors",
        "invalid response",
        "pool",
        "service interruptions",
        "corrupted query results",
        "migration",
        "latency_500ms",
        "packet_loss_10pct",
        "bandwidth_100kb",
        "chmod 000",
        "handles",
    ] {
        let there = readme.to_lowercase().contains(&scenario.to_lowercase());
        assert!(there, "{scenario} is not in the map");
    }
}
