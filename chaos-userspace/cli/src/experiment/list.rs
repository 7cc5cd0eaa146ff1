//! `murphy experiment list`: what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::args::FilesArgs;
use super::show::{json_line, line};
use crate::failure::Failure;
use murphy_experiment::{Experiment, model::Kind};

/// How deep folders are searched.
const DEPTH: usize = 8;

/// The files, and those in the folders, sorted.
pub(super) fn files(said: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in said {
        match path.is_dir() {
            true => {
                let mut found = BTreeSet::new();
                search(path, DEPTH, &mut found).map_err(|source| Failure::Input {
                    path: path.clone(),
                    source,
                })?;
                files.extend(found);
            }
            false => files.push(path.clone()),
        }
    }
    Ok(files)
}

fn search(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let extension = path.extension().and_then(|name| name.to_str());
        if path.is_dir() && depth > 0 {
            search(&path, depth - 1, found)?;
        } else if matches!(extension, Some("json" | "yaml" | "yml")) {
            found.insert(path);
        }
    }
    Ok(())
}

pub(super) fn list(args: &FilesArgs) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for file in files(&args.files)? {
        let folder = !args.files.contains(&file);
        let experiment = match Experiment::read(&file) {
            // A folder may hold other files, too.
            Ok(experiment) if folder && !experiment.said.contains_key("method") => continue,
            Err(_) if folder => continue,
            other => other.map_err(super::ExperimentFailure::from)?,
        };
        let tags = experiment.said.get("tags").cloned().unwrap_or(json!([]));
        let actions: Vec<_> = experiment
            .method()
            .iter()
            .filter(|activity| activity.kind() == Kind::Action)
            .map(|activity| activity.name().to_owned())
            .collect();
        rows.push(json!({
            "file": file.display().to_string(),
            "title": experiment.title(),
            "tags": tags,
            "actions": actions,
            "probes": experiment.probes().len(),
        }));
    }
    if args.json {
        json_line(&Value::from(rows))?;
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["FILE", "TITLE", "TAGS", "ACTIONS"]);
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        words
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        table.add_row([
            text("file"),
            text("title"),
            words(&row["tags"]),
            words(&row["actions"]),
        ]);
    }
    line(&table.trim_fmt())?;
    Ok(0)
}
