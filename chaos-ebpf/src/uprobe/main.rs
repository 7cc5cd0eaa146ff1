//! Programs on user-space instructions.

#![no_std]
#![no_main]

mod entry;

chaos_ebpf::provenance!();
