//! Stories told from journals, and each format of them.

use serde_json::{Value, json};

use super::*;

fn at(seconds: u32) -> String {
    // As chaoslib writes it.
    format!(
        "2026-11-20T10:{:02}:{:02}.250000+00:00",
        seconds / 60,
        seconds % 60
    )
}

#[allow(clippy::needless_pass_by_value)] // json!() makes values
fn entry(name: &str, kind: &str, begin: u32, took: u32, provider: Value, output: Value) -> Value {
    json!({
        "activity": {"type": kind, "name": name, "provider": provider}, "output": output,
        "start": at(begin), "end": at(begin + took), "duration": took, "status": "succeeded",
    })
}

fn check(begin: u32, met: bool) -> Value {
    let mut probe = entry(
        "answers",
        "probe",
        begin,
        0,
        json!({"type": "http"}),
        json!({"status": 200}),
    );
    probe["tolerance_met"] = met.into();
    json!({"steady_state_met": met, "probes": [probe]})
}

fn process(words: &[&str]) -> Value {
    json!({"type": "process", "path": "/usr/bin/murphy", "arguments": words})
}

/// An injection from 11 s to 40 s, with the counters in what `stop` printed.
fn journal(deviated: bool) -> Value {
    let counters = json!({"faults": [{"fault": "connect:error=ECONNREFUSED:p=20%", "matched": 100, "injected": 20,
        "suppressed": {"probability": 80}, "expired": 0, "failed": 0}]});
    let inject = process(&[
        "inject",
        "-e",
        "connect:error=ECONNREFUSED:p=20%",
        "--detach",
        "--name",
        "refused",
        "--for",
        "60s",
    ]);
    let samples: Vec<Value> = (0..60)
        .map(|s| {
            let fault = (11..40).contains(&s);
            json!([
                s,
                0,
                if fault { 0.5 } else { 0.02 },
                !(fault && s % 10 == 0) && s != 41
            ])
        })
        .collect();
    json!({
        "experiment": {"title": "Redis <refuses>", "description": "d", "steady-state-hypothesis": {"title": "it answers"}},
        "node": "n", "platform": "p", "status": "completed", "deviated": deviated,
        "start": at(0), "end": at(60), "duration": 60.0,
        "steady_states": {"before": check(1, true), "after": check(39, !deviated), "during": []},
        "run": [entry("inject", "action", 10, 1, inject, json!({"status": 0, "stdout": "", "stderr": ""}))],
        "rollbacks": [entry("stop", "action", 40, 1, process(&["stop", "refused"]),
            json!({"status": 0, "stdout": counters.to_string(), "stderr": ""}))],
        "murphy": {"sampling": {"samples": samples, "probes": [{"name": "answers"}]},
            "score": {"total": 84.0, "availability": 95.0, "recovery": 100.0}},
    })
}

fn story(value: &Value) -> Story {
    read(&value.to_string()).unwrap()
}

fn finds(story: &Story, words: &str) -> bool {
    story
        .insights
        .iter()
        .any(|insight| insight.finding.contains(words))
}

#[test]
fn a_story_has_verdict_window_counters_and_figures() {
    let told = story(&journal(false));
    assert_eq!(told.verdict, Verdict::Held);
    assert_eq!(
        told.windows,
        [Window {
            name: "refused".to_owned(),
            from: 11.0,
            to: 40.0
        }]
    );
    assert_eq!(told.faults[0].injected, 20);
    assert_eq!(told.faults[0].suppressed, 80);
    assert_eq!(told.figures.samples, 60);
    assert_eq!(
        (told.figures.p50_before, told.figures.p50),
        (Some(20.0), Some(500.0))
    );
    // Wrong at 20, 30 and, as the window ends, 40; then at 41; right for good from 42.
    assert_eq!(told.figures.time_to_detect, Some(9.0));
    assert_eq!(told.figures.time_to_recover, Some(2.0));
    let score = told.score.as_ref().unwrap();
    assert_eq!(
        (score.total, score.parts.len(), score.parts[1].weight),
        (84.0, 2, 30.0)
    );
    assert!(
        finds(&told, "retries, fallbacks or caches"),
        "{:?}",
        told.insights
    );
    let phases: Vec<_> = told.steps.iter().map(|step| step.phase).collect();
    assert_eq!(phases, ["before", "method", "after", "rollback"]);
}

