//! Conditions: what holds while a fault is in force, and when.

use std::time::Duration;

use crate::{ConditionTrigger, Effect, Fault, Limit, Triggers};

/// A condition of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The fault as it was said.
    pub fault: Fault,
    /// The class of its targets: an index of [`super::Plan::classes`].
    pub class: usize,
    /// The limit that it lowers.
    pub limit: Limit,
    /// When it holds.
    pub trigger: ConditionTrigger,
    /// It ends when this many ns have passed since arming.
    pub until_ns: Option<u64>,
}

/// What a condition does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Whether it holds.
    pub holds: bool,
    /// How many ns after arming that changes; `None`: never.
    pub next_ns: Option<u64>,
}

impl Condition {
    /// The condition that a fault is, which ends no later than `end` after arming; `None`: it is a
    /// rule.
    pub(super) fn new(fault: &Fault, class: usize, end: Option<Duration>) -> Option<Self> {
        let (Triggers::Condition(trigger), Effect::Limit(limit)) = (&fault.trigger, &fault.effect)
        else {
            return None;
        };
        let end = end.and_then(|end| u64::try_from(end.as_nanos()).ok());
        let own = trigger.r#for.map(|nanos| nanos.0);
        Some(Self {
            fault: fault.clone(),
            class,
            limit: *limit,
            trigger: *trigger,
            until_ns: own.into_iter().chain(end).min(),
        })
    }

    /// What it does so many ns after arming. The same clock as that of rules: pulses count from
    /// arming on.
    pub fn phase(&self, elapsed_ns: u64) -> Phase {
        if self.until_ns.is_some_and(|until| elapsed_ns >= until) {
            return Phase {
                holds: false,
                next_ns: None,
            };
        }
        let after_ns = self.trigger.after.map_or(0, |nanos| nanos.0);
        if elapsed_ns < after_ns {
            return Phase {
                holds: false,
                next_ns: Some(after_ns),
            };
        }
        let (holds, turn) = match self.trigger.pulse {
            None => (true, None),
            Some(pulse) => {
                let period = pulse.period().0;
                let begun = elapsed_ns - elapsed_ns % period;
                let holds = elapsed_ns % period < pulse.on().0;
                let next = match holds {
                    true => begun.saturating_add(pulse.on().0),
                    false => begun.saturating_add(period),
                };
                (holds, Some(next))
            }
        };
        Phase {
            holds,
            next_ns: turn.into_iter().chain(self.until_ns).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(text: &str, limit: Option<Duration>, times: &[u64]) -> Vec<(bool, Option<u64>)> {
        let condition = Condition::new(&text.parse().unwrap(), 0, limit).unwrap();
        let of = |ns: &u64| {
            let phase = condition.phase(*ns);
            (phase.holds, phase.next_ns)
        };
        times.iter().map(of).collect()
    }

    #[test]
    fn conditions_alone_need_no_look_up() {
        let fault = "limit:nofile=used".parse().unwrap();
        let options = crate::plan::Options::default();
        let plan = crate::plan::Plan::new(vec![fault], crate::plan::Target::Command, &options);
        let plan = plan.unwrap();
        assert!(!plan.uses_programs() && !plan.names_interfaces() && plan.hooks.is_empty());
        assert!(plan.rules.is_empty() && plan.conditions.len() == 1);
    }

    #[test]
    fn it_holds_when_its_triggers_say_so() {
        let seconds = |s: u64| s * 1_000_000_000;
        assert_eq!(
            phases("limit:nofile=used", None, &[0, 5]),
            [(true, None), (true, None)]
        );
        let text = "limit:nofile=used:after=1s:for=4s";
        let limit = Some(Duration::from_secs(3));
        let end = Some(seconds(3));
        assert_eq!(
            phases(text, limit, &[0, seconds(1), seconds(3)]),
            [(false, Some(seconds(1))), (true, end), (false, None)]
        );
        let text = "limit:nofile=64:pulse=2s/3s:for=6s";
        assert_eq!(
            phases(text, None, &[0, seconds(2), seconds(5), seconds(6)]),
            [
                (true, Some(seconds(2))),
                (false, Some(seconds(5))),
                (true, Some(seconds(6))),
                (false, None)
            ]
        );
    }
}
