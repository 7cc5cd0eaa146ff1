//! Whether the parts of a fault go together. The parser asks with the words at hand, serde without.

use chaos_common::decide::MAX_TIMES;

use super::http;
use super::model::{Effect, Fault, Op, Trigger};
use super::registry::{EffectKey, FilterKey, Key, TriggerKey};
use super::values::Nanos;
use super::wire::Wire;

/// Why the parts of a fault do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// No operation.
    #[error("a fault needs at least one operation")]
    NoOperation,
    /// The same operation twice.
    #[error("`{0}` is named twice")]
    Twice(Op),
    /// A system call and a direction of the network.
    #[error("`{0}` and `{1}` cannot share a fault; give each its own")]
    Mixed(Op, Op),
    /// A key that the operation does not have.
    #[error("{}", wrong_key(*key, op.name()))]
    WrongKey {
        /// The key.
        key: Key,
        /// The first operation that does not have it.
        op: Op,
    },
    /// Triggers of the other kind: rules and conditions have their own.
    #[error("the triggers are not of the kind of `{0}`")]
    WrongTriggers(Op),
    /// A value that no expression could give.
    #[error("`{key}`: {problem}")]
    Value {
        /// The key it belongs to.
        key: Key,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The rule behind a key's absence, in the words of the person who typed it.
pub(super) fn wrong_key(key: Key, op: &str) -> String {
    let needs = key.def().needs;
    format!("`{key}` needs {needs}; `{op}` has no {key}")
}

impl Fault {
    /// Whether the parts go together: known operations of one kind, an effect and filters that each of them has, values
    /// in range.
    ///
    /// # Errors
    /// The first [`Mismatch`], in the order operations, effect, filter, trigger.
    pub fn check(&self) -> Result<(), Mismatch> {
        self.check_keys()?;
        let is_condition = self.trigger.of_rule().is_none();
        if let Some(&op) = self.ops.first()
            && is_condition != self.is_condition()
        {
            return Err(Mismatch::WrongTriggers(op));
        }
        self.check_values()
    }

    /// Whether each operation has the keys.
    pub(super) fn check_keys(&self) -> Result<(), Mismatch> {
        check_ops(&self.ops)?;
        for key in self.effect.keys() {
            check_key(&self.ops, Key::Effect(key))?;
        }
        for key in self.filter.keys() {
            check_key(&self.ops, Key::Filter(key))?;
        }
        for key in self.trigger.keys() {
            check_key(&self.ops, Key::Trigger(key))?;
        }
        Ok(())
    }

    /// What the types of the values cannot exclude by themselves.
    pub(super) fn check_values(&self) -> Result<(), Mismatch> {
        if let Effect::Call(call) = &self.effect
            && let Some((key, problem)) = call.problem()
        {
            return Err(Mismatch::Value {
                key: Key::Effect(key),
                problem,
            });
        }
        for (key, ranges) in [
            (FilterKey::Port, &self.filter.port),
            (FilterKey::Sport, &self.filter.sport),
        ] {
            if ranges
                .iter()
                .any(|range| range.is_empty() || *range.start() == 0)
            {
                let problem = "ports are 1 to 65535, a range ends no earlier than it begins";
                return Err(Mismatch::Value {
                    key: Key::Filter(key),
                    problem,
                });
            }
        }
        if self.effect == Effect::Wire(Wire::Partition) && self.filter.dst.is_empty() {
            return Err(Mismatch::Value {
                key: Key::Effect(EffectKey::Partition),
                problem: "say from whom, with `dst`; `blackhole` is from everybody",
            });
        }
        if self.effect == Effect::Wire(Wire::ResetAll) && self.trigger.spelled().after.is_some() {
            return Err(Mismatch::Value {
                key: Key::Trigger(TriggerKey::After),
                problem: "not together with `reset=all`, which resets what exists when faults are armed; `reset` without `=all` takes it",
            });
        }
        if self.effect == Effect::Wire(Wire::ResetAll) && !self.filter.interface.is_empty() {
            return Err(Mismatch::Value {
                key: Key::Filter(FilterKey::Interface),
                problem: "not together with `reset=all`: a connection that nobody speaks on is on no interface; `reset` without `=all` takes it",
            });
        }
        let mut url_paths = self.url_paths().iter();
        if let Some(problem) = url_paths.find_map(|glob| http::path_key(glob).err()) {
            return Err(Mismatch::Value {
                key: Key::Filter(FilterKey::Path),
                problem,
            });
        }
        if let Effect::Netem(netem) = &self.effect
            && let Some((key, problem)) = netem.problem()
        {
            let key = Key::Effect(key);
            return Err(Mismatch::Value { key, problem });
        }
        match self.trigger.spelled().problem() {
            None => Ok(()),
            Some((key, problem)) => Err(Mismatch::Value {
                key: Key::Trigger(key),
                problem,
            }),
        }
    }
}

impl Trigger {
    /// The first key whose value does not go with the others, and why.
    pub(super) fn problem(&self) -> Option<(TriggerKey, &'static str)> {
        const _: () = assert!(MAX_TIMES == 1_048_575);
        if self.times == Some(0) {
            return Some((TriggerKey::Times, "at least 1"));
        }
        if self.rate_limit.is_some() && self.times > Some(MAX_TIMES) {
            return Some((
                TriggerKey::Times,
                "at most 1048575 together with `rate_limit`",
            ));
        }
        if self.over.is_some() && self.times.is_some() {
            return Some((
                TriggerKey::Times,
                "not together with `over`: what a fault remembers is one of the two",
            ));
        }
        if self.over.is_some() && self.rate_limit.is_some() {
            return Some((
                TriggerKey::RateLimit,
                "not together with `over`: what a fault remembers is one of the two",
            ));
        }
        let after = self.after.unwrap_or_default();
        let end = self.r#for.unwrap_or(Nanos(u64::MAX));
        if end <= after {
            let problem = "both count from arming, so `for` must be longer than `after` for anything to happen";
            return Some((TriggerKey::For, problem));
        }
        if let Some(pulse) = self.pulse
            && pulse.active_from(after).is_none_or(|from| from >= end)
        {
            let problem =
                "it counts from arming, and is quiet for all the time that `after` and `for` leave";
            return Some((TriggerKey::Pulse, problem));
        }
        None
    }
}

/// Whether these operations can stand in one fault.
pub(super) fn check_ops(ops: &[Op]) -> Result<(), Mismatch> {
    let Some(&first) = ops.first() else {
        return Err(Mismatch::NoOperation);
    };
    for (i, &op) in ops.iter().enumerate() {
        if ops[..i].contains(&op) {
            return Err(Mismatch::Twice(op));
        }
        if op.is_syscall() != first.is_syscall() {
            return Err(Mismatch::Mixed(first, op));
        }
    }
    Ok(())
}

/// Whether every operation has that key.
pub(super) fn check_key(ops: &[Op], key: Key) -> Result<(), Mismatch> {
    match ops.iter().find(|op| !key.fits(**op)) {
        Some(&op) => Err(Mismatch::WrongKey { key, op }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;
    use crate::{FdKind, Triggers};

    #[test]
    fn a_fault_from_json_is_checked_as_one_from_an_expression() {
        let good = json!({
            "ops": ["write"], "effect": {"error": 28}, "filter": {"on": ["file"]}, "trigger": {"p": 50000, "when": {"first": 3}}
        });
        let fault: Fault = from_value(good).expect("a good fault");
        assert_eq!(fault.to_string(), "write:error=ENOSPC:on=file:p=5%:when=3+");

        let effect = json!({"error": 28});
        for (bad, phrase) in [
            (
                json!({"ops": [], "effect": effect}),
                "at least one operation",
            ),
            (
                json!({"ops": ["write", "write"], "effect": effect}),
                "`write` is named twice",
            ),
            (
                json!({"ops": ["write", "egress"], "effect": effect}),
                "cannot share a fault",
            ),
            (
                json!({"ops": ["write"], "effect": {"loss": 1}}),
                "`write` has no loss",
            ),
            (
                json!({"ops": ["write"], "effect": {"error": 0}}),
                "1 to 4095",
            ),
            (
                json!({"ops": ["fsink"], "effect": effect}),
                "no such operation `fsink`",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "filter": {"proto": [6]}}),
                "`write` has no proto",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "filter": {"paths": "/"}}),
                "unknown field `paths`",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "filter": {"path": ["tmp/**"]}}),
                "begins with `/` or `*`",
            ),
            (
                json!({"ops": ["write"], "effect": {"call": {}}}),
                "nothing says what shall happen",
            ),
            (
                json!({"ops": ["write"], "effect": {"call": {"error": [5], "retval": 0}}}),
                "an error or a value, not both",
            ),
            (
                json!({"ops": ["write"], "effect": {"call": {"signal": 65}}}),
                "1 to 64",
            ),
            (
                json!({"ops": ["write"], "effect": {"call": {"delay_enter": 5, "jitter": 6}}}),
                "no longer than the delay",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"p": 0}}),
                "1 to 1000000 parts",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"times": 0}}),
                "at least 1",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"after": 5, "for": 5}}),
                "longer than `after`",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"times": 1_048_576, "rate_limit": {"count": 1, "per": "s"}}}),
                "at most 1048575",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"rate_limit": {"count": 100_001, "per": "s"}}}),
                "1 to 100000 a second",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"rate_limit": {"count": 1, "per": "day"}}}),
                "unknown variant `day`",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"pulse": {"on": 1, "off": 0}}}),
                "longer than 0",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"pulse": {"on": 1, "off": 9}, "after": 5, "for": 10}}),
                "quiet for all the time",
            ),
            (
                json!({"ops": ["write"], "effect": effect, "trigger": {"when": {"first": 0}}}),
                "counts from 1",
            ),
            (
                json!({"ops": ["connect"], "effect": effect, "filter": {"port": [{"start": 9, "end": 1}]}}),
                "1 to 65535",
            ),
            (
                json!({"ops": ["connect"], "effect": effect, "filter": {"dst": [{"addr": "10.0.0.1", "prefix": 8}]}}),
                "prefix",
            ),
        ] {
            let error = from_value::<Fault>(bad.clone())
                .expect_err(&bad.to_string())
                .to_string();
            assert!(error.contains(phrase), "{bad}: {error}");
        }
    }

    #[test]
    fn triggers_are_of_the_kind_of_the_operations() {
        let json = json!({
            "ops": ["limit"], "effect": {"limit": {"nofile": 64}}, "trigger": {"after": 5, "for": 9}
        });
        let condition: Fault = from_value(json.clone()).expect("a condition");
        let Triggers::Condition(trigger) = condition.trigger else {
            panic!("{condition:?}");
        };
        assert_eq!((trigger.after, trigger.pulse), (Some(Nanos(5)), None));
        assert_eq!(to_value(&condition).expect("plain data"), json);
        let rule: Fault = "write:error=EIO:p=5%".parse().expect("a rule");
        assert!(matches!(rule.trigger, Triggers::Rule(_)));

        let wrong = json!({
            "ops": ["limit"], "effect": {"limit": {"nofile": 64}}, "trigger": {"p": 5}
        });
        let error = from_value::<Fault>(wrong).expect_err("no condition has it");
        assert!(error.to_string().contains("`limit` has no p"), "{error}");
        let mixed = Fault {
            trigger: rule.trigger,
            ..condition
        };
        let refused = mixed.check().expect_err("they are of a rule");
        assert_eq!(
            refused.to_string(),
            "`p` needs an operation, and no condition; `limit` has no p"
        );
        let mixed = Fault {
            trigger: Trigger::default().into(),
            ..mixed
        };
        assert_eq!(mixed.check(), Err(Mismatch::WrongTriggers(Op::Limit)));
    }

    #[test]
    fn names_are_the_same_in_json_and_in_expressions() {
        for op in Op::all() {
            assert_eq!(to_value(op).expect("plain data"), op.name());
        }
        for kind in FdKind::ALL {
            assert_eq!(to_value(kind).expect("plain data"), kind.name());
        }
        for key in Key::all() {
            let json = match key {
                Key::Effect(key) => to_value(key),
                Key::Filter(key) => to_value(key),
                Key::Trigger(key) => to_value(key),
                Key::Target(key) => to_value(key),
            };
            assert_eq!(json.expect("plain data"), key.name());
        }
    }
}
