//! JSON paths in the dialect of Python's jsonpath2, which Chaos Toolkit uses.
//!
//! It differs from RFC 9535: a filter chooses among the values found so far, not among their children;
//! equality is one `=`; `and` binds less than `or`; values have functions such as `length()`.

mod parse;

use std::str::FromStr;

use serde_json::{Value, json};

use super::python_like::equal;

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Whether it begins at `@` rather than at `$`.
    relative: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Whether it is tried on everything below, too.
    recursive: bool,
    subscripts: Vec<Subscript>,
}

#[derive(Clone, Debug, PartialEq)]
enum Subscript {
    Name(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, Option<i64>),
    Wildcard,
    Filter(Expression),
    /// Names or indexes that another path finds.
    Found(Path),
    Call(Function, Vec<Operand>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    CharAt,
    Entries,
    Keys,
    Length,
    Substring,
    Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Value(Value),
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Operand, Comparison, Operand),
    Some(Operand),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse::path(text)
    }
}

impl Path {
    /// All values that it finds, in the dialect's order.
    pub fn find(&self, value: &Value) -> Vec<Value> {
        self.find_in(value, value)
    }

    fn find_in(&self, root: &Value, current: &Value) -> Vec<Value> {
        let mut found = Vec::new();
        let begin = if self.relative { current } else { root };
        walk(&self.steps, root, begin, &mut found);
        found
    }
}

fn walk(steps: &[Step], root: &Value, current: &Value, found: &mut Vec<Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(current.clone());
        return;
    };
    for subscript in &step.subscripts {
        for value in subscript.choose(root, current) {
            walk(rest, root, &value, found);
        }
    }
    if step.recursive {
        for child in children(current) {
            walk(steps, root, child, found);
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// An item as Python counts: from the end if the index is negative.
fn item(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let length = i64::try_from(items.len()).ok()?;
    let index = if index < 0 { index + length } else { index };
    items.get(usize::try_from(index).ok()?)
}

impl Subscript {
    fn choose(&self, root: &Value, current: &Value) -> Vec<Value> {
        match self {
            Self::Name(name) => current
                .as_object()
                .and_then(|map| map.get(name))
                .cloned()
                .into_iter()
                .collect(),
            Self::Index(index) => item(current, *index).cloned().into_iter().collect(),
            Self::Slice(start, end, step) => slice(current, *start, *end, *step),
            Self::Wildcard => children(current).cloned().collect(),
            Self::Filter(expression) => match expression.holds(root, current) {
                true => vec![current.clone()],
                false => Vec::new(),
            },
            Self::Found(path) => path
                .find_in(root, current)
                .iter()
                .filter_map(|found| match found {
                    Value::String(name) => current.get(name).cloned(),
                    other => item(current, other.as_i64()?).cloned(),
                })
                .collect(),
            Self::Call(function, operands) => call(*function, operands, root, current),
        }
    }
}

/// As jsonpath2 computes a range, which is not quite Python's slice.
fn slice(value: &Value, start: Option<i64>, end: Option<i64>, step: Option<i64>) -> Vec<Value> {
    let Some(items) = value.as_array() else {
        return Vec::new();
    };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let start = start.map_or(0, |start| match start {
        start if start >= 0 => start,
        start if -start < length => start + length,
        _ => 0,
    });
    let end = end.map_or(length, |end| if end < 0 { end + length } else { end });
    let step = step.unwrap_or(1);
    let mut found = Vec::new();
    let mut index = start;
    while (step > 0 && index < end.min(length)) || (step < 0 && index > end.max(-length - 1)) {
        found.extend(item(value, index).cloned());
        index = index.saturating_add(step);
    }
    found
}

fn call(function: Function, operands: &[Operand], root: &Value, current: &Value) -> Vec<Value> {
    let mut rows = vec![Vec::new()];
    for operand in operands {
        let values = operand.values(root, current);
        rows = rows
            .into_iter()
            .flat_map(|row| {
                values.iter().map(move |value| {
                    let mut row = row.clone();
                    row.push(value.clone());
                    row
                })
            })
            .collect();
    }
    rows.iter()
        .filter_map(|row| {
            let numbers: Option<Vec<i64>> = row.iter().map(Value::as_i64).collect();
            function.apply(current, &numbers?)
        })
        .collect()
}

impl Function {
    fn apply(self, value: &Value, arguments: &[i64]) -> Option<Value> {
        match (self, value, arguments) {
            (Self::Length, Value::Array(items), []) => Some(items.len().into()),
            (Self::Length, Value::String(text), []) => Some(text.chars().count().into()),
            (Self::Keys, Value::Array(items), []) => Some((0..items.len()).collect()),
            (Self::Keys, Value::Object(map), []) => Some(map.keys().cloned().collect()),
            (Self::Values, Value::Array(_), []) => Some(value.clone()),
            (Self::Values, Value::Object(map), []) => Some(map.values().cloned().collect()),
            (Self::Entries, Value::Array(items), []) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, v)| json!([i, v]))
                    .collect(),
            ),
            (Self::Entries, Value::Object(map), []) => {
                Some(map.iter().map(|(k, v)| json!([k, v])).collect())
            }
            (Self::CharAt, Value::String(text), [at]) => {
                let letters: Vec<char> = text.chars().collect();
                let at = if *at < 0 {
                    at + i64::try_from(letters.len()).ok()?
                } else {
                    *at
                };
                let letter = letters.get(usize::try_from(at).ok()?)?;
                Some(letter.to_string().into())
            }
            (Self::Substring, Value::String(text), [start, rest @ ..]) if rest.len() < 2 => {
                let letters: Vec<char> = text.chars().collect();
                let length = i64::try_from(letters.len()).ok()?;
                let clamp = |at: i64| {
                    let at = if at < 0 { at + length } else { at };
                    usize::try_from(at.clamp(0, length)).unwrap_or(0)
                };
                let end = clamp(rest.first().copied().unwrap_or(length));
                let text: String = letters
                    .get(clamp(*start)..end)
                    .unwrap_or_default()
                    .iter()
                    .collect();
                Some(text.into())
            }
            _ => None,
        }
    }
}

