//! `cargo xtask bench engine`: what matching costs, on the host and in a VM.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{
    Common,
    rows::{self, Row},
};
use crate::{
    progress::Step,
    sh,
    vm::build::{self, static_cargo},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Kernel of the VM where LSM programs are measured, as of `cargo xtask vm`
    #[arg(long, default_value = "sid", value_name = "KERNEL")]
    kernel: String,
    /// Only these: packets and sockets are measured here, writes in the VM
    #[arg(
        long,
        value_name = "GROUP",
        value_delimiter = ',',
        default_value = "packets,sockets,writes"
    )]
    only: Vec<String>,
}

/// Measures each group, and prints all at the end.
pub(super) fn run(args: &Args) -> Result<()> {
    let step = Step::start("building murphy and what measures it");
    let murphy = build::murphy()?;
    let program = program("engine")?;
    step.end("done", "");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let host = format!("host, Linux {}", release.trim());
    let repetitions = args.common.repetitions.to_string();
    let mut measured = Vec::new();
    for group in &args.only {
        let (place, mut command) = match group.as_str() {
            "packets" | "sockets" => {
                let mut command = Command::new(&program);
                command.env("MURPHY_BIN", &murphy);
                (host.clone(), command)
            }
            "writes" => {
                let mut command = Command::new(env::current_exe()?);
                command.args([
                    "vm",
                    "--timeout",
                    "30m",
                    "--kernel",
                    &args.kernel,
                    "--payload",
                ]);
                command
                    .arg(&program)
                    .arg("--")
                    .arg(program.file_name().unwrap_or_default());
                (format!("VM (emulated), {}", args.kernel), command)
            }
            _ => bail!("no group {group}: packets, sockets, writes"),
        };
        let step = Step::start(format!("{group}: {place}"));
        let said = sh::run(command.args([group, &repetitions]))?;
        let rows = said.lines().map(Row::parse).collect::<Result<Vec<_>>>()?;
        step.end("done", "");
        measured.push((place, rows));
    }
    for (place, rows) in &measured {
        rows::print(place, &by_kind(rows));
        if let Some(file) = &args.common.json {
            rows::write(file, place, rows)?;
        }
    }
    Ok(())
}

/// Rows of one kind together, in their order.
fn by_kind(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.what.cmp(&b.what));
    rows
}

/// Builds a measuring program, statically: the same runs here and in a VM.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let mut cargo = static_cargo("build");
    cargo.args(["-p", "tests", "--bench", name]);
    let built = build::artifacts(cargo)?;
    if !built.errors.is_empty() {
        bail!("{}", built.errors);
    }
    let found = built.artifacts.into_iter().find(|made| made.name == name);
    found
        .map(|made| made.path)
        .with_context(|| format!("cargo built no {name}"))
}
