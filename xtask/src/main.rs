//! murphy's build, test and benchmark commands.

mod apt;
mod bench;
mod cache;
mod chaos_toolkit;
mod cost;
mod ebpf;
mod emulator;
mod image;
mod kernels;
mod progress;
mod setup;
mod sh;
mod test;
mod tools;
mod vm;

use std::process::ExitCode;

use clap::Parser as _;

/// murphy's build, test and benchmark commands
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Cli {
    Setup(setup::Args),
    Ebpf(ebpf::Args),
    Kernel(kernels::build::Args),
    Vm(vm::Args),
    Test(test::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = sh::catch_interrupts().and_then(|()| match cli {
        Cli::Setup(args) => setup::run(&args).map(|()| 0),
        Cli::Ebpf(args) => ebpf::run(&args),
        Cli::Kernel(args) => kernels::build::run(&args).map(|()| 0),
        Cli::Vm(args) => Ok(vm::run(&args)),
        Cli::Test(args) => Ok(test::run(&args)),
        Cli::Bench(args) => bench::run(&args).map(|()| 0),
    });
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
