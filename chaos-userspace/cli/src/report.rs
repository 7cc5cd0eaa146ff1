//! `murphy report`: what journals tell, for people and for CI.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::failure::Failure;
use murphy_experiment::report::{Format, ReportError, Story, read, render};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Journals of `murphy experiment run` or `chaos run`; two are compared, more are a history
    #[arg(value_name = "JOURNAL", required = true)]
    pub journals: Vec<PathBuf>,
    /// The format; otherwise what the name after -o says (.html .md .xml .json), else Markdown
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<FormatName>,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The formats, as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// One page, self-contained
    Html,
    /// Markdown
    Md,
    /// `JUnit` XML
    Junit,
    /// JSON
    Json,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Html => Self::Html,
            FormatName::Md => Self::Md,
            FormatName::Junit => Self::Junit,
            FormatName::Json => Self::Json,
        }
    }
}

/// Writes the report.
pub(super) fn report(args: &ReportArgs) -> Result<u8, Failure> {
    let mut stories = args
        .journals
        .iter()
        .map(|path| story(path))
        .collect::<Result<Vec<_>, _>>()?;
    if stories.len() > 2 {
        // A history goes from the oldest to the newest.
        stories.sort_by(|a, b| a.start.cmp(&b.start));
    }
    let format = args
        .format
        .map_or_else(|| named(args.output.as_deref()), Format::from);
    let text = render(&stories, format).map_err(|error| Failure::Io {
        doing: "writing the report",
        source: io::Error::other(error),
    })?;
    let Some(path) = &args.output else {
        return match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::io("writing the report")(error))
            }
            _ => Ok(0),
        };
    };
    std::fs::write(path, text).map_err(|source| Failure::Output {
        path: path.clone(),
        source,
    })?;
    Ok(0)
}

fn story(path: &Path) -> Result<Story, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::Input {
        path: path.to_owned(),
        source,
    })?;
    read(&text).map_err(|error| Failure::Said {
        at: path.display().to_string(),
        remedy: matches!(error, ReportError::NoJournal(_)).then(|| {
            "journals come from `murphy experiment run --journal-path FILE` or `chaos run`"
                .to_owned()
        }),
        wrong: error.to_string(),
    })
}

fn named(output: Option<&Path>) -> Format {
    let extension = output
        .and_then(Path::extension)
        .and_then(|extension| extension.to_str());
    match extension {
        Some("html" | "htm") => Format::Html,
        Some("xml") => Format::Junit,
        Some("json") => Format::Json,
        _ => Format::Md,
    }
}
