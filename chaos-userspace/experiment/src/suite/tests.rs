//! Suites with a clock that does not wait and a player that only notes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::*;
use crate::report::Verdict;

/// Its time, and when somebody wants an end.
struct Fake(RefCell<Zoned>, Option<(i8, i8)>);

impl Fake {
    fn at(day: i8, hour: i8) -> Self {
        // The 2nd of November 2026 is a Monday.
        let moment = date(2026, 11, day)
            .at(hour, 0, 0, 0)
            .to_zoned(TimeZone::UTC);
        Self(RefCell::new(moment.unwrap()), None)
    }
}

impl Clock for Fake {
    fn now(&self) -> Zoned {
        self.0.borrow().clone()
    }

    fn sleep(&self, time: Duration) {
        let later = self
            .now()
            .checked_add(jiff::SignedDuration::try_from(time).unwrap())
            .unwrap();
        *self.0.borrow_mut() = later;
    }

    fn is_over(&self) -> bool {
        self.1
            .is_some_and(|(day, hour)| (self.now().day(), self.now().hour()) >= (day, hour))
    }
}

#[derive(Default)]
struct Noted {
    played: Vec<(PathBuf, Value)>,
    outcomes: Vec<Outcome>,
}

impl Player for Noted {
    fn play(&mut self, experiment: &Path, values: &Values) -> Result<Played, SuiteError> {
        self.played.push((experiment.to_owned(), json!(values)));
        let next = self.outcomes.get(self.played.len() - 1);
        Ok(Played {
            outcome: next.copied().unwrap_or(Outcome::Held),
            journal: None,
        })
    }
}

const GAMEDAY: &str = "
title = 'Redis'
experiment = 'a.json'
pause = '1m'
[[step]]
name = 'a tenth'
vars = { share = '10%', hold = 5 }
[[step]]
name = 'a third'
vars = { share = '30%' }
[[step]]
name = 'all'
experiment = 'b.json'
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.json", "b.json", "note.txt"] {
        std::fs::write(folder.path().join(name), "{\"method\": []}").unwrap();
    }
    folder
}

#[test]
fn a_gameday_goes_on_only_while_the_hypothesis_holds() {
    let folder = folder();
    let plan = gameday::Plan::read(GAMEDAY, folder.path()).unwrap();
    let (clock, mut player) = (Fake::at(2, 9), Noted::default());
    let told = gameday::play(&plan, &clock, &mut player, &mut |_| {}).unwrap();
    assert_eq!(told, 3);
    assert_eq!(player.played[0].1, json!({"hold": 5, "share": "10%"}));
    assert!(player.played[2].0.ends_with("b.json"));
    assert_eq!(
        (clock.now().minute(), clock.now().hour()),
        (2, 9),
        "two pauses of a minute"
    );

    let missed = Outcome::Missed(Verdict::Deviated);
    let mut player = Noted {
        outcomes: vec![Outcome::Held, missed],
        ..Noted::default()
    };
    let told = gameday::play(&plan, &clock, &mut player, &mut |_| {}).unwrap();
    assert_eq!((told, player.played.len()), (1, 2));

    // An end is wanted at once, and in the pauses.
    let mut player = Noted::default();
    let over = Fake(RefCell::new(clock.now()), Some((2, 9)));
    let told = gameday::play(&plan, &over, &mut player, &mut |_| {}).unwrap();
    assert_eq!((told, player.played.len()), (0, 0));
}

