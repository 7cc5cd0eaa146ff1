//! Programs on user-space instructions.

#![no_std]
#![no_main]

mod answer;
mod entry;

chaos_ebpf::provenance!();
