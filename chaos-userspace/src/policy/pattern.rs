//! Targets as a policy names them: `comm:redis*`, `unit:shop-*.service`, `uid:1000`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::engine::Process;
use crate::plan::Selector;

/// What of a process is compared.
const KINDS: [&str; 6] = ["comm", "exe", "uid", "unit", "container", "cgroup"];

/// A set of processes: a kind, and a glob for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    kind: &'static str,
    glob: glob::Pattern,
}

impl Pattern {
    /// From `KIND:GLOB`.
    fn parse(text: &str) -> Result<Self, String> {
        let kinds = KINDS.join(", ");
        let (kind, value) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}` is no target: KIND:PATTERN, KIND one of {kinds}"))?;
        let kind = KINDS
            .into_iter()
            .find(|known| *known == kind)
            .ok_or_else(|| format!("`{kind}` is no kind of target; there are {kinds}"))?;
        let glob = glob::Pattern::new(value)
            .map_err(|error| format!("`{value}` is no pattern: {error}"))?;
        Ok(Self { kind, glob })
    }

    /// Whether a process is meant.
    pub(super) fn has(&self, process: &Process) -> bool {
        let is = |value: &str| self.glob.matches(value);
        match self.kind {
            "comm" => is(&process.comm),
            "exe" => process
                .exe
                .as_deref()
                .and_then(|exe| exe.to_str())
                .is_some_and(is),
            "uid" => process.uid.is_some_and(|uid| is(&uid.to_string())),
            "unit" => process.units.iter().any(|unit| is(unit)),
            "container" => process.container.as_deref().is_some_and(is),
            _ => process.cgroup.as_deref().is_some_and(is),
        }
    }

    /// Whether everything that a selector names, now and later, is meant.
    pub(super) fn covers(&self, selector: &Selector) -> bool {
        let is = |kind, value: &str| self.kind == kind && self.glob.matches(value);
        match selector {
            Selector::Comm(name) => is("comm", name),
            Selector::Exe(path) => path.to_str().is_some_and(|path| is("exe", path)),
            Selector::Uid(id) => is("uid", &id.to_string()),
            Selector::Unit(name) => is("unit", name) || is("unit", &format!("{name}.service")),
            Selector::Container(name) => is("container", name),
            Selector::Cgroup(path) => path.to_str().is_some_and(|path| is("cgroup", path)),
            _ => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.glob)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_globs() {
        let pattern = |text| Pattern::parse(text).unwrap();
        let comm = |name: &str| Selector::Comm(name.to_owned());
        assert!(pattern("comm:redis*").covers(&comm("redis-server")));
        assert!(!pattern("comm:redis*").covers(&comm("postgres")));
        assert!(!pattern("exe:redis*").covers(&comm("redis-server")));
        assert!(pattern("unit:app.service").covers(&Selector::Unit("app".to_owned())));
        assert!(!pattern("comm:*").covers(&Selector::All));
        for wrong in ["redis", "name:x", "comm:[", ""] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
