//! `murphy gameday`, `murphy schedule`, `murphy monkey`.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use jiff::Zoned;
use serde_json::{Value, json};

use super::args::duration;
use super::failure::Failure;
use super::status;
use murphy_experiment::suite::{
    Ending, Event, Program, Runner, SuiteError, SystemClock, check, find, gameday, monkey, schedule,
};
use murphy_sys::printable;

/// What all suites have in common.
#[derive(Debug, Args)]
pub struct SuiteArgs {
    /// Plays the experiments: a `chaos` program, instead of `murphy experiment`
    #[arg(long, value_name = "PROGRAM")]
    pub with: Option<OsString>,
    /// Folder for the journals, one for each experiment that is played
    #[arg(long, value_name = "FOLDER", default_value = "journals")]
    pub journals: PathBuf,
    /// Say what would be played, and when; play nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write what happens as JSON, a line for each event
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `gameday`.
#[derive(Debug, Args)]
pub struct GamedayArgs {
    /// The gameday, in TOML: docs/suites.md
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Runner and journals.
    #[command(flatten)]
    pub suite: SuiteArgs,
}

/// Arguments of `schedule`.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// When: minute, hour, day of month, month, day of week, in local time
    #[arg(long, value_name = "CRON")]
    pub cron: String,
    /// End after so many times
    #[arg(long, value_name = "N")]
    pub times: Option<u64>,
    /// Experiments, or folders of them
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub experiments: Vec<PathBuf>,
    /// Runner and journals.
    #[command(flatten)]
    pub suite: SuiteArgs,
}

/// Arguments of `monkey`.
#[derive(Debug, Args)]
pub struct MonkeyArgs {
    /// Experiments, or folders of them; one is drawn each time
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub experiments: Vec<PathBuf>,
    /// How likely it is to act at each look, in per cent
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    pub probability: f64,
    /// Between two looks
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "300s")]
    pub interval: Duration,
    /// Hours of weekdays in which it may act, in local time
    #[arg(long, value_name = "FROM-TO", default_value = "9-17")]
    pub hours: String,
    /// At any hour of any day
    #[arg(long, conflicts_with = "hours")]
    pub any_time: bool,
    /// Seed of its random decisions
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    pub looks: Option<u64>,
    /// Runner and journals.
    #[command(flatten)]
    pub suite: SuiteArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("a probability is more than 0 and at most 100 per cent, such as 5%".to_owned()),
    }
}

fn failed(at: &str) -> impl Fn(SuiteError) -> Failure {
    move |error| {
        match error {
        SuiteError::Io { what, source } => Failure::Io {
            doing: "playing experiments",
            source: io::Error::new(source.kind(), format!("{what}: {source}")),
        },
        SuiteError::Experiment(invalid) => Failure::Experiments(invalid),
        wrong => Failure::Said {
            at: at.to_owned(),
            remedy: Some(match &wrong {
                SuiteError::Cron { .. } => "minute, hour, day of month, month, day of week: --cron '0 10 * * 5' is Fridays at ten".to_owned(),
                SuiteError::Hours(_) => "--any-time, if it may act at any hour".to_owned(),
                _ => "murphy man gameday and docs/suites.md show what is read".to_owned(),
            }),
            wrong: wrong.to_string(),
        },
    }
    }
}

/// Who plays, what is said, and what ends it.
struct Stage<'a> {
    args: &'a SuiteArgs,
    program: Program,
}

impl<'a> Stage<'a> {
    fn new(args: &'a SuiteArgs) -> Result<Self, Failure> {
        let program = match &args.with {
            Some(program) => Program::Chaos(program.clone()),
            None => {
                let own = std::env::current_exe().map_err(Failure::io("finding murphy itself"))?;
                Program::Own(own.into())
            }
        };
        Ok(Self { args, program })
    }

    /// Everything is checked before the first is played.
    fn check(&self, experiments: &[PathBuf], at: &str) -> Result<(), Failure> {
        for experiment in experiments {
            check(experiment, [], &self.program).map_err(failed(at))?;
        }
        Ok(())
    }

    /// The clock and the player. From here on signals are read where it waits.
    fn open(&self) -> Result<(SystemClock, Runner), Failure> {
        let ending = Ending::catch().map_err(Failure::io("blocking signals"))?;
        let ending = Rc::new(ending);
        let runner = Runner::new(
            self.program.clone(),
            self.args.journals.clone(),
            Rc::clone(&ending),
            self.args.json,
        );
        Ok((
            SystemClock::new(ending),
            runner.map_err(failed("--journals"))?,
        ))
    }

    /// A line, for people or for programs.
    fn say(&self, text: &str, value: &Value) {
        // Nobody has to listen.
        let _ = match self.args.json {
            true => writeln!(io::stdout(), "{}", printable::json(&value.to_string())),
            false => writeln!(io::stdout(), "{}", printable::line(text)),
        };
    }

    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Step { number, of, name } => self.say(
                &format!("step {number} of {of}: {name}"),
                &json!({"event": "step", "number": number, "of": of, "name": name}),
            ),
            Event::Next(time) => self.say(
                &format!("next at {}", local(time)),
                &json!({"event": "next", "at": time.timestamp().to_string()}),
            ),
            Event::Look(number) => self.say(
                &format!("look {number}"),
                &json!({"event": "look", "number": number}),
            ),
            Event::Begins(experiment) => self.say(
                &format!("  {}", experiment.display()),
                &json!({"event": "begins", "experiment": experiment}),
            ),
            Event::Ended(played) => self.say(
                &format!("  {}", played.outcome.words()),
                &json!({"event": "ended", "outcome": played.outcome.json(), "journal": played.journal}),
            ),
        }
    }

    /// The last line, and the exit status.
    fn close(&self, text: &str, value: &Value, good: bool) -> u8 {
        self.say(text, value);
        if good { 0 } else { status::FAILED }
    }

    fn missed(&self, missed: u64) -> u8 {
        let text = match missed {
            0 => "every hypothesis held".to_owned(),
            1 => "one did not hold".to_owned(),
            more => format!("{more} did not hold"),
        };
        let value = json!({"event": "over", "missed": missed});
        self.close(&text, &value, missed == 0)
    }
}

