//! Both runners on one file, and what they came to.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use murphy_experiment::model;
use serde_json::{Map, Value, json};
use tests::{Outcome, chaos_toolkit, murphy};

use super::{oracle, server};

/// No case takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A run's exit status and journal.
struct Ran {
    code: i64,
    journal: Option<Value>,
    log: String,
}

/// What a case says of itself.
struct Plan {
    options: Vec<String>,
    env: Map<String, Value>,
    signal: Option<(i32, String)>,
    exit: Option<i64>,
    /// The parts in which the two are meant to differ.
    differs: Vec<String>,
}

/// Both runners, side by side; an error if they do not agree.
pub(crate) fn agree(file: &Path) -> Outcome {
    let text = fs::read_to_string(file)?;
    let plan = plan(file, &text)?;
    let folder = tempfile::tempdir()?;
    let name = file.file_name().context("no name")?;
    let place = |runner: &str| -> Result<PathBuf> {
        let place = folder.path().join(runner);
        fs::create_dir(&place)?;
        fs::write(place.join(name), &text)?;
        for (module, text) in [
            (
                "case_module.py",
                include_str!("../../experiments/case_module.py"),
            ),
            (
                "case_control.py",
                include_str!("../../experiments/case_control.py"),
            ),
        ] {
            fs::write(place.join(module), text)?;
        }
        Ok(place)
    };
    let (theirs, ours) = (place("chaos")?, place("murphy")?);
    let (theirs, ours) = thread::scope(|scope| {
        let theirs = scope.spawn(|| chaos(&theirs, file, &plan));
        let ours = scope.spawn(|| murphy_run(&ours, file, &plan));
        (theirs.join(), ours.join())
    });
    let panicked = |_| anyhow::anyhow!("a runner's thread panicked");
    let (theirs, ours) = (theirs.map_err(panicked)??, ours.map_err(panicked)??);
    let mut wrong = differences(&theirs, &ours, &plan);
    if let Some(exit) = plan.exit
        && exit != theirs.code
    {
        wrong.push(format!(
            "exit status: chaos {}, but the case expects {exit}",
            theirs.code
        ));
    }
    ensure!(
        wrong.is_empty(),
        "{}\n--- chaos\n{}\n--- murphy\n{}",
        wrong.join("\n"),
        theirs.log,
        ours.log
    );
    Ok(())
}

