//! The guardian: what no descriptor owns is undone when the injector dies, and nothing of anybody else's.
//!
//! The injector here is this program itself, started with a list of steps: the guardian has to be forked while its program
//! has one thread, which a test does not have.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use murphy_engine::guardian::Guardian;
use murphy_engine::undo::Undo;
use murphy_kernel::clsact;
use murphy_state::cleanup::Cleanup;
use murphy_sys::cgroup2::Cgroup2;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use tests::{ChildGuard, Group, Outcome, case, needs, program, wait_until};

/// Kernel and emulator together are slow at times; the guardian's own bounds are shorter.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a killed injector's cgroup is emptied and removed",
            needs![Root, Cgroup2],
            killed,
        ),
        case(
            "a child of the injector that lives on does not keep the guardian waiting",
            needs![Root, Cgroup2],
            stray,
        ),
        case(
            "an unwinding injector waits until the guardian has undone",
            needs![Root, Cgroup2],
            unwinding,
        ),
        case("finish leaves nothing", needs![Root, Cgroup2], finished),
        case(
            "without a guardian nothing is journalled",
            needs![Root, Cgroup2],
            without_guardian,
        ),
        case(
            "a guardian is only forked from a single thread",
            needs![],
            threads,
        ),
        case(
            "a filter goes with its namespace's path gone",
            needs![Root, Tool("tc"), Tool("unshare"), Tool("nsenter")],
            pathless,
        ),
        case(
            "filters of others survive",
            needs![Root, Tool("tc"), Tool("unshare")],
            || {
                let done = program("unshare")
                    .args(["-n", &this()?, "guardian-in-netns"])
                    .run()?;
                ensure!(done.code == Some(0), "{done}");
                Ok(())
            },
        ),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"])
    // Deaths at any moment: one failure in a thousand counts.
    .once()
    .role("as-injector", injector)
    .role("guardian-in-netns", |_| filters())
}

fn this() -> anyhow::Result<String> {
    Ok(env::current_exe()?.to_string_lossy().into_owned())
}

/// A cgroup beside our own, as an undo.
fn cgroup(name: &str) -> anyhow::Result<(PathBuf, Undo)> {
    let own = Cgroup2::find()?.context("no cgroup2")?.own;
    let path = own.join(name);
    let undo = Undo::from(Cleanup::Cgroup {
        path: path.clone(),
        back_to: own,
    });
    Ok((path, undo))
}

/// Does the steps `WORD` or `WORD:CGROUP`, telling each, then waits to be killed unless told to end.
fn injector(steps: &[String]) -> Outcome {
    let mut guardian = Guardian::start()?;
    println!("guardian {}", guardian.pid());
    for step in steps {
        let (word, name) = step.split_once(':').unwrap_or((step, ""));
        let (path, undo) = cgroup(name)?;
        match word {
            "journal" => match guardian.journal(&undo) {
                Ok(()) => println!("journalled"),
                Err(error) => println!("refused {:?}", error.kind()),
            },
            "make" => fs::create_dir(path)?,
            "spawn" => println!("child {}", sleeper(&path.join("cgroup.procs"))?),
            // Forked and not executed: it has a copy of everything, the guardian's socket included.
            "stray" => println!("child {}", stray_child()?),
            "filter" => guardian.journal(&ours_on_lo(Some(namespace_of(name))))?,
            "undo" => println!("undone {:?}", undo.undo()?),
            "forget" => guardian.forget(&[undo]),
            "kill-guardian" => kill_process(pid(guardian.pid())?, Signal::KILL)?,
            "fail" => anyhow::bail!("as asked"),
            "finish" => {
                guardian.finish();
                return Ok(());
            }
            _ => anyhow::bail!("unknown step {step}"),
        }
    }
    println!("ready");
    loop {
        thread::park();
    }
}

/// A process that moves itself into a cgroup, then sleeps.
#[allow(clippy::zombie_processes)] // the test reaps it, see `adopt`
fn sleeper(procs: &std::path::Path) -> anyhow::Result<u32> {
    let script = format!("echo $$ > {} && exec sleep 60", procs.display());
    let child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .spawn()?;
    let (procs, pid) = (procs.to_owned(), child.id().to_string());
    wait_until(PATIENCE, || {
        fs::read_to_string(&procs).is_ok_and(|text| text.lines().any(|line| line == pid))
    })?;
    Ok(child.id())
}

fn stray_child() -> anyhow::Result<i32> {
    // SAFETY: the injector has one thread, and the child does nothing but wait.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: no precondition.
            unsafe { libc::pause() };
        },
        -1 => Err(std::io::Error::last_os_error().into()),
        child => Ok(child),
    }
}

