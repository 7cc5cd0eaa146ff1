//! Programs that watch and never inject: arming, and following children.

#![no_std]
#![no_main]

mod arm;
mod follow;

chaos_ebpf::provenance!();
