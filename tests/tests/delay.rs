//! Delays of system calls by kernel programs: threads that wait in a call, and whoever lets them go on.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tests::{
    ChildGuard, Group, Hit, Need, Outcome, case, murphy, needs, net::Echo, program, report::count,
    victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// A delay that nobody waits out.
const LONG: &str = "openat:delay_enter=40s!";
/// What is told from it on the busiest machine.
const WELL_WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a process that runs is late, its neighbour is not; over when murphy is",
            waits(),
            late,
        ),
        case("eight threads wait at the same time", waits(), together),
        case(
            "a connection, and an error after the wait",
            waits(),
            connect,
        ),
        case(
            "other hooks that may sleep",
            needs![
                Root,
                Cgroup2,
                Atomics,
                BpfLsm,
                TaskFromPid,
                Fuse,
                Newest,
                Tool("python3")
            ],
            others,
        ),
        case("stopping murphy wakes who waits", waits(), stopped),
        case("SIGKILL of murphy wakes who waits", waits(), killed),
        case("SIGSTOP of murphy: the lease does", once(), lapsed),
        case(
            "SIGKILL of the server does, and is counted",
            waits(),
            served,
        ),
        case("SIGKILL of the holder, too", once(), held),
        case("SIGSTOP of the server: the holder does", once(), stuck),
        case("who waits can be killed", waits(), dies),
        case("what cannot be delayed is refused", waits(), refused),
        case(
            "what a sleeping thread holds up is over within its two seconds",
            needs![
                Root,
                Cgroup2,
                Atomics,
                BpfLsm,
                TaskFromPid,
                Fuse,
                Tool("taskset")
            ],
            bystanders,
        ),
    ])
    // What takes long runs in the newest alone (`Newest`), the rest in the older of the two kernels
    // that can do it, too.
    .in_kernels(&["sid", "trixie"])
    // Signals and deadlines: one failure in a thousand counts.
    .once()
    .role("opens", opens)
}

fn waits() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics, BpfLsm, TaskFromPid, Fuse]
}

/// What is user space's own doing, or takes long.
fn once() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics, BpfLsm, TaskFromPid, Fuse, Newest]
}

