//! The command line of `murphy run`: whatever CMD is and does, murphy is not in its way.

use tests::{Group, Need, Program, murphy, needs, victim};

mod faults;
mod orphans;
mod signals;
mod status;
mod streams;
mod user;

pub(crate) fn group() -> Group {
    let cases = status::cases()
        .into_iter()
        .chain(signals::cases())
        .chain(streams::cases())
        .chain(faults::cases())
        .chain(user::cases())
        .chain(orphans::cases());
    tests::group(cases)
        // The command line is the same on every kernel: one of the newer ones has it.
        .in_kernels(&["sid"])
}

/// The fault of most tests here. It needs the least of the kernel, and most commands never notice it.
const REFUSED: &str = "connect:error=ECONNREFUSED";

/// What [`REFUSED`] needs.
fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

/// `murphy run -e connect:error=ECONNREFUSED OPTIONS… -- CMD…`
fn run(options: &[&str], command: &[&str]) -> Program {
    murphy(["run", "-e", REFUSED])
        .args(options)
        .args(["--"])
        .args(command)
}

/// The same for a shell script, in which `$0` is the victim's program.
fn script(options: &[&str], script: &str) -> Program {
    run(options, &["sh", "-c", script]).args([victim::self_path()])
}
