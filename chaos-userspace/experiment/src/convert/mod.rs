//! Other tools' chaos, said in murphy's words: Toxiproxy's configurations and toxics, the lines of scripts and runbooks.
//!
//! Text goes in, [`Conversion`] comes out: what was meant, as fault expressions; what was wrong with it; what nothing here
//! does. Nothing is looked up on this machine.

mod command;
pub mod experiment;
mod json;
mod shell;
mod toxic;
mod upstream;

use serde::Serialize;

pub use upstream::Upstream;

/// What became of a text.
#[derive(Debug, Default, Serialize)]
pub struct Conversion {
    /// What can be injected, in the order of the text.
    pub faults: Vec<Converted>,
    /// Mistakes of the text, each with what would have been right.
    pub mistakes: Vec<Mistake>,
    /// What murphy has no equivalent for.
    pub without_equivalent: Vec<Missing>,
}

/// A toxic, a preset or a line of a script, as faults.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Its name there, or one made of what it does.
    pub name: String,
    /// What it does, for people.
    pub what: String,
    /// Line of the text, counted from 1; JSON has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The fault expressions that stand for it, in this order.
    pub faults: Vec<String>,
    /// Where the two are not the same.
    pub differences: Vec<String>,
}

impl Converted {
    /// Those of its faults that this murphy does not take, each with the reason; none when it can be injected as it is.
    pub fn refused(&self) -> Vec<String> {
        let parse = |fault: &String| fault.parse::<murphy_fault::Fault>().err();
        let refused = self.faults.iter().filter_map(parse);
        refused.map(|error| error.mistake().to_string()).collect()
    }
}

/// Something that does not do what its author meant.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Line of the text, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The words in question.
    pub said: String,
    /// What is wrong with them.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// Something that murphy cannot do.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its name there.
    pub name: String,
    /// Line of the text, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What it does, and why that has no equivalent.
    pub why: String,
    /// What comes near.
    pub nearest: String,
}

/// Why a text gave nothing at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Neither JSON nor a line that is known.
    #[error(
        "nothing in it is known: no Toxiproxy proxies, toxics or presets (JSON), no toxiproxy-cli, iptables, chmod or dd line"
    )]
    Nothing,
    /// JSON of an unknown shape.
    #[error("the JSON is no array of proxies or toxics, and no map of them: {0}")]
    Shape(String),
    /// Broken JSON.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
}

/// Reads a text: JSON, or a script or a document with lines and JSON blocks. `default` is the service that is meant where
/// the text does not say which.
///
/// # Errors
/// When nothing in it is known, or it is JSON that is broken or of an unknown shape.
pub fn convert(text: &str, default: Option<&Upstream>) -> Result<Conversion, ConvertError> {
    let mut done = Conversion::default();
    let begin = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if begin.starts_with(['{', '[']) {
        let value = serde_json::from_str(begin).map_err(|error| ConvertError::Json {
            line: error.line() + text[..text.len() - begin.len()].matches('\n').count(),
            column: error.column(),
            what: error.to_string(),
        })?;
        json::read(&value, default, &mut done)?;
    } else {
        shell::read(text, default, &mut done);
    }
    if done.faults.is_empty() && done.mistakes.is_empty() && done.without_equivalent.is_empty() {
        return Err(ConvertError::Nothing);
    }
    distinguish(&mut done.faults);
    Ok(done)
}

/// Two of one name would be one file: the later ones get a number.
fn distinguish(faults: &mut [Converted]) {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for fault in faults {
        let count = seen.entry(fault.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            fault.name = format!("{}_{count}", fault.name);
        }
    }
}

#[cfg(test)]
mod tests;
