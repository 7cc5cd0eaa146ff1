//! The matrix of docs/kernels.md: what murphy can do on the kernels that its tests run on, made of
//! what mechanisms declare and of what is known of each kernel. `murphy doctor` finds the same by
//! trying; a test of its compares.

use super::declaration::{Declaration, MatrixRow};
use super::declarations;
use murphy_fault::plan::{Backend, Interface};

/// A kernel that tests run on.
#[derive(Debug)]
pub struct TestedKernel {
    /// Its name: that of `cargo xtask vm`, or `host`.
    pub name: &'static str,
    /// The head of its column.
    pub title: &'static str,
    /// Its version.
    version: (u32, u32),
    /// Interfaces that it is new enough for and does not have, each with words for it.
    lacks: &'static [(&'static str, &'static str)],
}

/// What Debian's kernels are built without.
const NO_OVERRIDE: (&str, &str) = (
    "bpf_override_return (CONFIG_BPF_KPROBE_OVERRIDE)",
    "no `CONFIG_BPF_KPROBE_OVERRIDE`",
);

/// Every column.
pub const KERNELS: [TestedKernel; 5] = [
    TestedKernel {
        name: "bullseye",
        title: "5.10 (bullseye)",
        version: (5, 10),
        lacks: &[NO_OVERRIDE],
    },
    TestedKernel {
        name: "bookworm",
        title: "6.1 (bookworm)",
        version: (6, 1),
        lacks: &[NO_OVERRIDE],
    },
    TestedKernel {
        name: "trixie",
        title: "6.12 (trixie)",
        version: (6, 12),
        lacks: &[NO_OVERRIDE],
    },
    TestedKernel {
        name: "sid",
        title: "7.2 (sid)",
        version: (7, 2),
        lacks: &[NO_OVERRIDE],
    },
    TestedKernel {
        name: "host",
        title: "6.18, locked down",
        version: (6, 18),
        lacks: &[
            NO_OVERRIDE,
            ("ifb, netem, mirred", "no netem"),
            ("ifb, fq, mirred", "no fq"),
            ("BPF LSM", "LSM programs get EPERM"),
            ("sleepable BPF LSM", "LSM programs get EPERM"),
            ("kprobe by perf event", "no kprobes"),
        ],
    },
];

impl TestedKernel {
    /// What a row lacks on it, in words; empty: it works.
    pub fn missing(&self, row: &MatrixRow) -> Vec<String> {
        let mut missing = Vec::new();
        for need in row.needs() {
            if let Some(words) = self.lack_of(&need)
                && !missing.contains(&words)
            {
                missing.push(words);
            }
        }
        missing
    }

    fn lack_of(&self, need: &Interface) -> Option<String> {
        if self.version < version(need.since) {
            // The words in parentheses are about how a kernel is built.
            let name = need.name.split(" (").next().unwrap_or(need.name);
            return Some(format!("{name} ({})", need.since));
        }
        let mut lacks = self.lacks.iter();
        let lack = lacks.find(|(name, _)| *name == need.name);
        lack.map(|(_, words)| (*words).to_owned())
    }

    fn cell(&self, row: &MatrixRow) -> String {
        let missing = self.missing(row);
        if !missing.is_empty() {
            return format!("no: {}", missing.join(", "));
        }
        let mut ways = row.ways.iter();
        match ways.find(|(_, since)| self.version >= version(since)) {
            Some((way, _)) => format!("yes, by {way}"),
            None => "yes".to_owned(),
        }
    }
}

/// The preferred backend first. A mechanism that is none comes behind the first backend.
fn ordered() -> Vec<&'static Declaration> {
    let mut all = declarations();
    all.sort_by_key(|of| {
        let rank = Backend::ALL.iter().position(|one| Some(*one) == of.backend);
        (rank.unwrap_or(0), rank.is_none())
    });
    all
}

/// The rows of all mechanisms.
pub fn rows() -> impl Iterator<Item = &'static MatrixRow> {
    ordered().into_iter().flat_map(|of| of.rows)
}

/// What kernels have, in Markdown: a row for each thing that murphy can do.
pub fn kernels() -> String {
    let titles = KERNELS.each_ref().map(|kernel| kernel.title);
    let mut text = line(&[""].into_iter().chain(titles).collect::<Vec<_>>());
    text += &line(&["---"; KERNELS.len() + 1]);
    for row in rows() {
        let cells = KERNELS.each_ref().map(|kernel| kernel.cell(row));
        let cells = cells.iter().map(String::as_str);
        text += &line(&[row.what].into_iter().chain(cells).collect::<Vec<_>>());
    }
    text
}

