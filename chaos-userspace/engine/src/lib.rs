//! Carries a plan out: applies, renews, reports, reverts. Owns every guard.
//!
//! The order is always the same. The guardian first, while the process has one
//! thread and holds nothing; then what needs undoing, journalled before it is
//! made; then programs; then, last, arming. Reverting goes backwards.

pub mod audit;
mod cgroup;
mod descendants;
mod error;
pub mod guardian;
pub mod injector;
mod interfaces;
mod journal;
mod names;
pub mod policy;
pub mod probe;
mod processes;
mod record;
pub mod replay;
mod session;
mod sockets;
mod supervised;
mod survey;
mod tables;
mod targets;
pub mod undo;

pub use error::EngineError;
pub use murphy_mechanisms::Here;
pub use murphy_state::results::{FaultReport, Report, Suppressed};
pub use murphy_sys::clock::boot_ns;
pub use record::{End, FORMAT, Header, HeaderFault, Line, Match, Verdict};
pub use session::{Session, Settings};
pub use supervised::Entry;
pub use survey::{Process, Survey, rehearse};
pub use tables::TableError;
pub(crate) use targets::{container_names, unit_name};

/// Looks up what a plan only names: addresses of hosts, tables in files. What it has already stays as it is.
///
/// # Errors
///
/// The first that is not to be had.
pub fn resolve(plan: murphy_fault::plan::Plan) -> Result<murphy_fault::plan::Plan, EngineError> {
    names::resolve(tables::read(plan)?)
}
