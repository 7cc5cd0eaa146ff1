//! Every way to name a target: who is named is hit, whoever comes to be named so too, nobody beside it.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Finished, Group, Need, Outcome, Program, case, murphy, needs, net::Echo, program,
    report::count, victim, victim::seen, wait_until,
};

mod by_thread;
mod network;

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user id and a container's id that nobody else has.
const NOBODY_ELSE: u32 = 54_321;
const CONTAINER: &str = "5f00000000000000000000000000000000000000000000000000000000c0ffee";

pub(crate) fn group() -> Group {
    tests::group([
        case("by user id", least(), uid),
        case("by name, and a name that is taken later", least(), comm),
        case("by executable, and one that replaces it", least(), exe),
        case("by cgroup with those below it", least(), cgroup),
        case("by unit, which is restarted", least(), unit),
        case(
            "by container, by the beginning of its id",
            least(),
            container,
        ),
        case(
            "by container of the first cgroup version",
            least(),
            first_version,
        ),
        case("everybody but the exempt and the excluded", least(), all),
        case("several at once are a union", least(), union),
        case("packets of whoever is named", least(), packets),
        case(
            "files of whoever is named",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            files,
        ),
        case(
            "by thread",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            by_thread::thread,
        ),
        case(
            "by network namespace, and who enters it",
            needs![Root, Cgroup2, Atomics, Tool("unshare"), Tool("nsenter")],
            network::namespace,
        ),
        case("a cgroup that vanishes ends it", least(), vanishes),
        case("what is not there or exempt is refused", least(), refusals),
    ])
    // Targets are the same on every kernel: one of the newer ones has them, and not the newest,
    // which has the most to do.
    .in_kernels(&["trixie"])
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

/// Whoever else is hit by mistake: only on the test's own port.
fn fault(echo: &Echo) -> String {
    format!("connect:error=ECONNREFUSED:port={}", echo.port())
}

fn connecting(echo: &Echo) -> Program {
    victim::victim(["connect", &echo.address.to_string(), "12000", "5"])
}

/// A victim that a shell starts by this script once a file is there; `"$@"` is it.
fn later(go: &Path, script: &str, echo: &Echo) -> Program {
    let wait = format!("while [ ! -e \"$0\" ]; do sleep 0.05; done; {script}");
    program("sh")
        .args(["-c", &wait])
        .args([go])
        .args([victim::self_path()])
        .args(victim::words([
            "connect",
            &echo.address.to_string(),
            "12000",
            "5",
        ]))
}

fn inject(args: &[&str]) -> anyhow::Result<ChildGuard> {
    let murphy = murphy(["inject", "--json"]).args(args).spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

fn stop(murphy: ChildGuard) -> anyhow::Result<Value> {
    murphy.signal(libc::SIGINT)?;
    ended(murphy, "stopped by a signal")
}

fn ended(murphy: ChildGuard, why: &str) -> anyhow::Result<Value> {
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).with_context(|| done.to_string())?;
    ensure!(report["ended"] == why, "{report}");
    Ok(report)
}

/// Waits until two more lines are there, which both say this.
fn sees(of: &ChildGuard, word: &str) -> Outcome {
    let text = || of.stdout().unwrap_or_default();
    let before = text().lines().count();
    wait_until(PATIENCE, || {
        let text = text();
        let new: Vec<_> = text.lines().skip(before).collect();
        new.len() > 1 && new[new.len() - 2..].iter().all(|line| *line == word)
    })
    .with_context(|| {
        let last = text().lines().last().map(str::to_owned);
        format!(
            "{word} is not seen but {last:?} {}",
            of.stderr().unwrap_or_default()
        )
    })
}

/// All were hit, then it is undone; the neighbour never was, and the counts agree.
fn undone(murphy: ChildGuard, hit: &[&ChildGuard], neighbour: &ChildGuard) -> Outcome {
    for one in hit {
        sees(one, "ECONNREFUSED")?;
    }
    sees(neighbour, "ok")?;
    let report = stop(murphy)?;
    for one in hit {
        sees(one, "ok")?;
    }
    let mut refused = 0;
    for one in hit {
        refused += seen(&one.stdout()?, "ECONNREFUSED");
    }
    ensure!(
        count(&report, 0, "injected") == refused,
        "{refused} seen: {report}"
    );
    ensure!(
        seen(&neighbour.stdout()?, "ECONNREFUSED") == 0,
        "a neighbour was hit"
    );
    Ok(())
}

/// A cgroup that is removed again, with the processes in it moved to the root.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = line.and_then(|line| line.split(' ').nth(4));
        let path = Path::new(mount.context("no cgroup2")?).join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn take(&self, process: &ChildGuard) -> Outcome {
        fs::write(self.0.join("cgroup.procs"), process.pid().to_string())?;
        Ok(())
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whoever was killed in it may be there for a moment more.
        let gone = || fs::remove_dir(&self.0).is_ok() || !self.0.exists();
        let _ = wait_until(Duration::from_secs(5), gone);
    }
}

