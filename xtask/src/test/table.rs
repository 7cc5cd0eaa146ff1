//! The table at the end: test × environment, then the reasons, then one line that a script can read.

use std::{collections::BTreeMap, fmt::Write as _};

use super::record::{Outcome, Record};

/// Renders everything. `columns` are environments with their headings, in order; `cost` is the table
/// of what the steps cost.
pub(crate) fn render(columns: &[(String, String)], records: &[Record], cost: &str) -> String {
    let mut out = units(records);
    let mut tests: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| !is_quiet(r)) {
        if !tests.contains(&record.test.as_str()) {
            tests.push(&record.test);
        }
    }
    let width = tests.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let mut reasons: Vec<&str> = Vec::new();
    let _ = write!(out, "\n{:width$}", "");
    for (_, heading) in columns {
        let _ = write!(out, "  {heading:<8}");
    }
    out.push('\n');
    for test in tests {
        let _ = write!(out, "{test:width$}");
        for (environment, _) in columns {
            let record = records
                .iter()
                .find(|r| r.test == test && r.environment == *environment);
            let cell = match record {
                None => String::new(),
                Some(r) => match r.outcome {
                    Outcome::Passed if r.at_first.is_some() => "ok, 2nd".to_owned(),
                    Outcome::Passed => "ok".to_owned(),
                    Outcome::Failed => "FAILED".to_owned(),
                    Outcome::Skipped => {
                        let reason = r.text.as_str();
                        let known = reasons.iter().position(|k| *k == reason);
                        let number = known.unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("skip {}", number + 1)
                    }
                },
            };
            let _ = write!(out, "  {cell:<8}");
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
    if !reasons.is_empty() {
        out.push_str("\nskipped because\n");
        for (n, reason) in reasons.iter().enumerate() {
            let _ = writeln!(out, "{:>4}  {reason}", n + 1);
        }
    }
    for r in records.iter().filter(|r| r.outcome == Outcome::Failed) {
        let _ = write!(out, "\nFAILED {} [{}]\n", r.test, r.environment);
        for line in shortened(&r.text) {
            let _ = writeln!(out, "    {line}");
        }
    }
    for r in records {
        if let (Outcome::Passed, Some(at_first)) = (r.outcome, &r.at_first) {
            let _ = write!(
                out,
                "\nPASSED AT THE SECOND TRY {} [{}]\n",
                r.test, r.environment
            );
            for line in shortened(at_first) {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    out.push_str(&slowest(records));
    out.push_str(cost);
    let count = |outcome| records.iter().filter(|r| r.outcome == outcome).count();
    let _ = write!(
        out,
        "\n{} passed, {} failed, {} skipped",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    );
    out
}

/// Where the time of each environment goes: a test that took seconds is the first to be made shorter.
fn slowest(records: &[Record]) -> String {
    const SHOWN: usize = 8;
    const WORTH_A_LINE: f64 = 5.0;
    let mut slow: Vec<&Record> = records
        .iter()
        .filter(|r| r.seconds >= WORTH_A_LINE && !r.test.starts_with("check: "))
        .collect();
    if slow.is_empty() {
        return String::new();
    }
    slow.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut out = "\nslowest\n".to_owned();
    for r in slow.into_iter().take(SHOWN) {
        let _ = writeln!(out, "{:6.1}s  {} [{}]", r.seconds, r.test, r.environment);
    }
    out
}

/// Unit tests that passed are told as a number for each crate: they are many.
fn is_quiet(record: &Record) -> bool {
    record.outcome == Outcome::Passed && record.test.starts_with(UNIT)
}

const UNIT: &str = "unit: ";

fn units(records: &[Record]) -> String {
    let mut passed: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records.iter().filter(|r| is_quiet(r)) {
        let name = record.test.trim_start_matches(UNIT);
        let program = name.split_once("::").map_or(name, |(p, _)| p);
        *passed.entry(program).or_default() += 1;
    }
    let mut out = String::new();
    for (program, n) in passed {
        let _ = writeln!(out, "{UNIT}{program}: {n} passed");
    }
    out
}

/// Both ends of a long text; all of it is in the file of `--json`.
fn shortened(text: &str) -> Vec<&str> {
    const HEAD: usize = 20;
    const TAIL: usize = 30;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= HEAD + TAIL {
        return lines;
    }
    let (head, tail) = (&lines[..HEAD], &lines[lines.len() - TAIL..]);
    [head, &["[… the rest is in the file of --json …]"], tail].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_reasons_and_closes_with_the_counts() {
        let columns = [
            ("host".to_owned(), "host".to_owned()),
            ("sid".to_owned(), "7.2".to_owned()),
        ];
        let records = [
            Record::new("host", "a: x", Outcome::Skipped, "not root"),
            Record::new("sid", "a: x", Outcome::Passed, ""),
            Record::new("host", "a: y", Outcome::Skipped, "not root"),
            Record::new("sid", "a: y", Outcome::Failed, "boom"),
        ];
        let text = render(&columns, &records, "\ncost\n");
        assert!(text.contains("a: x  skip 1    ok\n"), "{text}");
        assert_eq!(text.matches("not root").count(), 1);
        assert!(text.contains("FAILED a: y [sid]\n    boom"), "{text}");
        assert!(text.ends_with("\n1 passed, 1 failed, 2 skipped"), "{text}");
    }
}
