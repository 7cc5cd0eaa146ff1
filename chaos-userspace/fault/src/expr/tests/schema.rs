//! docs/fault.schema.json is made of the rows of the keys and of the types that several have.
//!
//! `MURPHY_BLESS=1 cargo test -p murphy-fault --lib expr::tests::schema` writes it anew.

use std::path::Path;

use serde_json::{Map, Value, from_str, json};

use super::super::keys::{OfPackets, Part, TARGET_SCHEMA, of_calls, of_netem};
use crate::{EffectKey, FilterKey, Op, TargetKey, TriggerKey};

/// The types that several keys have, and the title.
const FRAME: &str = include_str!("schema_frame.json");

fn parsed(schema: &str) -> Value {
    from_str(schema).unwrap_or_else(|error| panic!("{schema}: {error}"))
}

fn object(properties: impl IntoIterator<Item = (String, Value)>) -> Map<String, Value> {
    let properties: Map<_, _> = properties.into_iter().collect();
    let object = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    object.as_object().cloned().unwrap_or_default()
}

fn of_part<T>(part: &Part<T>) -> impl Iterator<Item = (String, Value)> {
    let schemas = part.schema.iter();
    schemas.map(|(name, schema)| ((*name).to_owned(), parsed(schema)))
}

/// An object with that property alone.
fn only(name: &str, schema: Value) -> Value {
    let mut object = object([(name.to_owned(), schema)]);
    object.insert("required".to_owned(), json!([name]));
    object.into()
}

fn described(mut object: Map<String, Value>, description: &str) -> Map<String, Value> {
    object.insert("description".to_owned(), description.into());
    object
}

/// What goes with no other effect: words, and objects with one property.
fn wire() -> Value {
    let mut words: Vec<&str> = Vec::new();
    let mut objects = Vec::new();
    for key in EffectKey::ALL {
        let Some(OfPackets::Wire(part)) = &key.row().of_packets else {
            continue;
        };
        words.extend(part.words);
        objects.extend(part.schema.map(|schema| only(key.name(), parsed(schema))));
    }
    let mut all = vec![json!({"enum": words})];
    all.append(&mut objects);
    json!({"description": "What else BPF alone does to packets.", "oneOf": all})
}

/// Conditions: objects with one property.
fn limit() -> Value {
    let mut objects = Vec::new();
    for key in EffectKey::ALL {
        if let Some(OfPackets::Limit(part)) = &key.row().of_packets {
            objects.push(only(key.name(), parsed(part.schema)));
        }
    }
    json!({"description": "A resource limit, lowered while the fault is in force.",
        "oneOf": objects})
}

fn schema() -> Value {
    let mut schema = parsed(FRAME);
    let nouns: Vec<_> = Op::NOUNS.iter().map(|op| op.name()).collect();
    schema["properties"]["ops"]["description"] =
        format!("Names of system calls, or {}.", nouns.join(", ")).into();
    let mut call = described(
        object(of_calls().flat_map(|(_, part)| of_part(part))),
        "What else can happen to a system call.",
    );
    call.insert("minProperties".to_owned(), 1.into());
    let mut netem = described(
        object(of_netem().flat_map(|(_, part)| of_part(part))),
        "tc-netem(8)'s parameters.",
    );
    netem.insert("minProperties".to_owned(), 1.into());
    let filters = FilterKey::ALL.iter().map(|key| &key.row().part);
    let triggers = TriggerKey::ALL.iter().map(|key| &key.row().part);
    let targets = TargetKey::ALL.iter();
    let of_rows = [
        ("call", call.into()),
        ("netem", netem.into()),
        ("wire", wire()),
        ("limit", limit()),
        (
            "filter",
            described(
                object(filters.flat_map(of_part)),
                "Which operations can be hit. Keys combine with and, the values of one with or.",
            )
            .into(),
        ),
        (
            "trigger",
            described(
                object(triggers.flat_map(of_part)),
                "When an operation that matches is hit. All conditions must hold.",
            )
            .into(),
        ),
    ];
    for (name, of_row) in of_rows {
        schema["$defs"][name] = of_row;
    }
    let of_targets = targets.map(|key| (key.name().to_owned(), parsed(TARGET_SCHEMA)));
    schema["$defs"]["target"]["properties"] = Value::Object(of_targets.collect());
    schema
}

#[test]
fn the_document_is_made_of_the_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fault.schema.json");
    let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("MURPHY_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert!(
        made == there,
        "docs/fault.schema.json is not of the rows; see this file"
    );
}
