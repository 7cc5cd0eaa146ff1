//! An experiment as its file says it. Values stay as they are written, so that the journal keeps every key.

mod activity;
mod problem;
mod source;
mod template;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use activity::{Activity, Kind};
pub use problem::{Invalid, Problem};
pub(crate) use source::join;
pub use source::{Position, Positions, json, yaml};

/// An experiment that was read.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Where it was read from.
    pub file: PathBuf,
    /// What it says, in the spelling of Chaos Toolkit.
    pub said: Map<String, Value>,
    /// Where in the file.
    pub positions: Positions,
}

impl Experiment {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is neither JSON nor YAML. What it says is not checked: [`Experiment::check`].
    pub fn read(file: &Path) -> Result<Self, Invalid> {
        let wrong = |problem| Invalid::one(file, problem);
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(Problem::new("", format!("it cannot be read: {error}"))))?;
        let (said, positions) = source::parse(file, &text).map_err(wrong)?;
        Self::new(file, said, positions).map_err(wrong)
    }

    /// An experiment of these values.
    pub(crate) fn new(file: &Path, said: Value, positions: Positions) -> Result<Self, Problem> {
        let Value::Object(mut said) = said else {
            return Err(Problem::new(
                "",
                "an experiment is a table with a title, a description and a method",
            ));
        };
        template::translate(&mut said);
        Ok(Self {
            file: file.to_owned(),
            said,
            positions,
        })
    }

    /// The title.
    pub fn title(&self) -> &str {
        self.text("title")
    }

    fn text(&self, key: &str) -> &str {
        self.said
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The hypothesis, if there is one.
    pub fn hypothesis(&self) -> Option<&Map<String, Value>> {
        self.said.get("steady-state-hypothesis")?.as_object()
    }

    /// The probes of the hypothesis.
    pub fn probes(&self) -> Vec<Activity> {
        let probes = self.hypothesis().and_then(|table| table.get("probes"));
        activities(probes)
    }

    /// The method's activities.
    pub fn method(&self) -> Vec<Activity> {
        activities(self.said.get("method"))
    }

    /// The rollbacks.
    pub fn rollbacks(&self) -> Vec<Activity> {
        activities(self.said.get("rollbacks"))
    }

    /// An extension's table, by its name.
    pub fn extension(&self, name: &str) -> Option<&Map<String, Value>> {
        let extensions = self.said.get("extensions")?.as_array()?;
        extensions
            .iter()
            .filter_map(Value::as_object)
            .find(|table| table.get("name").and_then(Value::as_str) == Some(name))
    }

    /// The activity that `{ref: name}` stands for: the last of that name, probes after the method.
    pub fn referenced(&self, name: &str) -> Option<Activity> {
        let mut all = self.method();
        all.extend(self.probes());
        all.into_iter()
            .rev()
            .find(|activity| activity.name() == name)
    }
}

fn activities(list: Option<&Value>) -> Vec<Activity> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|table| Activity::new(table.clone()))
        .collect()
}
