//! From the injection into a system call to its caller: what a call was made to give is noted for its thread, and held
//! against what it comes back with.
//!
//! Only where somebody observes: else the note is no part of the programs that the kernel runs.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use chaos_common::observe::Expected;

use crate::gate;
use crate::maps::EXPECTED;

/// 1 if the programs that observe are attached. The verifier takes away what a constant 0 forbids.
#[unsafe(no_mangle)]
static OBSERVE: Global<u32> = Global::new(0);

/// Notes that a rule made the system call of the current thread give this negative errno.
#[inline(always)]
pub fn expect(slot: u32, result: i32) {
    if OBSERVE.load() != 0 {
        // A note that finds no room is a call that is not observed.
        let _ = EXPECTED.insert(bpf_get_current_pid_tgid(), Expected { slot, result }, 0);
    }
}

/// Takes what was noted of the call that comes back.
#[inline(always)]
pub fn expected() -> Option<Expected> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: two integers, written by this very thread.
    let expected = unsafe { EXPECTED.get(thread) }.copied()?;
    let _ = EXPECTED.remove(thread);
    Some(expected)
}

/// Forgets a call whose end was not seen, if there is one.
#[inline(always)]
pub fn forget() {
    let thread = bpf_get_current_pid_tgid();
    // Looking takes no lock, as removing does.
    // SAFETY: nothing is read.
    if unsafe { EXPECTED.get(thread) }.is_some() {
        let _ = EXPECTED.remove(thread);
    }
}

/// Counts a call that came back, in the counters of the rule that injected.
#[inline(always)]
pub fn came_back(expected: Expected, result: i32) {
    if let Some(counters) = gate::counters(expected.slot) {
        if result == expected.result {
            counters.observed += 1;
        } else {
            counters.altered += 1;
        }
    }
}