/// Starts an injector and waits until it has done its steps.
fn start(steps: &[String]) -> anyhow::Result<ChildGuard> {
    // Orphans become ours, so that it is we who see how they end.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let injector = program(this()?)
        .args(["as-injector".to_owned()])
        .args(steps)
        .spawn()?;
    wait_until(PATIENCE, || {
        injector.stdout().is_ok_and(|text| text.contains("ready"))
    })
    .with_context(|| injector.stderr().unwrap_or_default())?;
    Ok(injector)
}

/// A process id that the injector has told.
fn told(injector: &ChildGuard, what: &str) -> anyhow::Result<Pid> {
    let text = injector.stdout()?;
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix(what)?.trim().parse().ok())
        .with_context(|| format!("no {what} in {text}"))?;
    pid(id)
}

fn pid(id: u32) -> anyhow::Result<Pid> {
    Pid::from_raw(i32::try_from(id)?).context("not a process id")
}

/// Waits for the end of an orphan that has become our child; its exit status.
fn adopt(orphan: Pid) -> anyhow::Result<Option<i32>> {
    let mut status = None;
    wait_until(PATIENCE, || {
        if let Ok(Some((_, ended))) = waitpid(Some(orphan), WaitOptions::NOHANG) {
            status = Some(ended);
        }
        status.is_some()
    })
    .context("it does not end")?;
    Ok(status.and_then(rustix::process::WaitStatus::exit_status))
}

fn end(orphan: Pid) -> Outcome {
    kill_process(orphan, Signal::KILL)?;
    adopt(orphan).map(drop)
}

fn steps(words: &[&str], name: &str) -> Vec<String> {
    words.iter().map(|word| format!("{word}:{name}")).collect()
}

fn name(of: &str) -> String {
    format!("murphy-test-{of}-{}", std::process::id())
}

fn killed() -> Outcome {
    let name = name("killed");
    let (path, _) = cgroup(&name)?;
    let injector = start(&steps(&["journal", "make", "spawn"], &name))?;
    let (guardian, child) = (told(&injector, "guardian")?, told(&injector, "child")?);
    // A cgroup below, which the command may have made.
    let below = path.join("below");
    fs::create_dir(&below)?;
    fs::write(below.join("cgroup.procs"), child.to_string())?;
    // What ends an injector from a terminal or a service manager must not end its guardian.
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::TSTP,
    ] {
        kill_process(guardian, signal)?;
    }

    injector.signal(libc::SIGKILL)?;
    injector.finish(PATIENCE)?;
    ensure!(adopt(guardian)? == Some(0), "the guardian failed");
    ensure!(!path.exists(), "{} is still there", path.display());
    let of_child = fs::read_to_string(format!("/proc/{child}/cgroup"))?;
    ensure!(!of_child.contains(&name), "not moved: {of_child}");
    end(child)
}

fn stray() -> Outcome {
    let name = name("stray");
    let (path, _) = cgroup(&name)?;
    let injector = start(&steps(&["journal", "make", "stray"], &name))?;
    let (guardian, child) = (told(&injector, "guardian")?, told(&injector, "child")?);
    injector.signal(libc::SIGKILL)?;
    injector.finish(PATIENCE)?;
    ensure!(adopt(guardian)? == Some(0), "the guardian failed");
    ensure!(!path.exists(), "{} is still there", path.display());
    end(child)
}

fn unwinding() -> Outcome {
    let name = name("unwinding");
    let (path, _) = cgroup(&name)?;
    let done = program(this()?)
        .args(["as-injector".to_owned()])
        .args(steps(&["journal", "make", "fail"], &name))
        .run()?;
    ensure!(done.code == Some(1), "{done}");
    // At once, not some time later: the injector has waited.
    ensure!(!path.exists(), "{} is still there", path.display());
    Ok(())
}

fn finished() -> Outcome {
    let words = ["journal", "make", "undo", "forget", "finish"];
    let done = program(this()?)
        .args(["as-injector".to_owned()])
        .args(steps(&words, &name("finished")))
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(done.stdout.contains("undone Done"), "{done}");
    ensure!(
        done.took < Duration::from_secs(4),
        "it has waited for something: {done}"
    );
    let guardian = done
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("guardian "));
    let guardian = guardian.context("no guardian")?;
    ensure!(
        !PathBuf::from(format!("/proc/{guardian}")).exists(),
        "{done}"
    );
    Ok(())
}

fn without_guardian() -> Outcome {
    let words = ["kill-guardian", "journal", "finish"];
    let done = program(this()?)
        .args(["as-injector".to_owned()])
        .args(steps(&words, &name("without")))
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    // Linux 5.10 says it the one way or the other, as the socket's end was reached or not.
    let refused = ["refused BrokenPipe", "refused ConnectionRefused"];
    ensure!(
        refused.iter().any(|words| done.stdout.contains(words)),
        "{done}"
    );
    Ok(())
}

