//! A list: one of several, or two bounds.

use std::cmp::Ordering;

use serde_json::Value;

use crate::python_like::{compare, equal};

/// Whether the status is among the items; of a value without one, whether it lies between two bounds or is
/// among the items.
pub(super) fn within(items: &[Value], value: &Value) -> Result<bool, String> {
    if let Some(status) = value.get("status") {
        return Ok(items.iter().any(|item| equal(item, status)));
    }
    let [low, high] = items else {
        return Ok(items.iter().any(|item| equal(item, value)));
    };
    let apart = || format!("{value} has no order with [{low}, {high}]");
    let above = compare(low, value).ok_or_else(apart)? != Ordering::Greater;
    // Python does not look at the second bound if the first is missed.
    Ok(above && compare(value, high).ok_or_else(apart)? != Ordering::Greater)
}
