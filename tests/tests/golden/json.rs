//! What the commands write for programs: reports, events, a diagnosis, a journal.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{ChildGuard, Finished, Outcome, Program, murphy, victim};

use super::{
    compare::golden,
    normalise::{document, shape},
};

/// Nothing listens at port 1 of the loopback address.
const NOWHERE: &str = "127.0.0.1:1";

const REFUSED: &str = "connect:error=ETIMEDOUT:port=1";

/// What is written by everything here, in a folder of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn murphy(&self, args: &[&str]) -> Program {
        let mut program = murphy(args).env("MURPHY_RUN_DIR", self.0.path().join("run"));
        program.command().current_dir(self.0.path());
        program
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.0.path().join(name)).with_context(|| name.to_owned())
    }

    /// The documents of a text, one or one a line.
    fn golden(&self, name: &str, text: &str) -> Outcome {
        let victim = victim::self_path().display().to_string();
        let folder = self.0.path().display().to_string();
        let words = [
            (victim.as_str(), "VICTIM"),
            (folder.as_str(), "FOLDER"),
            (env!("CARGO_PKG_VERSION"), "VERSION"),
        ];
        let mut all = String::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            all += &document(&value.with_context(|| text.to_owned())?, &words);
        }
        golden(name, &all)
    }
}

fn good(done: Finished) -> Result<Finished> {
    ensure!(done.code == Some(0), "{done}");
    Ok(done)
}

/// `murphy run ARGS… -- victim`, which connects four times.
fn run_with(place: &Place, args: &[&str]) -> Result<Finished> {
    let steps = victim::words(["connect", NOWHERE, "4"]);
    let program = place.murphy(&["run", "--seed", "7", "--json", "-o", "report.json"]);
    let program = program.args(args).args(["--"]).args([victim::self_path()]);
    program.args(steps).run()
}

pub(crate) fn run() -> Outcome {
    let place = Place::new()?;
    let faults = [
        "-e",
        "connect:error=ETIMEDOUT:port=1:when=2..3",
        "-e",
        REFUSED,
    ];
    run_with(&place, &faults)?;
    place.golden("run.json", &place.read("report.json")?)
}

pub(crate) fn run_by_seccomp() -> Outcome {
    let place = Place::new()?;
    run_with(
        &place,
        &[
            "--backend",
            "seccomp",
            "-e",
            "connect:error=ETIMEDOUT:times=1",
        ],
    )?;
    place.golden("run-seccomp.json", &place.read("report.json")?)
}

pub(crate) fn dry_run() -> Outcome {
    let place = Place::new()?;
    let done = good(run_with(&place, &["--dry-run", "-e", REFUSED])?)?;
    place.golden("run-dry-run.json", &done.stdout)
}

/// A process to hit that does nothing.
fn idle() -> Result<ChildGuard> {
    tests::program("sleep").args(["60"]).spawn()
}

pub(crate) fn inject() -> Outcome {
    let place = Place::new()?;
    let target = idle()?;
    let pid = target.pid().to_string();
    let fault = ["-e", REFUSED, "--seed", "7", "--pid", &pid];
    let inject = |args: &[&str]| place.murphy(&["inject"]).args(fault).args(args).run();
    let done = good(inject(&["--json", "-o", "report.json", "--for", "100ms"])?)?;
    ensure!(done.stdout.is_empty(), "{done}");
    place.golden("inject.json", &place.read("report.json")?)?;
    let done = good(inject(&["--dry-run", "--json"])?)?;
    place.golden("inject-dry-run.json", &done.stdout)?;

    let name = ["--name", "golden", "--reason", "to see it"];
    good(inject(
        &[&name[..], &["--detach", "--for", "60s"]].concat(),
    )?)?;
    let status = place.murphy(&["status", "--json"]).run();
    let stop = place
        .murphy(&["stop", "--json", "--reason", "seen", "golden"])
        .run();
    place.golden("status.json", &good(status?)?.stdout)?;
    place.golden("stop.json", &good(stop?)?.stdout)
}

pub(crate) fn events() -> Outcome {
    let place = Place::new()?;
    run_with(&place, &["--events", "events", "-e", REFUSED])?;
    place.golden("events.json", &place.read("events")?)
}

pub(crate) fn doctor() -> Outcome {
    let done = murphy(["doctor", "--json"])
        .limit(Duration::from_secs(120))
        .run()?;
    let found: Value = serde_json::from_str(&done.stdout).with_context(|| done.to_string())?;
    golden("doctor.json", &shape(&found))
}

pub(crate) fn journal() -> Outcome {
    let place = Place::new()?;
    let run = |name: &str, path: &Path, words: Value| {
        json!({"type": "probe", "name": name,
               "provider": {"type": "process", "path": path, "arguments": words}})
    };
    let connects = |name: &str| {
        let words = victim::words(["connect", NOWHERE, "1"]);
        run(name, &victim::self_path(), json!(words))
    };
    let mut gate = run("all is well", Path::new("true"), json!([]));
    gate["tolerance"] = json!(0);
    let experiment = json!({
        "title": "Connections time out", "description": "To see a journal.",
        "steady-state-hypothesis": {"title": "all is well", "probes": [gate]},
        "method": [
            {"type": "action", "name": "time out", "provider": {
                "type": "murphy", "faults": [REFUSED], "target": {"exe": victim::self_path()},
                "for": "60s", "seed": 7}},
            connects("under the fault")
        ],
        "rollbacks": [connects("after it")]
    });
    fs::write(
        place.0.path().join("experiment.json"),
        experiment.to_string(),
    )?;
    place
        .murphy(&["experiment", "run", "experiment.json"])
        .run()?;
    place.golden("journal.json", &place.read("journal.json")?)
}
