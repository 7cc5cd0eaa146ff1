//! `cargo xtask ebpf --same-code REV`: whether the programs are those of another revision.
//!
//! It builds the objects from the working tree and reads those committed in REV from git. It
//! prints what differs, for each object. It changes neither the working tree nor the repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::code::{Code, Difference, Resized, compare, grown};
use super::provenance::{OBJECTS, recorded, sources_digest};
use super::{Toolchain, without_dwarf};

/// Where the objects are committed.
const FOLDER: &str = "chaos-ebpf/objects";

/// A program that grows by more than this part is reported.
const GROWTH: f64 = 0.02;

/// Compares, prints the result and returns the exit status: as `diff` does, 0 if all objects are
/// the same, 1 if one differs, 2 if they cannot be compared.
pub(super) fn run(workspace: &Path, revision: &str) -> u8 {
    match compare_with(workspace, revision) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("error: {error:#}");
            2
        }
    }
}

fn compare_with(workspace: &Path, revision: &str) -> Result<bool> {
    let commit = resolve(workspace, revision)?;
    let then = committed(workspace, &commit)?;
    let digest = sources_digest(workspace).context("reading the kernel programs' sources")?;
    let toolchain = Toolchain::find()?;
    let version = toolchain.version.clone();
    let built = toolchain.build(workspace, &digest)?;
    let mut now = BTreeMap::new();
    for name in OBJECTS {
        now.insert(name.to_owned(), without_dwarf(&built.join(name))?);
    }

    let report = Report::new(&then, &now)?;
    print!("{}", report.text);
    let made_by = then
        .values()
        .find_map(|object| recorded(object, "murphy-toolchain:"));
    if !report.is_same
        && let Some(made_by) = made_by.filter(|made_by| *made_by != version)
    {
        println!(
            "the compilers differ, which alone may change the programs: then {made_by}, \
             now {version}"
        );
    }
    Ok(report.is_same)
}

/// The commit that a revision names.
fn resolve(workspace: &Path, revision: &str) -> Result<String> {
    let commit = format!("{revision}^{{commit}}");
    let found = git(
        workspace,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ],
    )?;
    match found {
        Some(hash) => Ok(String::from_utf8(hash)?.trim().to_owned()),
        None => bail!(
            "no revision `{revision}` in this repository; name a commit, a tag or a branch \
             (git log --oneline). A shallow clone lacks most: git fetch --unshallow"
        ),
    }
}

/// The objects that a commit holds, by name.
fn committed(workspace: &Path, commit: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = format!("{FOLDER}/");
    let list = git(workspace, &["ls-tree", "--name-only", commit, &folder])?;
    let list = String::from_utf8(list.unwrap_or_default())?;
    let mut objects = BTreeMap::new();
    for path in list.lines() {
        let name = path.strip_prefix(&folder);
        let Some(name) = name.and_then(|name| name.strip_suffix(".o")) else {
            continue;
        };
        let object = git(workspace, &["show", &format!("{commit}:{path}")])?;
        let object = object.with_context(|| format!("git cannot show {path}"))?;
        objects.insert(name.to_owned(), object);
    }
    ensure!(
        !objects.is_empty(),
        "no objects in {FOLDER} of {commit}; name a later revision"
    );
    Ok(objects)
}

/// What a git command prints, or `None` if it fails.
fn git(workspace: &Path, arguments: &[&str]) -> Result<Option<Vec<u8>>> {
    let output = Command::new("git")
        .current_dir(workspace)
        .args(arguments)
        .stderr(std::process::Stdio::null())
        .output()
        .context("starting git, which keeps the other revision's objects; install it")?;
    Ok(output.status.success().then_some(output.stdout))
}

/// The result for all objects.
struct Report {
    is_same: bool,
    text: String,
}

