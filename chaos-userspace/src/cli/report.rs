//! `murphy report`: what journals tell, for people and for CI.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::report::{Format, ReportError, Story, read, render};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Journals of `murphy experiment run` or `chaos run`; two are compared, more are a history
    #[arg(value_name = "JOURNAL", required = true)]
    pub journals: Vec<PathBuf>,
    /// The format; otherwise what the name after -o says (.html .md .xml .json), else Markdown
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
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
    let format = args.format.unwrap_or_else(|| named(args.output.as_deref()));
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