/// A copy of this program, which is another executable of another name.
fn copy(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::copy(victim::self_path(), &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// A folder for programs that any user may execute.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn copied(program_: &Path, echo: &Echo) -> Program {
    program(program_).args(victim::words([
        "connect",
        &echo.address.to_string(),
        "12000",
        "5",
    ]))
}

fn uid() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    let path = copy(folder.path(), "victim")?;
    let as_user = || {
        let mut victim = copied(&path, &echo);
        victim.command().uid(NOBODY_ELSE);
        victim.spawn()
    };
    let (target, neighbour) = (as_user()?, connecting(&echo).spawn()?);
    sees(&target, "ok")?;
    let murphy = inject(&["-e", &fault(&echo), "--uid", &NOBODY_ELSE.to_string()])?;
    ensure!(
        murphy.stderr()?.contains("1 process "),
        "{}",
        murphy.stderr()?
    );
    let new = as_user()?;
    undone(murphy, &[&target, &new], &neighbour)
}

fn comm() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    // The kernel keeps 15 characters.
    let path = copy(folder.path(), "murphys-own-victim")?;
    let (target, neighbour) = (copied(&path, &echo).spawn()?, connecting(&echo).spawn()?);
    sees(&target, "ok")?;
    let murphy = inject(&["-e", &fault(&echo), "--comm", "murphys-own-victim"])?;
    let new = copied(&path, &echo).spawn()?;
    undone(murphy, &[&target, &new], &neighbour)
}

fn exe() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    let path = copy(folder.path(), "victim")?;
    let word = path.to_str().context("UTF-8")?;
    let (target, neighbour) = (copied(&path, &echo).spawn()?, connecting(&echo).spawn()?);
    let go = folder.path().join("go");
    // From a shell, which is no target, to the executable, and away from it.
    let becomes = program("sh")
        .args([
            "-c",
            "while [ ! -e \"$0\" ]; do sleep 0.05; done; shift; exec \"$@\"",
        ])
        .args([&go, Path::new("-"), &path])
        .args(victim::words([
            "connect",
            &echo.address.to_string(),
            "12000",
            "5",
        ]))
        .spawn()?;
    sees(&target, "ok")?;
    let murphy = inject(&["-e", &fault(&echo), "--exe", word])?;
    fs::write(&go, "")?;
    for one in [&target, &becomes] {
        sees(one, "ECONNREFUSED")?;
    }
    // An upgrade: another file of the same path.
    let upgrade = copy(folder.path(), "upgrade")?;
    fs::rename(&upgrade, &path)?;
    let upgraded = copied(&path, &echo).spawn()?;
    // Who runs the old one goes on being hit.
    undone(murphy, &[&target, &becomes, &upgraded], &neighbour)
}

fn cgroup() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let outer = Cgroup::new("murphy-test-targets")?;
    let inner = Cgroup::new("murphy-test-targets/below")?;
    let beside = Cgroup::new("murphy-test-targets-2")?;
    let (one, two) = (connecting(&echo).spawn()?, connecting(&echo).spawn()?);
    let neighbour = connecting(&echo).spawn()?;
    outer.take(&one)?;
    inner.take(&two)?;
    beside.take(&neighbour)?;
    let go = folder.path().join("go");
    let new = later(&go, "exec \"$@\"", &echo).spawn()?;
    inner.take(&new)?;
    for one in [&one, &two, &neighbour] {
        sees(one, "ok")?;
    }
    // Below the mount, as /proc/PID/cgroup writes it; and as it is.
    for word in ["/murphy-test-targets", outer.path()] {
        let murphy = inject(&["-e", &fault(&echo), "--cgroup", word])?;
        sees(&one, "ECONNREFUSED")?;
        sees(&two, "ECONNREFUSED")?;
        sees(&neighbour, "ok")?;
        stop(murphy)?;
        sees(&one, "ok")?;
    }
    let but = format!("!{}", inner.path());
    let murphy = inject(&[
        "-e",
        &fault(&echo),
        "--cgroup",
        outer.path(),
        "--cgroup",
        &but,
    ])?;
    sees(&one, "ECONNREFUSED")?;
    sees(&two, "ok")?;
    stop(murphy)?;
    let murphy = inject(&["-e", &fault(&echo), "--cgroup", inner.path()])?;
    sees(&one, "ok")?;
    fs::write(&go, "")?;
    sees(&new, "ECONNREFUSED")?;
    stop(murphy)?;
    ensure!(seen(&neighbour.stdout()?, "ECONNREFUSED") == 0);
    Ok(())
}

