//! The body of a request for faults, checked field by field.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::problem::Problem;
use murphy_engine::injector::Order;
use murphy_fault::{Fault, expr};
use murphy_state::name_is_valid;

/// How long faults last if nobody says otherwise; as for `inject`.
const FOR: Duration = Duration::from_secs(300);

/// How long they outlive the last word of their client, if nobody says otherwise.
const LEASE: Duration = Duration::from_secs(10);

/// A shorter lease could not be renewed in time.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// `POST /v1/faults`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// Expressions, or faults in the structure that `murphy` shares with experiments.
    faults: Vec<Value>,
    /// Of the faults that do not say it themselves.
    #[serde(default)]
    target: Target,
    r#for: Option<String>,
    lease: Option<String>,
    name: Option<String>,
    reason: Option<String>,
    seed: Option<u64>,
    /// Count what callers saw.
    #[serde(default)]
    observe: bool,
}

/// Whom to hit: the words of `inject`, each with one value or several; a string that begins with `!` spares.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Target {
    pid: Values,
    cgroup: Values,
    uid: Values,
    comm: Values,
    exe: Values,
    container: Values,
    unit: Values,
    netns: Values,
    tid: Values,
    all: bool,
}

/// One value or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(Scalar),
    Several(Vec<Scalar>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// What was asked for, understood.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) order: Order,
    pub(super) faults: Vec<Fault>,
    /// `None`: as long as the faults last.
    pub(super) lease: Option<Duration>,
}

