//! Whether a test left anything in the kernel: programs, links, filters, devices, cgroups, mounts,
//! processes, files.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{murphy_path, need};

/// What there was at some moment, each thing as a line that a person can read.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// The kernel frees programs and links some time after their last owner is gone.
const PATIENCE: Duration = Duration::from_secs(15);

impl Snapshot {
    /// Looks at everything murphy could leave behind.
    pub fn take() -> Self {
        let mut found = BTreeSet::new();
        bpf(&mut found);
        lines(&mut found, "qdisc", &["qdisc", "show"]);
        filters(&mut found);
        devices(&mut found);
        cgroups(&mut found);
        mounts(&mut found);
        processes(&mut found);
        for entry in fs::read_dir("/run/murphy").into_iter().flatten().flatten() {
            found.insert(format!("file {}", entry.path().display()));
        }
        Self(found)
    }

    /// What is there now and was not then.
    pub fn news(&self) -> Vec<String> {
        Self::take().0.difference(&self.0).cloned().collect()
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

/// Programs that the service manager loads by itself start so.
const NOT_OURS: &str = "sd_";

fn bpf(found: &mut BTreeSet<String>) {
    // Errors (not root) end the iteration: there is nothing to be seen then.
    for program in aya::programs::loaded_programs().map_while(Result::ok) {
        let name = program.name_as_str().unwrap_or("?").to_owned();
        if !name.starts_with(NOT_OURS) {
            found.insert(format!("BPF program {name} (id {})", program.id()));
        }
    }
    for link in aya::programs::loaded_links().map_while(Result::ok) {
        found.insert(format!(
            "BPF link {} of program {}",
            link.id(),
            link.program_id()
        ));
    }
}

fn lines(found: &mut BTreeSet<String>, what: &str, tc: &[&str]) {
    let out = Command::new("tc").args(tc).output();
    for line in out.iter().flat_map(|o| o.stdout.split(|b| *b == b'\n')) {
        let line = String::from_utf8_lossy(line);
        // Continuation lines are details.
        if !line.is_empty() && !line.starts_with(char::is_whitespace) {
            found.insert(format!("{what} {}", line.trim()));
        }
    }
}

fn interfaces() -> Vec<String> {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Filters hang on a clsact or ingress qdisc: an interface without one is not asked about them.
fn filters(found: &mut BTreeSet<String>) {
    let asked: BTreeSet<String> = found
        .iter()
        .filter(|line| {
            line.starts_with("qdisc qdisc clsact") || line.starts_with("qdisc qdisc ingress")
        })
        .filter_map(|line| line.split(" dev ").nth(1)?.split(' ').next())
        .map(str::to_owned)
        .collect();
    for interface in asked {
        for side in ["ingress", "egress"] {
            lines(
                found,
                &format!("filter on {interface} {side}"),
                &["filter", "show", "dev", &interface, side],
            );
        }
    }
}

fn devices(found: &mut BTreeSet<String>) {
    found.extend(interfaces().into_iter().map(|i| format!("interface {i}")));
}

fn cgroups(found: &mut BTreeSet<String>) {
    if let Some(mount) = need::cgroup2() {
        below(Path::new(&mount), 4, found);
    }
}

fn below(dir: &Path, depth: u8, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with("murphy") {
            found.insert(format!("cgroup {}", entry.path().display()));
        } else if depth > 0 {
            below(&entry.path(), depth - 1, found);
        }
    }
}

fn mounts(found: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in text.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        found.insert(format!("mount of {kind} on {point}"));
    }
}

fn processes(found: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Ok(pid) = name.to_string_lossy().parse::<u32>() else {
            continue;
        };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // `murphy-` and a hash is the program of murphy's own unit tests.
        let hash = comm
            .strip_prefix("murphy-")
            .is_some_and(|rest| rest.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
        if comm.starts_with("murphy")
            && !hash
            && !is_zombie(&entry.path())
            && is_ours(&entry.path())
        {
            found.insert(format!("process {} ({pid})", comm.trim()));
        }
    }
}

/// Whether a process runs the program under test; another murphy of this machine is no leftover of a test.
fn is_ours(process: &Path) -> bool {
    let (Ok(runs), Ok(ours)) = (
        fs::read_link(process.join("exe")),
        murphy_path().canonicalize(),
    ) else {
        return true;
    };
    // A program that was built anew meanwhile is "PATH (deleted)".
    let runs = runs.to_string_lossy();
    runs.starts_with(&*ours.to_string_lossy())
}

/// Whether a process has ended and is only waited for: of an orphan that is up to PID 1, in its own time.
fn is_zombie(process: &Path) -> bool {
    // proc_pid_stat(5): the state follows the name, which is in parentheses and may hold any character.
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}
