//! `limit`: what holds while the fault is in force, and that it ends: at the end, at the deadline,
//! with the lease, with murphy, and by `recover`.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::{ChildGuard, Group, Outcome, case, expect, murphy, needs, program, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn group() -> Group {
    let python = || needs![Tool("/usr/bin/python3")];
    tests::group([
        case("no new descriptors, a neighbour has them", python(), held),
        case(
            "back at the deadline, and when a pulse rests",
            python(),
            over,
        ),
        case("SIGSTOP of murphy: back with the lease", python(), stopped),
        case("SIGKILL of murphy: back at once", python(), killed),
        case(
            "SIGKILL of murphy and guardian: recover does it",
            python(),
            recovered,
        ),
        case(
            "a limit that was changed meanwhile stays",
            python(),
            changed,
        ),
        case("children that were forked meanwhile", python(), children),
        case("a child whose parent has ended", python(), orphan),
        case("a grandchild, older than the look", needs![], grandchild),
        case("a process that nothing tells the heir of", needs![], lost),
        case("a process whose first thread has ended", python(), headless),
        case("a second injection on the same process", python(), second),
        case(
            "status and stop say what it was applied to",
            python(),
            said_by_stop,
        ),
        case(
            "what cannot be given back is a failure",
            needs![Root, Tool("setpriv"), Tool("/usr/bin/python3")],
            not_given_back,
        ),
        case(
            "sixty targets, and a lease that is shorter than arming",
            needs![],
            many,
        ),
        case("hundreds of targets, again and again", needs![], hundreds).host_only(),
        case(
            "no cgroup2 hierarchy is mounted",
            needs![Root, Tool("unshare"), Tool("/usr/bin/python3")],
            without_cgroup2,
        ),
        case("run, and what it starts", python(), run),
        case("an orphan of run", needs![], orphan_of_run),
        case(
            "without root, of one's own processes alone",
            needs![Root, Tool("setpriv"), Tool("/usr/bin/python3")],
            rootless,
        ),
        case("a policy forbids it", python(), forbidden),
        case("refused, with reason and remedy", needs![], refused),
    ])
    // No kernel program is used: prlimit(2) is the same on all.
    .in_kernels(&["bullseye"])
}

/// Asks for descriptors in four ways, once for each file `1`, `2`, … in a folder.
const SCRIPT: &str = "
import errno, os, socket, sys, time
folder, forks = sys.argv[1], len(sys.argv) > 2
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen()
client = socket.socket()
client.connect(server.getsockname())
def accept():
    global client
    descriptor, _ = server._accept()
    client.close()
    client = socket.socket()
    client.connect(server.getsockname())
    return [descriptor]
WAYS = {
    'open': lambda: [os.open('/dev/null', os.O_RDONLY)],
    'accept': accept,
    'dup': lambda: [os.dup(0)],
    'pipe': os.pipe,
}
print('ready', flush=True)
round = 0
while True:
    round += 1
    while not os.path.exists(f'{folder}/{round}'):
        time.sleep(0.02)
    if forks:
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(child, flush=True)
        continue
    seen = []
    for name, way in WAYS.items():
        try:
            for descriptor in way():
                os.close(descriptor)
            seen.append(name)
        except OSError as error:
            seen.append(f'{name}={errno.errorcode[error.errno]}')
    print(' '.join(seen), flush=True)
";

const FREE: &str = "open accept dup pipe";
const NONE: &str = "open=EMFILE accept=EMFILE dup=EMFILE pipe=EMFILE";

struct Victim {
    child: ChildGuard,
    folder: TempDir,
    rounds: Cell<usize>,
}

impl Victim {
    fn start(words: &[&str], before: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("limit-").tempdir()?;
        open_to_all(folder.path())?;
        let path = folder.path().to_str().context("a strange path")?;
        let mut all: Vec<&str> = before.to_vec();
        all.extend(["/usr/bin/python3", "-c", SCRIPT, path]);
        all.extend(words);
        let child = program(all[0]).args(&all[1..]).spawn()?;
        wait_until(PATIENCE, || {
            child.stdout().is_ok_and(|text| text.starts_with("ready"))
        })?;
        Ok(Self {
            child,
            folder,
            rounds: Cell::new(0),
        })
    }

