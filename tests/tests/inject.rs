//! `murphy inject`: what runs already is hit, with its descendants, and nobody beside it.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Finished, Group, Need, Outcome, Program, case, murphy, murphy_path, needs,
    net::Echo, program, report::count, victim, victim::seen, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

const REFUSED: &str = "connect:error=ECONNREFUSED";

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "two processes are hit, a neighbour is not; Ctrl-C undoes it",
            least(),
            two,
        ),
        case("children that exist and that will", least(), family),
        case("--for ends it", least(), limit),
        case("it ends when all targets have ended", least(), targets_end),
        case("-q, and SIGTERM", least(), quiet),
        case("a connected UDP socket of before", least(), udp),
        case("a TCP connection of before", least(), tcp),
        case(
            "a target in another network namespace",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("unshare"),
                Tool("nsenter"),
                Tool("ip"),
                Tool("tc")
            ],
            namespace,
        ),
        case(
            "murphy's own parent as the target",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            parent,
        ),
        case("processes that are never hit", least(), never),
        case("processes that are not there", least(), not_there),
        case("a thread's id is no process's", least(), thread_id),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"])
    .role("talk", |_| talk())
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

/// Sends datagrams to itself by sockets that it has had from the beginning; tells of each whether it came. Three seconds: an emulated
/// machine under load may take one.
fn talk() -> Outcome {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    receiver.set_read_timeout(Some(Duration::from_secs(3)))?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    for number in 0..4000_u32 {
        sender.send(&number.to_le_bytes())?;
        let mut bytes = [0; 4];
        let came = loop {
            match receiver.recv(&mut bytes) {
                Ok(_) if u32::from_le_bytes(bytes) == number => break true,
                // One that was given up.
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        println!("{}", if came { "ok" } else { "lost" });
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn talker() -> Program {
    program(victim::self_path()).args(["talk"])
}

/// `murphy inject --json ARGS… --pid PID…`, armed.
fn inject(args: &[&str], pids: &[u32]) -> anyhow::Result<ChildGuard> {
    let murphy = command(args, pids).spawn()?;
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed)
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
    Ok(murphy)
}

fn command(args: &[&str], pids: &[u32]) -> Program {
    let pids = pids
        .iter()
        .flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    murphy(["inject", "--json"]).args(args).args(pids)
}

/// Its end and its result.
fn ended(murphy: ChildGuard, why: &str) -> anyhow::Result<Value> {
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).with_context(|| done.to_string())?;
    ensure!(report["ended"] == why, "{report}");
    ensure!(report.get("status").is_none(), "{report}");
    Ok(report)
}

/// Ends it as a person does.
fn stop(murphy: ChildGuard) -> anyhow::Result<Value> {
    murphy.signal(libc::SIGINT)?;
    ended(murphy, "stopped by a signal")
}

/// Waits until two more lines are there, which all say this.
fn sees(of: impl Fn() -> String, word: &str) -> Outcome {
    let before = of().lines().count();
    let new = || {
        of().lines()
            .skip(before)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    wait_until(PATIENCE, || {
        let new = new();
        new.len() > 1 && new[new.len() - 2..].iter().all(|line| line == word)
    })
    .with_context(|| format!("{word} is not seen: {:?}", new().last()))
}

fn output(of: &ChildGuard) -> impl Fn() -> String {
    || of.stdout().unwrap_or_default()
}

fn file(path: &Path) -> impl Fn() -> String {
    move || fs::read_to_string(path).unwrap_or_default()
}

/// A victim that connects until it is no longer needed.
fn connecting(echo: &Echo) -> anyhow::Result<ChildGuard> {
    victim::victim(["connect", &echo.address.to_string(), "12000", "5"]).spawn()
}

fn two() -> Outcome {
    let echo = Echo::start()?;
    let (one, other, neighbour) = (connecting(&echo)?, connecting(&echo)?, connecting(&echo)?);
    for process in [&one, &other, &neighbour] {
        sees(output(process), "ok")?;
    }
    let murphy = inject(&["-e", REFUSED], &[one.pid(), other.pid()])?;
    ensure!(murphy.stderr()?.contains("2 processes"));
    sees(output(&one), "ECONNREFUSED")?;
    sees(output(&other), "ECONNREFUSED")?;
    sees(output(&neighbour), "ok")?;
    let report = stop(murphy)?;
    sees(output(&one), "ok")?;
    sees(output(&other), "ok")?;
    let refused = seen(&one.stdout()?, "ECONNREFUSED") + seen(&other.stdout()?, "ECONNREFUSED");
    ensure!(
        count(&report, 0, "injected") == refused && count(&report, 0, "matched") == refused,
        "{refused} seen: {report}"
    );
    ensure!(seen(&neighbour.stdout()?, "ECONNREFUSED") == 0);
    Ok(())
}

fn family() -> Outcome {
    let (echo, folder) = (Echo::start()?, tempfile::tempdir()?);
    let (child, future) = (folder.path().join("child"), folder.path().join("future"));
    let address = echo.address;
    // The second child is a shell that goes on making grandchildren.
    let script = format!(
        "\"$0\" victim connect {address} 12000 5 > \"$1\" & a=$!
         (i=0; while [ $i -lt 2000 ]; do \"$0\" victim connect {address} 1; i=$((i+1)); done) > \"$2\" & b=$!
         trap 'kill $a $b; exit' TERM; wait"
    );
    let shell = program("sh")
        .args(["-c", &script])
        .args([&victim::self_path(), &child, &future])
        .spawn()?;
    sees(file(&child), "ok")?;
    sees(file(&future), "ok")?;
    let murphy = inject(&["-e", REFUSED], &[shell.pid()])?;
    let both = [
        (&child, "the child of before"),
        (&future, "a child of afterwards"),
    ];
    for (path, who) in both {
        sees(file(path), "ECONNREFUSED").context(who)?;
    }
    stop(murphy)?;
    for (path, who) in both {
        sees(file(path), "ok").context(who)?;
    }
    // It ends its children.
    shell.signal(libc::SIGTERM)?;
    shell.finish(PATIENCE)?;
    Ok(())
}

fn limit() -> Outcome {
    let echo = Echo::start()?;
    let victim = connecting(&echo)?;
    let begun = Instant::now();
    let murphy = inject(&["-e", REFUSED, "--for", "1s"], &[victim.pid()])?;
    sees(output(&victim), "ECONNREFUSED")?;
    let report = ended(murphy, "the time is over")?;
    ensure!(begun.elapsed() >= Duration::from_secs(1), "ended early");
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    sees(output(&victim), "ok")
}

fn targets_end() -> Outcome {
    let echo = Echo::start()?;
    let victim = connecting(&echo)?;
    let murphy = inject(&["-e", REFUSED], &[victim.pid()])?;
    sees(output(&victim), "ECONNREFUSED")?;
    drop(victim);
    ended(murphy, "all targets have ended").map(drop)
}

fn quiet() -> Outcome {
    let echo = Echo::start()?;
    let victim = connecting(&echo)?;
    let pid = victim.pid().to_string();
    let murphy = murphy(["inject", "-q", "-e", REFUSED, "--pid", &pid]).spawn()?;
    sees(output(&victim), "ECONNREFUSED")?;
    murphy.signal(libc::SIGTERM)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(done.stderr.is_empty() && done.stdout.is_empty(), "{done}");
    sees(output(&victim), "ok")
}

fn udp() -> Outcome {
    let (target, neighbour) = (talker().spawn()?, talker().spawn()?);
    sees(output(&target), "ok")?;
    sees(output(&neighbour), "ok")?;
    let murphy = inject(&["-e", "egress:loss=100%:proto=udp"], &[target.pid()])?;
    sees(output(&target), "lost")?;
    let report = stop(murphy)?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    sees(output(&target), "ok")?;
    // Before 6.6 clsact comes and goes, for which the kernel stops the interface a moment each (docs/faults/egress.md).
    let moments = if Need::Tcx.check().is_ok() { 0 } else { 2 };
    let lost = seen(&neighbour.stdout()?, "lost");
    ensure!(
        lost <= moments,
        "a neighbour was hit {lost} times: {report}"
    );
    Ok(())
}

fn tcp() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let talks = || victim::victim(["echo", &address, "6000", "10"]).spawn();
    let (target, neighbour) = (talks()?, talks()?);
    sees(output(&target), "ok")?;
    sees(output(&neighbour), "ok")?;
    let murphy = inject(&["-e", "egress:loss=100%"], &[target.pid()])?;
    // One round may have been on its way.
    let then = target.stdout()?.lines().count() + 1;
    for _ in 0..10 {
        sees(output(&neighbour), "ok")?;
    }
    let now = target.stdout()?.lines().count();
    ensure!(now <= then, "its data arrives: {now} rounds, not {then}");
    let report = stop(murphy)?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    // What was lost is sent again: nobody was told of an error.
    sees(output(&target), "ok")?;
    ensure!(target.stdout()?.lines().all(|line| line == "ok"));
    Ok(())
}

fn namespace() -> Outcome {
    let neighbour = talker().spawn()?;
    let target = program("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" talk"])
        .args([victim::self_path()])
        .spawn()?;
    sees(output(&target), "ok").with_context(|| target.stderr().unwrap_or_default())?;
    let pid = target.pid().to_string();
    let inside = |words: &[&str]| program("nsenter").args(["-t", &pid, "-n"]).args(words);
    // Beside it in its namespace, and in ours.
    let beside = inside(&[])
        .args([victim::self_path()])
        .args(["talk"])
        .spawn()?;
    sees(output(&beside), "ok")?;
    sees(output(&neighbour), "ok")?;

    let murphy = inject(&["-e", "egress:loss=100%"], &[target.pid()])?;
    sees(output(&target), "lost")?;
    sees(output(&beside), "ok")?;
    sees(output(&neighbour), "ok")?;
    let report = stop(murphy)?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    sees(output(&target), "ok")?;
    for other in [&beside, &neighbour] {
        ensure!(seen(&other.stdout()?, "lost") == 0, "a neighbour was hit");
    }
    // The harness looks for leftovers in our namespace only.
    let qdiscs = inside(&["tc", "qdisc", "show", "dev", "lo"]).run()?;
    let filters = inside(&["tc", "filter", "show", "dev", "lo", "egress"]).run()?;
    ensure!(!qdiscs.stdout.contains("clsact"), "{qdiscs}");
    ensure!(filters.stdout.trim().is_empty(), "{filters}");
    Ok(())
}

/// Every write of the shell and its children to files fails, and murphy, one of them, writes its result.
fn parent() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (result, file) = (folder.path().join("result"), folder.path().join("file"));
    let script = "\"$0\" inject --json -o \"$1\" -e write:error=ENOSPC:on=file --pid $$ 2> \"$1.said\" & m=$!
        i=0; while echo x > \"$2\" && [ $i -lt 1000 ]; do sleep 0.02; i=$((i+1)); done
        kill -INT $m; wait $m";
    let done = program("sh")
        .args(["-c", script])
        .args([&murphy_path(), &result, &file])
        .run()?;
    // The shell's own complaint is refused too: its standard error is a file here.
    ensure!(done.code == Some(0), "{done}");
    let text = fs::read_to_string(&result)?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{text:?}, {done}"))?;
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    Ok(())
}

/// Refused with this word, and told what helps where something does.
fn refused(done: &Finished, words: &[&str]) -> Outcome {
    ensure!(done.code == Some(2), "{done}");
    for word in words {
        ensure!(done.stderr.contains(word), "no {word} in {done}");
    }
    ensure!(
        !done.stderr.contains("armed") && !done.stderr.contains("panicked"),
        "{done}"
    );
    Ok(())
}

fn never() -> Outcome {
    let victim = program("sleep").args(["60"]).spawn()?;
    // Beside one that could be hit: never half a plan.
    let with = |pid| command(&["-e", REFUSED, "--for", "1s"], &[victim.pid(), pid]).run();
    refused(&with(1)?, &["process 1 ", "PID 1"])?;
    refused(&with(2)?, &["process 2 ", "kernel thread"])?;
    let itself = program("sh")
        .args([
            "-c",
            "exec \"$0\" inject -e connect:error=EPERM --for 1s --pid $$",
        ])
        .args([murphy_path()])
        .run()?;
    refused(&itself, &["murphy itself"])
}

fn not_there() -> Outcome {
    let victim = program("sleep").args(["60"]).spawn()?;
    // Beyond the greatest there is (PID_MAX_LIMIT, include/linux/threads.h).
    for pid in [0, 4_194_305, u32::MAX] {
        let done = command(&["-e", REFUSED, "--for", "1s"], &[victim.pid(), pid]).run()?;
        refused(&done, &[&pid.to_string(), "help: "])?;
    }
    Ok(())
}

/// The kernel knows targets by the ids of processes: a thread's would never match, and nobody were told.
fn thread_id() -> Outcome {
    let mut threads = fs::read_dir("/proc/self/task")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let other = threads
        .find(|id| *id != std::process::id())
        .context("this program has one thread")?;
    let done = command(&["-e", REFUSED, "--for", "1s"], &[other]).run()?;
    refused(&done, &[&other.to_string(), "help: "])
}
