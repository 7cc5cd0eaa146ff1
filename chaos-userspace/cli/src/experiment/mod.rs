//! `murphy experiment`: experiments in Chaos Toolkit's format.

pub(super) mod args;
mod list;
mod show;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use self::args::{ExperimentArgs, ExperimentCommand, ExportArgs, FilesArgs, RunArgs};
use super::failure::Failure;
use super::output::tell;
use super::{spans, status};
use murphy_experiment::configuration::Overrides;
use murphy_experiment::lock::{Lock, LockError};
use murphy_experiment::providers::{self, Hosts};
use murphy_experiment::runner::{self, Finished, Settings};
use murphy_experiment::stop::Stop;
use murphy_experiment::strategy::{self, Hypothesis, Rollbacks};
use murphy_experiment::substitute::Names;
use murphy_experiment::{Experiment, Invalid, export, model};
use murphy_state::StateDir;
use murphy_sys::printable;

/// Does what was asked.
pub(super) fn experiment(args: &ExperimentArgs) -> Result<u8, Failure> {
    match &args.command {
        ExperimentCommand::Run(args) => run(args),
        ExperimentCommand::Validate(args) => validate(args),
        ExperimentCommand::List(args) => list::list(args),
        ExperimentCommand::Export(args) => export(args),
        ExperimentCommand::Probe { provider } => probe(provider),
    }
}

/// What goes wrong with experiments, beyond what they come to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExperimentFailure {
    #[error("{0}")]
    Invalid(#[from] Invalid),
    #[error("{0}")]
    Lock(#[from] LockError),
}

impl ExperimentFailure {
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Lock(LockError::Held { .. }) => status::BUSY,
            _ => status::FAILED,
        }
    }

    pub(super) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(_) => None,
            Self::Lock(LockError::Held { .. }) => Some(
                "one at a time: wait for it, or end it with SIGTERM (SIGHUP: with its rollbacks)",
            ),
            Self::Lock(LockError::Io { .. }) => Some("name a folder of yours in MURPHY_RUN_DIR"),
        }
    }
}

fn run(args: &RunArgs) -> Result<u8, Failure> {
    runner::block_signals().map_err(Failure::io("blocking signals"))?;
    let mut overrides = Overrides::default();
    for file in &args.var_file {
        overrides.read(file).map_err(ExperimentFailure::from)?;
    }
    overrides.configuration.extend(args.var.iter().cloned());
    for (name, value) in &overrides.environment {
        // SAFETY: no other thread was started yet, so none reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
    let settings = settings(args)?;
    // All of them are checked before the first begins.
    let mut experiments = Vec::new();
    for file in &args.files {
        let experiment = Experiment::read(file).map_err(ExperimentFailure::from)?;
        if !args.no_validation {
            experiment.check().map_err(ExperimentFailure::from)?;
        }
        experiments.push(experiment);
    }
    let mut code = 0;
    for experiment in experiments {
        let path = journal_path(args, &experiment.file);
        let finished = one(args, experiment, &settings, &overrides, &path)?;
        let strictly = if args.strict {
            finished.strictly()
        } else {
            Vec::new()
        };
        let good = finished.is_good() && strictly.is_empty();
        show::finished(args, &finished, &path, &strictly)?;
        if !good {
            code = status::FAILED;
        }
        if finished.status == murphy_experiment::journal::Status::Interrupted {
            break;
        }
    }
    Ok(code)
}

/// Runs an experiment and writes its journal.
fn one(
    args: &RunArgs,
    experiment: Experiment,
    chaos: &Value,
    overrides: &Overrides,
    path: &Path,
) -> Result<Finished, Failure> {
    let folder = StateDir::own()?;
    let _lock = Lock::take(folder.path(), experiment.title()).map_err(ExperimentFailure::from)?;
    let runtime = experiment.said.get("runtime");
    let word = |part, asked: &Option<String>| {
        strategy::word(part, asked.as_deref(), runtime, chaos.get("runtime")).to_owned()
    };
    let unknown = |part: &str, word: &str| {
        let text = format!("no strategy is called `{word}`");
        let problem = model::Problem::new(format!("runtime.{part}.strategy"), text);
        ExperimentFailure::from(Invalid::one(&experiment.file, problem))
    };
    let rollbacks = word("rollbacks", &args.rollback_strategy);
    let hypothesis = word("hypothesis", &args.hypothesis_strategy);
    let settings = Settings {
        rollbacks: Rollbacks::of(&rollbacks).ok_or_else(|| unknown("rollbacks", &rollbacks))?,
        hypothesis: Hypothesis::of(&hypothesis)
            .ok_or_else(|| unknown("hypothesis", &hypothesis))?,
        frequency: args.hypothesis_frequency,
        fail_fast: args.fail_fast,
        dry: args.dry.map(Into::into),
    };
    let observer = show::observer(args.quiet, experiment.title());
    let finished = runner::run(experiment, settings, overrides, Arc::from(observer))
        .map_err(ExperimentFailure::from)?;
    write(create_private(path), &finished.journal).map_err(|source| Failure::Output {
        path: path.to_owned(),
        source,
    })?;
    spans::of_experiment(&finished.journal);
    Ok(finished)
}

/// Makes a file that its owner alone can read: what a program under test says may be confidential. One that is
/// there keeps its mode.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn write(file: io::Result<File>, journal: &Value) -> io::Result<()> {
    let mut file = file?;
    serde_json::to_writer_pretty(&mut file, journal)?;
    file.write_all(b"\n")
}

