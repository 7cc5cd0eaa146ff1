//! The spans of an experiment, of its journal.

use serde_json::Value;

use super::span::{Context, Span};

/// The experiment and each activity of it.
pub fn of_journal(context: &mut Context, journal: &Value) -> Vec<Span> {
    let title = journal["experiment"]["title"].as_str().unwrap_or("?");
    let (Some(start), Some(end)) = (moment(&journal["start"]), moment(&journal["end"])) else {
        return Vec::new();
    };
    let mut root = context.span(format!("experiment {title}"), start, end);
    let status = journal["status"].as_str().unwrap_or("?");
    root.attribute("murphy.experiment.status", status);
    root.attribute("murphy.experiment.deviated", journal["deviated"].clone());
    if status != "completed" || journal["deviated"] == true {
        root.failed(match journal["deviated"] == true {
            true => format!("{status}: the steady state has deviated"),
            false => status.to_owned(),
        });
    }
    let states = &journal["steady_states"];
    let during = states["during"].as_array().into_iter().flatten();
    let hypotheses = [(&states["before"], "before"), (&states["after"], "after")]
        .into_iter()
        .chain(during.map(|state| (state, "during")));
    let mut parts: Vec<(&Value, &str)> = Vec::new();
    for (state, when) in hypotheses {
        parts.extend(list(&state["probes"]).map(|run| (run, when)));
    }
    parts.extend(list(&journal["run"]).map(|run| (run, "method")));
    parts.extend(list(&journal["rollbacks"]).map(|run| (run, "rollback")));
    let mut spans = Vec::new();
    for (run, part) in parts {
        spans.extend(activity(context, &root, run, part));
    }
    spans.insert(0, root);
    spans
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An activity, unless it never began.
fn activity(context: &mut Context, root: &Span, run: &Value, part: &str) -> Option<Span> {
    let (start, end) = (moment(&run["start"])?, moment(&run["end"])?);
    let said = &run["activity"];
    let name = said["name"].as_str().unwrap_or("?");
    let mut span = context.child(root, name, start, end);
    span.attribute("murphy.activity.part", part);
    for (attribute, key) in [
        ("murphy.activity.type", "type"),
        ("murphy.activity.background", "background"),
    ] {
        span.attribute(attribute, said[key].clone());
    }
    span.attribute("murphy.activity.provider", said["provider"]["type"].clone());
    span.attribute(
        "murphy.activity.tolerance_met",
        run["tolerance_met"].clone(),
    );
    let status = run["status"].as_str().unwrap_or("?");
    if status != "succeeded" || run["tolerance_met"] == false {
        let lines = list(&run["exception"]).filter_map(Value::as_str);
        let why = lines.last().map_or(status, str::trim);
        span.failed(match run["tolerance_met"] == false {
            true => "the tolerance was not met",
            false => why,
        });
    }
    Some(span)
}

/// A moment of the journal in ns since 1970.
fn moment(text: &Value) -> Option<u64> {
    let text = text.as_str()?;
    // Chaos Toolkit's own journals name no zone and mean UTC.
    let at: jiff::Timestamp = text.parse().or_else(|_| format!("{text}Z").parse()).ok()?;
    u64::try_from(at.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_activity_is_a_span() {
        let run = |name: &str, status: &str| {
            json!({
                "activity": { "name": name, "type": "probe", "provider": { "type": "http" } },
                "start": "2026-01-02T03:04:05.000001+00:00", "end": "2026-01-02T03:04:06", "status": status,
            })
        };
        let mut missed = run("after", "succeeded");
        missed["tolerance_met"] = false.into();
        let journal = json!({
            "experiment": { "title": "t" }, "status": "completed", "deviated": true,
            "start": "2026-01-02T03:04:05+00:00", "end": "2026-01-02T03:04:09+00:00",
            "steady_states": {
                "before": { "probes": [run("before", "succeeded")] }, "after": { "probes": [missed] }, "during": [],
            },
            "run": [run("method", "failed"), { "activity": { "name": "never" }, "status": "aborted" }],
            "rollbacks": [run("back", "succeeded")],
        });
        let spans = of_journal(&mut Context::new(None, 1), &journal);
        let json: Vec<_> = spans.iter().map(Span::json).collect();
        let names: Vec<_> = json
            .iter()
            .map(|span| span["name"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(names, ["experiment t", "before", "after", "method", "back"]);
        let codes: Vec<_> = json
            .iter()
            .map(|span| span["status"]["code"].as_i64())
            .collect();
        assert_eq!(codes, [2, 1, 2, 2, 1].map(Some));
        assert!(
            json[1..]
                .iter()
                .all(|span| span["parentSpanId"] == json[0]["spanId"])
        );
        assert_eq!(json[1]["startTimeUnixNano"], "1767323045000001000");
    }
}