fn threads() -> Outcome {
    let other = thread::spawn(thread::park);
    let refused = Guardian::start();
    other.thread().unpark();
    let error = refused.err().context("forked beside another thread")?;
    ensure!(error.kind() == std::io::ErrorKind::Unsupported, "{error}");
    Ok(())
}

/// The kernel makes `lo` the first interface of every network namespace.
const LO: u32 = 1;

fn ours_on_lo(netns: Option<PathBuf>) -> Undo {
    Undo::from(Cleanup::TcFilter {
        netns,
        ifindex: LO,
        interface: "lo".to_owned(),
        side: clsact::Side::Egress,
        priority: 100,
        made_clsact: true,
    })
}

fn namespace_of(pid: &str) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// The namespace's first process ends; a second lives on in it, and so does the filter.
fn pathless() -> Outcome {
    let first = program("unshare").args(["-n", "sleep", "60"]).spawn()?;
    let (own, its) = (namespace_of("self"), namespace_of(&first.pid().to_string()));
    wait_until(PATIENCE, || {
        fs::read_link(&its).is_ok_and(|its| fs::read_link(&own).is_ok_and(|own| own != its))
    })?;
    let namespace = format!("--net={}", its.display());
    let second = program("nsenter")
        .args([&namespace, "sleep", "60"])
        .spawn()?;
    let its = namespace_of(&second.pid().to_string());
    wait_until(PATIENCE, || {
        fs::read_link(&its).is_ok_and(|its| fs::read_link(&own).is_ok_and(|own| own != its))
    })?;
    let inside = |script: &str| {
        let namespace = format!("--net={}", its.display());
        program("nsenter")
            .args([&namespace, "sh", "-c", script])
            .run()
    };
    let made = inside(
        "tc qdisc add dev lo clsact && \
         tc filter add dev lo egress prio 100 protocol all bpf da bytecode '1,6 0 0 4294967295'",
    )?;
    ensure!(made.code == Some(0), "{made}");

    let injector = start(&[format!("filter:{}", first.pid())])?;
    let guardian = told(&injector, "guardian")?;
    drop(first);
    injector.signal(libc::SIGKILL)?;
    injector.finish(PATIENCE)?;
    ensure!(adopt(guardian)? == Some(0), "the guardian failed");
    let left = inside("tc qdisc show dev lo")?;
    ensure!(
        left.code == Some(0) && !left.stdout.contains("clsact"),
        "{left}"
    );
    Ok(())
}

/// In a network namespace of its own.
fn filters() -> Outcome {
    let tc = |args: &str| -> anyhow::Result<String> {
        let done = program("tc").args(args.split(' ')).run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(done.stdout)
    };
    let add = |side: &str, priority: u16| -> Outcome {
        let priority = priority.to_string();
        let done = program("tc")
            .args(["filter", "add", "dev", "lo", side, "prio", &priority])
            .args([
                "protocol",
                "all",
                "bpf",
                "da",
                "bytecode",
                "1,6 0 0 4294967295",
            ])
            .run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(())
    };
    ensure!(clsact::ensure(LO)? && !clsact::ensure(LO)?);
    add("egress", 100)?;
    add("egress", 100)?;
    add("egress", 200)?;
    tc("filter add dev lo egress prio 300 protocol ip u32 match u32 0 0 flowid 1:1")?;

    // Ours go, all of them, and theirs stay, and with them the qdisc.
    ours_on_lo(None).undo()?;
    ensure!(
        clsact::remove_filters(LO, clsact::Side::Egress, 300).is_err(),
        "removed a filter of another kind"
    );
    let left = tc("filter show dev lo egress")?;
    ensure!(!left.contains("pref 100"), "{left}");
    ensure!(
        left.contains("pref 200") && left.contains("pref 300"),
        "{left}"
    );

    // One on the ingress side alone keeps it too.
    tc("filter del dev lo egress")?;
    add("ingress", 100)?;
    ensure!(!clsact::remove_if_empty(LO)?, "removed in use");
    tc("filter del dev lo ingress")?;
    ensure!(clsact::remove_if_empty(LO)? && !clsact::remove_if_empty(LO)?);
    ensure!(!clsact::remove_filters(LO, clsact::Side::Egress, 100)?);
    let qdiscs = tc("qdisc show dev lo")?;
    ensure!(!qdiscs.contains("clsact"), "{qdiscs}");

    // The older kind has its place, and stays.
    tc("qdisc add dev lo ingress")?;
    ensure!(clsact::ensure(LO).is_err(), "took ingress for clsact");
    ensure!(!clsact::remove_if_empty(LO)?);
    let qdiscs = tc("qdisc show dev lo")?;
    ensure!(qdiscs.contains("ingress"), "{qdiscs}");
    Ok(())
}
