//! Tells whoever listens of a decision: the ring buffer `EVENTS` (5.8).
//!
//! The functions are global, which the verifier looks at once and not at every
//! turn of the gate's loop. They take five numbers, as many as BPF hands over in
//! registers. A program links only those it calls: packet programs may not
//! ask for the current task, which would be a stranger to the packet anyway.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use chaos_common::control;
use chaos_common::event::{Event, kind, verdict};

use crate::atomic;
use crate::gate::{VERDICT, VERDICT_BITS};
use crate::maps::{CONTROL, EVENTS, RULES, control as slot};

/// Which decisions are reported: one of `control::LISTEN_…`. The loader sets it, so that the verifier
/// removes what a 0 forbids.
#[unsafe(no_mangle)]
static LISTEN: Global<u32> = Global::new(0);

/// Whether any decision is reported.
#[inline(always)]
pub(crate) fn is_reported() -> bool {
    LISTEN.load() != control::LISTEN_NOTHING
}

/// Who does the operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The current task.
    Task,
    /// Not known: the program runs in softirq, in whatever task that interrupted.
    Unknown,
}

/// What the operation is about.
#[derive(Clone, Copy)]
pub struct Detail {
    kind: u32,
    port: u16,
    words: [u64; 2],
}

impl Detail {
    /// Nothing is known.
    pub const NONE: Self = Self {
        kind: kind::NONE,
        port: 0,
        words: [0; 2],
    };

    /// An IPv4 remote end; the address in memory order.
    #[inline(always)]
    pub fn remote4(address: u32, port: u16) -> Self {
        Self {
            kind: kind::REMOTE4,
            port,
            words: [u64::from(address), 0],
        }
    }

    /// An IPv6 remote end; the address in memory order.
    #[inline(always)]
    pub fn remote6(address: [u32; 4], port: u16) -> Self {
        // BPF is little endian here as its host is: the first word comes first in memory.
        let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Self {
            kind: kind::REMOTE6,
            port,
            words: [word(address[0], address[1]), word(address[2], address[3])],
        }
    }

    /// A file of this `i_mode`, if `there` is 1; nothing if it is 0. Without a branch: the
    /// verifier would follow each of its ways through the gate's loop.
    #[inline(always)]
    pub fn file(mode: u16, there: u32) -> Self {
        Self {
            kind: kind::FILE * there,
            port: 0,
            words: [u64::from(mode), 0],
        }
    }

    /// A packet: bytes from the network header on, Ethernet protocol.
    #[inline(always)]
    pub fn packet(length: u32, protocol: u16) -> Self {
        Self {
            kind: kind::PACKET,
            port: 0,
            words: [u64::from(length), u64::from(protocol)],
        }
    }
}

/// Writes one event, if somebody listens to decisions like this one. `answer` is that
/// of [`crate::gate::murphy_ask`].
#[inline(always)]
pub fn tell(by: By, operation: u32, rule: u32, answer: u64, now: u64, detail: &Detail) {
    // 11 + 7 + 3 + 16 bits, a byte or two each.
    let packed = u64::from(operation & 0xffff)
        | u64::from(rule & 0xff) << 16
        | u64::from(detail.kind & 0xff) << 24
        | u64::from(detail.port) << 32;
    let [first, second] = detail.words;
    match by {
        By::Task => murphy_tell_by(packed, answer, now, first, second),
        By::Unknown => murphy_tell(packed, answer, now, first, second),
    };
}

/// Whether somebody listens to a decision.
#[inline(always)]
fn is_told(answer: u64) -> bool {
    let listen = LISTEN.load();
    let injected = answer & VERDICT == u64::from(verdict::INJECTED);
    listen == control::LISTEN_MATCHES || (injected && listen == control::LISTEN_INJECTIONS)
}

/// An event of the current task.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_tell_by(packed: u64, answer: u64, now: u64, first: u64, second: u64) -> u64 {
    if !is_told(answer) {
        return 0;
    }
    let mut event = unpack(packed, answer, now, first, second);
    let id = bpf_get_current_pid_tgid();
    event.pid = (id >> 32) as u32;
    event.tid = id as u32;
    event.comm = bpf_get_current_comm().unwrap_or([0; 16]);
    write(&event)
}

/// An event of nobody in particular.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_tell(packed: u64, answer: u64, now: u64, first: u64, second: u64) -> u64 {
    if !is_told(answer) {
        return 0;
    }
    write(&unpack(packed, answer, now, first, second))
}

#[inline(always)]
fn unpack(packed: u64, answer: u64, now: u64, first: u64, second: u64) -> Event {
    // Listeners know a rule by its slot, and its time since it joined the others.
    let number = (packed >> 16) as u32 & 0xff;
    let (rule, since) = RULES
        .get(number)
        .map_or((number, 0), |rule| (rule.slot, rule.since_ns));
    let armed = slot(control::ARMED_AT).saturating_add(since);
    Event {
        time_ns: now,
        elapsed_ns: now.saturating_sub(armed),
        n: answer >> VERDICT_BITS,
        detail: [first, second],
        pid: 0,
        tid: 0,
        rule,
        operation: packed as u32 & 0xffff,
        verdict: (answer & VERDICT) as u32,
        kind: (packed >> 24) as u32 & 0xff,
        port: (packed >> 32) as u32 & 0xffff,
        pad: 0,
        comm: [0; 16],
    }
}

/// A full buffer is counted, never waited for.
#[inline(always)]
fn write(event: &Event) -> u64 {
    if EVENTS.output::<Event>(event, 0).is_ok() {
        return 0;
    }
    if let Some(lost) = CONTROL.get_ptr_mut(control::EVENTS_LOST) {
        // SAFETY: a live, 8-byte aligned array element, only ever changed atomically.
        unsafe { atomic::fetch_add(lost, 1) };
    }
    1
}