    fn new() -> anyhow::Result<Self> {
        Self::start(&[], &[])
    }

    fn pid(&self) -> String {
        self.child.pid().to_string()
    }

    /// What it sees now.
    fn round(&self) -> anyhow::Result<String> {
        let round = self.rounds.get() + 1;
        self.rounds.set(round);
        fs::write(self.folder.path().join(round.to_string()), "")?;
        let line = || {
            let text = self.child.stdout().ok()?;
            text.lines().nth(round).map(str::to_owned)
        };
        wait_until(PATIENCE, || line().is_some())?;
        line().context("no line")
    }

    fn soft(&self) -> anyhow::Result<u64> {
        soft(self.child.pid())
    }
}

fn open_to_all(folder: &Path) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        folder,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// The soft limit of descriptors of a process.
fn soft(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("no such limit")?;
    Ok(line
        .split_whitespace()
        .next()
        .context("no number")?
        .parse()?)
}

/// murphy with a run folder of its own.
struct Injection {
    child: ChildGuard,
    folder: TempDir,
    reports: TempDir,
}

impl Injection {
    fn start(args: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("limit-run-").tempdir()?;
        let reports = tempfile::Builder::new().prefix("limit-out-").tempdir()?;
        let output = reports.path().join("report.json");
        let lease = format!("{}s", LEASE.as_secs());
        let mut inject = vec!["inject", "--json"];
        if !args.contains(&"--lease") {
            inject.extend(["--lease", &lease]);
        }
        let child = murphy(inject)
            .args(["-o"])
            .args([&output])
            .args(args)
            .env("MURPHY_RUN_DIR", folder.path())
            .spawn()?;
        Ok(Self {
            child,
            folder,
            reports,
        })
    }

    /// Against a process, and in force.
    fn on(victim: &Victim, fault: &str) -> anyhow::Result<Self> {
        let before = victim.soft()?;
        let one = Self::start(&["-e", fault, "--pid", &victim.pid(), "--for", "300s"])?;
        let held = || victim.soft().is_ok_and(|soft| soft < before);
        wait_until(PATIENCE, held).with_context(|| format!("{:?}", one.child.stderr()))?;
        Ok(one)
    }

    /// Ends it by a signal; its report.
    fn end(self) -> anyhow::Result<Value> {
        self.child.signal(libc::SIGINT)?;
        self.report()
    }

