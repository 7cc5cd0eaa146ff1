//! Where this is: what the machine is labelled as.

use std::fs;
use std::path::Path;

use super::{Policy, Refusal};

/// The machine's own label, a word in its first line.
const FILE: &str = "/etc/murphy/environment";

/// What whoever calls murphy says of the machine.
const VARIABLE: &str = "MURPHY_ENVIRONMENT";

/// What is never a place for faults unless a policy names it.
const PRODUCTION: [&str; 2] = ["production", "prod"];

/// A label, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The word.
    pub name: String,
    /// Where it stands.
    pub said_by: String,
}

/// Every label there is.
pub(super) fn labels(file: Option<&Path>) -> Vec<Label> {
    let path = file.unwrap_or(Path::new(FILE));
    let in_file = fs::read_to_string(path).unwrap_or_default();
    let variable = std::env::var(VARIABLE).unwrap_or_default();
    [
        (
            in_file.lines().next().unwrap_or_default(),
            path.display().to_string(),
        ),
        (&variable, VARIABLE.to_owned()),
    ]
    .into_iter()
    .filter(|(name, _)| !name.trim().is_empty())
    .map(|(name, said_by)| Label {
        name: name.trim().to_owned(),
        said_by,
    })
    .collect()
}

/// Refuses where something says production, whether or not there is a policy; unless one names it.
pub(super) fn production(labels: &[Label], policies: &[Policy]) -> Vec<Refusal> {
    let named = |label: &Label| {
        policies.iter().any(|policy| {
            let required = policy.rules.environment.require.as_ref();
            required.is_some_and(|names| names.get_ref().contains(&label.name))
        })
    };
    labels
        .iter()
        .filter(|label| {
            let lower = label.name.to_ascii_lowercase();
            PRODUCTION.contains(&lower.as_str()) && !named(label)
        })
        .map(|label| Refusal {
            rule: "murphy injects nothing where it says production".to_owned(),
            asked: format!("{} says {}", label.said_by, label.name),
            remedy: format!(
                "a policy whose [environment] requires \"{}\" by name allows it",
                label.name
            ),
        })
        .collect()
}

impl Policy {
    /// The label that must be there.
    pub(super) fn environment(&self, labels: &[Label]) -> Vec<Refusal> {
        let rules = &self.rules.environment;
        let mut refusals = Vec::new();
        if let Some(require) = &rules.require {
            let allowed = require.get_ref();
            let remedy = format!(
                "label the machine in {FILE}, or go where it says {}",
                allowed.join(" or ")
            );
            let mut refuse = |asked| {
                refusals.push(Refusal {
                    rule: self.said(require),
                    asked,
                    remedy: remedy.clone(),
                });
            };
            // Every label must do: a variable cannot talk the file away.
            for label in labels.iter().filter(|label| !allowed.contains(&label.name)) {
                refuse(format!("{} says {}", label.said_by, label.name));
            }
            if labels.is_empty() {
                refuse(format!("neither {FILE} nor {VARIABLE} says where this is"));
            }
        }
        if let Some(hosts) = &rules.hosts {
            let host = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            let is = |pattern: &String| {
                glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(&host))
            };
            if !hosts.get_ref().iter().any(is) {
                refusals.push(Refusal {
                    rule: self.said(hosts),
                    asked: format!("this host is called {host}"),
                    remedy: "go to one of these".to_owned(),
                });
            }
        }
        refusals
    }
}
