//! `connect` fails with an errno.
//!
//! Kernel interface: `cgroup/connect4`, `cgroup/connect6` (4.17) with
//! `bpf_set_retval` (5.18). They see every `connect(2)` on an IPv4 or IPv6
//! socket, UDP included, before a packet is made.

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use chaos_common::{control, dims, ops};
use chaos_ebpf::maps::{accept_remote4, accept_remote6, control as slot};
use chaos_ebpf::tell::{By, Detail};
use chaos_ebpf::{gate, observe, target};

use crate::{connlimit, log, socket};

const PROCEED: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
pub(crate) fn murphy_connect4(ctx: SockAddrContext) -> i32 {
    try_connect(
        &ctx,
        |ctx, dimensions| accept_remote4(dimensions, address4(ctx).to_ne_bytes()),
        |ctx| Detail::remote4(address4(ctx), port(ctx)),
        log::connect4,
    )
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn murphy_connect6(ctx: SockAddrContext) -> i32 {
    try_connect(
        &ctx,
        |ctx, dimensions| {
            let words = address6(ctx);
            // SAFETY: 16 bytes into 16 bytes.
            let address = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) };
            let mut mask = accept_remote6(dimensions, &address);
            // ::ffff:0:0/96 is IPv4 by an IPv6 socket: rules may name either.
            if words[0] | words[1] == 0 && words[2] == u32::to_be(0xffff) {
                mask |= accept_remote4(dimensions, words[3].to_ne_bytes());
            }
            mask
        },
        |ctx| Detail::remote6(address6(ctx), port(ctx)),
        log::connect6,
    )
}

#[inline(always)]
pub(crate) fn address4(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the context is valid for the program's whole run.
    unsafe { (*ctx.sock_addr).user_ip4 }
}

#[inline(always)]
pub(crate) fn address6(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: as above. The verifier wants 4-byte reads.
    unsafe {
        let words = &raw const (*ctx.sock_addr).user_ip6;
        [
            (&raw const (*words)[0]).read_volatile(),
            (&raw const (*words)[1]).read_volatile(),
            (&raw const (*words)[2]).read_volatile(),
            (&raw const (*words)[3]).read_volatile(),
        ]
    }
}

#[inline(always)]
pub(crate) fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: as above.
    u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16)
}

#[inline(always)]
fn try_connect(
    ctx: &SockAddrContext,
    accept_address: impl FnOnce(&SockAddrContext, u64) -> u64,
    detail: impl FnOnce(&SockAddrContext) -> Detail,
    log: impl Fn(&SockAddrContext, u32, u64),
) -> i32 {
    // None where MPTCP connects further subflows: that is a thread of the kernel's.
    let classes = target::of_task(slot(control::DIMS));
    socket::own_by_task(ctx, classes);
    let accept = |dimensions| {
        let mut mask = gate::accept_remote_port(dimensions, port(ctx));
        if dimensions & dims::REMOTE != 0 {
            mask &= accept_address(ctx, dimensions);
        }
        mask
    };
    let who = |_| classes;
    let within = |dimensions, rules| connlimit::count(ctx, dimensions, rules);
    let injection = gate::pass_logging(
        ops::CONNECT,
        who,
        accept,
        By::Task,
        || detail(ctx),
        within,
        |outcome, number| log(ctx, outcome, number),
    );
    let Some(injection) = injection else {
        return PROCEED;
    };
    let errno = injection.errno();
    // SAFETY: the helper only notes the value.
    if errno == 0 || unsafe { bpf_set_retval(errno) } != 0 {
        gate::not_done(injection);
        return PROCEED;
    }
    connlimit::refused(ctx);
    observe::expect(injection.rule, errno);
    REFUSE
}