fn local(time: &Zoned) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Plays a gameday; the status is 1 if a step did not hold.
pub(super) fn gameday(args: &GamedayArgs) -> Result<u8, Failure> {
    let at = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file).map_err(|source| Failure::Input {
        path: args.file.clone(),
        source,
    })?;
    let folder = args.file.parent().unwrap_or_else(|| Path::new("."));
    let plan = gameday::Plan::read(&text, folder).map_err(failed(&at))?;
    let stage = Stage::new(&args.suite)?;
    for step in &plan.steps {
        let keys = step.values.keys().map(String::as_str);
        check(&step.experiment, keys, &stage.program)
            .map_err(failed(&format!("{at}: the step `{}`", step.name)))?;
    }
    let of = plan.steps.len();
    stage.say(
        &plan.title,
        &json!({"event": "gameday", "title": plan.title, "steps": of}),
    );
    if args.suite.dry_run {
        for (index, step) in plan.steps.iter().enumerate() {
            let words = |(key, value): (&String, &Value)| match value {
                Value::String(text) => format!(" {key}={text}"),
                other => format!(" {key}={other}"),
            };
            stage.say(
                &format!(
                    "step {} of {of}: {}\n  {}{}",
                    index + 1,
                    step.name,
                    step.experiment.display(),
                    step.values.iter().map(words).collect::<String>()
                ),
                &json!({"event": "step", "number": index + 1, "of": of, "name": step.name,
                    "experiment": step.experiment, "vars": step.values}),
            );
        }
        return Ok(0);
    }
    let (clock, mut runner) = stage.open()?;
    let held = gameday::play(&plan, &clock, &mut runner, &mut |event| stage.tell(event));
    let held = held.map_err(failed(&at))?;
    let value = json!({"event": "over", "held": held, "of": of});
    Ok(stage.close(&format!("{held} of {of} steps held"), &value, held == of))
}

/// Plays by the clock.
pub(super) fn schedule(args: &ScheduleArgs) -> Result<u8, Failure> {
    let at = "murphy schedule";
    let times = schedule::Times::read(&args.cron).map_err(failed("--cron"))?;
    let experiments = find(&args.experiments).map_err(failed(at))?;
    let stage = Stage::new(&args.suite)?;
    stage.check(&experiments, at)?;
    if args.suite.dry_run {
        let mut next = Zoned::now();
        for _ in 0..args.times.unwrap_or(5).min(100) {
            next = times.next(&next).map_err(failed("--cron"))?;
            stage.tell(&Event::Next(&next));
        }
        for experiment in &experiments {
            stage.tell(&Event::Begins(experiment));
        }
        return Ok(0);
    }
    let (clock, mut runner) = stage.open()?;
    let missed = schedule::play(
        &times,
        &experiments,
        args.times,
        &clock,
        &mut runner,
        &mut |event| stage.tell(event),
    );
    Ok(stage.missed(missed.map_err(failed(at))?))
}

/// Plays at random.
pub(super) fn monkey(args: &MonkeyArgs) -> Result<u8, Failure> {
    let at = "murphy monkey";
    let hours = monkey::hours(&args.hours).map_err(failed("--hours"))?;
    let experiments = find(&args.experiments).map_err(failed(at))?;
    let stage = Stage::new(&args.suite)?;
    stage.check(&experiments, at)?;
    let monkey = monkey::Monkey {
        probability: args.probability,
        interval: args.interval,
        hours: (!args.any_time).then_some(hours),
        seed: super::seed(args.seed),
    };
    let when = match args.any_time {
        true => "at any time".to_owned(),
        false => format!("{} h on weekdays", args.hours),
    };
    stage.say(
        &format!(
            "{}% every {} s, {when}, one of {} experiments, seed {}",
            monkey.probability * 100.0,
            monkey.interval.as_secs_f64(),
            experiments.len(),
            monkey.seed
        ),
        &json!({"event": "monkey", "probability": monkey.probability, "interval": monkey.interval.as_secs_f64(),
            "hours": (!args.any_time).then_some(&args.hours), "experiments": experiments, "seed": monkey.seed}),
    );
    if args.suite.dry_run {
        for look in 0..args.looks.unwrap_or(100).min(10_000) {
            let chosen = monkey.choose(look, experiments.len());
            if let Some(experiment) = chosen.and_then(|index| experiments.get(index)) {
                stage.tell(&Event::Look(look + 1));
                stage.tell(&Event::Begins(experiment));
            }
        }
        return Ok(0);
    }
    let (clock, mut runner) = stage.open()?;
    let missed = monkey.play(
        &experiments,
        args.looks,
        &clock,
        &mut runner,
        &mut |event| stage.tell(event),
    );
    Ok(stage.missed(missed.map_err(failed(at))?))
}