    fn report(self) -> anyhow::Result<Value> {
        let done = self.child.finish(PATIENCE)?;
        ensure!(done.code == Some(0), "{done}");
        let text = fs::read_to_string(self.reports.path().join("report.json"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

fn held() -> Outcome {
    let (victim, neighbour) = (Victim::new()?, Victim::new()?);
    let before = victim.soft()?;
    ensure!(victim.round()? == FREE && neighbour.round()? == FREE);
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    for _ in 0..5 {
        ensure!(victim.round()? == NONE, "{:?}", victim.child.stdout());
        ensure!(neighbour.round()? == FREE);
    }
    ensure!(neighbour.soft()? == before);
    let report = injection.end()?;
    let condition = &report["conditions"][0];
    ensure!(
        condition["condition"] == "limit:nofile=used"
            && condition["applied"] == 1
            && condition["failed"] == 0
            && condition["seconds"].as_f64() > Some(0.0)
            && report["faults"] == Value::Array(Vec::new()),
        "{report}"
    );
    ensure!(victim.soft()? == before && victim.round()? == FREE);
    Ok(())
}

fn over() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let pid = victim.pid();
    let done = Injection::start(&["-e", "limit:nofile=used", "--pid", &pid, "--for", "300ms"])?;
    let report = done.report()?;
    ensure!(report["conditions"][0]["applied"] == 1, "{report}");
    ensure!(victim.soft()? == before && victim.round()? == FREE);
    // Its own time, and pulses: murphy runs on.
    for fault in [
        "limit:nofile=8:for=500ms",
        "limit:nofile=8:pulse=500ms/300s",
        "limit:nofile=8:after=100ms:for=500ms",
    ] {
        let injection = Injection::on(&victim, fault)?;
        ensure!(victim.soft()? == 8 || victim.soft()? == before);
        wait_until(PATIENCE, || victim.soft().is_ok_and(|soft| soft == before))
            .with_context(|| format!("{fault}: {:?}", victim.soft()))?;
        let report = injection.end()?;
        ensure!(report["conditions"][0]["applied"] == 1, "{report}");
    }
    ensure!(victim.round()? == FREE);
    Ok(())
}

fn stopped() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    let since = Instant::now();
    injection.child.signal(libc::SIGSTOP)?;
    wait_until(PATIENCE, || victim.soft().is_ok_and(|soft| soft == before))?;
    let took = since.elapsed();
    let limit = LEASE + Duration::from_millis(500);
    // A machine under emulation is held up at times.
    ensure!(
        took <= limit || expect::environment() != "host",
        "{took:?} after the stop"
    );
    ensure!(victim.round()? == FREE);
    // It goes on when murphy does.
    injection.child.signal(libc::SIGCONT)?;
    wait_until(PATIENCE, || victim.soft().is_ok_and(|soft| soft < before))?;
    ensure!(victim.round()? == NONE);
    injection.end()?;
    ensure!(victim.soft()? == before && victim.round()? == FREE);
    Ok(())
}

fn killed() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    ensure!(victim.round()? == NONE);
    injection.child.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || victim.soft().is_ok_and(|soft| soft == before))?;
    ensure!(victim.round()? == FREE);
    Ok(())
}

fn recovered() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    let folder = injection.folder;
    let record = fs::read_dir(folder.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .context("no record")?;
    let record: Value = serde_json::from_str(&fs::read_to_string(record)?)?;
    let guardian = record["guardian"]["pid"].as_i64().context("no guardian")?;
    let guardian = i32::try_from(guardian)?;
    // SAFETY: the guardian of an injection of ours, which lives.
    ensure!(unsafe { libc::kill(guardian, libc::SIGKILL) } == 0);
    injection.child.signal(libc::SIGKILL)?;
    let killed = injection.child.finish(PATIENCE)?;
    ensure!(killed.code.is_none(), "{killed}");
    ensure!(victim.round()? == NONE);
    let with = |args: &[&str]| murphy(args).env("MURPHY_RUN_DIR", folder.path()).run();
    let status = with(&["status"])?;
    ensure!(
        status
            .stdout
            .contains("died and left behind: limit nofile of process"),
        "{status}"
    );
    let recovered = with(&["recover"])?;
    ensure!(
        recovered.code == Some(0)
            && format!("{}{}", recovered.stdout, recovered.stderr).contains("limit nofile"),
        "{recovered}"
    );
    ensure!(victim.soft()? == before && victim.round()? == FREE);
    Ok(())
}

fn changed() -> Outcome {
    let victim = Victim::new()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    let set = program("prlimit")
        .args(["--pid", &victim.pid(), "--nofile=77:"])
        .run()?;
    ensure!(set.code == Some(0), "{set}");
    let holds_no_more = || {
        let status = murphy(["status", "--json"]).env("MURPHY_RUN_DIR", injection.folder.path());
        let said = status.run().map(|done| done.stdout).unwrap_or_default();
        said.replace([' ', '\n'], "").contains("\"in_force\":0")
    };
    wait_until(PATIENCE, holds_no_more)?;
    let report = injection.end()?;
    ensure!(report["conditions"][0]["applied"] == 1, "{report}");
    ensure!(victim.soft()? == 77, "{report}");
    let warnings = report["warnings"].to_string();
    ensure!(
        warnings.contains("another program has changed it"),
        "{report}"
    );
    Ok(())
}