/// Of several experiments each has a journal of its own: `journal-FILE.json`.
fn journal_path(args: &RunArgs, file: &Path) -> PathBuf {
    let path = &args.journal_path;
    if args.files.len() < 2 {
        return path.clone();
    }
    let name = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let extension = path
        .extension()
        .unwrap_or("json".as_ref())
        .to_string_lossy();
    path.with_file_name(format!("{}-{}.{extension}", name(path), name(file)))
}

/// Chaos Toolkit's settings, or none.
fn settings(args: &RunArgs) -> Result<Value, Failure> {
    let home =
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".chaostoolkit/settings.yaml"));
    let Some(path) = args
        .settings
        .clone()
        .or_else(|| home.filter(|path| path.is_file()))
    else {
        return Ok(Value::Null);
    };
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::Input {
        path: path.clone(),
        source,
    })?;
    let said = model::yaml(&text)
        .map_err(|problem| ExperimentFailure::from(Invalid::one(&path, problem)))?;
    Ok(said.0)
}

fn validate(args: &FilesArgs) -> Result<u8, Failure> {
    let mut code = 0;
    let mut rows = Vec::new();
    for file in list::files(&args.files)? {
        let checked = Experiment::read(&file).and_then(|experiment| experiment.check());
        let name = file.display().to_string();
        match checked {
            Ok(()) if args.json => rows.push(json!({"file": name, "problems": []})),
            Ok(()) => show::line(&format!("{name}: valid"))?,
            Err(invalid) => {
                code = status::FAILED;
                if args.json {
                    let problems: Vec<_> = invalid.problems.iter().map(problem).collect();
                    rows.push(json!({"file": name, "problems": problems}));
                } else {
                    tell(&format!("murphy: {invalid}"));
                }
            }
        }
    }
    if args.json {
        show::json_line(&Value::from(rows))?;
    }
    Ok(code)
}

fn problem(problem: &model::Problem) -> Value {
    json!({
        "line": problem.position.map(|at| at.0),
        "column": problem.position.map(|at| at.1),
        "field": problem.field,
        "text": problem.text,
    })
}

fn export(args: &ExportArgs) -> Result<u8, Failure> {
    let experiment = Experiment::read(&args.file).map_err(ExperimentFailure::from)?;
    experiment.check().map_err(ExperimentFailure::from)?;
    let exported = export::export(&experiment);
    match &args.output {
        Some(path) => write(File::create(path), &exported).map_err(|source| Failure::Output {
            path: path.clone(),
            source,
        })?,
        None => show::line(&printable::json(&format!("{exported:#}")))?,
    }
    Ok(0)
}

/// Asks as the runner would; what it gives is a program's.
fn probe(provider: &str) -> Result<u8, Failure> {
    let mistake = |text: String| Failure::Said {
        at: "the probe".to_owned(),
        wrong: text,
        remedy: Some(
            "a provider as in an experiment, for example {\"type\": \"tcp\", \"port\": 80}"
                .to_owned(),
        ),
    };
    let provider: Value =
        serde_json::from_str(provider).map_err(|error| mistake(error.to_string()))?;
    let activity = json!({"type": "probe", "name": "probe", "provider": provider});
    let mut problems = Vec::new();
    providers::check_activity(&activity, "", &mut problems);
    if let Some(problem) = problems.first() {
        return Err(mistake(problem.to_string()));
    }
    let fields = activity.as_object().cloned().unwrap_or_default();
    let stop = Stop::new().map_err(Failure::io("preparing to ask"))?;
    let activity = model::Activity::new(fields);
    let answer = providers::run(&activity, &Names::default(), &Hosts::default(), &stop)
        .map_err(|failure| mistake(failure.to_string()))?;
    for (text, error) in [(&answer["stdout"], false), (&answer["stderr"], true)] {
        match text.as_str().filter(|text| !text.is_empty()) {
            Some(text) if error => tell(text),
            Some(text) => show::line(text)?,
            None => {}
        }
    }
    Ok(u8::from(answer["status"] != 0))
}
