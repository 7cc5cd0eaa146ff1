//! `JUnit` XML: an experiment is a suite, each activity and each check of the hypothesis a case.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::ReportError;
use super::story::{Step, Story, Verdict};
use murphy_sys::printable;

/// Renders all stories.
pub(super) fn render(stories: &[Story]) -> Result<String, ReportError> {
    let mut report = Report::new("murphy");
    for story in stories {
        let mut suite = TestSuite::new(&*printable::line(&story.title));
        suite.set_time(seconds(story.seconds));
        for step in &story.steps {
            suite.add_test_case(case(step));
        }
        suite.add_test_case(whole(story));
        report.add_test_suite(suite);
    }
    Ok(report.to_string()?)
}

fn case(step: &Step) -> TestCase {
    let mut status = match (step.ok, step.missing) {
        (true, _) => TestCaseStatus::success(),
        (false, true) => TestCaseStatus::skipped(),
        // Out of tolerance is a deviation; what could not be done at all is an error.
        (false, false) if step.outcome == "out of tolerance" => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        (false, false) => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if !step.ok {
        status.set_message(&*printable::line(&step.outcome));
        if !step.missing {
            status.set_type(if step.outcome == "out of tolerance" {
                "deviation"
            } else {
                "activity"
            });
        }
        status.set_description(&*printable::lines(&step.output));
    }
    let name = format!("{}: {}", step.phase, step.name);
    let mut case = TestCase::new(&*printable::line(&name), status);
    case.set_classname(&*printable::line(&step.kind))
        .set_time(seconds(step.took));
    case
}

/// The verdict is a case of its own, so that it is there also when nothing was done.
fn whole(story: &Story) -> TestCase {
    let missing = story.steps.iter().any(|step| step.missing);
    let (mut status, kind) = match story.verdict {
        _ if missing => (TestCaseStatus::skipped(), None),
        Verdict::Held | Verdict::NoHypothesis => (TestCaseStatus::success(), None),
        Verdict::Deviated | Verdict::NotMetBefore => (
            TestCaseStatus::non_success(NonSuccessKind::Failure),
            Some("deviation"),
        ),
        Verdict::Failed | Verdict::Aborted | Verdict::Interrupted => (
            TestCaseStatus::non_success(NonSuccessKind::Error),
            Some("experiment"),
        ),
    };
    if missing || kind.is_some() {
        let first = story
            .insights
            .first()
            .map(|insight| insight.finding.as_str());
        let breach = story.breach.as_deref();
        let message = breach.or(first).unwrap_or(story.verdict.words());
        status.set_message(&*printable::line(message));
    }
    if let Some(kind) = kind {
        status.set_type(kind);
    }
    let mut case = TestCase::new("hypothesis", status);
    case.set_classname("experiment")
        .set_time(seconds(story.seconds));
    case
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
