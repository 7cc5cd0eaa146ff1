//! Faults that say themselves whom they hit: several targets with different faults in one injection, beside a neighbour.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::net::Echo;
use tests::report::count;
use tests::victim::seen;
use tests::{
    ChildGuard, Finished, Group, Need, Outcome, case, murphy, needs, program, victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    tests::group([
        case("two targets, each with its own fault", least(), two),
        case(
            "beside those whom the command names",
            least(),
            beside_the_command,
        ),
        case("packets of two users", least(), packets),
        case(
            "files of two programs",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            files,
        ),
        case("run is narrowed down", least(), narrowed),
        case(
            "somebody has to be named, and has to be there",
            least(),
            refusals,
        ),
    ])
    // Targets are the same on every kernel: one of the newer ones has them.
    .in_kernels(&["sid"])
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

/// User ids that nobody else has.
const USER: u32 = 54_331;
const OTHER: u32 = 54_332;

/// Two programs of their own, and a service to connect to. The test program itself is the neighbour.
struct Scene {
    folder: tempfile::TempDir,
    echo: Echo,
    a: PathBuf,
    b: PathBuf,
}

impl Scene {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let copy = |name: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            fs::copy(victim::self_path(), &path)?;
            Ok(path)
        };
        let (a, b) = (copy("a")?, copy("b")?);
        let echo = Echo::start()?;
        Ok(Self { folder, echo, a, b })
    }

    /// A fault on the service; `keys` say whom.
    fn refuse(&self, error: &str, keys: &str) -> String {
        format!("connect:error={error}:port={}{keys}", self.echo.port())
    }

    /// So many connections by a program.
    fn connects(&self, by: &Path, count: &str) -> Result<Finished> {
        let address = self.echo.address.to_string();
        program(by)
            .args(victim::words(["connect", &address, count]))
            .run()
    }
}

/// All lines are this word, and there are so many.
fn all(of: &Finished, word: &str, lines: u64) -> Outcome {
    let told = of.stdout.lines().count() as u64;
    ensure!(
        seen(&of.stdout, word) == lines && told == lines,
        "not {lines} times {word}: {of}"
    );
    Ok(())
}

fn inject(args: &[&str]) -> Result<ChildGuard> {
    let murphy = murphy(["inject", "--json", "--for", "60s"])
        .args(args)
        .spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

fn stop(murphy: ChildGuard) -> Result<Value> {
    murphy.signal(libc::SIGINT)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| done.to_string())
}

fn counted(report: &Value, expected: &[u64]) -> Outcome {
    for (fault, &expected) in expected.iter().enumerate() {
        for counter in ["matched", "injected"] {
            ensure!(
                count(report, fault, counter) == expected,
                "not {expected} {counter} by fault {fault}: {report:#}"
            );
        }
    }
    Ok(())
}

/// Nobody is named by options; and what was decided can be decided again.
fn two() -> Outcome {
    let scene = Scene::new()?;
    let neighbour = victim::self_path();
    let first = scene.refuse("ECONNREFUSED", &format!(":exe={}", scene.a.display()));
    let second = scene.refuse("EHOSTUNREACH", &format!(":exe={}", scene.b.display()));
    let events = scene.folder.path().join("events");
    let events = events.to_str().context("a strange folder")?;
    all(&scene.connects(&scene.a, "1")?, "ok", 1)?;
    let murphy = inject(&["-e", &first, "-e", &second, "--events", events])?;
    all(&scene.connects(&scene.a, "5")?, "ECONNREFUSED", 5)?;
    all(&scene.connects(&scene.b, "4")?, "EHOSTUNREACH", 4)?;
    all(&scene.connects(&neighbour, "3")?, "ok", 3)?;
    counted(&stop(murphy)?, &[5, 4])?;
    for program in [&scene.a, &scene.b] {
        all(&scene.connects(program, "2")?, "ok", 2)?;
    }
    let again = tests::murphy(["replay", events]).run()?;
    ensure!(again.code == Some(0), "{again}");
    Ok(())
}

