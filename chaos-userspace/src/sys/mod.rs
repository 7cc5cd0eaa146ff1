//! Thin, safe access to the operating system that every other module may use and that uses none.

pub mod cgroup2;
pub mod clock;
pub(crate) mod helper;
pub mod host;
pub(crate) mod mounts;
pub(crate) mod netns;
pub mod owner;
pub(crate) mod process;
pub(crate) mod stat;
pub(crate) mod threads;
