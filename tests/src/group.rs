//! Groups of cases, and the program that runs each group as a process of its own.

use std::{
    collections::BTreeSet,
    env,
    process::{Command, ExitCode},
    sync::OnceLock,
};

use libtest_mimic::Arguments;

use crate::{
    Outcome,
    case::{self, Case, Kernels},
    expect, leftovers,
    need::Need,
    victim,
};

/// Set in whole runs: an environment gets only the cases that are meant for it.
const WHOLE: &str = "MURPHY_TEST_WHOLE";

/// Set in whole runs, whose emulated machines are held up at times: a case that failed is tried a
/// second time. Both results are reported.
const SECOND_TRY: &str = "MURPHY_TEST_SECOND_TRY";

/// What the test program does instead of running cases if its first argument is the role's word.
type Role = fn(&[String]) -> Outcome;

/// The cases of one test file, with the attributes that hold for all of them.
pub struct Group {
    /// The file's stem.
    name: &'static str,
    cases: Vec<Case>,
    kernels: Kernels,
    once: bool,
    roles: Vec<(&'static str, Role)>,
}

/// Makes a group; see the crate's example.
pub fn group(cases: impl IntoIterator<Item = Case>) -> Group {
    Group {
        name: "",
        cases: cases.into_iter().collect(),
        kernels: Kernels::default(),
        once: false,
        roles: Vec::new(),
    }
}

/// The stem of a test file, and the function that makes its group.
pub type Entry = (&'static str, fn() -> Group);

fn make(&(name, group): &Entry) -> Group {
    // A module called as a keyword is `r#keyword`.
    let name = name.trim_start_matches("r#");
    Group { name, ..group() }
}

impl Group {
    /// Limits a whole run to these kernels and the host, for cases that do not name their own. By
    /// default a case runs on the host and in every kernel but [`expect::ON_REQUEST`].
    #[must_use]
    pub fn in_kernels(mut self, kernels: &'static [&'static str]) -> Self {
        self.kernels = Kernels::Named(kernels);
        self
    }

    /// Limits a whole run to the host, for cases that do not name their own kernels.
    #[must_use]
    pub fn host_only(self) -> Self {
        self.in_kernels(&[])
    }

    /// Marks all cases as never tried a second time, see [`Case::once`].
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Adds a role: the test program, called with this word first, runs `role` with the other
    /// arguments. Tests use it as a victim or a server of their own ([`victim::self_path`]).
    #[must_use]
    pub fn role(mut self, word: &'static str, role: Role) -> Self {
        self.roles.push((word, role));
        self
    }

    /// Hands the group's attributes to its cases.
    fn into_cases(self) -> Vec<Case> {
        let (kernels, once) = (self.kernels, self.once);
        let with = |case: Case| case.with_defaults(kernels, once);
        self.cases.into_iter().map(with).collect()
    }
}

/// The name of the group that this process runs, empty if it runs none.
static RUNNING: OnceLock<&'static str> = OnceLock::new();

/// The name of the group that this process runs.
pub(crate) fn running() -> &'static str {
    RUNNING.get().copied().unwrap_or_default()
}