fn children() -> Outcome {
    let victim = Victim::start(&["fork"], &[])?;
    let before = victim.soft()?;
    let first: u32 = victim.round()?.parse()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    // One that was there is a target, one that comes inherits.
    wait_until(PATIENCE, || soft(first).is_ok_and(|soft| soft < before))?;
    let second: u32 = victim.round()?.parse()?;
    ensure!(soft(second)? < before);
    injection.end()?;
    for pid in [first, second] {
        ensure!(soft(pid)? == before, "{pid}: {}", soft(pid)?);
        // SAFETY: children of ours, which sleep.
        ensure!(unsafe { libc::kill(i32::try_from(pid)?, libc::SIGKILL) } == 0);
    }
    ensure!(victim.soft()? == before);
    Ok(())
}

/// It inherits the limit, and is held by itself once murphy has seen it.
fn orphan() -> Outcome {
    let victim = Victim::start(&["fork"], &[])?;
    let before = victim.soft()?;
    let injection = Injection::on(&victim, "limit:nofile=used")?;
    let child: u32 = victim.round()?.parse()?;
    ensure!(soft(child)? < before);
    // Its record names it as soon as it is held.
    let seen = || {
        let files = fs::read_dir(injection.folder.path());
        let records = files.into_iter().flatten().flatten();
        let mut texts = records.filter_map(|file| fs::read_to_string(file.path()).ok());
        let name = format!("\"pid\":{child}");
        texts.any(|text| text.replace(' ', "").contains(&name))
    };
    wait_until(PATIENCE, seen)?;
    victim.child.signal(libc::SIGKILL)?;
    let report = injection.report()?;
    ensure!(soft(child)? == before, "{}: {report}", soft(child)?);
    // SAFETY: a child of ours, which sleeps.
    ensure!(unsafe { libc::kill(i32::try_from(child)?, libc::SIGKILL) } == 0);
    Ok(())
}

/// Its parent is held after it was forked, and it by its parent.
fn grandchild() -> Outcome {
    let folder = tempfile::tempdir()?;
    let now = folder.path().join("now");
    let script = format!(
        "until [ -e {} ]; do sleep 0.02; done; \
         sh -c 'sleep 600 >/dev/null & echo $!; exec sleep 600 >/dev/null' & wait",
        now.display()
    );
    let target = program("sh").args(["-c", &script]).spawn()?;
    let before = soft(target.pid())?;
    let pid = target.pid().to_string();
    let injection = Injection::start(&["-e", "limit:nofile=64", "--pid", &pid, "--for", "300s"])?;
    wait_until(PATIENCE, || soft(target.pid()).is_ok_and(|soft| soft == 64))?;
    fs::write(&now, "")?;
    let said = || target.stdout().ok()?.trim().parse::<u32>().ok();
    wait_until(PATIENCE, || said().is_some())?;
    let grandchild = said().context("no number")?;
    let is_held = || {
        let files = fs::read_dir(injection.folder.path());
        let records = files.into_iter().flatten().flatten();
        let mut texts = records.filter_map(|file| fs::read_to_string(file.path()).ok());
        let name = format!("\"pid\":{grandchild}");
        texts.any(|text| text.replace(' ', "").contains(&name))
    };
    wait_until(PATIENCE, is_held).context("it is not held")?;
    target.signal(libc::SIGKILL)?;
    injection.end()?;
    let after = soft(grandchild)?;
    // SAFETY: a grandchild of ours, which sleeps.
    ensure!(unsafe { libc::kill(i32::try_from(grandchild)?, libc::SIGKILL) } == 0);
    ensure!(after == before, "{after}");
    Ok(())
}