/// A fault without keys is for the command's targets; one with keys for its own; one that only spares for the command's
/// without those. The first that injects wins.
fn beside_the_command() -> Outcome {
    let scene = Scene::new()?;
    let (a, b) = (scene.a.display(), scene.b.display());
    let own = scene.refuse("EHOSTUNREACH", &format!(":exe={b}:times=1"));
    let but = scene.refuse("EACCES", &format!(":exe=!{a}:times=1"));
    let of_all = scene.refuse("ECONNREFUSED", "");
    let user = USER.to_string();
    let murphy = inject(&["--uid", &user, "-e", &own, "-e", &but, "-e", &of_all])?;
    let by_user = |by: &Path| {
        let mut program = program(by).args(victim::words([
            "connect",
            &scene.echo.address.to_string(),
            "3",
        ]));
        program.command().uid(USER);
        program.run()
    };
    make_open(scene.folder.path())?;
    // Of that user: b is hit by all three, a is spared by the second. b of another user has the first behind it.
    let lines = |done: &Finished| done.stdout.lines().collect::<Vec<_>>().join(" ");
    let saw = lines(&by_user(&scene.b)?);
    ensure!(saw == "EHOSTUNREACH EACCES ECONNREFUSED", "b saw {saw}");
    all(&by_user(&scene.a)?, "ECONNREFUSED", 3)?;
    all(&scene.connects(&scene.a, "2")?, "ok", 2)?;
    all(&scene.connects(&scene.b, "2")?, "ok", 2)?;
    let report = stop(murphy)?;
    // The first is asked five times, by b alone; the second by b of that user; the third by whomever both let pass.
    for (fault, (matched, injected)) in [(5, 1), (2, 1), (4, 4)].into_iter().enumerate() {
        ensure!(
            count(&report, fault, "matched") == matched
                && count(&report, fault, "injected") == injected,
            "fault {fault}: {report:#}"
        );
    }
    all(&by_user(&scene.b)?, "ok", 3)
}

/// How many packets have arrived.
fn arrived(at: &UdpSocket) -> Result<u64> {
    at.set_nonblocking(true)?;
    Ok((0..).take_while(|_| at.recv(&mut [0; 8]).is_ok()).count() as u64)
}

/// Other users may execute what is in there.
fn make_open(folder: &Path) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        folder,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// One user's packets to one receiver are lost, another's to another; across, all arrive.
fn packets() -> Outcome {
    let receivers = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    let port = |of: &UdpSocket| of.local_addr().map(|address| address.port());
    let lose = |to: &UdpSocket, user: u32| -> Result<String> {
        Ok(format!("egress:loss=100%:port={}:uid={user}", port(to)?))
    };
    let faults = [lose(&receivers[0], USER)?, lose(&receivers[1], OTHER)?];
    let murphy = inject(&["-e", &faults[0], "-e", &faults[1]])?;
    let send = |user: u32, to: &UdpSocket, count: &str| -> Outcome {
        let address = to.local_addr()?.to_string();
        let mut sender = victim::victim(["udp", &address, count]);
        sender.command().uid(user);
        let done = sender.run()?;
        // The sender is told nothing.
        ensure!(!done.stdout.contains('E'), "{done}");
        Ok(())
    };
    send(USER, &receivers[0], "5")?;
    send(USER, &receivers[1], "2")?;
    send(OTHER, &receivers[1], "4")?;
    send(OTHER, &receivers[0], "3")?;
    send(0, &receivers[0], "1")?;
    let report = stop(murphy)?;
    let arrived = [arrived(&receivers[0])?, arrived(&receivers[1])?];
    ensure!(arrived == [4, 2], "{arrived:?} arrived: {report:#}");
    counted(&report, &[5, 4])
}

/// The same file: two programs cannot write to it, each for its own reason; a third can.
fn files() -> Outcome {
    let scene = Scene::new()?;
    let file = scene.folder.path().join("file");
    let file = file.to_str().context("a strange folder")?;
    let fault =
        |error: &str, by: &Path| format!("write:error={error}:on=file:exe={}", by.display());
    let faults = [fault("ENOSPC", &scene.a), fault("EIO", &scene.b)];
    // `both` writes to the file, then to a pipe.
    let both =
        |by: &Path, count: &str| program(by).args(victim::words(["both", file, count])).run();
    let murphy = inject(&["-e", &faults[0], "-e", &faults[1]])?;
    all(&both(&scene.a, "4")?, "ENOSPC", 4)?;
    all(&both(&scene.b, "3")?, "EIO", 3)?;
    all(&both(&victim::self_path(), "2")?, "ok", 2)?;
    counted(&stop(murphy)?, &[4, 3])?;
    all(&both(&scene.a, "1")?, "ok", 1)
}

