//! The page of memory that murphy, the supervisor, the holder and, until it executes the command, the child share.
//!
//! Whatever happens to any of them, the others read here how far it came.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use chaos_common::MAX_RULES;
use chaos_common::counters::Counters;

use super::hosts::Table;
use murphy_sys::shared::Shareable;

/// How many system calls are held back at once at most; one more goes on at once and counts as failed.
pub(super) const HELD: usize = 4096;

/// What is shared. All zero at first.
#[repr(C)]
pub(super) struct Page {
    /// Boot time in ns after which nothing is injected unless murphy renews it.
    pub(super) lease_until: AtomicU64,
    /// Boot time in ns since which faults are armed; 0: not armed.
    pub(super) armed_at: AtomicU64,
    /// Not 0: nothing is injected any more.
    pub(super) disarmed: AtomicU32,
    /// Not 0: the supervisor has seen that, and what it counted is final.
    pub(super) settled: AtomicU32,
    /// Not 0: nobody is left whom the filter applies to.
    pub(super) ended: AtomicU32,
    /// The child's process id.
    pub(super) child: AtomicI32,
    /// The child's descriptor of the listener, plus 1; 0: none yet.
    pub(super) listener: AtomicI32,
    /// The child's reading end of a pipe that its exec closes.
    pub(super) marker: AtomicI32,
    /// Who has a copy of the listener: [`SUPERVISOR`], [`HOLDER`].
    pub(super) taken: AtomicU32,
    /// Why the filter could not be set up, as an errno; 0: it could.
    pub(super) errno: AtomicI32,
    /// Which step that was: an index into [`super::STEPS`].
    pub(super) step: AtomicU32,
    /// Whether a thread that waits is only interrupted by what kills it.
    pub(super) killable: AtomicU32,
    /// When the supervisor was last seen alive, as boot time in ns.
    pub(super) alive: AtomicU64,
    /// Events that found the pipe full.
    pub(super) lost: AtomicU64,
    /// The notification received last.
    pub(super) last: AtomicU64,
    /// Notifications that were received and not answered; 0: a free place.
    pub(super) held: [AtomicU64; HELD],
    /// What names of hosts stand for.
    pub(super) hosts: Table,
    /// What became of the matches of each rule.
    counters: [[AtomicU64; COUNTERS]; MAX_RULES as usize],
}

/// Fields of [`Counters`], but for the last two: a supervisor sees no call come back.
const COUNTERS: usize = 9;
const _: () = assert!(size_of::<Counters>() == (COUNTERS + 2) * size_of::<u64>());

/// Bit in [`Page::taken`].
pub(super) const SUPERVISOR: u32 = 1;
/// Bit in [`Page::taken`].
pub(super) const HOLDER: u32 = 2;

/// One of [`Counters`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Injected,
    Probability,
    When,
    Times,
    After,
    Pulse,
    RateLimit,
    Expired,
    Failed,
}

impl Page {
    /// Counts one match.
    pub(super) fn count(&self, rule: usize, counter: Counter) {
        if let Some(counters) = self.counters.get(rule) {
            counters[counter as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted.
    pub(super) fn counters(&self, rule: usize) -> Counters {
        let Some(counters) = self.counters.get(rule) else {
            return Counters::default();
        };
        let of = |counter: Counter| counters[counter as usize].load(Ordering::Relaxed);
        Counters {
            injected: of(Counter::Injected),
            probability: of(Counter::Probability),
            when: of(Counter::When),
            times: of(Counter::Times),
            after: of(Counter::After),
            pulse: of(Counter::Pulse),
            rate_limit: of(Counter::RateLimit),
            expired: of(Counter::Expired),
            failed: of(Counter::Failed),
            ..Counters::default()
        }
    }

    /// Notes why the filter could not be set up; the first reason stays.
    pub(super) fn fail(&self, step: u32, errno: i32) {
        let unset =
            self.errno
                .compare_exchange(0, errno.max(1), Ordering::AcqRel, Ordering::Acquire);
        if unset.is_ok() {
            self.step.store(step, Ordering::Release);
        }
    }
}

/// The mapping of both processes.
pub(super) type Shared = murphy_sys::shared::Shared<Page>;

// SAFETY: atomics alone, of which zeros are values.
unsafe impl Shareable for Page {}