/// Runs the test program: `[--group NAME]… [FILTER] [--list] [--exact] …`.
///
/// One `--group` runs in this process. Several, or none for all, run one after the other, each in a
/// process of its own. `--list` prints `GROUP: NAME: test` for each case. With a role or `victim`
/// as the first argument, the program is a part of another test instead.
pub fn run(groups: &[Entry]) -> ExitCode {
    if let Some(code) = victim::run_if_asked() {
        return code;
    }
    let args: Vec<String> = env::args().skip(1).collect();
    if let [word, rest @ ..] = args.as_slice()
        && let Some(role) = find_role(groups, word)
    {
        return match role(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{word}: {error:?}");
                ExitCode::FAILURE
            }
        };
    }
    let all: Vec<Group> = groups.iter().map(make).collect();
    let (named, rest) = split_groups(&args);
    let mut mistakes = find_mistakes(&all);
    mistakes.extend(unknown_groups(&all, &named));
    if !mistakes.is_empty() {
        for mistake in mistakes {
            eprintln!("{mistake}");
        }
        return ExitCode::from(2);
    }
    let alone = named.len() == 1;
    let is_wanted = |group: &Group| named.is_empty() || named.iter().any(|name| name == group.name);
    let wanted = all.into_iter().filter(is_wanted);
    let args = Arguments::from_iter(["tests".to_owned()].into_iter().chain(rest.clone()));
    if args.list {
        for group in wanted {
            let name = group.name;
            for case in matching(&args, group) {
                println!("{name}: {}: test", case.name());
            }
        }
        return ExitCode::SUCCESS;
    }
    if alone {
        return wanted
            .map(|group| run_here(args.clone(), group))
            .next()
            .unwrap_or(ExitCode::FAILURE);
    }
    let mut status = ExitCode::SUCCESS;
    for group in wanted {
        let name = group.name;
        if matching(&args, group).is_empty() {
            continue;
        }
        println!("\n{name}");
        let done = Command::new(victim::self_path())
            .args(["--group", name])
            .args(&rest)
            .status();
        if !done.is_ok_and(|status| status.success()) {
            status = ExitCode::FAILURE;
        }
    }
    status
}

/// Runs a group in this process.
fn run_here(args: Arguments, group: Group) -> ExitCode {
    RUNNING.get_or_init(|| group.name);
    restore_signals();
    leftovers::mark_descendants();
    let again = env::var_os(SECOND_TRY).is_some();
    let cases = matching(&args, group);
    case::conclude(args, cases, true, again).exit_code()
}

/// Restores the default actions of the terminal's signals. A shell starts background commands with
/// these signals ignored, and all descendants inherit that: no shell in a test could trap them.
fn restore_signals() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        // SAFETY: there is one thread yet, and the default disposition calls nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Returns the cases of a group that the arguments and the kind of run select.
fn matching(args: &Arguments, group: Group) -> Vec<Case> {
    let (whole, here) = (env::var_os(WHOLE).is_some(), expect::environment());
    let mut cases = group.into_cases();
    cases.retain(|case| !whole || case.runs_in(&here));
    cases.retain(|case| !args.is_filtered_out(&case.as_trial()));
    cases
}

fn find_role(groups: &[Entry], word: &str) -> Option<Role> {
    let mut roles = groups.iter().flat_map(|(_, group)| group().roles);
    roles
        .find(|(known, _)| *known == word)
        .map(|(_, role)| role)
}

/// Takes the `--group NAME` out of the arguments.
fn split_groups(args: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut named, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--group" {
            named.push(args.next().cloned().unwrap_or_default());
        } else if let Some(name) = arg.strip_prefix("--group=") {
            named.push(name.to_owned());
        } else {
            rest.push(arg.clone());
        }
    }
    (named, rest)
}

/// Refuses names that no group has, with the names that exist.
fn unknown_groups(all: &[Group], named: &[String]) -> Option<String> {
    let known: Vec<_> = all.iter().map(|group| group.name).collect();
    let unknown = named.iter().find(|name| !known.contains(&name.as_str()))?;
    let known = known.join(", ");
    Some(format!(
        "no test file is called {unknown:?}; known: {known}"
    ))
}

