//! Packets and sockets.

#![no_std]
#![feature(asm_experimental_arch)]
#![no_main]

mod accept;
mod connect;
mod connlimit;
mod craft;
mod dns;
mod edt;
mod egress;
mod http;
mod ingress;
mod interface;
mod log;
mod mark;
mod message;
mod netem;
mod owner;
mod packet;
mod query;
mod reset;
mod socket;
mod unreachable;

chaos_ebpf::provenance!();
