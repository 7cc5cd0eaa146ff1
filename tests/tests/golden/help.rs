//! The help text of every command.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use tests::{Outcome, murphy};

use super::compare::{golden, no_others};

/// Commands that no help text lists.
const HIDDEN: [&str; 2] = ["man", "completions"];

pub(crate) fn all() -> Outcome {
    let mut queue = vec![Vec::new()];
    queue.extend(HIDDEN.map(|name| vec![name.to_owned()]));
    let mut files = BTreeSet::new();
    let mut wrong = Vec::new();
    while let Some(command) = queue.pop() {
        let text = help(&command)?;
        for name in subcommands(&text) {
            queue.push([&command[..], &[name]].concat());
        }
        let mut words = vec!["murphy".to_owned()];
        words.extend(command);
        let file = format!("{}.txt", words.join("-"));
        // All differences are shown, not the first alone.
        wrong.extend(golden(&format!("help/{file}"), &text).err());
        files.insert(file);
    }
    ensure!(files.len() > 20, "the walk found {files:?} alone");
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    no_others("help", &files)
}

fn help(command: &[String]) -> Result<String> {
    let done = murphy(command)
        .args(["--help"])
        .env("COLUMNS", "100")
        .run()
        .with_context(|| command.join(" "))?;
    ensure!(done.code == Some(0), "{done}");
    Ok(done.stdout)
}

/// The names in the section `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // A description that is long goes on in a line that is further in.
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}
