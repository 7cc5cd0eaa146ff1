//! Thin, safe access to the operating system that every other module may use and that uses none.

pub mod cgroup2;
pub mod clock;
pub mod helper;
pub mod host;
pub mod mounts;
pub mod netns;
pub mod owner;
pub mod printable;
pub mod process;
pub mod shared;
pub mod stat;
pub mod threads;
pub mod users;
