//! The rules of docs/policy.md once more, from that page alone. It reads the lists of operations.
use {super::triple::{Fault, Policy, Target}, std::path::Path};
pub(crate) fn allows(policy: &Policy, fault: &Fault, target: &Target) -> bool {
    let at = |no: &str| fault.interface.is_empty() || fault.interface.iter().any(|one|
        glob(one, &no.replace('*', "")) || glob(no, &one.replace('*', "")));
    policy.max_seconds.is_none_or(|most| fault.seconds <= most)
        && !policy.targets.1.iter().any(|rule| may_reach(rule, target))
        && policy.targets.0.as_ref().is_none_or(|rules| target_allowed(rules, target))
        && fault.ops.iter().all(|op| fault.effects.iter().all(|one| pair_allowed(policy, op, one)))
        && ports(fault).iter().all(|(a, z)| (*a..=*z).all(|port| port_allowed(policy, port)))
        && (fault.ops.iter().all(|op| is_call(op)) || !policy.interfaces.iter().any(|no| at(no)))
        && !(acts_on_files(fault) && policy.restricted.iter().any(|no| may_hit(fault, no)))
}
pub(crate) fn pair_allowed(policy: &Policy, op: &str, effect: &str) -> bool {
    let matches = |rule: &String| {
        let (names, effects) = rule.split_once(':').unwrap_or((rule, "*"));
        glob(effects, effect) && is_of(names, op)
    };
    !policy.faults.1.iter().any(matches)
        && policy.faults.0.as_ref().is_none_or(|rules| rules.iter().any(matches))
}
pub(crate) fn port_allowed(policy: &Policy, port: u16) -> bool {
    let has = |list: &Vec<(u16, u16)>| list.iter().any(|(a, z)| (*a..=*z).contains(&port));
    !has(&policy.ports.1) && policy.ports.0.as_ref().is_none_or(has)
}
fn is_in(op: &str, lists: &[&str]) -> bool {
    let page = include_str!("../../../docs/policy.md");
    let list = |name| page.split_once(&format!("- *{name}*: `")).unwrap().1.split('`').next();
    lists.iter().any(|name| list(name).unwrap().split_whitespace().any(|one| one == op))
}
fn is_call(op: &str) -> bool { !["egress", "ingress", "dns", "http"].contains(&op) }
fn is_of(names: &str, op: &str) -> bool {
    names.split(',').any(|name| match name {
        "net" => op == "egress" || op == "ingress",
        "%network" => is_in(op, &["network"]),
        _ => name.strip_prefix('!').map_or(glob(name, op), |no| is_call(op) && no != op),
    })
}
fn ports(fault: &Fault) -> Vec<(u16, u16)> {
    let excluded = !fault.on.is_empty() && !fault.on.iter().any(|kind| kind == "socket")
        || !fault.path.is_empty() && fault.ops.iter().all(|op| is_call(op));
    let acts = |op: &String| !is_call(op) || is_in(op, &["network", "descriptor", "sets"])
        && (!excluded || is_in(op, &["indirect"]));
    let all = [if fault.ops == ["dns"] { (53, 53) } else { (0, u16::MAX) }];
    let all = if fault.port.is_empty() { &all[..] } else { &fault.port };
    fault.ops.iter().filter(|op| acts(op)).flat_map(|_| all.to_vec()).collect()
}
fn acts_on_files(fault: &Fault) -> bool {
    let excluded = !fault.on.is_empty() && fault.on.iter().all(|k| k == "socket" || k == "other");
    let acts = |op| is_in(op, &["path", "descriptor", "sets"]) || op == "sendfile" || op == "sync";
    fault.ops.iter().any(|op| acts(op) && (!excluded || is_in(op, &["indirect"])))
}
fn may_hit(fault: &Fault, restricted: &str) -> bool {
    let under = |path: &String| below(&names(&resolve(path)), &names(&resolve(restricted)));
    fault.path.is_empty() || fault.path.iter().any(under)
}
fn names(path: &str) -> Vec<&str> { path.split('/').filter(|name| !name.is_empty()).collect() }
fn below(pattern: &[&str], tree: &[&str]) -> bool {
    match (pattern, tree) {
        (_, []) => true,
        (["**", rest @ ..], [_, more @ ..]) => below(rest, tree) || below(pattern, more),
        ([one, rest @ ..], [name, more @ ..]) => glob(one, name) && below(rest, more),
        ([], _) => false,
    }
}
fn resolve(path: &str) -> String {
    let real = |up: &Path| Some((up.canonicalize().ok()?, up.as_os_str().len()));
    let (real, length) = Path::new(path).ancestors().find_map(real).unwrap();
    format!("{}/{}", real.display(), &path[length..].trim_start_matches('/'))
}
fn may_reach(rule: &str, target: &Target) -> bool {
    let (kind, value) = rule.split_once(':').unwrap();
    let spared = !value.contains('*') && target.spare.iter().any(|one| matches(rule, one));
    let later = |(of, name): &(&str, String)| *of != "pid" && *of != "tid"
        && (*of != kind || kind == "cgroup" && value.starts_with(&format!("{name}/")));
    target.processes.iter().flatten().chain(&target.hit).any(|fact| matches(rule, fact))
        || !spared && target.hit.iter().any(later)
}
fn target_allowed(rules: &[String], target: &Target) -> bool {
    let any = |one: &(&str, String)| rules.iter().any(|rule| matches(rule, one));
    target.processes.iter().all(|facts| facts.iter().any(any))
        && target.hit.iter().all(|one| ["pid", "tid"].contains(&one.0) || any(one))
}
pub(crate) fn matches(rule: &str, (kind, value): &(&str, String)) -> bool {
    let (of, rule) = rule.split_once(':').unwrap();
    of == *kind && match of {
        "uid" if rule == "root" => value == "0",
        "unit" => glob(rule, value) || glob(&format!("{rule}.service"), value),
        "exe" => glob(&resolve(rule), &resolve(value)),
        "cgroup" => Path::new(value).ancestors().any(|above| glob(rule, above.to_str().unwrap())),
        _ => glob(rule, value),
    }
}
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.split_at_checked(1), text.split_at_checked(1)) {
        (Some(("*", rest)), t) => glob(rest, text) || t.is_some_and(|(_, t)| glob(pattern, t)),
        (Some((p, rest)), Some((t, more))) => p == t && glob(rest, more),
        (p, t) => p.is_none() && t.is_none(),
    }
}
