//! Finds what a test left in the kernel: programs, links, filters, devices, cgroups, mounts,
//! processes, files.
//!
//! Only what murphy or the test made is a leftover: other programs of the machine load BPF programs
//! and mount file systems, too. Things are attributed by their names. What a running murphy holds that
//! another test program or a user started is not this test's.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{bpf, murphy_path, need};

/// How the names begin of what murphy makes: programs, interfaces, cgroups, processes.
const MURPHY: &str = "murphy";

/// How the names of temporary folders begin, by the crate that tests make them with.
const TEMPORARY: &str = ".tmp";

/// What there was at some moment, each thing as a line that a person can read.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    found: BTreeSet<String>,
    /// The interfaces of this network namespace, murphy's own included.
    interfaces: BTreeSet<String>,
}

/// The kernel frees programs and links some time after their last owner is gone.
const PATIENCE: Duration = Duration::from_secs(15);

impl Snapshot {
    /// Looks at everything that murphy or a test could leave behind.
    pub fn take() -> Self {
        Self::with_interfaces_of(None)
    }

    /// Looks again: at interfaces that were there before and at those that murphy made.
    fn with_interfaces_of(before: Option<&Self>) -> Self {
        let mut found = BTreeSet::new();
        let interfaces = interfaces();
        let watched = interfaces
            .iter()
            .filter(|name| before.is_none_or(|b| b.interfaces.contains(*name)) || is_murphy(name));
        let (ours, strangers) = murphys();
        let programs = bpf(&mut found, &strangers);
        for name in watched {
            queues(&mut found, name, &programs, &strangers);
        }
        cgroups(&mut found, &strangers);
        mounts(&mut found);
        found.extend(ours);
        files(&mut found, &strangers);
        Self { found, interfaces }
    }

    /// What is there now and was not then.
    pub fn news(&self) -> Vec<String> {
        let now = Self::with_interfaces_of(Some(self));
        now.found.difference(&self.found).cloned().collect()
    }

    /// Like [`Snapshot::news`], given a little time to vanish.
    pub fn settle(&self) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let news = self.news();
            if news.is_empty() || Instant::now() > until {
                return news;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn is_murphy(name: &str) -> bool {
    name.starts_with(MURPHY)
}

/// The variable by which processes that a test program started are recognised: its process id.
const MARK: &str = "MURPHY_TEST_PROGRAM";

/// Marks this program's descendants. To be called before there are threads.
pub(crate) fn mark_descendants() {
    // SAFETY: there is one thread.
    unsafe { std::env::set_var(MARK, std::process::id().to_string()) };
}

/// Running processes of murphy that this test program did not start, and what they hold.
#[derive(Debug, Default)]
struct Strangers {
    pids: BTreeSet<u32>,
    /// Ids of the BPF programs of their descriptors.
    programs: BTreeSet<u32>,
}

/// The running processes of murphy: a line for each that is this test's, and the others.
fn murphys() -> (Vec<String>, Strangers) {
    let mut ours = Vec::new();
    let mut strangers = Strangers::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let process = entry.path();
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let name = name.trim();
        if !is_murphy(name) || is_zombie(&process) {
            continue;
        }
        if is_ours(&process) {
            ours.push(format!("process {name} ({pid})"));
        } else {
            strangers.pids.insert(pid);
            strangers.programs.extend(programs_of(&process));
        }
    }
    (ours, strangers)
}

/// Ids of the BPF programs that the descriptors of a process hold, themselves or by a link.
fn programs_of(process: &Path) -> Vec<u32> {
    let mut ids = Vec::new();
    let descriptors = fs::read_dir(process.join("fdinfo"));
    for entry in descriptors.into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    ids
}

/// Adds programs of murphy's and of this test's, and their links. Returns the programs' ids.
fn bpf(found: &mut BTreeSet<String>, strangers: &Strangers) -> BTreeSet<u32> {
    let mut ours = BTreeSet::new();
    let probe = bpf::probe_name();
    // Errors (not root) end the iteration: there is nothing to be seen then.
    for program in murphy_kernel::inspect::loaded_programs().map_while(Result::ok) {
        let name = program.name_as_str().unwrap_or("?").to_owned();
        let id = program.id();
        if (is_murphy(&name) || name == probe) && !strangers.programs.contains(&id) {
            found.insert(format!("BPF program {name} (id {id})"));
            ours.insert(id);
        }
    }
    for link in murphy_kernel::inspect::loaded_links().map_while(Result::ok) {
        if ours.contains(&link.program_id()) {
            found.insert(format!(
                "BPF link {} of program {}",
                link.id(),
                link.program_id()
            ));
        }
    }
    ours
}

/// The lines of a list by tc, without details.
fn tc(words: &[&str]) -> Vec<String> {
    let out = Command::new("tc").args(words).output();
    let text = out.map_or(String::new(), |out| {
        String::from_utf8_lossy(&out.stdout).into_owned()
    });
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with(char::is_whitespace))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Interfaces of this thread's network namespace.
fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

/// Adds an interface that murphy made, filters that hold its programs, and a clsact qdisc unless
/// another program has filters on it. Everything on an interface of murphy's is murphy's.
fn queues(
    found: &mut BTreeSet<String>,
    interface: &str,
    programs: &BTreeSet<u32>,
    strangers: &Strangers,
) {
    let whole = is_murphy(interface);
    if whole {
        found.insert(format!("interface {interface}"));
    }
    let mut foreign = false;
    let qdiscs = tc(&["qdisc", "show", "dev", interface]);
    let has_filters = |line: &&String| line.contains(" clsact ") || line.contains(" ingress ");
    if qdiscs.iter().any(|line| has_filters(&line)) {
        for side in ["ingress", "egress"] {
            for line in tc(&["filter", "show", "dev", interface, side]) {
                let program = line.split_once(" id ").and_then(|(_, rest)| {
                    let id = rest.split(' ').next()?;
                    id.parse::<u32>().ok()
                });
                let held = program.is_some_and(|id| strangers.programs.contains(&id));
                let named = line.split(' ').any(is_murphy) && !held;
                if whole || named || program.is_some_and(|id| programs.contains(&id)) {
                    found.insert(format!("filter on {interface} {side} {line}"));
                } else if line.contains(" handle ") {
                    foreign = true;
                }
            }
        }
    }
    for line in qdiscs {
        if whole || (line.contains(" clsact ") && !foreign) {
            found.insert(format!("{line} dev {interface}"));
        }
    }
}

/// Adds cgroups `murphy-PID`.
fn cgroups(found: &mut BTreeSet<String>, strangers: &Strangers) {
    if let Some(mount) = need::cgroup2() {
        below(Path::new(&mount), 4, found, strangers);
    }
}

fn below(dir: &Path, depth: u8, found: &mut BTreeSet<String>, strangers: &Strangers) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_murphy(&name) {
            let maker = name.rsplit('-').next().and_then(|pid| pid.parse().ok());
            if maker.is_none_or(|pid| !strangers.pids.contains(&pid)) {
                found.insert(format!("cgroup {}", entry.path().display()));
            }
        } else if depth > 0 {
            below(&entry.path(), depth - 1, found, strangers);
        }
    }
}

