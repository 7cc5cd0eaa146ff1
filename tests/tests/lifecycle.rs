//! Injections are seen and ended from outside: records, control sockets, `status`, `stop`, `panic`, `recover`.
//!
//! Each case has a state folder of its own, so that it meets nobody else's injections.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Finished, Group, Outcome, Program, case, murphy, murphy_path, needs, net::Echo,
    program, report::count, victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

const REFUSED: &str = "connect:error=ECONNREFUSED";

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case("inject --detach, status, stop", net(), detached),
        case(
            "stop ends the faults of run, not its command",
            net(),
            stopped_run,
        ),
        case("two injectors on one process", net(), two),
        case("a name is had by one", net(), names),
        case(
            "panic ends everything and refuses, until resume",
            net(),
            panic,
        ),
        case("recover undoes what both deaths left", net(), recover),
        case("the next start recovers by itself", net(), next_start),
        case("a stopped injector is killed by stop", net(), hung),
        case("several stops at once kill nothing", net(), stopped_at_once),
        case("--keepalive ends what nobody renews", net(), keepalive),
        case(
            "the control socket is root's and the owner's",
            needs![Root, Cgroup2, Atomics, Tool("setpriv")],
            strangers,
        ),
        case(
            "a full disk refuses before anything is attached",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            full_disk,
        ),
        case(
            "a folder that others may write is not trusted",
            net(),
            untrusted,
        ),
        case(
            "a terminal that hangs up is told to the command",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            hangs_up,
        ),
        case(
            "arguments of commands are in no file that others read",
            net(),
            arguments,
        ),
        case(
            "a full standard error is not the command's status",
            net(),
            full_stderr,
        ),
    ])
    // The command line is the same on every kernel: one of the newer ones has it, and not the
    // newest, which has the most to do.
    .in_kernels(&["trixie"])
}

/// A state folder of one case.
struct State(tempfile::TempDir);

impl State {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    fn murphy(&self, args: &[&str]) -> Program {
        murphy(args).env("MURPHY_RUN_DIR", self.0.path())
    }

    /// Runs to a successful end.
    fn done(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let done = self.murphy(args).run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(done)
    }

    /// What `status --json` says of an id.
    fn status(&self, id: &str) -> anyhow::Result<Value> {
        let done = self.done(&["status", "--id", id, "--json"])?;
        let mut said: Value = serde_json::from_str(&done.stdout)?;
        Ok(said["injections"][0].take())
    }

    fn is_active(&self, id: &str) -> bool {
        let done = self.murphy(&["status", "--id", id]).run();
        done.is_ok_and(|done| done.code == Some(0))
    }

    /// `murphy run --name NAME -- victim STEPS`, on the way.
    fn run(&self, name: &str, steps: &[&str]) -> anyhow::Result<ChildGuard> {
        self.murphy(&["run", "-q", "--name", name, "-e", REFUSED, "--"])
            .args([victim::self_path()])
            .args(victim::words(steps.iter().copied()))
            .spawn()
    }

    /// No file is left in it.
    fn is_empty(&self) -> Outcome {
        let files = || -> Vec<PathBuf> {
            let entries = fs::read_dir(self.0.path()).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        wait_until(PATIENCE, || files().is_empty()).with_context(|| format!("left: {:?}", files()))
    }
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

fn connecting(echo: &Echo) -> anyhow::Result<ChildGuard> {
    victim::victim(["connect", &echo.address.to_string(), "3000", "10"]).spawn()
}

fn detached() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let (victim, neighbour) = (connecting(&echo)?, connecting(&echo)?);
    sees(&victim, "ok")?;
    let pid = victim.pid().to_string();
    let inject = [
        "inject", "--detach", "--json", "-e", REFUSED, "--for", "2m", "--pid", &pid,
    ];
    let armed = state.done(&inject)?;
    let armed: Value = serde_json::from_str(&armed.stdout)?;
    let id = armed["id"].as_str().context("no id")?;
    ensure!(armed["processes"] == 1, "{armed}");
    // Its caller has ended; it has not.
    sees(&victim, "ECONNREFUSED")?;
    let status = state.status(id)?;
    ensure!(status["owner"]["pid"] == armed["pid"], "{status}");
    ensure!(
        status["faults"][0] == REFUSED && status["command"] == "inject",
        "{status}"
    );
    ensure!(
        status["left_s"]
            .as_f64()
            .is_some_and(|left| left > 0.0 && left <= 120.0),
        "{status}"
    );
    ensure!(count(&status["report"], 0, "injected") > 0, "{status}");
    let stopped = state.done(&["stop", id, "--json"])?;
    let stopped: Value = serde_json::from_str(&stopped.stdout)?;
    // Reverted by the time stop returns, and both views agree.
    sees(&victim, "ok")?;
    let seen = victim::seen(&victim.stdout()?, "ECONNREFUSED");
    let injected = count(&stopped["stopped"][0]["report"], 0, "injected");
    ensure!(injected == seen, "{injected} injected, {seen} seen");
    ensure!(
        victim::seen(&neighbour.stdout()?, "ECONNREFUSED") == 0,
        "the neighbour was hit"
    );
    let again = state.murphy(&["stop", id]).run()?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("ended"),
        "{again}"
    );
    ensure!(!state.is_active(id), "still active");
    state.is_empty()
}