/// Its parents end at once: murphy cannot know it, and says so.
fn lost() -> Outcome {
    let script = "read go; (sh -c 'sleep 600 >/dev/null & echo $!'); exec sleep 600 >/dev/null";
    let (folder, target) = {
        let folder = tempfile::tempdir()?;
        let fifo = folder.path().join("go");
        let made = program("mkfifo").args([&fifo]).run()?;
        ensure!(made.code == Some(0), "{made}");
        let script = format!("exec < {}; {script}", fifo.display());
        (folder, program("sh").args(["-c", &script]).spawn()?)
    };
    let before = soft(target.pid())?;
    let pid = target.pid().to_string();
    let injection = Injection::start(&["-e", "limit:nofile=64", "--pid", &pid, "--for", "300s"])?;
    wait_until(PATIENCE, || soft(target.pid()).is_ok_and(|soft| soft == 64))?;
    fs::write(folder.path().join("go"), "go\n")?;
    let said = || target.stdout().ok()?.trim().parse::<u32>().ok();
    wait_until(PATIENCE, || said().is_some())?;
    let lost = said().context("no number")?;
    let report = injection.end()?;
    let after = soft(lost)?;
    // SAFETY: what the target has started, which sleeps.
    ensure!(unsafe { libc::kill(i32::try_from(lost)?, libc::SIGKILL) } == 0);
    // On a slow machine it may have been seen in time.
    let warned = report["warnings"]
        .to_string()
        .contains(&format!("process {lost} began"));
    ensure!(after == before || warned, "{after}: {report}");
    ensure!(soft(target.pid())? == before);
    Ok(())
}

fn headless() -> Outcome {
    const SCRIPT: &str = "
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print('ready', flush=True)
time.sleep(1)
ctypes.CDLL(None).pthread_exit(None)
";
    let victim = program("/usr/bin/python3").args(["-c", SCRIPT]).spawn()?;
    let is_ready = || victim.stdout().is_ok_and(|text| text == "ready\n");
    wait_until(PATIENCE, is_ready)?;
    let before = soft(victim.pid())?;
    let pid = victim.pid().to_string();
    let injection = Injection::start(&["-e", "limit:nofile=8", "--pid", &pid, "--for", "300s"])?;
    let held = || soft(victim.pid()).is_ok_and(|soft| soft == 8);
    wait_until(PATIENCE, held)?;
    injection.report()?;
    ensure!(soft(victim.pid())? == before, "{}", soft(victim.pid())?);
    Ok(())
}

fn second() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let first = Injection::on(&victim, "limit:nofile=64")?;
    let refused = murphy(["inject", "-e", "limit:nofile=32", "--for", "1s", "--pid"])
        .args([victim.pid()])
        .env("MURPHY_RUN_DIR", first.folder.path())
        .run()?;
    ensure!(
        refused.code == Some(75) && refused.stderr.contains("another injection holds it"),
        "{refused}"
    );
    ensure!(victim.soft()? == 64);
    first.end()?;
    ensure!(victim.soft()? == before);
    Ok(())
}

fn said_by_stop() -> Outcome {
    let victim = Victim::new()?;
    let injection = Injection::on(&victim, "limit:nofile=64")?;
    let done = murphy(["status"])
        .env("MURPHY_RUN_DIR", injection.folder.path())
        .run()?;
    let rows: Vec<_> = done.stdout.lines().skip(1).collect();
    ensure!(
        matches!(rows[..], [row] if row.contains("  applied to 1 process  ")),
        "{done}"
    );
    let done = murphy(["stop", "--all"])
        .env("MURPHY_RUN_DIR", injection.folder.path())
        .run()?;
    ensure!(
        done.code == Some(0)
            && done.stdout.contains(": applied to 1 process in ")
            && done.stdout.contains("; undone: limit nofile of process"),
        "{done}"
    );
    // Neither operations nor programs are about conditions.
    ensure!(
        !done.stdout.contains("injected") && !done.stdout.contains("programs"),
        "{done}"
    );
    injection.report()?;
    Ok(())
}

