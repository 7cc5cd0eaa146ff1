//! Arguments of `murphy experiment`, named as `chaos run` names them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use murphy_experiment::configuration::variable;
use murphy_experiment::strategy::{Dry, HYPOTHESES, ROLLBACKS};

/// Arguments of `experiment`.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// What to do with experiments.
    #[command(subcommand)]
    pub command: ExperimentCommand,
}

/// What can be done with experiments.
#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// Run experiments, one after the other, and write their journals
    Run(Box<RunArgs>),
    /// Check experiments and say everything that is wrong with them
    Validate(FilesArgs),
    /// List experiments: titles, tags, what they do
    List(FilesArgs),
    /// Say an experiment for `chaos run`: murphy's own providers become calls of murphy
    Export(ExportArgs),
    /// Ask one of murphy's own probes, as exported experiments do
    #[command(hide = true)]
    Probe {
        /// The probe's provider, as JSON.
        #[arg(value_name = "JSON")]
        provider: String,
    },
}

/// Arguments of `experiment run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Experiments in Chaos Toolkit's format, as JSON or YAML
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the journal is written; of several experiments, the file's name is added
    #[arg(long, value_name = "FILE", default_value = "./journal.json")]
    pub journal_path: PathBuf,
    /// What is not carried out, only written down
    #[arg(long, value_name = "WHAT", value_enum)]
    pub dry: Option<DryWord>,
    /// Do not check the experiment first
    #[arg(long)]
    pub no_validation: bool,
    /// When rollbacks are played: default is unless it failed or was interrupted
    #[arg(long, value_name = "WHEN", value_parser = ROLLBACKS)]
    pub rollback_strategy: Option<String>,
    /// When the hypothesis is checked
    #[arg(long, value_name = "WHEN", value_parser = HYPOTHESES)]
    pub hypothesis_strategy: Option<String>,
    /// Seconds between two checks of the hypothesis during the method
    #[arg(long, value_name = "SECONDS", default_value = "1.0", value_parser = seconds)]
    pub hypothesis_frequency: Duration,
    /// End the method at the first check that is missed
    #[arg(long)]
    pub fail_fast: bool,
    /// A value for the configuration, KEY=VALUE or KEY:TYPE=VALUE (int, float, bool, json); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    pub var: Vec<(String, Value)>,
    /// Values for configuration and secrets from a JSON or YAML file, or variables from an .env file; may be
    /// repeated
    #[arg(long, value_name = "FILE")]
    pub var_file: Vec<PathBuf>,
    /// Chaos Toolkit's settings: strategies are read
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Fail also if the hypothesis was missed before or during the method, or an activity failed
    #[arg(long)]
    pub strict: bool,
    /// Write what it came to as JSON, a line for each experiment
    #[arg(long)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `experiment export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The experiment
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write it to a file instead of standard output, as JSON
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Files or folders of experiments.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Experiments, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// The words of `--dry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryWord {
    /// Probes are not asked
    Probes,
    /// Actions are not carried out
    Actions,
    /// Neither
    Activities,
    /// Pauses are left out
    Pause,
}

impl From<DryWord> for Dry {
    fn from(word: DryWord) -> Self {
        match word {
            DryWord::Probes => Dry::Probes,
            DryWord::Actions => Dry::Actions,
            DryWord::Activities => Dry::Activities,
            DryWord::Pause => Dry::Pause,
        }
    }
}

/// Seconds as Chaos Toolkit takes them, `0.5`, or a duration with a unit.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => murphy_fault::expr::duration(text)
            .map(Into::into)
            .map_err(|mistake| mistake.to_string()),
    }
}
