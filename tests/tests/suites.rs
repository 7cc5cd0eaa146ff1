//! Experiments in a row: a gameday, a schedule, a monkey; what ends them, and that their faults end with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::net::Echo;
use tests::{Group, Outcome, Program, case, murphy, needs, victim, wait_until};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let injects = || needs![Root, Cgroup2, Bpf, Atomics];
    tests::group([
        case(
            "a gameday goes on while the hypothesis holds",
            injects(),
            gameday,
        ),
        case(
            "a gameday that is ended plays its rollbacks",
            injects(),
            ended,
        ),
        case(
            "a fault ends with a gameday that is killed",
            injects(),
            killed,
        ),
        case("a schedule by the second", needs![], schedule),
        case("a schedule that waits is ended at once", needs![], waiting),
        case("a monkey with a seed", needs![], monkey),
        case("what is wrong is said before anything", needs![], refused),
    ])
    // Suites are no kernel's business.
    .host_only()
}

/// A folder to work in.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// `murphy ARGS…` in the folder.
    fn murphy(&self, args: &[&str]) -> Program {
        let mut program = murphy(args).env("MURPHY_RUN_DIR", self.path("run"));
        program.command().current_dir(self.0.path());
        program.limit(PATIENCE)
    }

    /// What the suite's experiments noted, in the order in which they were played.
    fn journals(&self) -> Result<Vec<Value>> {
        let folder = self.path("journals");
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path());
        }
        files.sort();
        let read = |file: &PathBuf| Ok(serde_json::from_str(&fs::read_to_string(file)?)?);
        files.iter().map(read).collect()
    }
}

/// JSON lines, those of one event.
fn events<'a>(stdout: &'a str, event: &'a str) -> impl Iterator<Item = Value> + 'a {
    stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(move |said| said["event"] == event)
}

fn connects(name: &str, path: &Path, address: &str) -> Value {
    let words = victim::words(["connect", address, "3"]);
    json!({"type": "probe", "name": name, "provider": {"type": "process", "path": path, "arguments": words}})
}

/// The prober is refused what `which` says; one connection of three is enough for the hypothesis.
fn refusing(prober: &Path, echo: &Echo) -> Value {
    let address = echo.address.to_string();
    let mut gate = connects("connects", prober, &address);
    gate["tolerance"] = json!({"type": "regex", "pattern": "ok", "target": "stdout"});
    json!({
        "title": "Connections are refused", "description": "To the prober, and to nobody else.",
        "configuration": {"port": echo.port(), "which": "1"},
        "steady-state-hypothesis": {"title": "it connects", "probes": [gate]},
        "method": [
            {"type": "action", "name": "refuse", "provider": {
                "type": "murphy", "faults": ["connect:error=ECONNREFUSED:port=${port}:when=${which}"],
                "target": {"exe": prober}, "for": "60s"}},
            connects("neighbour", &victim::self_path(), &address)
        ],
        "rollbacks": [connects("again", prober, &address)]
    })
}

fn prober(place: &Place) -> Result<PathBuf> {
    let prober = place.path("prober");
    fs::copy(victim::self_path(), &prober)?;
    Ok(prober)
}

fn said(entry: &Value) -> Vec<&str> {
    entry["output"]["stdout"]
        .as_str()
        .unwrap_or_default()
        .lines()
        .collect()
}

/// One connection of three, then all of them, which is too much: the third step is not played.
fn gameday() -> Outcome {
    let (place, echo) = (Place::new()?, Echo::start()?);
    let experiment = refusing(&prober(&place)?, &echo);
    place.write("refused.json", &experiment.to_string())?;
    place.write(
        "day.toml",
        "title = 'Refused'\nexperiment = 'refused.json'\npause = '1ms'\n\
         [[step]]\nname = 'one'\n\
         [[step]]\nname = 'all'\nvars = { which = '1+' }\n\
         [[step]]\nname = 'never'\n",
    )?;
    let done = place.murphy(&["gameday", "--json", "day.toml"]).run()?;
    ensure!(done.code == Some(1), "{done}");
    let outcomes: Vec<_> = events(&done.stdout, "ended")
        .map(|said| said["outcome"].clone())
        .collect();
    ensure!(outcomes == ["held", "deviated"], "{done}");
    let over = events(&done.stdout, "over").next();
    ensure!(
        over == Some(json!({"event": "over", "held": 1, "of": 3})),
        "{done}"
    );
    let journals = place.journals()?;
    ensure!(journals.len() == 2, "{} journals", journals.len());
    let refused = ["ECONNREFUSED"; 3];
    let saw = [["ECONNREFUSED", "ok", "ok"], refused];
    for ((journal, saw), injected) in journals.iter().zip(saw).zip([1, 3]) {
        let after = &journal["steady_states"]["after"]["probes"][0];
        ensure!(said(after) == saw, "{journal:#}");
        let counted = &journal["murphy"]["faults"][0]["report"]["faults"][0];
        ensure!(counted["injected"] == injected, "{journal:#}");
        ensure!(counted["matched"] == 3, "{journal:#}");
        for untouched in [&journal["run"][1], &journal["rollbacks"][0]] {
            ensure!(said(untouched) == ["ok"; 3], "{journal:#}");
        }
    }
    Ok(())
}

