//! How near a netem of murphy's comes to what was asked for, beside plain netem in the same boot.
//!
//! `cargo xtask bench network` runs this in a VM, `http` on the host. It goes to a network namespace of its own and prints one JSON object a
//! row: group, case, what, unit and the value of each repetition. The first case of a kind is always plain
//! netem, as the root qdisc of the loopback interface; repetitions of the cases take turns.

mod http;
mod load;
mod rows;

use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["load", what @ ..] => load::work(what),
        ["inside", group, repetitions] => rows::group(group, repetitions.parse()?),
        [group, repetitions] => {
            let status = Command::new("unshare")
                .args(["-n", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"])
                .arg(std::env::current_exe()?)
                .args(["inside", group, repetitions])
                .status()?;
            ensure!(status.success(), "{group} failed");
            Ok(())
        }
        _ => bail!("this is run by `cargo xtask bench network`"),
    }
}