fn stopped_run() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let address = echo.address.to_string();
    let run = state.run("r", &["connect", &address, "300", "10"])?;
    sees(&run, "ECONNREFUSED")?;
    let stopped = state.done(&["stop", "r", "--reason", "enough"])?;
    ensure!(stopped.stdout.contains("cgroup"), "{stopped}");
    sees(&run, "ok")?;
    ensure!(!state.is_active("r"), "still active");
    let done = run.finish(PATIENCE)?;
    ensure!(
        done.code == Some(0) && done.stdout.lines().count() == 300,
        "{done}"
    );
    state.is_empty()
}

fn two() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    let pid = victim.pid().to_string();
    for (name, fault) in [("one", "connect:error=EPERM"), ("two", "net:loss=1%")] {
        state.done(&[
            "inject", "--detach", "--name", name, "-e", fault, "--pid", &pid,
        ])?;
    }
    sees(&victim, "EPERM")?;
    ensure!(state.is_active("one") && state.is_active("two"));
    // Each ends for itself.
    state.done(&["stop", "one"])?;
    sees(&victim, "ok")?;
    ensure!(!state.is_active("one") && state.is_active("two"));
    state.done(&["stop", "--all"])?;
    ensure!(!state.is_active("two"));
    state.is_empty()
}

fn names() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let address = echo.address.to_string();
    let run = state.run("mine", &["connect", &address, "3000", "10"])?;
    sees(&run, "ECONNREFUSED")?;
    let taken = state
        .murphy(&["inject", "--name", "mine", "-e", REFUSED, "--all"])
        .run()?;
    ensure!(taken.code == Some(75), "{taken}");
    for word in ["mine", "murphy stop mine", REFUSED, &run.pid().to_string()] {
        ensure!(taken.stderr.contains(word), "no {word} in {taken}");
    }
    let wrong = state
        .murphy(&["inject", "--name", "../x", "-e", REFUSED, "--all"])
        .run()?;
    ensure!(
        wrong.code == Some(2) && wrong.stderr.contains("../x"),
        "{wrong}"
    );
    state.done(&["stop", "mine"])?;
    drop(run);
    state.is_empty()
}

fn panic() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let address = echo.address.to_string();
    let run = state.run("r", &["connect", &address, "3000", "10"])?;
    let victim = connecting(&echo)?;
    let pid = victim.pid().to_string();
    state.done(&[
        "inject", "--detach", "--name", "i", "-e", REFUSED, "--pid", &pid,
    ])?;
    sees(&run, "ECONNREFUSED")?;
    sees(&victim, "ECONNREFUSED")?;
    let panic = state.done(&["panic", "--reason", "smoke in the room"])?;
    ensure!(panic.stdout.contains("murphy resume"), "{panic}");
    sees(&run, "ok")?;
    sees(&victim, "ok")?;
    let refused = state.murphy(&["run", "-e", REFUSED, "--", "true"]).run()?;
    ensure!(refused.code == Some(125), "{refused}");
    let refused = state.murphy(&["inject", "-e", REFUSED, "--all"]).run()?;
    ensure!(refused.code == Some(75), "{refused}");
    for word in ["smoke in the room", "murphy resume"] {
        ensure!(refused.stderr.contains(word), "no {word} in {refused}");
    }
    state.done(&["resume"])?;
    state.done(&["run", "-q", "-e", REFUSED, "--", "true"])?;
    state.is_empty()
}

