//! `cargo xtask bench lifecycle`: how long faults take to come, change and go, what waiting costs, and many at once.

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
        default_value = "times,rules,idle,events,children"
    )]
    only: Vec<String>,
    /// In the VM instead of here
    #[arg(long)]
    vm: bool,
}

/// Measures each group, and prints all at the end.
pub(super) fn run(args: &Args) -> Result<()> {
    let program = Program::build("lifecycle")?;
    let place = match args.vm {
        true => Place::Vm(args.common.kernel.clone()),
        false => Place::Host,
    };
    let mut measured = Vec::new();
    for group in &args.only {
        let rows = place.measure(&program, group, args.common.repetitions)?;
        measured.push((place.clone(), rows));
    }
    place::show(&measured, args.common.json.as_deref())
}
