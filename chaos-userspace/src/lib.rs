//! murphy as a library: say a fault, compile it to a plan, carry it out.
//!
//! Architecture invariants: [`faults`] knows neither kernel nor machine; [`plan`]
//! is a value without side effects; [`kernel`] is the only place that imports
//! aya; [`engine`] owns every guard; [`cli`] parses, shows, and exits; [`seccomp`]
//! is pure user space.

pub mod cli;
pub mod engine;
pub mod faults;
pub mod kernel;
pub mod plan;
pub mod seccomp;
