//! Programs that watch and never inject: arming, following children, and observing what callers get.

#![no_std]
#![no_main]

mod arm;
mod follow;
mod observe;

chaos_ebpf::provenance!();