/// A target becomes another user's, and murphy has no privilege for those.
fn not_given_back() -> Outcome {
    const LIMITED: [&str; 3] = [
        "setpriv",
        "--bounding-set=-sys_resource",
        "--inh-caps=-sys_resource",
    ];
    const SCRIPT: &str = "
import os, sys, time
print('ready', flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
os.setresuid(65534, 65534, 65534)
print('changed', flush=True)
time.sleep(600)
";
    for by_stop in [false, true] {
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("run");
        fs::create_dir(&state)?;
        let signal = folder.path().join("now");
        let target = program("/usr/bin/python3")
            .args(["-c", SCRIPT])
            .args([&signal])
            .spawn()?;
        let says = |word: &str| target.stdout().is_ok_and(|text| text.contains(word));
        wait_until(PATIENCE, || says("ready"))?;
        let before = soft(target.pid())?;
        let injection = program(LIMITED[0])
            .args(&LIMITED[1..])
            .args([tests::murphy_path()])
            .args(["inject", "-e", "limit:nofile=64", "--for", "300s", "--pid"])
            .args([target.pid().to_string()])
            .env("MURPHY_RUN_DIR", &state)
            .spawn()?;
        let held = || soft(target.pid()).is_ok_and(|soft| soft == 64);
        wait_until(PATIENCE, held).with_context(|| format!("{:?}", injection.stderr()))?;
        fs::write(&signal, "")?;
        wait_until(PATIENCE, || says("changed"))?;
        if by_stop {
            let done = murphy(["stop", "--all"])
                .env("MURPHY_RUN_DIR", &state)
                .run()?;
            let words = "could not be undone";
            ensure!(
                done.code == Some(1) && done.stdout.contains(words),
                "{done}"
            );
        } else {
            injection.signal(libc::SIGINT)?;
        }
        let done = injection.finish(PATIENCE)?;
        ensure!(
            done.code == Some(1) && done.stderr.contains("could not be undone"),
            "{done}"
        );
        ensure!(soft(target.pid())? == 64, "it was given back");
        let left = murphy(["status"]).env("MURPHY_RUN_DIR", &state).run()?;
        ensure!(left.stdout.contains("limit nofile"), "{left}");
        let recovered = murphy(["recover"]).env("MURPHY_RUN_DIR", &state).run()?;
        // In a container root itself may lack it.
        let can = has_sys_resource()?;
        ensure!(
            recovered.code == Some(if can { 0 } else { 1 }),
            "{recovered}"
        );
        ensure!(!can || soft(target.pid())? == before, "{recovered}");
    }
    Ok(())
}

/// Whether this process has `CAP_SYS_RESOURCE`, which is number 24.
fn has_sys_resource() -> anyhow::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.context("no CapEff")?.trim();
    Ok(u64::from_str_radix(effective, 16)? >> 24 & 1 == 1)
}

/// Limits need no cgroup: only targets that are named by one do.
fn without_cgroup2() -> Outcome {
    const INSIDE: &str = "
for mount in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts); do umount -l $mount || exit 9; done
exec \"$@\"";
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let folder = tempfile::tempdir()?;
    let inject = |more: &[&str]| {
        program("unshare")
            .args(["-m", "sh", "-c", INSIDE, "sh"])
            .args([tests::murphy_path()])
            .args(["inject", "-e", "limit:nofile=64", "--for", "300s"])
            .args(more)
            .env("MURPHY_RUN_DIR", folder.path().join("run"))
    };
    let pid = victim.pid();
    let dry = inject(&["--dry-run", "--pid", &pid]).run()?;
    ensure!(dry.code == Some(0) && victim.soft()? == before, "{dry}");
    let injection = inject(&["--pid", &pid]).spawn()?;
    wait_until(PATIENCE, || victim.soft().is_ok_and(|soft| soft == 64))
        .with_context(|| format!("{:?}", injection.stderr()))?;
    injection.signal(libc::SIGINT)?;
    let done = injection.finish(PATIENCE)?;
    ensure!(done.code == Some(0) && victim.soft()? == before, "{done}");
    let refused = inject(&["--cgroup", "/"]).run()?;
    ensure!(
        refused.code != Some(0) && refused.stderr.contains("no cgroup2 hierarchy is mounted"),
        "{refused}"
    );
    Ok(())
}

