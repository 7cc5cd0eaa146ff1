//! Programs on the entry of kernel functions.

#![no_std]
#![no_main]

mod descriptor;
mod r#override;

chaos_ebpf::provenance!();
