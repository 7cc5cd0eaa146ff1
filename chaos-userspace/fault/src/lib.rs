//! What a fault *is*: the model, the registry of all faults, and the expression that spells one.
//!
//! Architecture invariant: nothing here touches the kernel or the running machine (no aya, no file, no system call). Whether
//! this machine can do what a fault asks is the plan's question.

// A key, operation or effect that is new must be thought of wherever one is looked at.
#![deny(clippy::wildcard_enum_match_arm)]

mod arch;
mod call;
mod check;
mod connect;
pub(crate) mod dns;
mod effect;
mod egress;
pub mod expr;
mod file;
pub(crate) mod http;
mod ingress;
pub mod interface;
mod ipc;
mod limit;
mod memory;
mod metadata;
pub mod model;
pub mod name;
pub mod netem;
mod open;
mod path;
pub mod plan;
mod process;
mod reach;
mod read_write;
pub mod registry;
pub mod remote;
mod socket;
pub mod syscall;
pub mod syscalls;
mod system;
pub mod table;
pub mod values;
mod who;
pub mod wire;

pub use call::{Count, Glob, Signal};
pub use check::Mismatch;
pub use effect::CallEffect;
pub use expr::{Mistake, ParseError};
pub use interface::InterfaceGlob;
pub use limit::{Level, Limit};
pub use model::{ConditionTrigger, Effect, Fault, Filter, Op, Trigger, Triggers};
pub use name::NameGlob;
pub use netem::Netem;
pub use registry::{
    EffectKey, FAULTS, Family, FaultKind, FilterKey, Key, KeyDef, Property, TargetKey, TriggerKey,
};
pub use remote::{HostName, Remote};
pub use table::{BadTable, Table, TableFile};
pub use values::{
    Errno, FdKind, Nanos, Net, OutOfRange, Ppm, Proto, Pulse, RateLimit, RateUnit, When,
};
pub use who::{Aim, EXEMPT, Namespace, Selector, Who};
pub use wire::{Rcode, Status, Unreachable, Wire};