fn many() -> Outcome {
    let sleepers = (0..60)
        .map(|_| program("sleep").args(["600"]).spawn())
        .collect::<anyhow::Result<Vec<_>>>()?;
    let first = sleepers.first().context("no target")?;
    let before = soft(first.pid())?;
    let pids: Vec<_> = sleepers.iter().map(|one| one.pid().to_string()).collect();
    let mut args = vec!["-e", "limit:nofile=64", "--for", "300s", "--lease", "300ms"];
    args.extend(pids.iter().flat_map(|pid| ["--pid", pid.as_str()]));
    let injection = Injection::start(&args)?;
    let all = |wanted: u64| {
        let mut sleepers = sleepers.iter();
        sleepers.all(|one| soft(one.pid()).is_ok_and(|soft| soft == wanted))
    };
    wait_until(PATIENCE, || all(64)).with_context(|| format!("{:?}", injection.child.stderr()))?;
    // Stopped and continued: all of them are bounded again.
    injection.child.signal(libc::SIGSTOP)?;
    wait_until(PATIENCE, || all(before)).context("the lease has lapsed")?;
    injection.child.signal(libc::SIGCONT)?;
    wait_until(PATIENCE, || all(64)).context("murphy runs again")?;
    injection.child.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || all(before)).context("murphy was killed")
}

/// Each end is one look at all processes, for the guardian as for murphy.
fn hundreds() -> Outcome {
    let sleepers = (0..240)
        .map(|_| program("sleep").args(["600"]).spawn())
        .collect::<anyhow::Result<Vec<_>>>()?;
    let first = sleepers.first().context("no target")?;
    let before = soft(first.pid())?;
    let pids: Vec<_> = sleepers.iter().map(|one| one.pid().to_string()).collect();
    let mut args = vec!["-e", "limit:nofile=64:pulse=3s/1s", "--for", "12s"];
    args.extend(pids.iter().flat_map(|pid| ["--pid", pid.as_str()]));
    let injection = Injection::start(&args)?;
    let report = injection.report()?;
    let condition = &report["conditions"][0];
    ensure!(condition["applied"] == 240, "{report}");
    for sleeper in &sleepers {
        ensure!(soft(sleeper.pid())? == before, "{}", sleeper.pid());
    }
    Ok(())
}

fn orphan_of_run() -> Outcome {
    let before = soft(std::process::id())?;
    let script = "sleep 1; sleep 600 >/dev/null 2>&1 & sleep 2; echo $!";
    let done = murphy([
        "run",
        "-q",
        "-e",
        "limit:nofile=32",
        "--",
        "sh",
        "-c",
        script,
    ])
    .run()?;
    ensure!(done.code == Some(0), "{done}");
    let orphan: u32 = done.stdout.trim().parse()?;
    let now = soft(orphan)?;
    // SAFETY: the orphan, which sleeps.
    ensure!(unsafe { libc::kill(i32::try_from(orphan)?, libc::SIGKILL) } == 0);
    ensure!(now == before, "{now}");
    Ok(())
}

fn run() -> Outcome {
    let script = "
import errno, os, time
seen = set()
until = time.monotonic() + 60
while 'EMFILE' not in seen and time.monotonic() < until:
    try:
        held = [os.dup(0) for _ in range(64)]
        for descriptor in held: os.close(descriptor)
    except OSError as error:
        seen.add(errno.errorcode[error.errno])
    time.sleep(0.01)
print(*seen)
";
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = murphy(["run", "--json", "-o"])
        .args([&output])
        .args(["-e", "limit:nofile=32", "--", "sh", "-c"])
        .args(["/usr/bin/python3 -c \"$0\"", script])
        .run()?;
    ensure!(done.code == Some(0) && done.stdout == "EMFILE\n", "{done}");
    let report: Value = serde_json::from_str(&fs::read_to_string(output)?)?;
    ensure!(
        report["conditions"][0]["applied"].as_u64() > Some(0) && report["armed"] == true,
        "{report}"
    );
    Ok(())
}

