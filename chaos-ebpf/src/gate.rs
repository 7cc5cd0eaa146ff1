//! The only road to an injection.
//!
//! exempt → target → filters → armed, lease → decide → count → tell. A program asks
//! [`pass`] and does what the answer says; every error lets the operation
//! through and is counted.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::maps::Array;
use chaos_common::counters::Counters;
use chaos_common::decide::{Verdict, decide, needs_state};
use chaos_common::event::verdict;
use chaos_common::rule::{Rule, RuleState};
use chaos_common::{MAX_RULES, bank, control, dims, ops, target};

use crate::atomic;
use crate::maps::{
    CLASSES, COUNTERS, FD_KINDS, FDS, LPORTS, OPS, PROTOS, RPORTS, RULES, STATES, banked,
    control as slot,
};
use crate::tell::{By, Detail, is_reported, tell};

/// How often a contended state is tried again before the match counts as failed.
const EXCHANGES: u32 = 8;

/// The greatest errno (`MAX_ERRNO`, include/linux/err.h).
const MAX_ERRNO: i64 = 4095;

/// Answers of [`murphy_ask`] hold a [`verdict`] in these bits, and above them the
/// match's number: it would take 2⁵⁶ matches to overflow.
pub(crate) const VERDICT_BITS: u32 = 8;
/// These bits.
pub(crate) const VERDICT: u64 = (1 << VERDICT_BITS) - 1;

/// What became of an operation, for [`pass_logging`].
pub mod outcome {
    /// No rule targets the task or socket.
    pub const NOT_A_TARGET: u32 = 0;
    /// The rules are not armed.
    pub const NOT_ARMED: u32 = 1;
    /// No filter accepts it.
    pub const FILTER: u32 = 2;
    /// No limit of connections is reached.
    pub const CONNLIMIT: u32 = 3;
    /// A rule decided: to this one of [`chaos_common::event::verdict`] is added.
    pub const DECIDED: u32 = 4;
}

/// What the gate lets happen.
#[derive(Clone, Copy)]
pub struct Injection {
    /// The rule's effect, one of `EFFECT_…`.
    pub effect: u32,
    /// The effect's value.
    pub value: i64,
    /// The rule's slot, for [`not_done`].
    pub rule: u32,
    /// The rule's seed.
    pub seed: u64,
    /// The match's number.
    pub n: u64,
    /// The rule's delay and how much that varies, in ns.
    pub delay_ns: (u64, u64),
}

impl Injection {
    /// The negative errno; 0, which lets the operation through, for any other value.
    /// The verifier wants to see these bounds (LSM since 6.12, `bpf_set_retval` since 7.x).
    #[inline(always)]
    pub fn errno(&self) -> i32 {
        errno(self.value)
    }
}

/// A negative errno as it is, anything else as 0, shown to the verifier as such.
#[inline(always)]
pub fn errno(value: i64) -> i32 {
    if (-MAX_ERRNO..0).contains(&value) {
        value as i32
    } else {
        0
    }
}

/// Boot time in ns: it counts suspend, as leases and deadlines do.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Whether injections may happen now: armed, and in the lease.
#[inline(always)]
pub fn is_armed() -> bool {
    slot(control::ARMED_AT) != 0 && now() <= slot(control::LEASE_UNTIL)
}

/// Asks whether something is to be injected into an operation.
///
/// `who` gives the classes of the one who does it, `accept` narrows a
/// mask to the rules whose filters accept it. Both are called only while there
/// is a candidate left, the dearer `accept` last. Rules are asked in their
/// order; the first that says yes wins and the later ones are not asked. `by` and
/// `detail` are for whoever listens.
#[inline(always)]
pub fn pass(
    operation: u32,
    who: impl FnOnce(u64) -> u64,
    accept: impl FnOnce(u64) -> u64,
    by: By,
    detail: impl FnOnce() -> Detail,
) -> Option<Injection> {
    pass_narrowing(operation, who, accept, by, detail, |_, rules| rules)
}

/// [`pass`], which lets `narrow` choose among the rules that would be asked, given the dimensions and these rules. It is
/// called only if there is one.
#[inline(always)]
pub fn pass_narrowing(
    operation: u32,
    who: impl FnOnce(u64) -> u64,
    accept: impl FnOnce(u64) -> u64,
    by: By,
    detail: impl FnOnce() -> Detail,
    narrow: impl FnOnce(u64, u64) -> u64,
) -> Option<Injection> {
    pass_logging(operation, who, accept, by, detail, narrow, |_, _| ())
}

