//! What was counted of an injection: the figures of its report.

use chaos_common::counters::Counters;
use serde::{Deserialize, Serialize};

use murphy_fault::plan::{Backend, Planned};
use murphy_sys::clock::boot_ns;

/// Matches that a trigger left alone, by trigger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// The draw of `p` said no.
    pub probability: u64,
    /// Not one of the matches `when` names.
    pub when: u64,
    /// `times` was used up.
    pub times: u64,
    /// `after` was not over.
    pub after: u64,
    /// `pulse` was in its quiet part.
    pub pulse: u64,
    /// Too soon after the last injection for `rate_limit`.
    pub rate_limit: u64,
}

impl Suppressed {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.probability + self.when + self.times + self.after + self.pulse + self.rate_limit
    }
}

/// What came of one fault. `matched` is the sum of all the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The fault as an expression.
    pub fault: String,
    /// What carried it out.
    #[serde(default)]
    pub backend: Backend,
    /// Seed that repeats its decisions.
    pub seed: u64,
    /// Operations of a target that its filters accept.
    pub matched: u64,
    /// Those that it took effect on.
    pub injected: u64,
    /// Those that a trigger left alone.
    pub suppressed: Suppressed,
    /// Those that came when its time or the injector's lease was over.
    pub expired: u64,
    /// Those that the kernel program could not carry out.
    pub failed: u64,
    /// Of those injected: calls that came back to their caller with the result that was injected. Absent if nobody
    /// observes, and where there is no call that comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<u64>,
    /// Of those injected: calls that came back with another result. Absent as `observed` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altered: Option<u64>,
}

impl FaultReport {
    /// What the counters of a fault say, which kernel programs carried out.
    pub fn new(fault: String, seed: u64, counters: &Counters) -> Self {
        Self {
            fault,
            backend: Backend::Bpf,
            seed,
            matched: counters.matched(),
            injected: counters.injected,
            suppressed: Suppressed {
                probability: counters.probability,
                when: counters.when,
                times: counters.times,
                after: counters.after,
                pulse: counters.pulse,
                rate_limit: counters.rate_limit,
            },
            expired: counters.expired,
            failed: counters.failed,
            observed: None,
            altered: None,
        }
    }

    /// What was counted of a rule that kernel programs carry out.
    pub fn of_rule(rule: &Planned, counters: &Counters, observes: bool) -> Self {
        let report = Self::new(rule.fault.to_string(), rule.wire.seed, counters).by(rule.backend);
        if observes && rule.unobservable().is_none() {
            report.observed(counters)
        } else {
            report
        }
    }

    /// The same, with what the callers got.
    pub(crate) fn observed(self, counters: &Counters) -> Self {
        Self {
            observed: Some(counters.observed),
            altered: Some(counters.altered),
            ..self
        }
    }

    /// The same, carried out by that backend.
    pub fn by(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }
}

/// What was counted of one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConditionReport {
    /// The condition as an expression.
    pub condition: String,
    /// Processes that it was applied to, each time it was.
    pub applied: u64,
    /// Processes that it holds for now.
    pub in_force: u64,
    /// How long it held for at least one process, in seconds.
    pub seconds: f64,
    /// Processes that it could not be applied to.
    pub failed: u64,
}

/// What came of all faults of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Boot time in ns when they were armed; 0: never.
    #[serde(skip)]
    pub armed_at_ns: u64,
    /// Whether the faults were armed at all.
    pub armed: bool,
    /// Seconds since they were.
    pub seconds: f64,
    /// Each fault, in the order given.
    pub faults: Vec<FaultReport>,
    /// Each condition, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionReport>,
    /// Runs of programs that the kernel skipped: what they would have been asked about went through, uncounted. A program
    /// serves several faults, so it is one number for all. `None` where the kernel does not tell (before 5.12), and
    /// where no kernel program is used.
    #[serde(default)]
    pub missed: Option<u64>,
    /// Beginnings and ends of calls, of all tasks, that the kernel did not show to the programs that observe. So many calls at most
    /// may be lacking in all that is observed. Absent if nobody observes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<u64>,
    /// Decisions that found the buffer full and are missing in trace and events file;
    /// absent where nobody listened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_lost: Option<u64>,
    /// What no descriptor owned and was undone at the end, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<String>,
    /// What could not be undone at the end, in words; `murphy recover` tries again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_undone: Vec<String>,
    /// What went wrong while it lasted and was no reason to end it, in words: a name that could not be looked up again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Report {
    /// Notes that the faults are armed since this boot time in ns; 0: that is not known.
    pub fn arm_at(&mut self, boot_time_ns: u64) {
        if boot_time_ns == 0 {
            return;
        }
        self.armed_at_ns = boot_time_ns;
        self.armed = true;
        self.seconds = boot_ns().saturating_sub(boot_time_ns) as f64 / 1e9;
    }
}
