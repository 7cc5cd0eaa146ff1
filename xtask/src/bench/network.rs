//! `cargo xtask bench network`: how near to what was asked for, beside plain netem in the same boot.

use anyhow::Result;

use super::{
    Common,
    place::{self, Place, Program},
    rival,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Only these: http is measured here, the others in the VM
    #[arg(
        long,
        value_name = "GROUP",
        value_delimiter = ',',
        default_value = "delay,jitter,loss,rate,bulk,http,late"
    )]
    only: Vec<String>,
}

/// Measures each group, each in a boot of its own, and prints all at the end.
pub(super) fn run(args: &Args) -> Result<()> {
    let program = Program::build("network")?;
    let program = match args
        .only
        .iter()
        .any(|group| group == "http" || group == "late")
    {
        true => program.beside(rival::toxic_proxy()?),
        false => program,
    };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let vm = Place::Vm(args.common.kernel.clone());
    for group in &args.only {
        let (place, measured) = match group.as_str() {
            "http" => (&Place::Host, &mut here),
            _ => (&vm, &mut there),
        };
        measured.extend(place.measure(&program, group, args.common.repetitions)?);
    }
    place::show(
        &[(Place::Host, here), (vm, there)],
        args.common.json.as_deref(),
    )
}