fn unit() -> Outcome {
    let echo = Echo::start()?;
    let neighbour = connecting(&echo).spawn()?;
    let slice = Cgroup::new("murphy-test.slice")?;
    let name = "murphy-test.slice/murphy-test.service";
    let first = Cgroup::new(name)?;
    let before = connecting(&echo).spawn()?;
    first.take(&before)?;
    sees(&before, "ok")?;
    let murphy = inject(&["-e", &fault(&echo), "--unit", "murphy-test"])?;
    sees(&before, "ECONNREFUSED")?;
    drop(before);
    drop(first);
    thread::sleep(Duration::from_secs(2));
    let second = Cgroup::new(name)?;
    let after = connecting(&echo).spawn()?;
    second.take(&after)?;
    sees(&after, "ECONNREFUSED").context("restarted")?;
    sees(&neighbour, "ok")?;
    stop(murphy)?;
    sees(&after, "ok")?;
    drop((after, second));
    drop(slice);
    Ok(())
}

fn container() -> Outcome {
    let echo = Echo::start()?;
    let neighbour = connecting(&echo).spawn()?;
    let scope = Cgroup::new(&format!("docker-{CONTAINER}.scope"))?;
    let monitor = Cgroup::new(&format!("libpod-conmon-{CONTAINER}.scope"))?;
    let target = connecting(&echo).spawn()?;
    scope.take(&target)?;
    monitor.take(&neighbour)?;
    sees(&target, "ok")?;
    let murphy = inject(&["-e", &fault(&echo), "--container", &CONTAINER[..12]])?;
    undone(murphy, &[&target], &neighbour)?;
    drop((target, scope));
    drop((neighbour, monitor));
    Ok(())
}

/// Docker with the first version's cgroups: nothing of the second names the container.
fn first_version() -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let first = mounts
        .lines()
        .find(|line| line.contains(" - cgroup ") && line.contains("pids"))
        .and_then(|line| line.split(' ').nth(4));
    let Some(mount) = first else {
        return tests::skip("no hierarchy of the first version; only hybrid machines have one");
    };
    let echo = Echo::start()?;
    let path = Path::new(mount).join(format!("docker-{CONTAINER}.scope"));
    fs::create_dir(&path)?;
    let cgroup = Cgroup(path);
    let neighbour = connecting(&echo).spawn()?;
    let target = connecting(&echo).spawn()?;
    cgroup.take(&target)?;
    let murphy = inject(&["-e", &fault(&echo), "--container", CONTAINER])?;
    sees(&target, "ECONNREFUSED")?;
    let new = connecting(&echo).spawn()?;
    cgroup.take(&new)?;
    undone(murphy, &[&target, &new], &neighbour)?;
    drop((target, new));
    drop(cgroup);
    Ok(())
}

fn all() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    let (one, two) = (connecting(&echo).spawn()?, connecting(&echo).spawn()?);
    let spared = connecting(&echo).spawn()?;
    // Exempt is whoever is called so.
    let sshd = copied(&copy(folder.path(), "sshd")?, &echo).spawn()?;
    for process in [&one, &two, &spared, &sshd] {
        sees(process, "ok")?;
    }
    let but = format!("!{}", spared.pid());
    let murphy = inject(&["-e", &fault(&echo), "--all", "--pid", &but])?;
    let new = connecting(&echo).spawn()?;
    for process in [&one, &two, &new] {
        sees(process, "ECONNREFUSED")?;
    }
    sees(&sshd, "ok")?;
    undone(murphy, &[&one, &two, &new], &spared)?;
    ensure!(seen(&sshd.stdout()?, "ECONNREFUSED") == 0, "sshd was hit");
    let murphy = inject(&["-e", &fault(&echo), "--all", "--no-exempt"])?;
    sees(&sshd, "ECONNREFUSED")?;
    stop(murphy).map(drop)
}

