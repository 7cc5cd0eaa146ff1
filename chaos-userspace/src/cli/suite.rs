//! `murphy gameday`, `murphy schedule`, `murphy monkey`.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::args::duration;
use super::failure::Failure;
use super::status;
use crate::suite::{Clock as _, Runner, SuiteError, SystemClock, find, gameday, monkey, schedule};

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
    move |error| match error {
        SuiteError::Io { what, source } => Failure::Io {
            doing: "playing experiments",
            source: io::Error::new(source.kind(), format!("{what}: {source}")),
        },
        wrong => Failure::Said {
            at: at.to_owned(),
            wrong: wrong.to_string(),
            remedy: Some("docs/suites.md shows what is read".to_owned()),
        },
    }
}

fn runner(args: &SuiteArgs) -> Result<Runner, Failure> {
    let program = match &args.with {
        Some(program) => vec![program.clone()],
        None => {
            let own = std::env::current_exe().map_err(Failure::io("finding murphy itself"))?;
            vec![own.into(), "experiment".into()]
        }
    };
    Runner::new(program, args.journals.clone()).map_err(failed("journals"))
}

fn say(line: &str) {
    // Nobody has to listen.
    let _ = writeln!(io::stdout(), "{line}");
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
    say(&plan.title);
    if args.suite.dry_run {
        for (index, (name, experiment, vars)) in plan.steps.iter().enumerate() {
            let vars: Vec<_> = vars
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            say(&format!(
                "step {}: {name}: {} {}",
                index + 1,
                experiment.display(),
                vars.join(" ")
            ));
        }
        return Ok(0);
    }
    let mut runner = runner(&args.suite)?;
    let (held, ended) =
        gameday::play(&plan, &SystemClock, &mut runner, &mut say).map_err(failed(&at))?;
    say(&format!("{held} of {} steps held", plan.steps.len()));
    Ok(if ended.is_none() { 0 } else { status::FAILED })
}

/// Plays by the clock.
pub(super) fn schedule(args: &ScheduleArgs) -> Result<u8, Failure> {
    let times = schedule::Times::read(&args.cron).map_err(failed("--cron"))?;
    let experiments = find(&args.experiments).map_err(failed("murphy schedule"))?;
    if args.suite.dry_run {
        let mut next = SystemClock.now();
        for _ in 0..args.times.unwrap_or(5).min(100) {
            next = times.next(&next).map_err(failed("--cron"))?;
            say(&next.strftime("%Y-%m-%d %H:%M:%S %Z").to_string());
        }
        for experiment in &experiments {
            say(&format!("  {}", experiment.display()));
        }
        return Ok(0);
    }
    let mut runner = runner(&args.suite)?;
    let missed = schedule::play(
        &times,
        &experiments,
        args.times,
        &SystemClock,
        &mut runner,
        &mut say,
    );
    Ok(if missed.map_err(failed("murphy schedule"))? == 0 {
        0
    } else {
        status::FAILED
    })
}

/// Plays at random.
pub(super) fn monkey(args: &MonkeyArgs) -> Result<u8, Failure> {
    let hours = monkey::hours(&args.hours).map_err(failed("--hours"))?;
    let experiments = find(&args.experiments).map_err(failed("murphy monkey"))?;
    let monkey = monkey::Monkey {
        probability: args.probability,
        interval: args.interval,
        hours: (!args.any_time).then_some(hours),
        seed: super::seed(args.seed),
    };
    let when = if args.any_time {
        "at any time".to_owned()
    } else {
        format!("{} h on weekdays", args.hours)
    };
    say(&format!(
        "{}% every {} s, {when}, one of {} experiments, seed {}",
        monkey.probability * 100.0,
        monkey.interval.as_secs_f64(),
        experiments.len(),
        monkey.seed
    ));
    if args.suite.dry_run {
        for look in 0..args.looks.unwrap_or(100).min(10_000) {
            if let Some(experiment) = monkey
                .choose(look, experiments.len())
                .and_then(|index| experiments.get(index))
            {
                say(&format!("look {}: {}", look + 1, experiment.display()));
            }
        }
        return Ok(0);
    }
    let mut runner = runner(&args.suite)?;
    let missed = monkey.play(
        &experiments,
        args.looks,
        &SystemClock,
        &mut runner,
        &mut say,
    );
    Ok(if missed.map_err(failed("murphy monkey"))? == 0 {
        0
    } else {
        status::FAILED
    })
}
