//! Experiments: a hypothesis, faults, rollbacks, a verdict, in the format of Chaos Toolkit.
//!
//! The reference for all behaviour is chaostoolkit-lib 1.44.0; `tests/tests/experiment.rs` runs both over the
//! same files and compares. Values are kept as they are written ([`model`]); where Python's ways show through
//! the format, [`python_like`] and [`substitute`] have them. [`runner`] is the sequence of an experiment,
//! [`providers`] carry activities out, [`tolerance`] judges what they give.

mod check;
pub mod configuration;
pub mod convert;
pub mod export;
pub mod journal;
pub mod jsonpath2;
pub mod limits;
pub mod lock;
pub mod model;
pub mod progress;
pub mod providers;
mod python_like;
pub mod report;
pub mod runner;
pub mod sample;
pub mod score;
pub mod stop;
pub mod strategy;
pub mod substitute;
pub mod suite;
pub mod telemetry;
mod tls;
pub mod tolerance;

pub use model::{Experiment, Invalid};
