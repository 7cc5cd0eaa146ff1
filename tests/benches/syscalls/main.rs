//! What a fault on a system call costs, beside the tools that people use for it now.
//!
//! `cargo xtask bench syscalls` runs this on the host and in a VM. It prints one JSON object a row, as the
//! engine's does; what a machine cannot do is said on standard error and has no row.

mod load;
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
        ["write", repetitions] => rows::calls("write", repetitions.parse()?),
        ["openat", repetitions] => rows::calls("openat", repetitions.parse()?),
        ["preload", repetitions] => rows::preload(repetitions.parse()?),
        ["delay", repetitions] => rows::delay(repetitions.parse()?),
        _ => bail!("this is run by `cargo xtask bench syscalls`"),
    }
}
