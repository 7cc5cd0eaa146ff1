//! `cargo xtask bench syscalls`: what a fault on a system call costs, beside strace's and libfiu's in the same boot.

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
        default_value = "write,openat,delay,preload"
    )]
    only: Vec<String>,
    /// Only here, where BPF LSM may be missing
    #[arg(long)]
    host_only: bool,
}

/// Measures each group on the host and in the VM, and prints all at the end.
pub(super) fn run(args: &Args) -> Result<()> {
    let program = Program::build("syscalls")?;
    let mut measured = Vec::new();
    for group in &args.only {
        for place in [Place::Host, Place::Vm(args.common.kernel.clone())] {
            if args.host_only && place != Place::Host {
                continue;
            }
            let mut rows = place.measure(&program, group, args.common.repetitions)?;
            rows.sort_by(|a, b| a.what.cmp(&b.what));
            measured.push((place, rows));
        }
    }
    place::show(&measured, args.common.json.as_deref())
}
