//! What the rule engine costs, measured by real packets, sockets and writes.
//!
//! `cargo xtask bench engine` runs this on the host and in a VM. It prints one JSON object a
//! row: group, case, unit and the value of each repetition. The repetitions of all
//! cases of a group are interleaved, so that what disturbs one disturbs all.

mod kernel;
mod load;
mod profile;
mod rows;

use std::process::ExitCode;

use anyhow::{Result, bail};

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
        ["packets", repetitions] => rows::packets(repetitions.parse()?),
        ["sockets", repetitions] => rows::sockets(repetitions.parse()?),
        ["profile", repetitions] => profile::profile(repetitions.parse()?),
        ["writes", repetitions] => rows::writes(repetitions.parse()?),
        _ => bail!("this is run by `cargo xtask bench engine`"),
    }
}
