//! `cargo xtask bench engine`: what matching costs, on the host and in a VM.

use anyhow::{Result, bail};

use super::{
    Common,
    place::{self, Place, Program},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Only these: packets and sockets are measured here, writes in the VM; profile, which wants perf, if asked for
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
    let program = Program::build("engine")?;
    let mut measured = Vec::new();
    for group in &args.only {
        let place = match group.as_str() {
            "packets" | "sockets" | "profile" => Place::Host,
            "writes" => Place::Vm(args.common.kernel.clone()),
            _ => bail!("no group {group}: packets, sockets, writes, profile"),
        };
        let mut rows = place.measure(&program, group, args.common.repetitions)?;
        // Rows of one kind together, in their order.
        rows.sort_by(|a, b| a.what.cmp(&b.what));
        measured.push((place, rows));
    }
    place::show(&measured, args.common.json.as_deref())
}
