//! A limit of connections that are open at once.
//!
//! A socket is counted when a target connects it, by every rule with a limit that speaks of it, and taken off when it is
//! closed. So two that come at the same moment cannot both be the last one that is let be.
//!
//! Kernel interface: `cgroup/sock_release` (5.9; socket storage in it 5.11).

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, cgroup_sock};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use chaos_common::connlimit::Counted;
use chaos_common::{MAX_RULES, bank, control, dims};
use chaos_ebpf::maps::{OPEN, RULES, banked, control as slot};
use chaos_ebpf::{atomic, gate};

use crate::socket;

const PROCEED: i32 = 1;

/// `SOCK_STREAM` (linux/net.h): what has no connection is not counted.
const STREAM: u32 = 1;

/// Socket → what it is counted by.
#[btf_map]
static COUNTED: SkStorage<Counted> = SkStorage::new();

#[cgroup_sock(sock_release)]
pub(crate) fn murphy_release(ctx: SockContext) -> i32 {
    uncount(ctx.sock);
    PROCEED
}

/// Narrows candidates to those without a limit and those whose limit is reached. Each that has one counts the socket.
#[inline(always)]
pub(crate) fn count(ctx: &SockAddrContext, dimensions: u64, candidates: u64) -> u64 {
    if dimensions & dims::CONNLIMIT == 0 {
        return candidates;
    }
    let limited = candidates & banked(dimensions, control::CONNLIMITS);
    if limited == 0 {
        return candidates;
    }
    let others = candidates & !limited;
    // SAFETY: the context is valid for the program's whole run.
    let (kind, socket) = unsafe {
        let ctx = ctx.sock_addr;
        ((*ctx).type_, (*ctx).__bindgen_anon_1.sk)
    };
    if kind != STREAM || socket.is_null() {
        return others;
    }
    // What is closed is the connection of MPTCP, not its subflow.
    let socket = socket::connection(socket);
    // It was connected before, in vain.
    uncount(socket);
    let at_ns = gate::now().saturating_sub(slot(control::ARMED_AT));
    let (low, high) = (
        murphy_slots(dimensions, limited, 0),
        murphy_slots(dimensions, limited, MAX_RULES),
    );
    let Some(note) = storage(socket, BPF_SK_STORAGE_GET_F_CREATE) else {
        return others;
    };
    // SAFETY: live storage of this socket, which nobody else connects or closes now.
    unsafe { note.write(Counted { low, high, at_ns }) };
    others | murphy_count(dimensions, limited)
}

/// The connection is not made.
#[inline(always)]
pub(crate) fn refused(ctx: &SockAddrContext) {
    if slot(control::DIMS) & dims::CONNLIMIT == 0 {
        return;
    }
    // SAFETY: the context is valid for the program's whole run.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if !socket.is_null() {
        uncount(socket::connection(socket));
    }
}

#[inline(always)]
fn uncount(socket: *mut bpf_sock) {
    let Some(note) = storage(socket, 0) else {
        return;
    };
    // SAFETY: live storage of this socket.
    let was = unsafe { note.replace(Counted::default()) };
    if was.low | was.high != 0 {
        murphy_uncount(was.low, 0, was.at_ns);
        murphy_uncount(was.high, MAX_RULES, was.at_ns);
    }
}

#[inline(always)]
fn storage(socket: *mut bpf_sock, flags: u32) -> Option<*mut Counted> {
    let map = core::ptr::from_ref(&COUNTED).cast_mut();
    // SAFETY: the verifier checks that `socket` is one; the callers have tested it.
    let value = unsafe {
        bpf_sk_storage_get(
            map.cast(),
            socket.cast(),
            core::ptr::null_mut(),
            u64::from(flags),
        )
    };
    (!value.is_null()).then_some(value.cast())
}

/// The slots of rules, `MAX_RULES` of them from `first` on, as a mask.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_slots(dimensions: u64, rules: u64, first: u32) -> u64 {
    let begin = bank::index(dimensions, MAX_RULES, 0);
    let mut left = rules;
    let mut slots = 0;
    for _ in 0..MAX_RULES {
        if left == 0 {
            break;
        }
        let rule = RULES.get(begin + left.trailing_zeros());
        left &= left - 1;
        let place = rule.map_or(u32::MAX, |rule| rule.slot.wrapping_sub(first));
        if place < MAX_RULES {
            slots |= 1 << place;
        }
    }
    slots
}

/// Counts one more by each of the rules, and gives those whose limit was reached before.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_count(dimensions: u64, rules: u64) -> u64 {
    let begin = bank::index(dimensions, MAX_RULES, 0);
    let mut left = rules;
    let mut reached = 0;
    for _ in 0..MAX_RULES {
        if left == 0 {
            break;
        }
        let bit = left & left.wrapping_neg();
        let rule = RULES.get(begin + left.trailing_zeros());
        left &= left - 1;
        let Some(rule) = rule else { continue };
        let Some(open) = OPEN.get_ptr_mut(rule.slot) else {
            continue;
        };
        // SAFETY: a live, 8-byte aligned array element, whose count is only changed atomically.
        let before = unsafe { atomic::fetch_add(&raw mut (*open).sockets, 1) };
        if before >= rule.connections {
            reached |= bit;
        }
    }
    reached
}

/// Takes a socket off that was counted then, by the slots from `first` on.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_uncount(slots: u64, first: u32, at_ns: u64) -> u64 {
    let mut left = slots;
    for _ in 0..MAX_RULES {
        if left == 0 {
            break;
        }
        let open = OPEN.get_ptr_mut(first + left.trailing_zeros());
        left &= left - 1;
        let Some(open) = open else { continue };
        // SAFETY: as in `murphy_count`; user space writes the time before the slot's rule is in force.
        unsafe {
            if at_ns >= (&raw const (*open).since_ns).read_volatile() {
                atomic::fetch_add(&raw mut (*open).sockets, u64::MAX);
            }
        }
    }
    0
}
