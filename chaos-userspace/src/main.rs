//! The command `murphy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    murphy_cli::main()
}
