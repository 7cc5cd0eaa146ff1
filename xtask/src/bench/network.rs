//! `cargo xtask bench network`: how near to what was asked for, beside plain netem in the same boot.

use anyhow::Result;

use super::{
    Common,
    place::{self, Place, Program},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
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
    let program = Program::build("network")?;
    let place = Place::Vm(args.common.kernel.clone());
    let mut measured = Vec::new();
    for group in &args.only {
        measured.extend(place.measure(&program, group, args.common.repetitions)?);
    }
    place::show(&[(place, measured)], args.common.json.as_deref())
}