/// Of the command, one program's connections and another's packets; the same programs outside are neighbours, as is each
/// to the other's fault.
fn narrowed() -> Outcome {
    let scene = Scene::new()?;
    let fault = scene.refuse("ECONNREFUSED", &format!(":exe={}", scene.a.display()));
    let (ready, go) = (
        scene.folder.path().join("ready"),
        scene.folder.path().join("go"),
    );
    let script = "\"$0\" victim connect $4 3; \"$1\" victim connect $4 2; \"$0\" victim udp $5 1; \
                  \"$1\" victim udp $5 2 >&2; touch \"$2\"; \
                  while [ ! -e \"$3\" ]; do sleep 0.05; done; \"$0\" victim connect $4 1";
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let to = receiver.local_addr()?;
    let lose = format!(
        "egress:loss=100%:port={}:exe={}",
        to.port(),
        scene.b.display()
    );
    let output = scene.folder.path().join("report");
    let running = murphy(["run", "--json", "-o"])
        .args([&output])
        .args(["-e", &fault, "-e", &lose, "--", "sh", "-c", script])
        .args([&scene.a, &scene.b, &ready, &go])
        .args([scene.echo.address.to_string(), to.to_string()])
        .spawn()?;
    wait_until(PATIENCE, || ready.exists())
        .with_context(|| running.stderr().unwrap_or_default())?;
    let outside = scene.connects(&scene.a, "4")?;
    program(&scene.b)
        .args(victim::words(["udp", &to.to_string(), "1"]))
        .run()?;
    fs::write(&go, "")?;
    let done = running.finish(PATIENCE)?;
    all(&outside, "ok", 4)?;
    let saw: Vec<_> = done.stdout.lines().collect();
    let e = "ECONNREFUSED";
    ensure!(saw == [e, e, e, "ok", "ok", "ok", e], "{done}");
    let arrived = arrived(&receiver)?;
    ensure!(arrived == 2, "{arrived} packets arrived: {done}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&output)?)?;
    counted(&report, &[4, 2])?;
    all(&scene.connects(&scene.a, "1")?, "ok", 1)
}

/// The word, the place, the remedy; nothing is attached.
fn refusals() -> Outcome {
    let inject = &["inject"][..];
    let run = &["run"][..];
    for (command, fault, code, expected) in [
        (
            inject,
            "connect:error=EPERM",
            2,
            &["hits nobody", "comm=NAME", "--comm NAME"][..],
        ),
        (inject, "connect:error=EPERM:comm=!sh", 2, &["hits nobody"]),
        (
            inject,
            "connect:error=EPERM:pid=x",
            2,
            &["`x` is no pid", "the number of a process", "^"],
        ),
        (inject, "connect:error=EPERM:comm=", 2, &["comm", "^"]),
        (inject, "connect:error=EPERM:pid=4194303", 2, &["4194303"]),
        (
            inject,
            "connect:error=EPERM:comm=sshd",
            2,
            &["sshd", "--no-exempt"],
        ),
        (
            inject,
            "connect:error=EPERM:uid=no-such-user",
            2,
            &["no-such-user", "getent passwd"],
        ),
        (
            inject,
            "connect:error=EPERM:exe=/no/such/file",
            2,
            &["/no/such/file"],
        ),
        (
            inject,
            "connect:error=EPERM:netns=no-such",
            2,
            &["no-such", "ip netns list"],
        ),
        (
            inject,
            "connect:error=EPERM:tid=x",
            2,
            &["`x` is no tid", "the number of a thread", "^"],
        ),
        (
            run,
            "connect:error=EPERM:pid=1",
            125,
            &[
                "`pid` in `connect:error=EPERM:pid=1`",
                "comm, exe and uid",
                "murphy inject",
            ],
        ),
        (run, "fsync:error=EIO:comm=a", 125, &["seccomp", "`comm`"]),
    ] {
        let mut program = murphy(command).args(["-e", fault]);
        if command == run {
            program = program.args(["--", "true"]);
        }
        let done = program.run()?;
        ensure!(done.code == Some(code), "not {code}: {done}");
        for word in expected {
            ensure!(done.stderr.contains(word), "no {word} in {done}");
        }
    }
    // Whom it hits makes no difference to what a kernel can do.
    let done = murphy(["doctor", "-e", "connect:error=EPERM:pid=1"]).run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}
