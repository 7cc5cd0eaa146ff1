//! `murphy convert`: what other tools' files mean, as faults or as experiments.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::output::tell;
use super::status;
use murphy_experiment::convert::experiment::{experiment, id};
use murphy_experiment::convert::{Conversion, Converted, Upstream, convert as read};
use murphy_sys::printable;

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Toxiproxy's configuration, toxics, named presets (JSON), or a script or document with toxiproxy-cli, iptables, chmod
    /// and dd lines; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to write: fault expressions, or Chaos Toolkit experiments
    #[arg(long, value_enum, default_value_t = To::Murphy, value_name = "FORM")]
    pub to: To,
    /// Only those of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// The service that is meant where the file does not say which, for example 127.0.0.1:6379
    #[arg(long, value_name = "HOST:PORT")]
    pub upstream: Option<Upstream>,
    /// With --to experiment: a file for each in this folder
    #[arg(short, long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Write faults, mistakes and what has no equivalent as JSON
    #[arg(long, conflicts_with = "to")]
    pub json: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Fault expressions, a line each, with comments
    Murphy,
    /// Chaos Toolkit experiments, in JSON
    Experiment,
}

/// Converts; the status is 1 when nothing of the file could be.
pub(super) fn convert(args: &ConvertArgs) -> Result<u8, Failure> {
    let input = |source| Failure::Input {
        path: args.file.clone(),
        source,
    };
    let text = match args.file.to_str() {
        Some("-") => io::read_to_string(io::stdin()).map_err(input)?,
        _ => std::fs::read_to_string(&args.file).map_err(input)?,
    };
    let mut done = read(&text, args.upstream.as_ref()).map_err(|error| Failure::Said {
        at: args.file.display().to_string(),
        wrong: error.to_string(),
        remedy: Some("docs/convert.md shows what is read".to_owned()),
    })?;
    select(args, &mut done)?;
    if args.json {
        let text = serde_json::to_string_pretty(&done).map_err(json)?;
        say(&printable::json(&text))?;
    } else {
        match args.to {
            To::Murphy => say(&expressions(&done))?,
            To::Experiment => experiments(args, &done)?,
        }
        remarks(&args.file, &done);
    }
    Ok(if done.faults.is_empty() {
        status::FAILED
    } else {
        0
    })
}

fn select(args: &ConvertArgs, done: &mut Conversion) -> Result<(), Failure> {
    for name in &args.only {
        if !done.faults.iter().any(|item| item.name == *name) {
            let names: Vec<_> = done.faults.iter().map(|item| item.name.as_str()).collect();
            return Err(Failure::Said {
                at: args.file.display().to_string(),
                wrong: format!("nothing in it is called {name}"),
                remedy: Some(format!("there are: {}", names.join(", "))),
            });
        }
    }
    if !args.only.is_empty() {
        done.faults.retain(|item| args.only.contains(&item.name));
    }
    Ok(())
}

/// What can be injected, so that the output can be kept and its lines given to `-e`.
fn expressions(done: &Conversion) -> String {
    let mut lines = Vec::new();
    for item in &done.faults {
        let place = item
            .line
            .map_or(String::new(), |line| format!(", line {line}"));
        lines.push(format!("# {}{place}: {}", item.name, item.what));
        lines.extend(item.faults.iter().cloned());
        lines.extend(item.differences.iter().map(|text| format!("#   {text}")));
        lines.extend(
            item.refused()
                .iter()
                .map(|text| format!("#   not in this murphy: {text}")),
        );
        lines.push(String::new());
    }
    // A name with a line feed in it would put a line of its own among the faults.
    let lines: Vec<_> = lines.iter().map(|line| printable::line(line)).collect();
    lines.join("\n").trim_end().to_owned()
}

fn experiments(args: &ConvertArgs, done: &Conversion) -> Result<(), Failure> {
    let text = |item: &Converted| serde_json::to_string_pretty(&experiment(item)).map_err(json);
    let Some(folder) = &args.output else {
        return match done.faults.as_slice() {
            [] => Ok(()),
            [one] => say(&printable::json(&text(one)?)),
            several => Err(Failure::Said {
                at: args.file.display().to_string(),
                wrong: format!(
                    "{} experiments come of it, and a file holds one",
                    several.len()
                ),
                remedy: Some(
                    "-o FOLDER writes a file for each, --only NAME chooses one".to_owned(),
                ),
            }),
        };
    };
    std::fs::create_dir_all(folder).map_err(|source| Failure::Output {
        path: folder.clone(),
        source,
    })?;
    for item in &done.faults {
        let path = folder.join(format!("{}.json", id(&item.name)));
        let written = std::fs::write(&path, text(item)? + "\n");
        written.map_err(|source| Failure::Output {
            path: path.clone(),
            source,
        })?;
        say(&path.display().to_string())?;
    }
    Ok(())
}

/// What was wrong and what is missing: for people, beside the output.
fn remarks(file: &Path, done: &Conversion) {
    let place = |line: Option<usize>| match line {
        Some(line) => format!("{}:{line}", file.display()),
        None => file.display().to_string(),
    };
    let line = |text: String| tell(&printable::line(&text));
    for mistake in &done.mistakes {
        line(format!("{}: {}", place(mistake.line), mistake.said));
        line(format!("  wrong: {}", mistake.wrong));
        line(format!("  right: {}", mistake.right));
    }
    for missing in &done.without_equivalent {
        line(format!(
            "{}: {} has no equivalent",
            place(missing.line),
            missing.name
        ));
        line(format!("  because {}", missing.why));
        line(format!("  nearest: {}", missing.nearest));
    }
}

fn json(error: serde_json::Error) -> Failure {
    Failure::Io {
        doing: "writing JSON",
        source: error.into(),
    }
}

/// A reader that has gone is content with what it has.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("writing the result")(error))
        }
        _ => Ok(()),
    }
}