/// Finds groups, cases, roles and attributes that contradict each other. The program refuses to
/// start with any: such a case would run nowhere, or its result would replace another's.
fn find_mistakes(all: &[Group]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let (mut names, mut words) = (BTreeSet::new(), BTreeSet::from([victim::WORD]));
    for group in all {
        let name = group.name;
        if !names.insert(name) {
            mistakes.push(format!("{name}: two groups have this name"));
        }
        for (word, _) in &group.roles {
            if !words.insert(word) {
                mistakes.push(format!("{name}: the role {word} is taken"));
            }
        }
        let mut cases = BTreeSet::new();
        for case in &group.cases {
            let title = case.name();
            if !cases.insert(title) {
                mistakes.push(format!("{name}: two cases are called {title:?}"));
            }
            let kernels = case.kernels_or(group.kernels);
            if let Some(kernel) = kernels.unknown() {
                mistakes.push(format!("{name}: {title}: no kernel is called {kernel:?}"));
            }
            if case.has_need(Need::Newest) && !kernels.include(expect::NEWEST) {
                let newest = expect::NEWEST;
                mistakes.push(format!("{name}: {title}: needs Newest, but skips {newest}"));
            }
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case;

    fn nothing(_: &[String]) -> Outcome {
        Ok(())
    }

    fn plain(name: &str) -> Case {
        case(name, Vec::new(), || Ok(()))
    }

    fn named<const N: usize>(name: &'static str, cases: [Case; N]) -> Group {
        Group {
            name,
            ..group(cases)
        }
    }

    fn of_name(name: &'static str) -> Group {
        named(name, [])
    }

    fn newest(name: &str) -> Case {
        case(name, vec![Need::Newest], || Ok(()))
    }

    #[test]
    fn a_case_has_the_attributes_of_its_group_unless_it_has_its_own() {
        let group = group([plain("a"), plain("b").in_kernels(&["sid"])]);
        let cases = group.in_kernels(&["bullseye"]).once().into_cases();
        let where_ = |case: &Case| {
            ["host", "bullseye", "sid", "override"].map(|environment| case.runs_in(environment))
        };
        assert_eq!(where_(&cases[0]), [true, true, false, false]);
        assert_eq!(where_(&cases[1]), [true, false, true, false]);
        assert!(cases.iter().all(Case::is_once));
    }

    #[test]
    fn a_case_runs_everywhere_but_in_the_kernel_on_request() {
        let cases = group([plain("a"), plain("b").once()]).into_cases();
        let runs = |environment| cases[0].runs_in(environment);
        assert!(runs("host") && runs("bullseye") && !runs(expect::ON_REQUEST));
        assert_eq!([cases[0].is_once(), cases[1].is_once()], [false, true]);
        let cases = group([plain("a")]).host_only().into_cases();
        assert!(cases[0].runs_in("host") && !cases[0].runs_in("sid"));
    }

    #[test]
    fn mistakes_are_found() {
        let right = [
            named("a", [plain("x"), newest("y")]).role("one", nothing),
            named("b", [newest("x").in_kernels(&["sid", "trixie"])]).host_only(),
        ];
        assert_eq!(find_mistakes(&right), [""; 0]);
        let wrong = [
            named("a", [plain("x"), plain("x")]).role("one", nothing),
            named("a", [newest("x")])
                .host_only()
                .role("one", nothing)
                .role("victim", nothing),
            named("b", [plain("x").in_kernels(&["buster"])]),
        ];
        assert_eq!(
            find_mistakes(&wrong),
            [
                "a: two cases are called \"x\"",
                "a: two groups have this name",
                "a: the role one is taken",
                "a: the role victim is taken",
                "a: x: needs Newest, but skips sid",
                "b: x: no kernel is called \"buster\"",
            ]
        );
    }

    #[test]
    fn groups_are_named_by_arguments() {
        let args = ["--group", "a", "x", "--group=b", "--list"].map(str::to_owned);
        let (named, rest) = split_groups(&args);
        assert_eq!(named, ["a", "b"]);
        assert_eq!(rest, ["x", "--list"]);
        let all = ["a", "c"].map(of_name);
        assert_eq!(
            unknown_groups(&all, &named),
            Some("no test file is called \"b\"; known: a, c".to_owned())
        );
        assert_eq!(unknown_groups(&all, &named[..1]), None);
    }

    /// A file that no module names would not be compiled. A module without an entry in the list is
    /// dead code, which the compiler reports.
    #[test]
    fn every_test_file_is_a_module() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
        let modules: BTreeSet<_> = main
            .lines()
            .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
            .map(|name| name.trim_start_matches("r#").to_owned())
            .chain(["main".to_owned()])
            .collect();
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
            .collect();
        assert_eq!(modules, files);
    }
}