/// Kills injector and guardian together, as a service manager may.
fn kill_both(state: &State, name: &str, run: &ChildGuard) -> Outcome {
    let guardian = state.status(name)?["guardian"]["pid"]
        .as_i64()
        .and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?))
        .context("no guardian")?;
    run.signal(libc::SIGSTOP)?;
    rustix::process::kill_process(guardian, rustix::process::Signal::KILL)?;
    run.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || !state.is_active(name)).context("it is active for ever")
}

fn recover() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let address = echo.address.to_string();
    let run = state.run("dead", &["connect", &address, "300", "10"])?;
    let alive = state.run("alive", &["connect", &address, "3000", "10"])?;
    sees(&run, "ECONNREFUSED")?;
    sees(&alive, "ECONNREFUSED")?;
    kill_both(&state, "dead", &run)?;
    sees(&run, "ok")?;
    let cgroup = format!("murphy-{}", run.pid());
    let dry = state.done(&["recover", "--dry-run"])?;
    ensure!(
        dry.stdout.contains("would undo") && dry.stdout.contains(&cgroup),
        "{dry}"
    );
    let done = state.done(&["recover"])?;
    ensure!(
        done.stdout.contains("undone") && done.stdout.contains(&cgroup),
        "{done}"
    );
    ensure!(
        !done.stdout.contains(&format!("murphy-{}", alive.pid())),
        "{done}"
    );
    let again = state.done(&["recover"])?;
    ensure!(again.stdout.contains("nothing to recover"), "{again}");
    // The living are left alone.
    ensure!(state.is_active("alive"));
    sees(&alive, "ECONNREFUSED")?;
    state.done(&["stop", "--all"])?;
    state.is_empty()
}

fn next_start() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let run = state.run(
        "dead",
        &["connect", &echo.address.to_string(), "3000", "10"],
    )?;
    sees(&run, "ECONNREFUSED")?;
    kill_both(&state, "dead", &run)?;
    // Silently, also for one that wants the same name.
    let next = state.done(&["run", "-q", "--name", "dead", "-e", REFUSED, "--", "true"])?;
    ensure!(next.stderr.is_empty(), "{next}");
    state.is_empty()
}

/// One of them ends it, and the others see that it is ending.
fn stopped_at_once() -> Outcome {
    for _ in 0..5 {
        let run = murphy(["run", "-q", "--name", "at-once", "-e", REFUSED, "--"])
            .args(["sh", "-c", "echo begun; sleep 1; exit 7"])
            .spawn()?;
        let begun = || run.stdout().is_ok_and(|said| said.contains("begun"));
        wait_until(PATIENCE, begun)?;
        let stops = (0..3).map(|_| murphy(["stop", "at-once"]).spawn());
        for stop in stops.collect::<Result<Vec<_>, _>>()? {
            let done = stop.finish(PATIENCE)?;
            ensure!(!done.stdout.contains("was killed"), "{done}");
        }
        let done = run.finish(PATIENCE)?;
        ensure!(done.code == Some(7), "{done}");
    }
    Ok(())
}

fn hung() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let run = state.run("r", &["connect", &echo.address.to_string(), "3000", "10"])?;
    sees(&run, "ECONNREFUSED")?;
    run.signal(libc::SIGSTOP)?;
    let stop = state.done(&["stop", "r", "--timeout", "1s"])?;
    ensure!(
        stop.stdout.contains("killed") && stop.stdout.contains("reverted"),
        "{stop}"
    );
    sees(&run, "ok")?;
    state.is_empty()
}

fn keepalive() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let victim = connecting(&echo)?;
    let pid = victim.pid().to_string();
    let inject = [
        "inject",
        "--detach",
        "--name",
        "k",
        "--keepalive",
        "4s",
        "-e",
        REFUSED,
    ];
    state.done(&[&inject[..], &["--pid", &pid]].concat())?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        state.done(&["renew", "k"])?;
    }
    sees(&victim, "ECONNREFUSED")?;
    sees(&victim, "ok")?;
    wait_until(PATIENCE, || !state.is_active("k")).context("it goes on for ever")?;
    let late = state.murphy(&["renew", "k"]).run()?;
    ensure!(
        late.code == Some(1) && late.stderr.contains("ended"),
        "{late}"
    );
    state.is_empty()
}

