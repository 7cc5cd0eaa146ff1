//! `cargo xtask bench network`: how near to what was asked for, beside plain netem in the same boot.

use std::{env, process::Command};

use anyhow::Result;

use super::{
    Common, engine,
    rows::{self, Row},
};
use crate::{progress::Step, sh};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Kernel of the VM, as of `cargo xtask vm`
    #[arg(long, default_value = "sid", value_name = "KERNEL")]
    kernel: String,
    /// Only these
    #[arg(
        long,
        value_name = "GROUP",
        value_delimiter = ',',
        default_value = "delay,jitter,loss,rate,bulk"
    )]
    only: Vec<String>,
}

/// Measures each group, each in a boot of its own, and prints all at the end.
pub(super) fn run(args: &Args) -> Result<()> {
    let step = Step::start("building what measures");
    let program = engine::program("network")?;
    step.end("done", "");
    let place = format!("VM (emulated), {}", args.kernel);
    let repetitions = args.common.repetitions.to_string();
    let mut measured = Vec::new();
    for group in &args.only {
        let step = Step::start(format!("{group}: {place}"));
        let mut command = Command::new(env::current_exe()?);
        command.args(["vm", "--timeout", "60m", "--kernel", &args.kernel]);
        command.arg("--payload").arg(&program).arg("--");
        command.arg(program.file_name().unwrap_or_default());
        let said = sh::run(command.args([group, &repetitions]))?;
        measured.extend(said.lines().map(Row::parse).collect::<Result<Vec<_>>>()?);
        step.end("done", "");
    }
    rows::print(&place, &measured);
    if let Some(file) = &args.common.json {
        rows::write(file, &place, &measured)?;
    }
    Ok(())
}