fn rootless() -> Outcome {
    const USER: [&str; 6] = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ];
    let (own, foreign) = (Victim::start(&[], &USER)?, Victim::new()?);
    let before = own.soft()?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("run");
    fs::create_dir(&state)?;
    std::os::unix::fs::chown(&state, Some(65534), Some(65534))?;
    open_to_all(folder.path())?;
    let inject = |pid: &str, time: &str| {
        program(USER[0])
            .args(&USER[1..])
            .args([tests::murphy_path()])
            .args([
                "inject",
                "-e",
                "limit:nofile=used",
                "--for",
                time,
                "--pid",
                pid,
            ])
            .env("MURPHY_RUN_DIR", &state)
    };
    let injection = inject(&own.pid(), "300s").spawn()?;
    wait_until(PATIENCE, || own.soft().is_ok_and(|soft| soft < before))
        .with_context(|| format!("{:?}", injection.stderr()))?;
    ensure!(own.round()? == NONE);
    injection.signal(libc::SIGINT)?;
    let done = injection.finish(PATIENCE)?;
    ensure!(
        done.code == Some(0) && done.stderr.contains("limit:nofile=used"),
        "{done}"
    );
    ensure!(own.soft()? == before && own.round()? == FREE);
    let refused = inject(&foreign.pid(), "1s").run()?;
    ensure!(
        refused.code != Some(0) && refused.stderr.contains("CAP_SYS_RESOURCE"),
        "{refused}"
    );
    // A dry run looks at the same, and says the same.
    let dry = inject(&foreign.pid(), "1s").args(["--dry-run"]).run()?;
    ensure!(
        dry.code == refused.code && dry.stderr == refused.stderr,
        "{dry}\n{refused}"
    );
    let dry = inject(&own.pid(), "1s").args(["--dry-run"]).run()?;
    ensure!(dry.code == Some(0) && own.soft()? == before, "{dry}");
    ensure!(foreign.soft()? == before && foreign.round()? == FREE);
    Ok(())
}

fn forbidden() -> Outcome {
    let victim = Victim::new()?;
    let before = victim.soft()?;
    let policy = tempfile::NamedTempFile::new()?;
    for text in [
        "[faults]\nforbid = [\"limit\"]\n",
        "[faults]\nforbid = [\"limit:nofile\"]\n",
        "[limits]\nmax_duration = \"1s\"\n",
    ] {
        fs::write(policy.path(), text)?;
        let done = murphy([
            "inject",
            "-e",
            "limit:nofile=used",
            "--for",
            "2s",
            "--policy",
        ])
        .args([policy.path()])
        .args(["--pid", &victim.pid()])
        .run()?;
        ensure!(
            done.code != Some(0) && done.stderr.contains("limit:nofile=used"),
            "{text}: {done}"
        );
        ensure!(victim.soft()? == before);
    }
    Ok(())
}

fn refused() -> Outcome {
    let own = std::process::id().to_string();
    for (faults, words) in [
        (
            &[
                "-e",
                "limit:nofile=8",
                "-e",
                "limit:nofile=used",
                "--pid",
                &own,
            ][..],
            "second condition of its kind",
        ),
        (
            &["-e", "limit:nofile=8:tid=1"][..],
            "say pid instead of tid",
        ),
    ] {
        let done = murphy(["inject", "--for", "1s"]).args(faults).run()?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{done}"
        );
    }
    for (fault, words) in [
        (
            "limit:nofile=used:p=5%",
            "`p` needs an operation, and no condition",
        ),
        ("limit:nofile=used:when=3", "`when` needs an operation"),
        ("limit:nofile=used:times=1", "`times` needs an operation"),
        ("limit:nofile=used:seed=1", "`seed` needs an operation"),
        ("limit:nofile=many", "`many` is no value for a limit"),
        ("limit:nofile", "nofile"),
        ("limit:error=EIO", "error"),
        ("limit:nofile=used:path=/srv/**", "path"),
        (
            "connect:nofile=used",
            "`nofile` needs resource limits: limit",
        ),
    ] {
        let done = murphy(["inject", "-e", fault, "--pid", &own, "--for", "1s"]).run()?;
        ensure!(
            done.code == Some(2) && done.stderr.contains(words),
            "{fault}: {done}"
        );
    }
    let done = murphy(["run", "-e", "limit:nofile=9:comm=sh", "--", "true"]).run()?;
    ensure!(
        done.code == Some(125) && done.stderr.contains("is a condition"),
        "{done}"
    );
    Ok(())
}