/// [`pass_narrowing`], which also reports to `log`: one of [`outcome`], and a number. An outcome
/// before `DECIDED` is reported at each check, and applies if the number is 0. The calls stand
/// before the branches, so that no instruction is left of a `log` that does nothing. Operations
/// that no rule names are not reported.
#[inline(always)]
pub fn pass_logging(
    operation: u32,
    who: impl FnOnce(u64) -> u64,
    accept: impl FnOnce(u64) -> u64,
    by: By,
    detail: impl FnOnce() -> Detail,
    narrow: impl FnOnce(u64, u64) -> u64,
    log: impl Fn(u32, u64),
) -> Option<Injection> {
    // Read once: whatever happens meanwhile, this operation is judged by one bank.
    let dimensions = slot(control::DIMS);
    let mut candidates = named_by(dimensions, operation);
    if candidates == 0 {
        return None;
    }
    let armed_at = slot(control::ARMED_AT);
    log(outcome::NOT_ARMED, armed_at);
    if armed_at == 0 {
        return None;
    }
    let classes = who(dimensions);
    log(outcome::NOT_A_TARGET, classes);
    if classes == 0 {
        return None;
    }
    candidates &= murphy_rules(dimensions, classes);
    log(outcome::NOT_A_TARGET, candidates);
    if candidates == 0 {
        return None;
    }
    candidates &= accept(dimensions);
    log(outcome::FILTER, candidates);
    if candidates == 0 {
        return None;
    }
    candidates = narrow(dimensions, candidates);
    log(outcome::CONNLIMIT, candidates);
    if candidates == 0 {
        return None;
    }
    let now = now();
    let in_lease = now <= slot(control::LEASE_UNTIL);
    let elapsed = now.saturating_sub(armed_at);
    // Looking at the operation once more is for listeners only.
    let detail = if is_reported() {
        detail()
    } else {
        Detail::NONE
    };
    // The loop has as few branches as can be: the verifier follows each through all its
    // turns. So whether somebody listens is asked inside `tell`.
    let first = bank::index(dimensions, MAX_RULES, 0);
    let mut injecting = bank::BANKS * MAX_RULES;
    let mut answer = 0;
    let mut n = 0;
    for _ in 0..MAX_RULES {
        if candidates == 0 {
            break;
        }
        let rule = first + candidates.trailing_zeros();
        candidates &= candidates - 1;
        answer = murphy_ask(rule, u64::from(in_lease), elapsed);
        tell(by, operation, rule, answer, now, &detail);
        if answer & VERDICT == u64::from(verdict::INJECTED) {
            injecting = rule;
            n = answer >> VERDICT_BITS;
            break;
        }
    }
    log(outcome::DECIDED + (answer & VERDICT) as u32, answer);
    let rule = RULES.get(injecting)?;
    Some(Injection {
        effect: rule.effect,
        value: rule.value,
        rule: rule.slot,
        seed: rule.seed,
        n,
        delay_ns: (rule.delay_ns, rule.jitter_ns),
    })
}

/// Rules that name an operation.
#[inline(always)]
pub fn named_by(dimensions: u64, operation: u32) -> u64 {
    named(&OPS, dimensions, ops::COUNT, operation)
}

/// Takes back the count of an injection that the program could not carry out.
#[inline(always)]
pub fn not_done(injection: Injection) {
    not_done_by(injection.rule);
}

/// The same, by the slot of the rule.
#[inline(always)]
pub fn not_done_by(slot: u32) {
    if let Some(counters) = counters(slot) {
        counters.injected = counters.injected.wrapping_sub(1);
        counters.failed += 1;
    }
}

/// Rules that accept a remote port (host byte order).
#[inline(always)]
pub fn accept_remote_port(dimensions: u64, port: u16) -> u64 {
    if dimensions & dims::RPORT == 0 {
        return u64::MAX;
    }
    named(&RPORTS, dimensions, dims::PORTS, u32::from(port))
        | banked(dimensions, control::ANY_RPORT)
}

/// Rules that accept a local port (host byte order).
#[inline(always)]
pub fn accept_local_port(dimensions: u64, port: u16) -> u64 {
    if dimensions & dims::LPORT == 0 {
        return u64::MAX;
    }
    named(&LPORTS, dimensions, dims::PORTS, u32::from(port))
        | banked(dimensions, control::ANY_LPORT)
}

