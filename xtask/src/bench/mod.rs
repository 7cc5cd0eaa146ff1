//! `cargo xtask bench`: figures, each printed by the command that measures it.

mod engine;
mod lifecycle;
mod network;
mod place;
mod plot;
mod rival;
mod rows;
mod start;
mod syscalls;

use std::path::PathBuf;

use anyhow::Result;

/// Measure murphy on this machine, and what cannot be measured here in a VM; as root
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// How much longer a command takes under murphy, from cold: all of murphy's own time
    Start {
        /// How often each
        #[arg(long, default_value_t = 50)]
        runs: usize,
    },
    /// What the rule engine costs a packet, a socket, a write, by rules and targets
    Engine(engine::Args),
    /// How near netem faults come to what was asked for, beside plain netem
    Network(network::Args),
    /// What a fault on a system call costs, beside strace's
    Syscalls(syscalls::Args),
    /// How long faults take to come, change and go, what waiting costs, and many at once
    Lifecycle(lifecycle::Args),
    /// Curves from what the others wrote with --json, as SVG
    Plot(plot::Args),
}

/// What every measurement can be told.
#[derive(Debug, clap::Args)]
struct Common {
    /// Repetitions of each case, interleaved
    #[arg(long, default_value_t = 7, value_name = "N")]
    repetitions: usize,
    /// Kernel of the VM, as of `cargo xtask vm`
    #[arg(long, default_value = "sid", value_name = "KERNEL")]
    kernel: String,
    /// Write the figures to a file too, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures what was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Start { runs } => start::run(*runs),
        What::Engine(args) => engine::run(args),
        What::Network(args) => network::run(args),
        What::Syscalls(args) => syscalls::run(args),
        What::Lifecycle(args) => lifecycle::run(args),
        What::Plot(args) => plot::run(args),
    }
}