fn strangers() -> Outcome {
    let (state, echo) = (State::new()?, Echo::start()?);
    let copy = state.0.path().with_extension("murphy");
    fs::copy(murphy_path(), &copy)?;
    let run = state.run("r", &["connect", &echo.address.to_string(), "3000", "10"])?;
    sees(&run, "ECONNREFUSED")?;
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let done = program("setpriv")
        .args(nobody)
        .args([&copy])
        .args(["stop", "r", "--timeout", "2s"])
        .env("MURPHY_RUN_DIR", state.0.path())
        .run();
    fs::remove_file(&copy)?;
    let done = done?;
    ensure!(
        done.code == Some(1) && done.stderr.contains("65534 may not"),
        "{done}"
    );
    sees(&run, "ECONNREFUSED")?;
    state.done(&["stop", "r"])?;
    state.is_empty()
}

fn full_disk() -> Outcome {
    let state = State::new()?;
    // A mount namespace of its own takes the file system with it.
    let script = "mount -t tmpfs -o size=8k none \"$MURPHY_RUN_DIR\" && chmod 755 \"$MURPHY_RUN_DIR\" && \
                  { head -c 8192 /dev/zero > \"$MURPHY_RUN_DIR/filler\" || true; } && exec \"$@\"";
    let done = program("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([murphy_path()])
        .args(["run", "-e", REFUSED, "--", "echo", "ran"])
        .env("MURPHY_RUN_DIR", state.0.path())
        .run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    for word in ["No space left", "record", "help: ", "MURPHY_RUN_DIR"] {
        ensure!(done.stderr.contains(word), "no {word} in {done}");
    }
    state.is_empty()
}

fn untrusted() -> Outcome {
    let state = State::new()?;
    fs::set_permissions(state.0.path(), fs::Permissions::from_mode(0o777))?;
    let done = state
        .murphy(&["run", "-e", REFUSED, "--", "echo", "ran"])
        .run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    ensure!(
        done.stderr.contains("777") && done.stderr.contains("chmod"),
        "{done}"
    );
    state.is_empty()
}

fn full_stderr() -> Outcome {
    let state = State::new()?;
    let line = "\"$0\" run -e connect:error=EPERM -- sh -c 'exit 7' 2>/dev/full";
    let done = program("sh")
        .args(["-c", line])
        .args([murphy_path()])
        .env("MURPHY_RUN_DIR", state.0.path())
        .run()?;
    ensure!(done.code == Some(7), "{done}");
    state.is_empty()
}

/// murphy leads the session of the terminal, as in `ssh -t HOST murphy run …`.
fn hangs_up() -> Outcome {
    let state = State::new()?;
    let said = state.0.path().with_extension("said");
    let code = "import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
while not os.path.exists(sys.argv[-1] + '.begun'): time.sleep(0.01)
os.close(terminal)
os.waitpid(pid, 0)
";
    let script =
        "trap 'echo hung up > \"$0\"; exit 0' HUP; : > \"$0.begun\"; while :; do sleep 0.05; done";
    let run = program("python3")
        .args(["-c", code])
        .args([murphy_path()])
        .args(["run", "-q", "-e", REFUSED, "--", "sh", "-c", script])
        .args([&said])
        .env("MURPHY_RUN_DIR", state.0.path())
        .limit(Duration::from_secs(30))
        .run();
    let text = fs::read_to_string(&said).unwrap_or_default();
    for path in [
        said.clone(),
        PathBuf::from(format!("{}.begun", said.display())),
    ] {
        let _ = fs::remove_file(path);
    }
    run?;
    ensure!(text == "hung up\n", "{text:?}");
    state.is_empty()
}

fn arguments() -> Outcome {
    let state = State::new()?;
    let run = state
        .murphy(&["run", "-q", "--name", "r", "-e", REFUSED, "--"])
        .args(["sleep", "61.25"])
        .spawn()?;
    wait_until(PATIENCE, || state.is_active("r"))?;
    let text = || fs::read_to_string(state.0.path().join("r.json")).unwrap_or_default();
    let record = text();
    ensure!(
        record.contains("command sleep") && !record.contains("61.25"),
        "{record}"
    );
    // Who may ask is told.
    let told = || {
        let status = state.status("r");
        status.is_ok_and(|status| status["argv"].to_string().contains("61.25"))
    };
    wait_until(PATIENCE, told).context("the owner does not see the arguments")?;
    state.done(&["stop", "r"])?;
    drop(run);
    state.is_empty()
}
