//! Whose socket is it? Every kind of socket, however a process came by it, is hit as the fault
//! says, and a neighbour's is not. `ownership/axes.rs` has the axes, which combinations exist, and
//! what is expected of each.

mod axes;
mod batch;
mod owner;
mod page;
mod sockets;

use anyhow::ensure;
use tests::{Case, Group, Outcome, case, needs, note};

use axes::{Cell, Family, Fault, Origin, Way};

pub(crate) fn group() -> Group {
    let mut cases = Vec::new();
    for &way in Way::ALL {
        for &fault in Fault::ALL {
            cases.push(cells(way, fault));
        }
    }
    let page = case(
        "docs/ownership.md says what is tested",
        Vec::new(),
        page::check,
    );
    cases.push(page.in_kernels(&[]));
    tests::group(cases)
        // What programs see of sockets is the same since 5.19: the newest kernel, and the host.
        .in_kernels(&["sid"])
        .role("own-sockets", owner::own)
        .role("own-sockets-all", owner::crowd)
}

/// The cells of a way and a fault: those of the cover; with `--full` all; or with values of
/// `MURPHY_CELLS`, as in `MURPHY_CELLS=mptcp,server`, those that have them.
fn cells(way: Way, fault: Fault) -> Case {
    let name = format!("{} by {}", fault.name(), way.name());
    case(&name, needs![Root, Cgroup2, Atomics], move || {
        let wanted = std::env::var("MURPHY_CELLS").unwrap_or_default();
        let words: Vec<_> = wanted.split(',').filter(|word| !word.is_empty()).collect();
        let is_full = std::env::var_os("MURPHY_TEST_FULL").is_some();
        let mut cells = match is_full || !words.is_empty() {
            true => Cell::all(),
            false => Cell::cover(),
        };
        cells.retain(|cell| {
            let is_possible = sockets::has_ipv6() || cell.family == Family::V4;
            let names = cell.names();
            let is_wanted = words.iter().all(|word| names.contains(word));
            (cell.way, cell.fault) == (way, fault) && is_possible && is_wanted
        });
        test(&cells)
    })
}

/// How many rules an injection has at most.
const RULES: usize = 48;

fn test(cells: &[Cell]) -> Outcome {
    let mut wrong = Vec::new();
    // What the command of `run` inherits changes where murphy attaches its programs.
    let (heirs, others): (Vec<Cell>, Vec<Cell>) = cells.iter().partition(|cell| {
        let inherits = matches!(cell.origin, Origin::Inherited | Origin::Activated);
        cell.way == Way::Run && inherits
    });
    for batch in heirs.chunks(RULES).chain(others.chunks(RULES)) {
        wrong.extend(batch::run(batch)?);
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
