use serde_json::json;

use super::*;

fn judge(tolerance: &Value, value: &Value) -> Result<bool, String> {
    within(tolerance, value, &Names::default(), &|probe| {
        probe["provider"]["arguments"].get("value").cloned()
    })
}

#[test]
fn met_and_missed() {
    let done = json!({"status": 0, "stdout": "{\"n\": [1, 2]}", "stderr": ""});
    for (tolerance, value, met) in [
        (json!(0), &done, true),
        (json!(1), &done, false),
        (json!(true), &done, false),
        (json!(true), &json!(1), true),
        (json!("x"), &json!("x"), true),
        (json!([0, 5]), &json!({"status": 3}), false),
        (json!([0, 5]), &json!(3), true),
        (json!([0, 5]), &json!(5), true),
        (json!(["a", "c"]), &json!("b"), true),
        (json!([1, 2, 3]), &json!(2), true),
        (
            json!({"type": "range", "range": [1, 2]}),
            &json!("1.5"),
            true,
        ),
        (
            json!({"type": "range", "range": [1, 2]}),
            &json!("much"),
            false,
        ),
        (
            json!({"type": "regex", "pattern": "^.n", "target": "stdout"}),
            &done,
            false,
        ),
        (
            json!({"type": "regex", "pattern": "(?<=n)\"", "target": "stdout"}),
            &done,
            true,
        ),
        (
            json!({"type": "jsonpath", "path": "$.n[*]", "target": "stdout", "count": 2}),
            &done,
            true,
        ),
        (
            json!({"type": "jsonpath", "path": "$.n[*]", "target": "stdout", "expect": [1, 2]}),
            &done,
            true,
        ),
        (
            json!({"type": "jsonpath", "path": "$.m", "target": "stdout"}),
            &done,
            false,
        ),
        (
            json!({"type": "probe", "provider": {"arguments": {}}}),
            &json!("x"),
            true,
        ),
        (
            json!({"type": "probe", "provider": {"arguments": {}}}),
            &json!(0),
            false,
        ),
        (json!(1.5), &json!(1.5), false),
    ] {
        assert_eq!(judge(&tolerance, value), Ok(met), "{tolerance} of {value}");
    }
}

#[test]
fn what_does_not_go_together_is_said() {
    for (tolerance, value) in [
        (
            json!({"type": "regex", "pattern": "x"}),
            json!({"status": 0}),
        ),
        (json!({"type": "range", "range": [1, 2]}), json!({"a": 1})),
        (json!([0, 5]), json!("3")),
        (json!({"type": "probe", "provider": {}}), json!(1)),
    ] {
        assert!(judge(&tolerance, &value).is_err(), "{tolerance} of {value}");
    }
}

#[test]
fn mistakes_are_found() {
    for tolerance in [
        json!(1.5),
        json!(null),
        json!({}),
        json!({"type": "rang"}),
        json!({"type": "range", "range": [1]}),
        json!({"type": "range", "range": ["1", 2]}),
        json!({"type": "regex"}),
        json!({"type": "regex", "pattern": "("}),
        json!({"type": "jsonpath", "path": ""}),
        json!({"type": "jsonpath", "path": "n"}),
    ] {
        let mut problems = Vec::new();
        check(&tolerance, "t", &mut problems);
        assert_eq!(problems.len(), 1, "{tolerance}");
    }
}
