//! Everything a fault consists of is there: programs, page, test. Fails until it is.

#![allow(clippy::unwrap_used)] // its helpers are tests too

use std::path::{Path, PathBuf};

use murphy::faults::FAULTS;
use murphy::faults::Fault;
use murphy::plan::Hook;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn text(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the test program has a module of this name and runs its cases.
fn is_group(main: &str, name: &str) -> bool {
    let Some((modules, list)) = main.split_once("groups![") else {
        return false;
    };
    let is_entry = |line: &str| line.trim().trim_end_matches(',') == name;
    modules.lines().any(|line| line == format!("mod {name};")) && list.lines().any(is_entry)
}

#[test]
fn every_fault_has_its_files() {
    for fault in FAULTS {
        let stem = fault.stem;
        if let Some(family) = fault.family {
            let family = family.name();
            let program = text(&format!("chaos-ebpf/src/{family}/{stem}.rs"));
            assert!(
                program.contains("Kernel interface"),
                "{stem}: its program names no kernel interface"
            );
        }
        let test = text(&format!("tests/tests/{stem}.rs"));
        assert!(
            test.contains("neighbour"),
            "{stem}: no test watches a neighbour"
        );
        assert!(
            is_group(&text("tests/tests/main.rs"), stem),
            "{stem}: its test is no group of tests/tests/main.rs"
        );
        let page = text(&format!("docs/faults/{stem}.md"));
        for part in ["**Match**", "**Cannot**", "| Kernel | Hook |"] {
            assert!(page.contains(part), "{stem}: its page lacks {part}");
        }
        for op in fault.ops {
            assert!(
                page.contains(&format!("`{op}")) || page.contains(op.name()),
                "{stem}: its page does not name {op}"
            );
        }
    }
}

#[test]
fn examples_parse_and_are_of_their_row() {
    for row in FAULTS {
        for example in row.examples {
            let fault: Fault = example
                .parse()
                .unwrap_or_else(|error| panic!("{example}: {error}"));
            assert!(
                fault.ops.iter().any(|op| row.covers(*op)),
                "{example} is no example of {}",
                row.stem
            );
        }
    }
}

/// Expressions that the documents show in code blocks; those of pages are not prose.
#[test]
fn examples_of_the_documents_parse() {
    let mut shown = 0;
    for fault in FAULTS {
        for line in text(&format!("docs/faults/{}.md", fault.stem)).lines() {
            let Some(example) = line
                .strip_prefix("    ")
                .and_then(|line| line.split_whitespace().next())
            else {
                continue;
            };
            assert!(
                example.parse::<Fault>().is_ok(),
                "{}.md: {example}",
                fault.stem
            );
            shown += 1;
        }
    }
    assert!(shown > FAULTS.len());
}

#[test]
fn every_program_of_a_hook_is_in_its_object_and_no_other() {
    for hook in Hook::all() {
        for &(program, place) in hook.programs() {
            assert!(program.len() <= 15, "{program}: the kernel cuts the name");
            let mut found = Vec::new();
            for family in ["net", "lsm", "kprobe", "trace", "uprobe"] {
                let object =
                    std::fs::read(workspace().join(format!("chaos-ebpf/objects/{family}.o")))
                        .unwrap();
                // As a symbol's name, between zeros.
                let symbol = [b"\0", program.as_bytes(), b"\0"].concat();
                if object.windows(symbol.len()).any(|window| window == symbol) {
                    found.push(family);
                }
            }
            assert_eq!(found, [hook.family().name()], "{program} ({place})");
        }
    }
}
