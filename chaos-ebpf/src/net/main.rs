//! Packets and sockets.

#![no_std]
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
