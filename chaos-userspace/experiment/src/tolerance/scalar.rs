//! An integer: the status of a process or an answer, else the value itself.

use serde_json::Value;

use crate::python_like::equal;

/// Whether the value, or its status, is the number.
pub(super) fn within(number: &Value, value: &Value) -> bool {
    match value.get("status") {
        Some(status) => equal(status, number),
        None => equal(value, number),
    }
}