#[test]
fn verdicts() {
    let base = journal(false);
    let with = |change: fn(&mut Value)| {
        let mut value = base.clone();
        change(&mut value);
        story(&value).verdict
    };
    assert_eq!(story(&journal(true)).verdict, Verdict::Deviated);
    assert_eq!(with(|v| v["status"] = "aborted".into()), Verdict::Aborted);
    assert_eq!(
        with(|v| v["status"] = "interrupted".into()),
        Verdict::Interrupted
    );
    assert_eq!(with(|v| v["status"] = "failed".into()), Verdict::Failed);
    assert_eq!(
        with(|v| v["steady_states"] =
            json!({"before": check(1, false), "after": null, "during": []})),
        Verdict::NotMetBefore
    );
    assert_eq!(
        with(|v| v["steady_states"] = json!({"before": null, "after": null, "during": []})),
        Verdict::NoHypothesis
    );
    assert_eq!(
        with(|v| v["steady_states"]["during"] = json!([check(20, false)])),
        Verdict::Deviated
    );
}

#[test]
fn what_makes_a_verdict_worthless_is_said() {
    let mut value = journal(false);
    value["run"][0]["output"] =
        json!({"status": 77, "stdout": "", "stderr": "murphy: no BPF LSM\n  help: …"});
    let told = story(&value);
    assert!(
        finds(&told, "inject injected nothing: murphy: no BPF LSM"),
        "{:?}",
        told.insights
    );
    assert!(told.steps.iter().any(|step| step.missing));
    let mut value = journal(false);
    value["rollbacks"][0]["output"]["stdout"] =
        r#"{"faults":[{"fault":"x","matched":0,"injected":0}]}"#.into();
    assert!(finds(&story(&value), "x matched nothing"));
    let mut value = journal(false);
    value["murphy"]["abort"] = json!({"limit": "error_rate", "text": "12 % > 5 %"});
    assert_eq!(
        story(&value).breach.as_deref(),
        Some("error_rate: 12 % > 5 %")
    );
    assert!(finds(&story(&value), "a safety limit ended"));
}

/// The Chaos Toolkit's own: no murphy anywhere, times without an offset, a traceback, nothing where murphy has samples.
#[test]
fn a_plain_journal_of_the_chaos_toolkit() {
    let mut value = journal(true);
    value.as_object_mut().unwrap().remove("murphy");
    value["start"] = "2026-11-20T10:00:00.25".into();
    value["run"][0]["activity"]["provider"] =
        json!({"type": "process", "path": "rm", "arguments": "-f x"});
    value["run"][0]["status"] = "failed".into();
    value["run"][0]["exception"] = json!([
        "Traceback (most recent call last):\n",
        "chaoslib.ActivityFailed: too long\n\n"
    ]);
    value["rollbacks"] = json!([]);
    value["murphy-unknown"] = json!([1]);
    let told = story(&value);
    assert_eq!(told.verdict, Verdict::Deviated);
    assert_eq!(
        told.steps[1].outcome,
        "failed: chaoslib.ActivityFailed: too long"
    );
    assert_eq!(
        (told.steps[1].at, told.windows.len(), told.faults.len()),
        (10.0, 0, 0)
    );
    assert_eq!(told.series[0].samples.len(), 2);
    assert_eq!(told.figures.availability, None);
    for format in [Format::Html, Format::Md, Format::Junit, Format::Json] {
        assert!(!render(&[story(&value)], format).unwrap().is_empty());
    }
}

