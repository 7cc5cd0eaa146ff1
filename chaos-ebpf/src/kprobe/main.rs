//! Programs on the entry of kernel functions.

#![no_std]
#![no_main]

mod call;
mod descriptor;
mod r#override;
mod spin;

chaos_ebpf::provenance!();
