//! Thin, safe access to the operating system that every other module may use and that uses none.

pub(crate) mod process;
