//! What murphy's integration tests share.
//!
//! A behaviour is a file in `tests/tests`, listed in `Cargo.toml` with `harness = false`:
//!
//! ```no_run
//! use tests::{Outcome, case, needs};
//!
//! fn main() -> std::process::ExitCode {
//!     tests::run([case("connect is refused while armed", needs![Root, Cgroup2], refused)])
//! }
//!
//! fn refused() -> Outcome {
//!     let got = tests::murphy(["run", "-e", "connect:error=ECONNREFUSED", "--", "true"]).run()?;
//!     anyhow::ensure!(got.code == Some(0), "{got}");
//!     Ok(())
//! }
//! ```
//!
//! A test that needs what the machine lacks is skipped and says why; where the table in [`expect`] says
//! that the machine must have it, that is a failure. After each test nothing of it may be left in the
//! kernel ([`leftovers`]).

pub mod answered;
pub mod bpf;
pub mod calls;
mod case;
pub mod dns;
pub mod expect;
pub mod hosts;
pub mod http;
pub mod leftovers;
mod need;
pub mod net;
pub mod nginx;
pub mod peer;
pub mod postgres;
pub mod probes;
mod process;
pub mod redis;
pub mod report;
pub mod victim;

pub use case::{Case, Outcome, case, note, run, run_once, run_with, skip};
pub use need::{Need, chaos_toolkit};
pub use process::{ChildGuard, Finished, Program, murphy, murphy_path, program, wait_until};
pub use report::Hit;

/// The list of [`Need`]s of a case: `needs![Root, Tool("strace")]`.
#[macro_export]
macro_rules! needs {
    ($($need:expr),* $(,)?) => {{
        #[allow(unused_imports)]
        use $crate::Need::*;
        vec![$($need),*]
    }};
}
