//! Whose socket is it? Every kind of socket, however a process came by it, is hit as the fault says,
//! and a neighbour's is not. `ownership/axes.rs` has the axes, which combinations exist, and what is
//! expected of each.

mod axes;
mod batch;
mod owner;
mod sockets;

use anyhow::ensure;
use tests::{Case, Group, Outcome, case, needs, note};

use axes::{Cell, Family, Fault, Way};

pub(crate) fn group() -> Group {
    let mut cases = Vec::new();
    for &way in Way::ALL {
        for &fault in Fault::ALL {
            cases.push(cells(way, fault));
        }
    }
    tests::group(cases)
        .role("own-sockets", owner::own)
        .role("own-sockets-all", owner::crowd)
}

fn cells(way: Way, fault: Fault) -> Case {
    let name = format!("{} by {}", fault.name(), way.name());
    case(&name, needs![Root, Cgroup2, Atomics], move || {
        let wanted = std::env::var("MURPHY_CELLS").unwrap_or_default();
        let cells: Vec<_> = Cell::all()
            .into_iter()
            .filter(|cell| cell.way == way && cell.fault == fault)
            .filter(|cell| sockets::has_ipv6() || cell.family == Family::V4)
            .filter(|cell| {
                wanted
                    .split(',')
                    .all(|word| word.is_empty() || cell.names().contains(&word))
            })
            .collect();
        test(way, &cells)
    })
}

/// How many rules an injection has at most.
const RULES: usize = 48;

fn test(way: Way, cells: &[Cell]) -> Outcome {
    let mut wrong = Vec::new();
    for batch in cells.chunks(RULES) {
        wrong.extend(batch::run(way, batch)?.wrong);
    }
    let lines: Vec<_> = wrong
        .iter()
        .map(|(cell, error)| format!("{cell}: {error}"))
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} cells are wrong:\n{}",
        wrong.len(),
        cells.len(),
        lines.join("\n")
    );
    note(&format!("{} cells", cells.len()));
    Ok(())
}