#[test]
fn journals_of_any_shape_are_borne() {
    for value in [
        json!({"experiment": null, "status": null}),
        json!({"experiment": [], "status": 3, "run": {}, "start": "x", "steady_states": {"before": 1}}),
        json!({"experiment": {"title": 1}, "status": "completed", "run": [null, 1, {}], "rollbacks": [{"activity": []}]}),
        json!({"experiment": {}, "status": "completed", "murphy": {"samples": [1, {"at": "x"}, {"a": [[]]}], "score": "high"}}),
    ] {
        let told = story(&value);
        for format in [Format::Html, Format::Md, Format::Junit, Format::Json] {
            assert!(
                render(std::slice::from_ref(&told), format).is_ok(),
                "{value}"
            );
        }
    }
    assert!(matches!(
        read("[]"),
        Err(ReportError::NoJournal("experiment"))
    ));
    assert!(matches!(
        read("{\n{"),
        Err(ReportError::Json { line: 2, .. })
    ));
}

#[test]
fn what_callers_saw_is_shown_where_it_was_counted() {
    let mut observed = journal(true);
    let plain = render(&[story(&observed)], Format::Md).unwrap();
    assert!(plain.contains("| Injected | Suppressed |"), "{plain}");
    let text = observed.to_string().replace(
        r#"\"injected\":20"#,
        r#"\"injected\":20,\"observed\":18,\"altered\":2"#,
    );
    observed = serde_json::from_str(&text).unwrap();
    let told = story(&observed);
    assert_eq!(
        (told.faults[0].observed, told.faults[0].altered),
        (Some(18), Some(2))
    );
    assert!(finds(&told, "2 came back to their callers"));
    let markdown = render(std::slice::from_ref(&told), Format::Md).unwrap();
    assert!(markdown.contains("| 20 | 18 | 2 | 80 |"), "{markdown}");
    let page = render(&[told], Format::Html).unwrap();
    assert!(page.contains("<th class=\"n\">Observed</th>"));
}

#[test]
fn the_page_stands_alone_and_shows_names_as_text() {
    let page = render(&[story(&journal(true))], Format::Html).unwrap();
    assert!(page.contains("Redis &lt;refuses&gt;") && !page.contains("<refuses>"));
    assert!(
        page.contains("class=\"fault\"") && page.contains("<polyline"),
        "no plot"
    );
    for loaded in ["src=", "href=", "@import", "url(", "<script"] {
        assert!(!page.contains(loaded), "{loaded}");
    }
}

#[test]
fn two_are_compared_and_more_are_a_history() {
    let (held, deviated) = (story(&journal(false)), story(&journal(true)));
    let two = [held.clone(), deviated.clone()];
    let page = render(&two, Format::Html).unwrap();
    assert!(page.contains("Comparison") && !page.contains("Score from run to run"));
    let text = render(&two, Format::Md).unwrap();
    assert!(
        text.contains("| Verdict | the hypothesis held | the hypothesis was refuted |"),
        "{text}"
    );
    let page = render(&[held.clone(), deviated, held], Format::Html).unwrap();
    assert!(page.contains("Score from run to run") && page.contains("History"));
}

#[test]
fn a_deviation_is_a_failure_and_a_missing_feature_is_skipped() {
    let xml = render(&[story(&journal(true))], Format::Junit).unwrap();
    assert!(
        xml.contains("failures=\"2\"") && xml.contains("errors=\"0\""),
        "{xml}"
    );
    let mut value = journal(false);
    value["run"][0]["output"]["status"] = 77.into();
    let xml = render(&[story(&value)], Format::Junit).unwrap();
    assert!(
        xml.contains("<skipped") && xml.contains("failures=\"0\""),
        "{xml}"
    );
    let mut value = journal(false);
    value["status"] = "aborted".into();
    let xml = render(&[story(&value)], Format::Junit).unwrap();
    assert!(xml.contains("errors=\"1\""), "{xml}");
}