fn union() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    let path = copy(folder.path(), "murphys-victim")?;
    let (one, two) = (copied(&path, &echo).spawn()?, connecting(&echo).spawn()?);
    let neighbour = connecting(&echo).spawn()?;
    sees(&one, "ok")?;
    let pid = two.pid().to_string();
    let args = ["-e", &fault(&echo), "--comm", "murphys-victim", "-p", &pid];
    let murphy = inject(&args)?;
    ensure!(
        murphy.stderr()?.contains("2 processes"),
        "{}",
        murphy.stderr()?
    );
    undone(murphy, &[&one, &two], &neighbour)
}

fn packets() -> Outcome {
    let (echo, folder) = (Echo::start()?, folder()?);
    let path = copy(folder.path(), "murphys-victim")?;
    let address = echo.address.to_string();
    let talks = |of: &Path| {
        program(of)
            .args(victim::words(["echo", &address, "6000", "10"]))
            .spawn()
    };
    let before = talks(&path)?;
    let neighbour = talks(&victim::self_path())?;
    sees(&before, "ok")?;
    let murphy = inject(&["-e", "egress:loss=100%", "--comm", "murphys-victim"])?;
    let then = before.stdout()?.lines().count() + 1;
    for _ in 0..10 {
        sees(&neighbour, "ok")?;
    }
    let now = before.stdout()?.lines().count();
    ensure!(now <= then, "its data arrives: {now} rounds, not {then}");
    let report = stop(murphy)?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    sees(&before, "ok")
}

fn files() -> Outcome {
    let folder = folder()?;
    let path = copy(folder.path(), "murphys-victim")?;
    let file = folder.path().join("file");
    let writes = |of: &Path| {
        let file = file.to_str().unwrap_or_default();
        program(of)
            .args(victim::words(["write", file, "12000", "5"]))
            .spawn()
    };
    let (target, neighbour) = (writes(&path)?, writes(&victim::self_path())?);
    sees(&target, "ok")?;
    for args in [
        ["--comm", "murphys-victim"],
        ["--exe", path.to_str().unwrap_or_default()],
    ] {
        let murphy = inject(&["-e", "write:error=ENOSPC:on=file", args[0], args[1]])?;
        sees(&target, "ENOSPC")?;
        sees(&neighbour, "ok")?;
        stop(murphy)?;
        sees(&target, "ok")?;
    }
    ensure!(seen(&neighbour.stdout()?, "ENOSPC") == 0);
    Ok(())
}

fn vanishes() -> Outcome {
    let echo = Echo::start()?;
    let cgroup = Cgroup::new("murphy-test-vanishes")?;
    let target = connecting(&echo).spawn()?;
    cgroup.take(&target)?;
    let murphy = inject(&["-e", &fault(&echo), "--cgroup", cgroup.path()])?;
    sees(&target, "ECONNREFUSED")?;
    drop(target);
    drop(cgroup);
    ended(murphy, "all targets have ended").map(drop)
}

fn refused(args: &[&str], words: &[&str]) -> Outcome {
    let done: Finished = murphy(["inject", "--for", "1s", "-e", "connect:error=EPERM:port=1"])
        .args(args)
        .run()?;
    ensure!(done.code == Some(2), "{done}");
    for word in words {
        ensure!(done.stderr.contains(word), "no {word} in {done}");
    }
    ensure!(!done.stderr.contains("armed"), "{done}");
    Ok(())
}

fn refusals() -> Outcome {
    ensure!(fs::metadata("/proc/self")?.uid() == 0);
    refused(&["--cgroup", "/no/such"], &["/no/such", "help: "])?;
    refused(&["--cgroup", "../../etc"], &["etc", "help: "])?;
    refused(&["--uid", "no-such-user"], &["no-such-user", "help: "])?;
    refused(&["--comm", "no-such-name"], &["no-such-name", "help: "])?;
    refused(&["--exe", "/no/such"], &["/no/such", "help: "])?;
    refused(&["--exe", "/"], &["executable /", "help: "])?;
    refused(&["--unit", "no-such"], &["no-such", "help: "])?;
    refused(&["--container", "ffffff"], &["ffffff", "help: "])?;
    network::refusals()?;
    by_thread::refusals()?;
    refused(&["--comm", "sshd"], &["sshd", "--no-exempt"])?;
    refused(&["--comm", "!sh"], &["--all"])?;
    refused(&["--all", "--pid", "!4194305"], &["4194305", "help: "])?;
    refused(&[], &["--pid", "--all"])
}
