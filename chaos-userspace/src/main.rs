//! The command `murphy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    murphy::cli::main()
}