impl Create {
    /// Checks every field. `by` says who asks.
    pub(super) fn understand(&self, by: &str) -> Result<Wanted, Problem> {
        let faults = self
            .faults
            .iter()
            .enumerate()
            .map(|(number, said)| {
                let fault = fault(said).and_then(without_file);
                fault.map_err(|wrong| Problem::field(format!("faults[{number}]"), wrong))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if faults.is_empty() {
            return Err(Problem::field("faults", "say at least one fault"));
        }
        let mut order = Order::new(faults.iter().map(ToString::to_string));
        // A fault may say it itself.
        let is_needed = faults.iter().any(|fault| fault.target.hit.is_empty());
        order = self.target.add_to(order, is_needed)?;
        let length = duration("for", self.r#for.as_deref())?.unwrap_or(FOR);
        if length.is_zero() {
            return Err(Problem::field("for", "faults last longer than nothing"));
        }
        order = order.duration("--for", length);
        let lease = duration("lease", self.lease.as_deref())?.unwrap_or(LEASE);
        if !lease.is_zero() && lease < SHORTEST_LEASE {
            return Err(Problem::field(
                "lease",
                format!("at least {SHORTEST_LEASE:?}, or 0 for none"),
            ));
        }
        if let Some(name) = &self.name {
            if !name_is_valid(name) {
                return Err(Problem::field(
                    "name",
                    "letters, digits, '.', '-' and '_', a letter or digit first, 64 at most",
                ));
            }
            order = order.option("--name", name);
        }
        // Who asks is no reason: a policy may require that the client gives one.
        order = order.option("--asked-by", by);
        if let Some(reason) = &self.reason {
            if reason.contains('\0') {
                return Err(Problem::field("reason", "it holds a zero byte"));
            }
            order = order.option("--reason", reason);
        }
        if let Some(seed) = self.seed {
            order = order.option("--seed", seed.to_string());
        }
        if self.observe {
            order = order.flag("--observe");
        }
        Ok(Wanted {
            order,
            faults,
            lease: (!lease.is_zero()).then_some(lease),
        })
    }
}

impl Target {
    fn add_to(&self, mut order: Order, is_needed: bool) -> Result<Order, Problem> {
        let mut named = self.all || !is_needed;
        for (field, option, values) in [
            ("pid", "--pid", &self.pid),
            ("cgroup", "--cgroup", &self.cgroup),
            ("uid", "--uid", &self.uid),
            ("comm", "--comm", &self.comm),
            ("exe", "--exe", &self.exe),
            ("container", "--container", &self.container),
            ("unit", "--unit", &self.unit),
            ("netns", "--netns", &self.netns),
            ("tid", "--tid", &self.tid),
        ] {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values,
            };
            for value in values {
                let text = value.text();
                if text.is_empty() || text.contains('\0') {
                    return Err(Problem::field(
                        format!("target.{field}"),
                        "a value is empty, or holds a zero byte",
                    ));
                }
                if matches!(field, "pid" | "tid")
                    && text.trim_start_matches('!').parse::<u32>().is_err()
                {
                    return Err(Problem::field(
                        format!("target.{field}"),
                        format!("{text} is no number of a process or thread"),
                    ));
                }
                named = true;
                order = order.option(option, text);
            }
        }
        if !named {
            return Err(Problem::field(
                "target",
                "say whom to hit: pid, cgroup, uid, comm, exe, container, unit, netns, tid, or all; or say it in each fault",
            ));
        }
        Ok(if self.all { order.flag("--all") } else { order })
    }
}

fn fault(said: &Value) -> Result<Fault, String> {
    match said {
        Value::String(text) => text.parse::<Fault>().map_err(|error| error.to_string()),
        Value::Object(_) => Fault::deserialize(said).map_err(|error| error.to_string()),
        _ => Err("a fault is an expression or an object".to_owned()),
    }
}

/// Refuses a fault that names a file to be read. Who may ask for faults may not read what the daemon can, and what is wrong with
/// a file tells what stands in it.
fn without_file(fault: Fault) -> Result<Fault, String> {
    match fault.table() {
        None => Ok(fault),
        Some(file) => Err(format!(
            "`distribution={file}`: the daemon reads no file for a client; say uniform, normal, pareto or paretonormal, \
             or use `murphy inject` on the machine itself"
        )),
    }
}

fn duration(field: &'static str, said: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(said) = said else { return Ok(None) };
    if said == "0" {
        return Ok(Some(Duration::ZERO));
    }
    expr::duration(said)
        .map(|nanos| Some(nanos.into()))
        .map_err(|mistake| Problem::field(field, mistake.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn understood(body: Value) -> Result<Wanted, String> {
        let create: Create = serde_json::from_value(body).map_err(|error| error.to_string())?;
        create
            .understand("test")
            .map_err(|problem| serde_json::to_string(&problem).unwrap())
    }

    #[test]
    fn both_spellings_of_a_fault_are_one() {
        let text = "connect:error=ECONNREFUSED:port=6379:p=50%";
        let fault: Fault = text.parse().unwrap();
        let body = json!({
            "faults": [text, serde_json::to_value(&fault).unwrap()],
            "target": {"pid": 12, "comm": ["redis-server", "!sh"]},
            "for": "30s",
        });
        let wanted = understood(body).unwrap();
        assert_eq!(wanted.faults, [fault.clone(), fault]);
        assert_eq!(wanted.lease, Some(LEASE));
    }

    #[test]
    fn who_wants_to_know_what_callers_saw_says_so() {
        let order = |body| format!("{:?}", understood(body).unwrap().order);
        let mut body = json!({"faults": ["write:error=EIO"], "target": {"all": true}});
        assert!(!order(body.clone()).contains("--observe"));
        body["observe"] = true.into();
        assert!(order(body).contains("--observe"));
    }

    #[test]
    fn faults_that_say_whom_they_hit_need_no_target() {
        let own = "write:error=EIO:comm=a";
        let wanted = understood(json!({"faults": [own, "read:error=EIO:pid=1"]})).unwrap();
        assert_eq!(wanted.faults[0].target.hit.len(), 1);
        for left in ["write:error=EIO", "write:error=EIO:comm=!a"] {
            let wrong = understood(json!({"faults": [own, left]})).unwrap_err();
            assert!(wrong.contains(r#""at":"target""#), "{wrong}");
        }
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let target = json!({"all": true});
        let one = json!(["write:error=EIO"]);
        for (body, place) in [
            (json!({"faults": [], "target": target}), r#""at":"faults""#),
            (
                json!({"faults": ["write:error=EIO", "write:error=EWRONG"], "target": target}),
                r#""at":"faults[1]""#,
            ),
            (
                json!({"faults": [{"ops": ["write"]}], "target": target}),
                r#""at":"faults[0]""#,
            ),
            (
                json!({"faults": ["net:delay=9ms:jitter=1ms:distribution=/etc/shadow"], "target": target}),
                "reads no file for a client",
            ),
            (
                json!({"faults": [{"ops": ["egress"], "effect": {"netem":
                    {"delay": 9, "jitter": 1, "distribution": {"table": "/etc/shadow"}}}}], "target": target}),
                r#""at":"faults[0]""#,
            ),
            (
                json!({"faults": [7], "target": target}),
                r#""at":"faults[0]""#,
            ),
            (json!({"faults": one, "target": {}}), r#""at":"target""#),
            (
                json!({"faults": one, "target": {"comm": ""}}),
                r#""at":"target.comm""#,
            ),
            (
                json!({"faults": one, "target": target, "for": "5"}),
                r#""at":"for""#,
            ),
            (
                json!({"faults": one, "target": target, "for": "0"}),
                r#""at":"for""#,
            ),
            (
                json!({"faults": one, "target": target, "lease": "1ms"}),
                r#""at":"lease""#,
            ),
            (
                json!({"faults": one, "target": target, "name": "../x"}),
                r#""at":"name""#,
            ),
            (
                json!({"faults": one, "target": {"pids": 1}}),
                "unknown field `pids`",
            ),
            (json!({"target": target}), "missing field `faults`"),
        ] {
            let error = understood(body.clone()).unwrap_err();
            assert!(error.contains(place), "{body}: {error}");
        }
    }
}
