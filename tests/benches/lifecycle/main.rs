//! How long faults take to come and go, and what they cost while nothing happens.
//!
//! `cargo xtask bench lifecycle` runs this. It prints one JSON object a row, as the engine's does.

mod by;
mod rows;
mod scale;

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
        ["load", "send", address, count] => scale::send(address, count.parse()?),
        ["times", repetitions] => rows::times(repetitions.parse()?),
        ["rules", repetitions] => rows::rules(repetitions.parse()?),
        ["idle", repetitions] => rows::idle(repetitions.parse()?),
        ["events", repetitions] => scale::events(repetitions.parse()?),
        ["children", repetitions] => scale::children(repetitions.parse()?),
        _ => bail!("this is run by `cargo xtask bench lifecycle`"),
    }
}

/// Prints one case: what each repetition gave.
fn row(group: &str, case: &str, what: &str, unit: &str, values: &[f64]) {
    println!(
        "{}",
        serde_json::json!({"group": group, "case": case, "what": what, "unit": unit, "values": values})
    );
}
