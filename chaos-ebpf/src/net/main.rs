//! Packets and sockets.

#![no_std]
#![no_main]

mod connect;
mod egress;
mod ingress;
mod packet;
mod socket;

chaos_ebpf::provenance!();
