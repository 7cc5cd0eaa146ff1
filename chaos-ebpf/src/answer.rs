//! System calls that are answered in the kernel's place: what is asked and what is given. How it is given is the program's.

use aya_ebpf::helpers::generated::bpf_send_signal_thread;
use chaos_common::answer::{VALUES, drawn};
use chaos_common::ops;

use crate::gate::{self, Injection};
use crate::maps::OVERRIDES;
use crate::target;
use crate::tell::{By, Detail};

/// Asks about a call of the native ABI, by its number, and does what the rule says: `accept` gives the rules whose filters
/// accept it, and `give` hands the caller a value, of this rule, and says whether it could.
#[inline(always)]
pub fn answer(call: u32, accept: impl FnOnce(u64) -> u64, give: impl FnOnce(u32, i64) -> bool) {
    let injection = gate::pass(
        ops::OVERRIDE + call,
        target::of_task,
        accept,
        By::Task,
        || Detail::NONE,
    );
    if let Some(injection) = injection
        && !carry_out(injection, give)
    {
        gate::not_done(injection);
    }
}

/// Does what the rule says; whether it could be done.
#[inline(always)]
fn carry_out(injection: Injection, give: impl FnOnce(u32, i64) -> bool) -> bool {
    let Some(answer) = OVERRIDES.get(injection.rule) else {
        return false;
    };
    // SAFETY: the helper takes any number and refuses what is no signal, and threads that end.
    if answer.signal != 0 && unsafe { bpf_send_signal_thread(answer.signal) } != 0 {
        return false;
    }
    if answer.count == 0 {
        return true;
    }
    let which = drawn(injection.seed, injection.n, answer.count) as usize & (VALUES - 1);
    give(injection.rule, answer.values[which])
}
