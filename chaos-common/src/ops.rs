//! Operations: the index into the `OPS` map, whose values are masks of rules.
//!
//! A system call has its number (of the native ABI); what is no system call
//! follows above [`SYSCALLS`], and above [`OVERRIDE`] and [`SPIN`] the system calls once more.

/// Upper bound of system call numbers. Larger ones (x32) match nothing.
pub const SYSCALLS: u32 = 1024;
/// A packet leaves.
pub const EGRESS: u32 = SYSCALLS;
/// A packet arrives at its socket.
pub const INGRESS: u32 = SYSCALLS + 1;
/// A socket is connected (seen by the network hooks, which know no call numbers).
pub const CONNECT: u32 = SYSCALLS + 2;
/// A packet leaves, and rules would have the kernel's netem treat it.
pub const EGRESS_NETEM: u32 = SYSCALLS + 3;
/// A packet arrives, and rules would have the kernel's netem treat it.
pub const INGRESS_NETEM: u32 = SYSCALLS + 4;
/// A packet leaves, for the program that resets connections.
pub const EGRESS_RESET: u32 = SYSCALLS + 5;
/// A packet leaves, for the program that answers with ICMP errors.
pub const EGRESS_UNREACHABLE: u32 = SYSCALLS + 6;
/// A DNS query leaves.
pub const DNS: u32 = SYSCALLS + 7;
/// A response by HTTP leaves or arrives.
pub const HTTP: u32 = SYSCALLS + 8;
/// From here on the system calls by their numbers, for the program that answers them in the kernel's place.
pub const OVERRIDE: u32 = SYSCALLS + 9;
/// From here on the same, for the program that holds their threads up.
pub const SPIN: u32 = OVERRIDE + SYSCALLS;
/// Number of operations.
pub const COUNT: u32 = SPIN + SYSCALLS;