impl Report {
    fn new(then: &BTreeMap<String, Vec<u8>>, now: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let parse = |name: &str, objects: &BTreeMap<String, Vec<u8>>| -> Result<Option<Code>> {
            let object = objects.get(name).map(|object| Code::parse(object));
            object
                .transpose()
                .with_context(|| format!("reading {name}.o"))
        };
        let mut is_same = true;
        let mut text = String::new();
        let (mut sum_then, mut sum_now) = (0, 0);
        let mut too_large = Vec::new();
        let names: std::collections::BTreeSet<_> = then.keys().chain(now.keys()).collect();
        for name in names {
            match (parse(name, then)?, parse(name, now)?) {
                (Some(then), Some(now)) => {
                    sum_then += then.instructions();
                    sum_now += now.instructions();
                    let difference = compare(&then, &now);
                    is_same &= difference.is_same();
                    too_large.extend(grown(&then, &now, GROWTH));
                    text += &described(name, &difference, &now);
                }
                (Some(then), None) => {
                    sum_then += then.instructions();
                    is_same = false;
                    text += &format!("{name:<8} gone: {} instructions\n", then.instructions());
                }
                (None, now) => {
                    let instructions = now.map_or(0, |now| now.instructions());
                    sum_now += instructions;
                    is_same = false;
                    text += &format!("{name:<8} new: {instructions} instructions\n");
                }
            }
        }
        text += &format!("all      {}\n", change(Some(sum_then), Some(sum_now)));
        if !is_same {
            text += &described_growth(&too_large);
        }
        Ok(Self { is_same, text })
    }
}

fn described(name: &str, difference: &Difference, now: &Code) -> String {
    let word = if difference.is_same() {
        "same"
    } else {
        "differs"
    };
    let (programs, instructions) = (now.programs(), now.instructions());
    let mut text = format!("{name:<8} {word}: {programs} programs, {instructions} instructions\n");
    for function in &difference.functions {
        text += &format!(
            "  {:<38} {}\n",
            function.name,
            change(function.then, function.now)
        );
    }
    for data in &difference.data {
        text += &format!("  {data:<38} other data\n");
    }
    for section in &difference.reordered {
        text += &format!("  {section:<38} the same functions in another order\n");
    }
    for (then, now) in &difference.renamed {
        text += &format!("  {now:<38} the same, once named {then}\n");
    }
    text
}

fn described_growth(grown: &[Resized]) -> String {
    let percent = GROWTH * 100.0;
    if grown.is_empty() {
        return format!(
            "No program grew by more than {percent} %, with the functions that it calls.\n"
        );
    }
    let mut text = format!(
        "Programs that grew by more than {percent} %, with the functions that they call:\n"
    );
    for program in grown {
        text += &format!(
            "  {:<38} {}\n",
            program.name,
            change(program.then, program.now)
        );
    }
    text
}

/// Instructions then and now.
fn change(then: Option<usize>, now: Option<usize>) -> String {
    match (then, now) {
        (Some(then), Some(now)) if then == now => {
            format!("{now} instructions, then and now")
        }
        (Some(then), Some(now)) => {
            let percent = (now as f64 / then as f64 - 1.0) * 100.0;
            format!("{then} instructions then, {now} now ({percent:+.1} %)")
        }
        (Some(then), None) => format!("gone; {then} instructions then"),
        (None, Some(now)) => format!("new: {now} instructions"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> BTreeMap<String, Vec<u8>> {
        let folder = super::super::workspace().join(FOLDER);
        let read = |name: &str| std::fs::read(folder.join(format!("{name}.o"))).unwrap();
        OBJECTS.map(|name| (name.to_owned(), read(name))).into()
    }

    #[test]
    fn reports_the_same_objects() {
        let report = Report::new(&objects(), &objects()).unwrap();
        assert!(report.is_same);
        for name in OBJECTS {
            let line = report.text.lines().find(|line| line.starts_with(name));
            assert!(line.unwrap().contains(" same: "), "{}", report.text);
        }
        assert!(!report.text.contains("grew"), "{}", report.text);
    }

    #[test]
    fn reports_objects_of_one_side() {
        let mut fewer = objects();
        fewer.remove("trace");
        let report = Report::new(&fewer, &objects()).unwrap();
        assert!(!report.is_same);
        assert!(report.text.contains("trace    new: "), "{}", report.text);
        let report = Report::new(&objects(), &fewer).unwrap();
        assert!(!report.is_same);
        assert!(report.text.contains("trace    gone: "), "{}", report.text);
    }

    #[test]
    fn an_unknown_revision_has_a_remedy() {
        for revision in ["no-such-revision", "--version", ""] {
            let error = resolve(&super::super::workspace(), revision).unwrap_err();
            assert!(error.to_string().contains("git log --oneline"), "{error}");
        }
    }

    #[test]
    fn shows_growth_in_percent() {
        let text = change(Some(200), Some(205));
        assert_eq!(text, "200 instructions then, 205 now (+2.5 %)");
        assert_eq!(change(Some(7), Some(7)), "7 instructions, then and now");
    }
}
