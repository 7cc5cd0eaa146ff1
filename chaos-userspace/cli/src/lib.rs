//! The command line: parse, hand over to the engine, show, exit.

mod args;
mod child;
mod control;
mod convert;
mod detach;
mod doctor;
mod experiment;
mod failure;
mod halt;
mod inject;
mod lease;
mod lifecycle;
mod listen;
mod output;
mod permit;
mod replay;
mod report;
mod run;
mod serve;
mod signals;
mod spans;
mod suite;
mod targets;
mod writer;

use std::process::ExitCode;

use clap::Parser as _;

pub use args::{Cli, Command};
use failure::Failure;

/// Exit statuses (sysexits.h for 75 and 77; `run` follows env(1) and timeout(1)).
mod status {
    /// Something went wrong.
    pub(crate) const FAILED: u8 = 1;
    /// The command line was not understood.
    pub(crate) const USAGE: u8 = 2;
    /// Somebody else is in the way, for now.
    pub(crate) const BUSY: u8 = 75;
    /// A privilege or a feature of the kernel is missing.
    pub(crate) const MISSING: u8 = 77;
    /// `run`: anything of murphy's own, so that it is not taken for CMD's.
    pub(crate) const RUN: u8 = 125;
    /// `run`: CMD was found and could not be executed.
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    /// `run`: CMD was not found.
    pub(crate) const NOT_FOUND: u8 = 127;
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let of_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
            // Help and version are no errors.
            let code = match error.use_stderr() {
                true if of_run => status::RUN,
                true => status::USAGE,
                false => 0,
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let (result, own) = match cli.command {
        Command::Run(args) => (run::run(&args), Some(status::RUN)),
        Command::Inject(args) => (inject::inject(&args), None),
        Command::Replay(args) => {
            let own = (!args.command.is_empty()).then_some(status::RUN);
            (replay::replay(&args), own)
        }
        Command::Status(args) => (lifecycle::status(&args), None),
        Command::Stop(args) => (lifecycle::stop(&args), None),
        Command::Renew(args) => (lifecycle::renew(&args), None),
        Command::Recover(args) => (lifecycle::recover(&args), None),
        Command::Panic(args) => (halt::panic(&args), None),
        Command::Resume(args) => (halt::resume(&args), None),
        Command::Serve(args) => (serve::serve(&args), None),
        Command::Doctor(args) => (doctor::doctor(&args), None),
        Command::Experiment(args) => (experiment::experiment(&args), None),
        Command::Gameday(args) => (suite::gameday(&args), None),
        Command::Schedule(args) => (suite::schedule(&args), None),
        Command::Monkey(args) => (suite::monkey(&args), None),
        Command::Report(args) => (report::report(&args), None),
        Command::Convert(args) => (convert::convert(&args), None),
        Command::Man { of } => (output::man(of.as_deref()), None),
        Command::Completions { shell } => (output::completions(shell), None),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show();
            ExitCode::from(
                own.filter(|_| !failure.is_of_exec())
                    .unwrap_or(failure.status()),
            )
        }
    }
}

/// A runtime of one thread: the guardian is forked before, the command from it.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("starting the event loop"))
}

/// The seed that was asked for, or one that is new each time and short enough to be typed.
fn seed(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| {
        let mut bytes = [0; 4];
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(4) => u64::from(u32::from_ne_bytes(bytes)),
            _ => murphy_engine::boot_ns(),
        }
    })
}
