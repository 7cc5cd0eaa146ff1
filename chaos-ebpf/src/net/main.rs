//! Packets and sockets.

#![no_std]
#![no_main]

mod connect;
mod egress;
mod ingress;
mod mark;
mod netem;
mod owner;
mod packet;
mod socket;

chaos_ebpf::provenance!();
