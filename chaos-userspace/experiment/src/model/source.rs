//! Reading a file of values and remembering where each stood.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::problem::Problem;

/// Line and column, from one.
pub type Position = (usize, usize);

/// Where each value of a file stands, by its path (`method[0].provider.path`; empty is the whole).
#[derive(Clone, Debug, Default)]
pub struct Positions(HashMap<String, Position>);

impl Positions {
    /// Where a value stands; what is missing stands where its nearest surroundings do.
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.0.get(path) {
                return Some(*position);
            }
            path = match path.rfind(['.', '[']) {
                Some(end) => &path[..end],
                None if path.is_empty() => return None,
                None => "",
            };
        }
    }
}

/// Parses text as the file's name says it is written: `.json`, or `.yaml` and `.yml`.
///
/// # Errors
///
/// What is wrong with the text, and where.
pub(super) fn parse(file: &Path, text: &str) -> Result<(Value, Positions), Problem> {
    let extension = file.extension().and_then(|name| name.to_str());
    match extension {
        Some("json") => json(text),
        Some("yaml" | "yml") => yaml(text),
        _ => Err(Problem::new(
            "",
            "only files that end in .json, .yaml or .yml are experiments",
        )),
    }
}

/// Parses JSON. Where its values stand is found by reading it as the YAML that it also is.
pub fn json(text: &str) -> Result<(Value, Positions), Problem> {
    let value = serde_json::from_str(text).map_err(|error| {
        let mut problem = Problem::new("", format!("this is not JSON: {}", reason(&error)));
        problem.position = Some((error.line(), error.column()));
        problem
    })?;
    let positions = yaml(text).map_or_else(|_| Positions::default(), |(_, positions)| positions);
    Ok((value, positions))
}

/// The parser's message without the place, which is told in front.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Parses YAML as Python's YAML 1.1 reader does in what matters: `yes` and `on` are true, `017` is octal.
pub fn yaml(text: &str) -> Result<(Value, Positions), Problem> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let tree =
        serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options).map_err(|error| {
            let text = error.without_snippet().to_string();
            let said = text.split(" at line ").next().unwrap_or_default();
            let mut problem = Problem::new("", format!("this is not YAML: {said}"));
            problem.position = error.location().map(|at| {
                let number = |n| usize::try_from(n).unwrap_or(0);
                (number(at.line()), number(at.column()))
            });
            problem
        })?;
    let mut positions = HashMap::new();
    let value = settle(tree, "", &mut positions);
    Ok((value, Positions(positions)))
}

/// A value whose parts know where they stand.
enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Table(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn settle(tree: Spanned<Tree>, path: &str, positions: &mut HashMap<String, Position>) -> Value {
    let number = |n| usize::try_from(n).unwrap_or(0);
    let at = tree.referenced;
    positions.insert(path.to_owned(), (number(at.line()), number(at.column())));
    match tree.value {
        Tree::Scalar(value) => value,
        Tree::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| settle(item, &format!("{path}[{i}]"), positions))
            .collect(),
        Tree::Table(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let below = join(path, &key.value);
                map.insert(key.value, settle(value, &below, positions));
            }
            Value::Object(map)
        }
    }
}

/// The path of a key below a path.
pub(crate) fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        serde_json::Number::from_f64(value)
            .map(|number| Tree::Scalar(number.into()))
            .ok_or_else(|| E::custom("a number that JSON cannot say"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Tree, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
            // A file that grows without end through its aliases is no experiment.
            if entries.len() > 1_000_000 {
                return Err(A::Error::custom("too many entries"));
            }
        }
        Ok(Tree::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let (value, positions) =
            yaml("title: x\nmethod:\n  - name: a\n    background: yes\n").unwrap();
        assert_eq!(value["method"][0]["background"], true);
        assert_eq!(positions.find("method[0].background"), Some((4, 17)));
        assert_eq!(positions.find("method[0].provider.path"), Some((3, 5)));
        assert_eq!(positions.find("nothing"), Some((1, 1)));
        let (value, positions) = json("{\n \"a\": {\n  \"b\": 1.0}}").unwrap();
        assert_eq!(value["a"]["b"], 1.0);
        assert_eq!(positions.find("a.b"), Some((3, 8)));
    }

    #[test]
    fn mistakes_say_where() {
        let problem = json("{\n \"a\": }").unwrap_err();
        assert_eq!(problem.position, Some((2, 7)));
        assert!(yaml("a: [1,\nb: 2").unwrap_err().position.is_some());
    }
}
