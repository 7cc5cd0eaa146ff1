//! Everything a fault consists of is there: programs, page, test. Fails until it is.

#![allow(clippy::unwrap_used)] // its helpers are tests too

use std::path::{Path, PathBuf};

use murphy::faults::FAULTS;
use murphy::faults::registry::Property;
use murphy::faults::{Fault, FaultKind};
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

/// Calls of faults in the table of `tests/tests/calls.rs` that no row makes.
const NOT_IN_TABLE: [&str; 4] = ["fork", "vfork", "fchmodat2", "socketpair"];

/// Every fault has a test file of its own, or rows in the table of calls with all its operations.
fn check_tests(fault: &FaultKind) {
    let stem = fault.stem;
    let table = text("tests/tests/calls.rs");
    let rows = rows_of(&table, stem);
    let file = if rows.is_empty() { stem } else { "calls" };
    assert!(
        text(&format!("tests/tests/{file}.rs")).contains("neighbour"),
        "{stem}: no test watches a neighbour"
    );
    assert!(
        is_group(&text("tests/tests/main.rs"), file),
        "{stem}: its test is no group of tests/tests/main.rs"
    );
    if rows.is_empty() {
        return;
    }
    for op in fault.ops.iter().map(|op| op.name()) {
        assert!(
            rows.contains(&op) != NOT_IN_TABLE.contains(&op),
            "{stem}: {op} is in no row of the table of calls, or is no exception any more"
        );
    }
}

/// The calls that the table has in rows of a fault.
fn rows_of<'a>(table: &'a str, stem: &str) -> Vec<&'a str> {
    let start = format!("fault: \"{stem}\",");
    let rows = table
        .split("    Row {\n")
        .filter(|row| row.contains(&start));
    rows.flat_map(|row| {
        let calls = row.split_once("calls: \"").map_or("", |(_, calls)| calls);
        calls.split('"').next().unwrap().split_whitespace()
    })
    .collect()
}

/// Whether the test program has a module of this name and runs its cases.
fn is_group(main: &str, name: &str) -> bool {
    let Some((modules, list)) = main.split_once("groups![") else {
        return false;
    };
    let is_entry = |line: &str| line.trim().trim_end_matches(',') == name;
    modules.lines().any(|line| line == format!("mod {name};")) && list.lines().any(is_entry)
}

/// The page of a fault: rules and conditions have theirs apart.
fn page_of(fault: &FaultKind) -> String {
    let folder = match fault.has.contains(&Property::Condition) {
        true => "conditions",
        false => "faults",
    };
    format!("docs/{folder}/{}.md", fault.stem)
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
        check_tests(fault);
        let page = text(&page_of(fault));
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
        for line in text(&page_of(fault)).lines() {
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
