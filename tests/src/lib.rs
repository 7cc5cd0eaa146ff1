//! What murphy's integration tests share.
//!
//! A behaviour is a file in `tests/tests` with a group of cases. `tests/tests/main.rs` lists the
//! groups and links them all into one program:
//!
//! ```no_run
//! use tests::{Group, Outcome, case, needs};
//!
//! fn group() -> Group {
//!     tests::group([case("connect is refused while armed", needs![Root, Cgroup2], refused)])
//!         // A whole run has it on the host, as every case, and in two kernels. Say here why.
//!         .in_kernels(&["bookworm", "sid"])
//! }
//!
//! fn refused() -> Outcome {
//!     let got = tests::murphy(["run", "-e", "connect:error=ECONNREFUSED", "--", "true"]).run()?;
//!     anyhow::ensure!(got.code == Some(0), "{got}");
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     tests::run(&[("connect", group)])
//! }
//! ```
//!
//! Each group runs as a process of its own: what one leaves or crashes is not another's.
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
mod group;
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

pub use case::{Case, Outcome, case, note, run_with, skip};
pub use group::{Entry, Group, group, run};
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
