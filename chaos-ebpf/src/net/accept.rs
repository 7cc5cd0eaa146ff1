//! The process that accepts a connection owns it, not the one that made the listener.
//!
//! Kernel interface: `cgroup/getpeername4`, `getpeername6` (5.8). `accept(2)` runs them in the process
//! that accepts if it asks for the other end's address, and `getpeername(2)` does. They find out nothing
//! and change nothing else.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use chaos_common::control;
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::target;

use crate::socket;

const PROCEED: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn murphy_accept4(ctx: SockAddrContext) -> i32 {
    own(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn murphy_accept6(ctx: SockAddrContext) -> i32 {
    own(&ctx)
}

#[inline(always)]
fn own(ctx: &SockAddrContext) -> i32 {
    socket::own_by_task(ctx, target::of_task(slot(control::DIMS)));
    PROCEED
}