#[test]
fn a_wrong_gameday_is_refused_before_anything_is_played() {
    let folder = folder();
    for (text, word) in [
        ("title = 'x'", "step"),
        ("title = 'x'\nstep = []", "at least one"),
        ("title = 'x'\n[[step]]\nname = 'n'", "no experiment"),
        (
            "title = 'x'\nexperiment = 'gone.json'\n[[step]]\nname = 'n'",
            "gone.json",
        ),
        (
            "title = 'x'\nexperiment = 'a.json'\npause = '5'\n[[step]]\nname = 'n'",
            "pause",
        ),
        (
            "title = 'x'\nexperiment = 'a.json'\nsteps = 1\n[[step]]\nname = 'n'",
            "steps",
        ),
    ] {
        let error = gameday::Plan::read(text, folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn a_schedule_waits_for_its_times() {
    let times = schedule::Times::read("0 10 * * 5").unwrap(); // Fridays at ten
    let (clock, mut player) = (Fake::at(2, 9), Noted::default());
    let experiments = [PathBuf::from("a.json"), PathBuf::from("b.json")];
    let missed = schedule::play(
        &times,
        &experiments,
        Some(2),
        &clock,
        &mut player,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!((missed, player.played.len()), (0, 4));
    assert_eq!((clock.now().day(), clock.now().hour()), (13, 10));
    // The schedule is ended between two Fridays.
    let (clock, mut player) = (Fake(Fake::at(2, 9).0, Some((9, 0))), Noted::default());
    let missed = Outcome::Missed(Verdict::Deviated);
    player.outcomes = vec![missed, Outcome::Locked];
    let told = schedule::play(&times, &experiments, None, &clock, &mut player, &mut |_| {});
    assert_eq!((told.unwrap(), player.played.len()), (1, 2));
    assert!(clock.now().day() <= 9, "{}", clock.now());
    assert!(schedule::Times::read("61 * * * *").is_err());
    assert!(schedule::Times::read("often").is_err());
}

#[test]
fn the_monkey_keeps_its_hours_and_its_probability() {
    let monkey = monkey::Monkey {
        probability: 0.05,
        interval: Duration::from_secs(300),
        hours: Some(monkey::hours("9-17").unwrap()),
        seed: 7,
    };
    for (day, hour, may) in [
        (2, 8, false),
        (2, 9, true),
        (2, 16, true),
        (2, 17, false),
        (7, 12, false),
        (8, 12, false),
    ] {
        assert_eq!(
            monkey.is_time(&Fake::at(day, hour).now()),
            may,
            "{day} {hour}"
        );
    }
    let acted = (0..100_000)
        .filter(|look| monkey.choose(*look, 3).is_some())
        .count();
    assert!((4_700..5_300).contains(&acted), "{acted}");
    // A week of looks: 40 of 168 hours, 480 of 2016 looks, about 24 of which act.
    let (clock, mut player) = (Fake::at(2, 0), Noted::default());
    let experiments = [PathBuf::from("a.json"), PathBuf::from("b.json")];
    monkey
        .play(&experiments, Some(2016), &clock, &mut player, &mut |_| {})
        .unwrap();
    assert!(
        (8..45).contains(&player.played.len()),
        "{}",
        player.played.len()
    );
    assert!(
        experiments
            .iter()
            .all(|one| player.played.iter().any(|(path, _)| path == one))
    );
    for wrong in ["9", "17-9", "9-25", "-1-3", "a-b"] {
        assert!(monkey::hours(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn folders_are_searched_and_an_empty_one_is_an_error() {
    let folder = folder();
    std::fs::write(folder.path().join("settings.json"), "{}").unwrap();
    let found = find(&[folder.path().to_owned()]).unwrap();
    assert_eq!(found.len(), 2);
    let empty = tempfile::tempdir().unwrap();
    assert!(find(&[empty.path().to_owned()]).is_err());
}

#[test]
fn an_experiment_and_its_values_are_checked() {
    let folder = folder();
    let own = Program::Own("murphy".into());
    let chaos = Program::Chaos("chaos".into());
    let file = folder.path().join("c.json");
    std::fs::write(
        &file,
        "{\"title\": \"t\", \"method\": [], \"configuration\": {\"share\": \"10%\", \"hold\": 1}}",
    )
    .unwrap();
    let wrong = check(&file, [], &own).unwrap_err().to_string();
    assert!(wrong.contains("description"), "{wrong}");
    check(&file, ["hold", "share"], &chaos).unwrap();
    let wrong = check(&file, ["hold", "shar"], &chaos)
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("no key `shar`; it has share, hold"),
        "{wrong}"
    );
    let gone = folder.path().join("gone.json");
    assert!(matches!(
        check(&gone, [], &chaos),
        Err(SuiteError::Experiment(_))
    ));
}