/// Rules that accept a transport protocol.
#[inline(always)]
pub fn accept_protocol(dimensions: u64, protocol: u8) -> u64 {
    if dimensions & dims::PROTO == 0 {
        return u64::MAX;
    }
    named(&PROTOS, dimensions, dims::PROTOCOLS, u32::from(protocol))
        | banked(dimensions, control::ANY_PROTO)
}

#[inline(always)]
fn named(map: &Array<u64>, dimensions: u64, size: u32, value: u32) -> u64 {
    map.get(bank::index(dimensions, size, value))
        .copied()
        .unwrap_or(0)
}

/// Rules that accept a file of this `i_mode`.
#[inline(always)]
pub fn accept_file_mode(dimensions: u64, mode: u16) -> u64 {
    named(&FD_KINDS, dimensions, dims::KINDS, u32::from(mode >> 12))
        | banked(dimensions, control::ANY_FD_KIND)
}

/// Rules that accept a descriptor of this number.
#[inline(always)]
pub fn accept_descriptor(dimensions: u64, fd: u32) -> u64 {
    let named = match fd < dims::FDS {
        true => named(&FDS, dimensions, dims::FDS, fd),
        false => 0,
    };
    named | banked(dimensions, control::ANY_FD)
}

/// Rules that target somebody of these classes. Nearly always there is one class.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn murphy_rules(dimensions: u64, classes: u64) -> u64 {
    let first = bank::index(dimensions, target::CLASSES, 0);
    let mut left = classes;
    let mut rules = 0;
    for _ in 0..target::CLASSES {
        if left == 0 {
            break;
        }
        rules |= CLASSES
            .get(first + left.trailing_zeros())
            .copied()
            .unwrap_or(0);
        left &= left - 1;
    }
    rules
}

/// Rules that accept what has no file.
#[inline(always)]
pub fn accept_no_file(dimensions: u64) -> u64 {
    banked(dimensions, control::ANY_FD_KIND)
}

/// Asks one rule, and counts its answer, which has a [`verdict`] below
/// [`VERDICT_BITS`] and the match's number above. A rule that cannot be read has failed.
///
/// A global function, which the verifier looks at once and not at every turn of
/// [`pass`]'s loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn murphy_ask(number: u32, in_lease: u64, elapsed: u64) -> u64 {
    let Some(rule) = RULES.get(number) else {
        return u64::from(verdict::FAILED);
    };
    let elapsed = elapsed.saturating_sub(rule.since_ns);
    let (Some(counters), Some(state)) = (counters(rule.slot), STATES.get_ptr_mut(rule.slot)) else {
        return u64::from(verdict::FAILED);
    };
    if in_lease == 0 {
        counters.expired += 1;
        return u64::from(verdict::LEASE);
    }
    // SAFETY: `state` is a live, 8-byte aligned array element; both fields are
    // only ever changed atomically.
    let n = unsafe { atomic::fetch_add(&raw mut (*state).matches, 1) } + 1;
    let (counter, became) = match decide_one(rule, state, n, elapsed) {
        Some(decided) => counters.of(decided),
        None => (&mut counters.failed, verdict::FAILED),
    };
    *counter += 1;
    n << VERDICT_BITS | u64::from(became)
}

/// `None`: the state stayed contended.
#[inline(always)]
fn decide_one(rule: &Rule, state: *mut RuleState, n: u64, elapsed: u64) -> Option<Verdict> {
    if !needs_state(rule) {
        return Some(decide(rule, 0, n, elapsed).0);
    }
    // SAFETY: as in `murphy_ask`.
    let memory = unsafe { &raw mut (*state).state };
    // SAFETY: as above.
    let mut old = unsafe { memory.read_volatile() };
    for _ in 0..EXCHANGES {
        let (verdict, new) = decide(rule, old, n, elapsed);
        if new == old {
            return Some(verdict);
        }
        // SAFETY: as above.
        let seen = unsafe { atomic::compare_exchange(memory, old, new) };
        if seen == old {
            return Some(verdict);
        }
        old = seen;
    }
    None
}

#[inline(always)]
pub(crate) fn counters(slot: u32) -> Option<&'static mut Counters> {
    // SAFETY: the element is this CPU's own, and programs of one CPU that
    // interrupt each other at worst lose a count.
    COUNTERS
        .get_ptr_mut(slot)
        .map(|counters| unsafe { &mut *counters })
}
