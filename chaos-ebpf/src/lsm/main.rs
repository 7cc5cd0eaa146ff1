//! System calls that have an LSM hook.

#![no_std]
#![no_main]

mod open;
mod read_write;
mod syscall;

chaos_ebpf::provenance!();