fn plan(file: &Path, text: &str) -> Result<Plan> {
    let read = match file.extension().and_then(|e| e.to_str()) {
        Some("json") => model::json(text),
        _ => model::yaml(text),
    };
    // A file that cannot be read is a case, too.
    let said = read.map_or(Value::Null, |(said, _)| said["case"].clone());
    let words = |key: &str| -> Vec<String> {
        let words = said[key].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut env = said["env"].as_object().cloned().unwrap_or_default();
    env.insert("CASE_URL".to_owned(), server::url()?.into());
    env.insert("HOME".to_owned(), "/nonexistent".into());
    env.insert("PYTHONPATH".to_owned(), ".".into());
    let bin = chaos_toolkit().context("no Chaos Toolkit")?.join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    env.insert(
        "PATH".to_owned(),
        format!("{}:{path}", bin.display()).into(),
    );
    let signal = match &said["signal"] {
        Value::Null => None,
        signal => {
            let name = signal["name"].as_str().context("signal.name")?;
            let number: nix_signal::Number = name.parse()?;
            let when = signal["when"].as_str().context("signal.when")?;
            Some((number.0, when.to_owned()))
        }
    };
    Ok(Plan {
        options: words("options"),
        env,
        signal,
        exit: said["exit"].as_i64(),
        differs: words("differs"),
    })
}

/// Signals by their names.
mod nix_signal {
    pub(super) struct Number(pub(super) i32);

    impl std::str::FromStr for Number {
        type Err = anyhow::Error;

        fn from_str(name: &str) -> anyhow::Result<Self> {
            Ok(Self(match name {
                "SIGINT" => libc::SIGINT,
                "SIGTERM" => libc::SIGTERM,
                "SIGUSR1" => libc::SIGUSR1,
                "SIGUSR2" => libc::SIGUSR2,
                other => anyhow::bail!("no signal {other}"),
            }))
        }
    }
}

fn args(file: &Path, plan: &Plan) -> Vec<String> {
    let mut args = vec!["run".to_owned()];
    args.extend(plan.options.iter().cloned());
    args.push(
        file.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    args
}

/// Sends the case's signal when it is time.
fn signal(plan: &Plan, folder: &Path, pid: u32) -> Result<()> {
    let Some((number, when)) = &plan.signal else {
        return Ok(());
    };
    let until = Instant::now() + LIMIT;
    while !folder.join(when).exists() {
        if Instant::now() > until {
            bail!("{when} was never there");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let signal = rustix::process::Signal::from_named_raw(*number);
    let (pid, signal) = pid.zip(signal).context("no such process")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn chaos(folder: &Path, file: &Path, plan: &Plan) -> Result<Ran> {
    let env = Value::Object(plan.env.clone());
    let code = oracle::chaos(folder, &args(file, plan), &env, |pid| {
        signal(plan, folder, pid)
    })?;
    Ok(Ran {
        code,
        journal: journal(folder)?,
        log: fs::read_to_string(folder.join("chaos.log")).unwrap_or_default(),
    })
}

fn murphy_run(folder: &Path, file: &Path, plan: &Plan) -> Result<Ran> {
    let mut program = murphy(["experiment"]).args(args(file, plan));
    for (name, value) in &plan.env {
        program = program.env(name, value.as_str().unwrap_or_default());
    }
    program = program.env("MURPHY_RUN_DIR", folder.join("run"));
    program.command().current_dir(folder);
    let running = program.spawn()?;
    signal(plan, folder, running.pid())?;
    let finished = running.finish(LIMIT)?;
    ensure!(!finished.stderr.contains("panicked"), "{finished}");
    Ok(Ran {
        code: finished.code.map_or(-1, Into::into),
        journal: journal(folder)?,
        log: finished.stderr,
    })
}

fn journal(folder: &Path) -> Result<Option<Value>> {
    match fs::read_to_string(folder.join("journal.json")) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn differences(theirs: &Ran, ours: &Ran, plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, theirs: Value, ours: Value| {
        if theirs != ours && !plan.differs.iter().any(|part| part == what) {
            wrong.push(format!("{what}:\n  chaos  {theirs}\n  murphy {ours}"));
        }
    };
    same("exit", theirs.code.into(), ours.code.into());
    let present = |ran: &Ran| ran.journal.is_some().into();
    same("journal", present(theirs), present(ours));
    let (Some(theirs), Some(ours)) = (&theirs.journal, &ours.journal) else {
        return wrong;
    };
    for key in ["status", "deviated", "experiment"] {
        same(key, theirs[key].clone(), ours[key].clone());
    }
    same("keys", keys(theirs), keys(ours));
    for key in ["run", "rollbacks"] {
        same(key, runs(&theirs[key]), runs(&ours[key]));
    }
    for key in ["before", "after"] {
        let state = |journal: &Value| state(&journal["steady_states"][key]);
        same(key, state(theirs), state(ours));
    }
    let during = |journal: &Value| {
        // How often it was checked is a matter of time; what came out is not.
        let states = journal["steady_states"]["during"]
            .as_array()
            .into_iter()
            .flatten();
        let mut states: Vec<_> = states.map(|s| state(s).to_string()).collect();
        states.sort();
        states.dedup();
        json!(states)
    };
    same("during", during(theirs), during(ours));
    wrong
}

/// Names only, without our own.
fn keys(value: &Value) -> Value {
    let keys = value.as_object().into_iter().flatten();
    let mut keys: Vec<_> = keys
        .map(|(key, _)| key.as_str())
        .filter(|key| *key != "murphy")
        .collect();
    keys.sort_unstable();
    json!(keys)
}

fn state(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        value => json!({"met": value["steady_state_met"], "probes": runs(&value["probes"])}),
    }
}

/// Entries without what time makes of them.
fn runs(list: &Value) -> Value {
    let entries = list.as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let mut keys = keys(entry);
            if entry["status"].is_null() {
                // We say why, where Chaos Toolkit dies of it.
                keys = Value::Null;
            }
            json!({
                "name": entry["activity"]["name"],
                "status": entry["status"],
                "output": entry["output"],
                "tolerance_met": entry["tolerance_met"],
                "timed": entry["duration"].is_number() && entry["start"].as_str().is_some_and(|s| s.ends_with("+00:00")),
                "keys": keys,
            })
        })
        .collect()
}