/// Adds mounts below folders that murphy or a test named, and those of murphy itself. What murphy
/// mounts for its own use is in no mount table.
fn mounts(found: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    for line in text.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        let ours = |name: &str| is_murphy(name) || name.starts_with(TEMPORARY);
        if point.split('/').any(ours) || kind.contains(MURPHY) {
            found.insert(format!("mount of {kind} on {point}"));
        }
    }
}

/// Adds the files of murphy's state, except those of a running stranger.
fn files(found: &mut BTreeSet<String>, strangers: &Strangers) {
    let folder = Path::new("/run/murphy");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // `ID.json`, `ID.sock`, and `.ID.…` while one is written.
        let id = name.trim_start_matches('.').split('.').next();
        let record = fs::read(folder.join(format!("{}.json", id.unwrap_or_default())));
        let record: serde_json::Value = record
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let owner = record["owner"]["pid"].as_u64();
        let owner = owner.and_then(|pid| u32::try_from(pid).ok());
        if owner.is_none_or(|pid| !strangers.pids.contains(&pid)) {
            found.insert(format!("file {}", entry.path().display()));
        }
    }
}

/// Whether this test program started a process, itself or by others. One that has lost the mark, as
/// by sudo(8), is this test's if it runs the program under test.
fn is_ours(process: &Path) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    let mark = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="));
    if let Some(mark) = mark {
        return mark == std::process::id().to_string().as_bytes();
    }
    let (Ok(runs), Ok(ours)) = (
        fs::read_link(process.join("exe")),
        murphy_path().canonicalize(),
    ) else {
        return true;
    };
    // A program that was built anew meanwhile is "PATH (deleted)".
    let runs = runs.to_string_lossy();
    runs.strip_suffix(" (deleted)").unwrap_or(&runs) == ours.to_string_lossy()
}

/// Whether a process has ended and is only waited for: of an orphan that is up to PID 1, in its own time.
fn is_zombie(process: &Path) -> bool {
    // proc_pid_stat(5): the state follows the name, which is in parentheses and may hold any character.
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}