impl Operand {
    fn values(&self, root: &Value, current: &Value) -> Vec<Value> {
        match self {
            Self::Path(path) => path.find_in(root, current),
            Self::Value(value) => vec![value.clone()],
        }
    }
}

impl Expression {
    fn holds(&self, root: &Value, current: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(root, current)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(root, current)),
            Self::Not(part) => !part.holds(root, current),
            Self::Compare(left, comparison, right) => {
                let rights = right.values(root, current);
                left.values(root, current)
                    .iter()
                    .any(|left| rights.iter().any(|right| comparison.holds(left, right)))
            }
            Self::Some(Operand::Path(path)) => !path.find_in(root, current).is_empty(),
            Self::Some(Operand::Value(value)) => super::python_like::truthy(value),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        // Only numbers have an order here; true and false are among them, as in Python.
        let number = |value: &Value| match value {
            Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
            other => other.as_f64(),
        };
        let ordered = |test: fn(f64, f64) -> bool| {
            number(left)
                .zip(number(right))
                .is_some_and(|(left, right)| test(left, right))
        };
        match self {
            Self::Equal => equal(left, right),
            Self::NotEqual => !equal(left, right),
            Self::Less => ordered(|a, b| a < b),
            Self::LessOrEqual => ordered(|a, b| a <= b),
            Self::Greater => ordered(|a, b| a > b),
            Self::GreaterOrEqual => ordered(|a, b| a >= b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let value = json!({
            "items": [{"n": 1, "on": true}, {"n": 2, "on": false}, {"n": 3}],
            "name": "murphy", "a b": 7, "deep": {"items": [9]}
        });
        for (path, expected) in [
            ("$", vec![value.clone()]),
            ("$.name", vec![json!("murphy")]),
            ("$[\"a b\"]", vec![json!(7)]),
            ("$.items[*].n", vec![json!(1), json!(2), json!(3)]),
            ("$.items[0,-1].n", vec![json!(1), json!(3)]),
            ("$.items[1:].n", vec![json!(2), json!(3)]),
            ("$.items[::2].n", vec![json!(1), json!(3)]),
            ("$.items[*][?(@.n > 1)].n", vec![json!(2), json!(3)]),
            (
                "$.items[*][?(@.n = 1 or @.n = 3)].n",
                vec![json!(1), json!(3)],
            ),
            ("$.items[*][?(not @.on)].n", vec![json!(3)]),
            ("$.items[*][?(@.on = true and @.n < 2)].n", vec![json!(1)]),
            ("$.items.length()", vec![json!(3)]),
            ("$.name[length()]", vec![json!(6)]),
            ("$.name.substring(0, 3)", vec![json!("mur")]),
            ("$..n", vec![json!(1), json!(2), json!(3)]),
            ("$..items[0]", vec![json!({"n": 1, "on": true}), json!(9)]),
            ("$.nothing", vec![]),
        ] {
            assert_eq!(
                path.parse::<Path>().unwrap().find(&value),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn mistakes() {
        for path in [
            "",
            "name",
            "@.a",
            "$.",
            "$.a b",
            "$[?(@.a == 1)]",
            "$[1.5]",
            "$['a']",
            "$.size()",
        ] {
            assert!(path.parse::<Path>().is_err(), "{path}");
        }
    }
}