/// What mechanisms rely on and leave behind, in Markdown: a row for each.
pub fn mechanisms() -> String {
    let mut text = line(&["Mechanism", "Relies on", "Stays if all of murphy is killed"]);
    text += &line(&["---"; 3]);
    for of in ordered() {
        let hooks = of.hooks().collect::<Vec<_>>();
        let mut needs: Vec<Interface> = Vec::new();
        let all = hooks.iter().flat_map(|hook| hook.spec().needs);
        for need in all.chain(of.needs) {
            match needs.iter_mut().find(|known| known.name == need.name) {
                // Another kind of program may have had it later.
                Some(known) if version(known.since) < version(need.since) => *known = *need,
                Some(_) => {}
                None => needs.push(*need),
            }
        }
        needs.sort_by_key(|need| version(need.since));
        let needs: Vec<_> = needs
            .iter()
            .map(|need| format!("{} {}", need.name, need.since))
            .collect();
        let leaves: Vec<_> = of.leaves.iter().map(|left| left.name()).collect();
        let leaves = match leaves.is_empty() {
            true => "nothing".to_owned(),
            false => leaves.join("; "),
        };
        let name = format!("[`{}`]({})", of.name, of.page);
        text += &line(&[&name, &needs.join("; "), &leaves]);
    }
    text
}

fn line(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |")
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    //! `MURPHY_BLESS=1 cargo test -p murphy-mechanisms --lib matrix` writes the tables anew.

    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use murphy_fault::plan::Hook;
    use murphy_state::cleanup::Leftover;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// The document with a table between its marks.
    fn with_table(text: &str, mark: &str, table: &str) -> String {
        let begin = format!("<!-- {mark}: made by mechanisms/src/matrix.rs -->\n");
        let end = format!("<!-- end of {mark} -->\n");
        let (before, rest) = text.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        format!("{before}{begin}{table}{end}{after}")
    }

    #[test]
    fn the_document_has_what_mechanisms_declare() {
        let path = workspace().join("docs/kernels.md");
        let there = std::fs::read_to_string(&path).unwrap();
        let made = with_table(&there, "kernels", &kernels());
        let made = with_table(&made, "mechanisms", &mechanisms());
        if std::env::var_os("MURPHY_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &made).unwrap();
            return;
        }
        assert!(
            made == there,
            "docs/kernels.md is not what mechanisms declare; see this file"
        );
    }

    #[test]
    fn every_hook_belongs_to_one_mechanism_and_is_declared() {
        let declared = declarations();
        for hook in Hook::all() {
            let owners = declared.iter().filter(|of| (of.owns)(hook)).count();
            assert_eq!(owners, 1, "{hook:?}");
        }
        let shown: BTreeSet<_> = rows().flat_map(|row| row.hooks).collect();
        for of in declared {
            let shows = of.hooks().any(|hook| shown.contains(&hook));
            assert!(
                shows || of.hooks().next().is_none(),
                "{}: no row shows its hooks",
                of.name
            );
            assert!(!of.rows.is_empty(), "{}: it has no row", of.name);
        }
    }

    #[test]
    fn every_leftover_is_declared() {
        let declared: BTreeSet<_> = declarations().iter().flat_map(|of| of.leaves).collect();
        for left in [
            Leftover::Cgroup,
            Leftover::TcFilter,
            Leftover::Ifb,
            Leftover::Limit,
        ] {
            assert!(declared.contains(&left), "{left:?}");
        }
    }

    #[test]
    fn the_verifier_walks_programs_of_every_hook() {
        let all: BTreeSet<_> = declarations()
            .iter()
            .flat_map(|of| of.exercises)
            .flat_map(|exercise| exercise.hooks().unwrap())
            .collect();
        // Of LSM hooks one stands for its like.
        let has_place = all.iter().any(|one| matches!(one, Hook::Lsm(_)));
        let has_begin = all.iter().any(|one| matches!(one, Hook::Begin(_)));
        let has_sleeper = all.iter().any(|one| matches!(one, Hook::Sleep(_)));
        let walked = |hook: &Hook| {
            // One is loaded where a kernel has fq and no netem; the other arms and does nothing
            // else.
            all.contains(hook)
                || matches!(hook, Hook::Edt | Hook::Entry)
                || has_place && matches!(hook, Hook::Lsm(_))
                || has_begin && matches!(hook, Hook::Begin(_))
                || has_sleeper && matches!(hook, Hook::Sleep(_))
        };
        let missing: Vec<_> = Hook::all().filter(|hook| !walked(hook)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn names_are_those_of_folders_pages_and_tests() {
        let root = workspace();
        for of in declarations() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            assert!(source.join(of.name).is_dir(), "{}: no folder", of.name);
            let page = of.page.split('#').next().unwrap();
            assert!(
                root.join("docs").join(page).is_file(),
                "{}: no page {page}",
                of.name
            );
            let test = format!("tests/tests/{}.rs", of.test);
            assert!(root.join(&test).is_file(), "{}: no test {test}", of.name);
        }
    }
}
