//! murphy as a library: faults from a test's own code, and what they are made of.
//!
//! [`Injection`] starts faults and [`Guard`] ends them. [`faults`] are values: parsed, printed, read from JSON;
//! [`plan`] says what they become in the kernel; [`engine`] carries plans out in this process.

mod guard;

pub use guard::{Guard, Injection, InjectionError, KEEPALIVE, beside_this_program};
pub use murphy_engine as engine;
pub use murphy_engine::{injector, policy};
pub use murphy_fault as faults;
pub use murphy_fault::plan;
pub use murphy_state::results;