/// The victim: threads that open a file again and again, each with a line before (`begin`) and one after: number of the thread, beginning
/// and end, and processor time of the thread, in ms.
fn opens(args: &[String]) -> Outcome {
    let [threads, path] = args else {
        anyhow::bail!("opens THREADS PATH");
    };
    let threads: u32 = threads.parse()?;
    let ms = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    };
    let output = Mutex::new(());
    let say = |line: &str| {
        let _one_at_a_time = output.lock();
        println!("{line}");
    };
    thread::scope(|scope| {
        for number in 0..threads {
            let say = &say;
            scope.spawn(move || {
                loop {
                    say("begin");
                    let (begun, cpu) = (ms(ClockId::Monotonic), ms(ClockId::ThreadCPUTime));
                    let opened = fs::File::open(path);
                    let (ended, used) = (ms(ClockId::Monotonic), ms(ClockId::ThreadCPUTime) - cpu);
                    if opened.is_err() {
                        return;
                    }
                    say(&format!("{number} {begun} {ended} {used}"));
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    anyhow::bail!("the file cannot be opened any more")
}

/// What became of an `open`.
#[derive(Clone, Copy, Debug)]
struct Opened {
    thread: i64,
    begun: i64,
    ended: i64,
    cpu: i64,
}

impl Opened {
    fn took(self) -> i64 {
        self.ended - self.begun
    }
}

/// A victim of so many threads, which has begun.
fn start(threads: u32, path: &str) -> anyhow::Result<ChildGuard> {
    let victim = program(victim::self_path())
        .args(["opens", &threads.to_string(), path])
        .spawn()?;
    wait_until(PATIENCE, || !opened(&victim).is_empty()).context("the victim does not begin")?;
    Ok(victim)
}

fn opened(victim: &ChildGuard) -> Vec<Opened> {
    let text = victim.stdout().unwrap_or_default();
    let of = |line: &str| {
        let mut numbers = line.split(' ').map(|word| word.parse().ok());
        Some(Opened {
            thread: numbers.next()??,
            begun: numbers.next()??,
            ended: numbers.next()??,
            cpu: numbers.next()??,
        })
    };
    text.lines().filter_map(of).collect()
}

/// Waits until the only thread of a victim has been in a call for a second, which does not happen by itself.
fn is_waiting(victim: &ChildGuard) -> Outcome {
    let mut seen = (String::new(), Instant::now());
    wait_until(PATIENCE, || {
        let now = victim.stdout().unwrap_or_default();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        seen.0.ends_with("begin\n") && seen.1.elapsed() > Duration::from_secs(1)
    })
    .context("the victim does not wait")
}

/// Waits until that call has come back.
fn goes_on(victim: &ChildGuard, since: Instant) -> Outcome {
    let before = opened(victim).len();
    wait_until(PATIENCE, || opened(victim).len() > before).context("the victim still waits")?;
    let took = since.elapsed();
    ensure!(took < WELL_WITHIN, "the victim waits for another {took:?}");
    Ok(())
}

/// `murphy inject --json ARGS… --pid PID`, armed.
fn inject(args: &[&str], pid: u32) -> anyhow::Result<ChildGuard> {
    let murphy = murphy(["inject", "--json", "--pid", &pid.to_string()])
        .args(args)
        .spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

/// Ends it as a person does; its report.
fn stop(murphy: ChildGuard) -> anyhow::Result<Value> {
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

/// A folder, and a file in it.
fn file() -> anyhow::Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    fs::write(&path, "x")?;
    let path = path.to_string_lossy().into_owned();
    Ok((folder, path))
}

fn late() -> Outcome {
    const WISH: i64 = 1000;
    let (_folder, path) = file()?;
    let victim = start(1, &path)?;
    let neighbour = start(1, &path)?;
    let fault = format!("openat:delay_enter={WISH}ms:path={path}");
    let murphy = inject(&["-e", &fault], victim.pid())?;
    let before = opened(&neighbour).len();
    let is_late = |one: &Opened| one.took() >= WISH;
    let late = || opened(&victim).into_iter().filter(is_late);
    wait_until(PATIENCE, || late().count() >= 2).context("not late")?;
    let beside = opened(&neighbour).split_off(before);
    let report = stop(murphy)?;
    let late: Vec<_> = late().collect();
    // Sleeping takes next to nothing of a processor.
    ensure!(late.iter().all(|one| one.cpu < WISH / 5), "{late:?}");
    // Emulated machines are held up at times, but not each time, and not by the wish.
    let held_up = beside.iter().filter(|one| one.took() >= WISH / 2).count();
    ensure!(
        beside.len() > late.len() * 4 && held_up * 10 < beside.len(),
        "{beside:?}"
    );
    let injected = count(&report, 0, "injected");
    ensure!(
        injected >= 2
            && injected == count(&report, 0, "matched")
            && report["faults"][0]["backend"] == "bpf",
        "{report}"
    );
    ensure!(count(&report, 0, "failed") == 0, "{report}");
    let before = opened(&victim).len();
    let again = || {
        opened(&victim)
            .split_off(before)
            .into_iter()
            .any(|one| one.took() < WISH / 2)
    };
    wait_until(PATIENCE, again).context("still late when murphy is over")
}

fn together() -> Outcome {
    const WISH: i64 = 2000;
    let (_folder, path) = file()?;
    let victim = start(8, &path)?;
    let fault = format!("openat:delay_enter={WISH}ms!:jitter=500ms");
    let murphy = inject(&["-e", &fault], victim.pid())?;
    let late = || {
        let mut late: Vec<_> = opened(&victim);
        late.retain(|one| one.took() >= WISH - 500);
        late.sort_by_key(|one| (one.thread, one.begun));
        late.dedup_by_key(|one| one.thread);
        late
    };
    wait_until(PATIENCE, || late().len() == 8).with_context(|| format!("{:?}", late()))?;
    let report = stop(murphy)?;
    let late = late();
    // All had begun before the first was through.
    let last = late.iter().map(|one| one.begun).max();
    let first = late.iter().map(|one| one.ended).min();
    ensure!(last < first, "{late:?}");
    // Not all by the same.
    ensure!(
        late.iter().any(|one| one.took() != late[0].took()),
        "{late:?}"
    );
    ensure!(count(&report, 0, "injected") >= 8, "{report}");
    Ok(())
}

fn connect() -> Outcome {
    let (echo, other) = (Echo::start()?, Echo::start()?);
    let (address, port) = (echo.address.to_string(), echo.port());
    let waits = format!("connect:delay_enter=1s:port={port}:when=1");
    let fails = format!("connect:delay_enter=1s:error=ECONNREFUSED:port={port}:dst=127.0.0.0/8");
    let elsewhere = format!("connect:delay_enter=40s!:port={}", other.port());
    let faults = [
        "--backend",
        "bpf",
        "-e",
        &waits,
        "-e",
        &fails,
        "-e",
        &elsewhere,
    ];
    let hit = Hit::run(&faults, &["connect", &address, "3"])?;
    ensure!(
        hit.seen("ok") == 1 && hit.seen("ECONNREFUSED") == 2,
        "{}",
        hit.victim
    );
    ensure!(hit.victim.took >= Duration::from_secs(3), "{}", hit.victim);
    ensure!(
        (
            hit.count(0, "injected"),
            hit.count(1, "injected"),
            hit.count(2, "matched")
        ) == (1, 2, 0),
        "{}",
        hit.report
    );
    // Whoever is no target does not wait.
    TcpStream::connect(other.address)?;
    Ok(())
}

/// A call of each kind of hook, each of which prints its name and how long it took in ms.
const CALLS: &str = "
import ctypes, fcntl, mmap, os, socket, sys, time
def timed(name, call):
    begun = time.monotonic()
    try: call()
    except OSError: pass
    print(name, int((time.monotonic() - begun) * 1000), flush=True)
listener, own = socket.socket(), socket.socket()
listener.bind(('127.0.0.1', 0)); listener.listen()
near, far = socket.socketpair()
libc, watches, client = ctypes.CDLL(None), ctypes.CDLL(None).inotify_init(), socket.socket()
client.connect(listener.getsockname())
far.send(b'x')
lock = os.open(sys.argv[1], os.O_RDONLY)
def child():
    if os.fork() == 0: os._exit(0)
print('ready', flush=True)
while not os.access(sys.argv[1] + '.go', os.F_OK): time.sleep(0.05)
timed('stat', lambda: os.stat(sys.argv[1]))
timed('statfs', lambda: libc.statfs(b'/', ctypes.create_string_buffer(512)))
timed('flock', lambda: fcntl.flock(lock, fcntl.LOCK_SH))
timed('mmap', lambda: mmap.mmap(-1, 4096))
timed('fork', child)
timed('bind', lambda: own.bind(('127.0.0.1', 0)))
timed('send', lambda: near.send(b'x'))
timed('recv', lambda: near.recv(1))
timed('accept', lambda: listener._accept())
timed('inotify_add_watch', lambda: libc.inotify_add_watch(watches, sys.argv[1].encode(), 1))
timed('execve', lambda: os.posix_spawn('/bin/true', ['true'], {}))
";

fn others() -> Outcome {
    const WISH: u64 = 100;
    let (_folder, path) = file()?;
    let calls = "stat,newfstatat,statx,statfs,flock,mmap,clone,clone3,fork,vfork,bind,sendto,recvfrom,accept,accept4,\
                 inotify_add_watch,execve";
    let fault = format!("{}:delay_enter={WISH}ms", calls.replace(['\n', ' '], ""));
    let victim = program("python3").args(["-c", CALLS, &path]).spawn()?;
    wait_until(PATIENCE, || {
        victim.stdout().is_ok_and(|text| !text.is_empty())
    })?;
    let murphy = inject(&["-e", &fault], victim.pid())?;
    fs::write(format!("{path}.go"), "")?;
    let done = victim.finish(PATIENCE)?;
    let long_enough = |line: &&str| {
        let (call, took) = line.split_once(' ').unwrap_or_default();
        // The child's beginning waits, too.
        let waits = if call == "execve" { 2 * WISH } else { WISH };
        took.parse::<u64>().is_ok_and(|ms| ms >= waits)
    };
    let lines: Vec<_> = done.stdout.lines().skip(1).collect();
    ensure!(lines.len() == 11 && lines.iter().all(long_enough), "{done}");
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// A victim that waits for long, and murphy.
fn waiting(args: &[&str]) -> anyhow::Result<(tempfile::TempDir, ChildGuard, ChildGuard)> {
    let (folder, path) = file()?;
    let victim = start(1, &path)?;
    let murphy = inject(&[args, &["-e", LONG]].concat(), victim.pid())?;
    is_waiting(&victim)?;
    Ok((folder, victim, murphy))
}

fn stopped() -> Outcome {
    let (_folder, victim, murphy) = waiting(&[])?;
    let at = Instant::now();
    let report = stop(murphy)?;
    goes_on(&victim, at)?;
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    Ok(())
}

fn killed() -> Outcome {
    let (_folder, victim, murphy) = waiting(&["--lease", "30s"])?;
    let at = Instant::now();
    murphy.signal(libc::SIGKILL)?;
    goes_on(&victim, at)
}

fn lapsed() -> Outcome {
    let (_folder, victim, murphy) = waiting(&["--lease", "1s"])?;
    let at = Instant::now();
    murphy.signal(libc::SIGSTOP)?;
    goes_on(&victim, at)?;
    murphy.signal(libc::SIGCONT)?;
    stop(murphy).map(drop)
}

/// Murphy's helper of that name, or a helper's.
fn helper(of: u32, name: &str) -> anyhow::Result<Pid> {
    let children = format!("/proc/{of}/task/{of}/children");
    let children = fs::read_to_string(children)?;
    let is_it = |pid: &&str| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    let pid = children.split_whitespace().find(is_it);
    let pid = pid.with_context(|| format!("no {name} in {children:?}"))?;
    Pid::from_raw(pid.parse()?).context("no id")
}

fn served() -> Outcome {
    deserted(|server, _| server)
}

fn held() -> Outcome {
    deserted(|_, holder| holder)
}

/// One of server and holder is killed: who waits goes on, and nobody waits any more.
fn deserted(by: impl FnOnce(Pid, Pid) -> Pid) -> Outcome {
    let (_folder, victim, murphy) = waiting(&[])?;
    let server = helper(murphy.pid(), "murphy-delay")?;
    let holder = helper(server.as_raw_nonzero().get().unsigned_abs(), "murphy-page")?;
    let at = Instant::now();
    kill_process(by(server, holder), Signal::KILL)?;
    goes_on(&victim, at)?;
    let before = opened(&victim).len();
    wait_until(PATIENCE, || opened(&victim).len() > before + 2).context("it waits again")?;
    let report = stop(murphy)?;
    ensure!(
        count(&report, 0, "injected") <= 1 && count(&report, 0, "failed") >= 2,
        "{report}"
    );
    Ok(())
}

fn stuck() -> Outcome {
    let (_folder, victim, murphy) = waiting(&[])?;
    let server = helper(murphy.pid(), "murphy-delay")?;
    let at = Instant::now();
    kill_process(server, Signal::STOP)?;
    goes_on(&victim, at)?;
    stop(murphy).map(drop)
}

fn dies() -> Outcome {
    let (_folder, victim, murphy) = waiting(&[])?;
    let at = Instant::now();
    victim.signal(libc::SIGKILL)?;
    victim.finish(WELL_WITHIN)?;
    let took = at.elapsed();
    ensure!(took < WELL_WITHIN, "dead after {took:?}");
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// A cgroup below the root one, gone when this is.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let root = line.and_then(|line| line.split(' ').nth(4));
        let root = Path::new(root.context("no cgroup2")?);
        fs::write(root.join("cgroup.subtree_control"), "+cpuset")?;
        let path = root.join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// How long something takes that a third party does, in ms.
fn timed(work: impl FnOnce() -> Outcome) -> anyhow::Result<u128> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_millis())
}

/// Beside a thread that sleeps for two seconds, again and again: what others do to it and to their
/// own things waits for it, and no longer.
fn bystanders() -> Outcome {
    // Two sleeps and what an emulated machine adds; a tenth of what `!` allows.
    const BOUND: u128 = 6_000;
    let (_folder, path) = file()?;
    let group = Cgroup::new("tests-cpuset")?;
    let victim = start(1, &path)?;
    fs::write(group.0.join("cgroup.procs"), victim.pid().to_string())?;
    let fault = format!("openat:delay_enter=2s:path={path}");
    let murphy = inject(&["-e", &fault], victim.pid())?;
    let pid = victim.pid().to_string();
    // Of all its threads: the one that opens is not the first. One of the two masks moves it to
    // another processor, which is what waits.
    let mut pinned = 0;
    for mask in ["1", "2"] {
        is_waiting(&victim)?;
        pinned = pinned.max(timed(|| {
            let done = program("taskset").args(["-a", "-p", mask, &pid]).run()?;
            ensure!(done.code == Some(0), "{done}");
            Ok(())
        })?);
    }
    is_waiting(&victim)?;
    let (narrowed, made) = thread::scope(|scope| {
        let write = || timed(|| Ok(fs::write(group.0.join("cpuset.cpus"), "0")?));
        let narrowed = scope.spawn(write);
        let made = timed(|| drop_group("tests-beside"));
        let died = |_| anyhow::anyhow!("a thread panicked");
        Ok::<_, anyhow::Error>((narrowed.join().map_err(died)??, made?))
    })?;
    is_waiting(&victim)?;
    let link = tests::bpf::attach_lsm("file_permission")?;
    let detached = timed(|| {
        drop(link);
        Ok(())
    })?;
    tests::note(&format!(
        "beside a thread that sleeps for 2 s: taskset {pinned} ms, cpuset.cpus {narrowed} ms, \
         mkdir of a cgroup {made} ms, another BPF program detached {detached} ms"
    ));
    for took in [pinned, narrowed, made, detached] {
        ensure!(took < BOUND, "held up for {took} ms");
    }
    stop(murphy)?;
    drop(victim);
    Ok(())
}

/// Makes a cgroup, and removes it again.
fn drop_group(name: &str) -> Outcome {
    Cgroup::new(name).map(drop)
}

fn refused() -> Outcome {
    for (fault, word) in [
        ("openat:delay_enter=61s!", "60 s at most"),
        ("openat:delay_enter=2001ms", "holds up other processes"),
        ("openat:delay_exit=1s", "it waits at a hook"),
        ("read:delay_enter=1s", "lets no program sleep at its hook"),
        ("unlink:delay_enter=1s", "while the directory is locked"),
        ("chmod:delay_enter=1s", "while the file is locked"),
        ("connect:delay_enter=1s:connlimit=1", "no `connlimit`"),
    ] {
        let done = murphy(["inject", "--all", "-e", fault]).run()?;
        ensure!(done.code != Some(0) && done.stderr.contains(word), "{done}");
    }
    Ok(())
}
