//! What is active on this machine: a record, and a control socket, for each injection.
//!
//! The folder is `/run/murphy` for root and `$XDG_RUNTIME_DIR/murphy` for others; `MURPHY_RUN_DIR`
//! names another one. `ID.json` is the record, `ID.sock` where its injector listens, `panic` the word
//! that nothing may be started. Records are written before anything is made that no descriptor owns, and
//! hold the journal of it, so that [`recover`] can undo what injector and guardian together left behind.
//!
//! Architecture invariant: only a record in a folder that nobody else may write is ever acted on.

pub mod cleanup;
pub mod client;
mod control;
mod dir;
mod entry;
mod error;
mod exchange;
mod files;
pub mod halt;
mod lock;
mod record;
pub mod recover;
pub mod results;
mod server;

pub use control::{Asked, By, Live, Reply, Request, Stopped};
pub use dir::{Listing, RUN_DIR, Removal, StateDir};
pub use entry::{About, Claim, Entry};
pub use error::StateError;
pub use files::Unread;
pub use lock::Lock;
pub use murphy_sys::owner::Owner;
pub use record::{Journalled, Record, name_is_valid};
pub use server::Server;
