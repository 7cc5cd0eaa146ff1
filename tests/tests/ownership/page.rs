//! `docs/ownership.md`: the axes, and what happens in each cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Result, ensure};
use tests::Outcome;

use super::axes::{ABSENT, AXES, BEHAVIOURS, Behaviour, Cell, Fault, Origin, Side, Way};

const BLESS: &str = "MURPHY_BLESS=1 cargo xtask test --file ownership --host-only";

/// Compares the page with what the table says, or writes it anew.
pub(super) fn check() -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ownership.md");
    if !path.parent().is_some_and(Path::is_dir) {
        return tests::skip("the sources are not here");
    }
    let page = page()?;
    if std::env::var_os("MURPHY_BLESS").is_some_and(|value| value == "1") {
        fs::write(path, page)?;
        return Ok(());
    }
    let old = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        old == page,
        "docs/ownership.md differs from tests/ownership: {BLESS}"
    );
    Ok(())
}

fn page() -> Result<String> {
    let all = Cell::all();
    let mut page = String::from(HEAD);
    for &(title, values) in AXES {
        writeln!(page, "| {title} | |\n|---|---|")?;
        for (name, meaning) in values {
            writeln!(page, "| `{name}` | {meaning} |")?;
        }
        writeln!(page)?;
    }
    writeln!(page, "## What happens\n\n{BEHAVIOUR}")?;
    for &side in Side::ALL {
        writeln!(page, "\n### The target is the {}\n", side.name())?;
        let faults: Vec<_> = Fault::ALL
            .iter()
            .copied()
            .filter(|&fault| {
                all.iter()
                    .any(|cell| cell.side == side && cell.fault == fault)
            })
            .collect();
        let names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
        writeln!(page, "| origin | | {} |", names.join(" | "))?;
        writeln!(page, "|---|---|{}", "---|".repeat(faults.len()))?;
        for &origin in Origin::ALL {
            for &way in Way::ALL {
                let of = |fault| {
                    let cells = all.iter().filter(|cell| {
                        cell.side == side
                            && cell.origin == origin
                            && cell.way == way
                            && cell.fault == fault
                    });
                    entry(cells)
                };
                let entries: Vec<_> = faults.iter().map(|&fault| of(fault)).collect();
                if entries.iter().any(|entry| entry != "–") {
                    let (origin, way) = (origin.name(), way.name());
                    writeln!(page, "| `{origin}` | {way} | {} |", entries.join(" | "))?;
                }
            }
        }
    }
    writeln!(page, "\n## What is not hit at once, and why\n")?;
    for &(why, _, behaviour) in BEHAVIOURS {
        let count = all.iter().filter(|cell| {
            let row = BEHAVIOURS.iter().find(|(_, is_so, _)| is_so(**cell));
            row.is_some_and(|&(other, _, _)| other == why)
        });
        let said = match behaviour {
            Behaviour::Warned(words) => format!("murphy warns: \u{201c}… {words} …\u{201d}"),
            Behaviour::Later => "hit within 6 s".to_owned(),
            Behaviour::Exempt => "never hit".to_owned(),
            Behaviour::Hit => "hit".to_owned(),
        };
        writeln!(page, "- {why}: {said} ({} cells).", count.count())?;
    }
    writeln!(page, "\n## Which combinations do not exist\n")?;
    for (why, _) in ABSENT {
        writeln!(page, "- {why}")?;
    }
    let (cells, cover) = (all.len(), Cell::cover().len());
    writeln!(
        page,
        "\n{cells} cells exist. A test run has {cover}, in which every pair of values occurs that occurs \
         in any;\n`cargo xtask test --file ownership --full` has all."
    )?;
    Ok(page)
}

/// What happens in these cells, which differ by socket and family only.
fn entry<'c>(cells: impl Iterator<Item = &'c Cell>) -> String {
    let mut by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for cell in cells {
        let sockets = by.entry(cell.behaviour().name()).or_default();
        sockets.insert(cell.socket.name());
    }
    let most = by
        .iter()
        .max_by_key(|(_, sockets)| sockets.len())
        .map(|(name, _)| *name);
    let Some(most) = most else {
        return "–".to_owned();
    };
    let mut text = most.to_owned();
    for (name, sockets) in by.iter().filter(|(name, _)| **name != most) {
        let sockets: Vec<_> = sockets.iter().map(|name| format!("`{name}`")).collect();
        let _ = write!(text, "; {}: {name}", sockets.join(", "));
    }
    text
}

const HEAD: &str = "\
# Whose socket is it?

    murphy inject --unit shop -e egress:blackhole:port=5432
    murphy run -e connect:error=ECONNREFUSED:dst=10.0.0.0/8 -- ./shop

Faults on packets and on `connect` hit the sockets of a target and of no other process. This page says
which sockets these are. `tests/tests/ownership/axes.rs` holds it as data, and a test writes this page:
each cell is tested with 20 operations of a target, and 20 of a neighbour beside it, on the same port,
of which none may be hit.

A socket belongs to the process that makes it, connects it or accepts it while that is a target. Sockets
that a target has when the fault is armed are marked then; those that come to it later by no system call
of its own are found by looking, once a second (of more than 32 processes, each within four seconds).
A listener that a target shares with other processes is the target's, and so are the connections that
those accept.

## The axes

";

const BEHAVIOUR: &str = "\
| | |
|---|---|
| hit | every operation, from the first |
| in 6 s | every operation, from at most six seconds on; the first may pass |
| warned | no operation; within six seconds murphy warns |
| exempt | no operation: the fault is not about such sockets |
| – | there is no such cell |

It is the same for every family. Where sockets differ, they are named.";