/// A gameday that is in the middle of its first step, under a fault.
fn under_way(place: &Place) -> Result<tests::ChildGuard> {
    let echo = Echo::start()?;
    let mut experiment = refusing(&prober(place)?, &echo);
    experiment["method"][1] = json!({"type": "action", "name": "wait", "provider": {
        "type": "process", "path": "sh", "arguments": ["-c", "touch ready; exec sleep 100"]}});
    experiment["rollbacks"] = json!([{"type": "action", "name": "undo", "provider": {
        "type": "process", "path": "touch", "arguments": ["undone"]}}]);
    place.write("long.json", &experiment.to_string())?;
    place.write(
        "day.toml",
        "title = 'Long'\nexperiment = 'long.json'\n[[step]]\nname = 'one'\n[[step]]\nname = 'two'\n",
    )?;
    let running = place.murphy(&["gameday", "--json", "day.toml"]).spawn()?;
    wait_until(PATIENCE, || place.path("ready").exists())
        .with_context(|| running.stderr().unwrap_or_default())?;
    Ok(running)
}

/// SIGTERM is handed on as "stop, and roll back"; the suite's end is after the experiment's.
fn ended() -> Outcome {
    let place = Place::new()?;
    let running = under_way(&place)?;
    running.signal(libc::SIGTERM)?;
    let done = running.finish(PATIENCE)?;
    ensure!(done.code == Some(1), "{done}");
    ensure!(place.path("undone").exists(), "no rollback: {done}");
    let journals = place.journals()?;
    ensure!(
        journals.len() == 1 && journals[0]["status"] == "aborted",
        "{journals:#?}"
    );
    let outcome = events(&done.stdout, "ended").next().context("no outcome")?;
    ensure!(outcome["outcome"] == "aborted", "{done}");
    Ok(())
}

/// SIGKILL: the kernel tells the experiment, which rolls back. What is left of it the harness looks for.
fn killed() -> Outcome {
    let place = Place::new()?;
    let running = under_way(&place)?;
    running.signal(libc::SIGKILL)?;
    running.finish(PATIENCE)?;
    wait_until(PATIENCE, || {
        place.journals().is_ok_and(|found| !found.is_empty())
    })?;
    ensure!(place.path("undone").exists(), "no rollback");
    let journal = &place.journals()?[0];
    ensure!(journal["status"] == "aborted", "{journal:#}");
    Ok(())
}

const SHORT: &str = r#"{"title": "Short", "description": "A line in a file.",
    "steady-state-hypothesis": {"title": "true", "probes": [{"type": "probe", "name": "true", "tolerance": 0,
        "provider": {"type": "process", "path": "true"}}]},
    "method": [{"type": "action", "name": "note", "provider": {"type": "process", "path": "sh",
        "arguments": ["-c", "echo line >> lines"]}}]}"#;

fn lines(place: &Place) -> usize {
    let text = fs::read_to_string(place.path("lines")).unwrap_or_default();
    text.lines().count()
}

