//! murphy as a library: say a fault, compile it to a plan, carry it out.
//!
//! Architecture invariants: [`faults`] knows neither kernel nor machine; [`plan`]
//! is a value without side effects; [`kernel`] is the only place that imports
//! aya; [`code`] reads programs and knows no kernel; [`mechanisms`] carry faults out, each without
//! the others; [`engine`] owns every guard; [`state`] knows what is active on the machine; [`cli`] parses, shows, and exits.

pub mod audit;

pub mod cleanup;
pub mod cli;
pub mod code;
pub mod convert;
pub mod engine;
pub mod experiment;
pub mod faults;
mod guard;
pub mod injector;
pub mod kernel;
pub mod listen;
pub mod mechanisms;
pub mod plan;
pub mod policy;
pub mod printable;
pub mod report;
pub mod results;

pub mod serve;
pub mod state;
pub mod suite;
pub mod sys;
pub mod telemetry;
mod tls;
mod users;

pub use guard::{Guard, Injection, InjectionError, KEEPALIVE, beside_this_program};