/// Two rounds; and while another experiment is under way, it is left out, which is no failure.
fn schedule() -> Outcome {
    let place = Place::new()?;
    place.write("short.json", SHORT)?;
    place.write("other.json", "{\"no\": \"experiment\"}")?;
    let every_second = [
        "schedule",
        "--json",
        "--cron",
        "* * * * * *",
        "--times",
        "2",
        ".",
    ];
    let done = place.murphy(&every_second).run()?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(lines(&place) == 2 && place.journals()?.len() == 2, "{done}");
    let held = events(&done.stdout, "ended").filter(|said| said["outcome"] == "held");
    ensure!(held.count() == 2, "{done}");

    place.write(
        "long.json",
        &SHORT.replace("echo line >> lines", "touch ready; exec sleep 100"),
    )?;
    let other = place.murphy(&["experiment", "run", "long.json"]).spawn()?;
    wait_until(PATIENCE, || place.path("ready").exists())?;
    let mut once = every_second;
    (once[5], once[6]) = ("1", "short.json");
    let done = place.murphy(&once).run()?;
    other.signal(libc::SIGTERM)?;
    other.finish(PATIENCE)?;
    ensure!(done.code == Some(0) && lines(&place) == 2, "{done}");
    let outcome = events(&done.stdout, "ended").next().context("no outcome")?;
    ensure!(
        outcome["outcome"] == "locked" && outcome["journal"].is_null(),
        "{done}"
    );
    Ok(())
}

/// Nothing is due before New Year; a signal does not wait for it.
fn waiting() -> Outcome {
    let place = Place::new()?;
    place.write("short.json", SHORT)?;
    let yearly = ["schedule", "--json", "--cron", "0 0 1 1 *", "short.json"];
    let running = place.murphy(&yearly).spawn()?;
    wait_until(PATIENCE, || {
        running.stdout().is_ok_and(|said| said.contains("\"next\""))
    })?;
    running.signal(libc::SIGINT)?;
    let done = running.finish(PATIENCE)?;
    ensure!(done.code == Some(0) && lines(&place) == 0, "{done}");
    Ok(())
}

/// `--dry-run` says at which looks it acts; it does, and with the same seed again.
fn monkey() -> Outcome {
    let place = Place::new()?;
    place.write("a.json", SHORT)?;
    place.write("b.json", SHORT)?;
    let run = |more: &[&str]| {
        let words = "monkey --json --any-time --probability 40 --interval 1ms --looks 8 --seed 3 a.json b.json";
        let words: Vec<_> = words.split(' ').chain(more.iter().copied()).collect();
        place.murphy(&words).run()
    };
    let acts = |stdout: &str| -> Vec<Value> {
        events(stdout, "look")
            .chain(events(stdout, "begins"))
            .collect()
    };
    let dry = run(&["--dry-run"])?;
    let planned = acts(&dry.stdout);
    ensure!(dry.code == Some(0) && lines(&place) == 0, "{dry}");
    ensure!((2..16).contains(&planned.len()), "{dry}");
    let done = run(&[])?;
    ensure!(
        done.code == Some(0) && acts(&done.stdout) == planned,
        "{dry}\n{done}"
    );
    ensure!(lines(&place) * 2 == planned.len(), "{done}");
    Ok(())
}

/// Status 2, the place, and nothing was played.
fn refused() -> Outcome {
    let place = Place::new()?;
    place.write("short.json", SHORT)?;
    place.write("bad.json", "{\"title\": \"Bad\"}")?;
    let day = "title = 'x'\nexperiment = 'short.json'\n[[step]]\nname = 'mild'\n[[step]]\nname = 'hard'\n";
    place.write("key.toml", &format!("{day}vars = {{ shar = 1 }}\n"))?;
    place.write("file.toml", &format!("{day}experiment = 'gone.json'\n"))?;
    place.write("bad.toml", &format!("{day}experiment = 'bad.json'\n"))?;
    for (words, expected) in [
        ("gameday key.toml", &["key.toml", "`hard`", "`shar`"][..]),
        ("gameday file.toml", &["file.toml", "`hard`", "gone.json"]),
        ("gameday bad.toml", &["bad.json", "description"]),
        ("gameday none.toml", &["none.toml"]),
        (
            "schedule --cron often short.json",
            &["--cron", "`often`", "help: "],
        ),
        (
            "schedule --cron @hourly short.json bad.json",
            &["bad.json", "description"],
        ),
        ("monkey --hours 17-9 short.json", &["--hours", "17-9"]),
        (
            "monkey --probability 0 short.json",
            &["--probability", "5%"],
        ),
        ("monkey empty", &["empty"]),
    ] {
        fs::create_dir_all(place.path("empty"))?;
        let words: Vec<_> = words.split(' ').collect();
        let done = place.murphy(&words).run()?;
        ensure!(done.code == Some(2), "{done}");
        for word in expected {
            ensure!(done.stderr.contains(word), "no {word} in {done}");
        }
    }
    ensure!(
        lines(&place) == 0 && place.journals()?.is_empty(),
        "something was played"
    );
    Ok(())
}
