//! Bounded by construction: a murphy that is killed, stopped or late injects no more, and leaves nothing.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tests::{ChildGuard, Group, Outcome, case, murphy, needs, net::Echo, victim, wait_until};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// So long that a fault which ends with its lease, and not with its owner, is told apart on the busiest machine.
const LONG_LEASE: &str = "15s";
const WELL_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case(
            "SIGKILL: the faults are gone at once, and so is everything else",
            net(),
            killed,
        ),
        case("SIGKILL of inject, too", net(), killed_inject),
        case(
            "SIGKILL while packets are lost: within the lease",
            net(),
            killed_packets,
        ),
        case(
            "SIGSTOP: the faults are gone within the lease, and back after SIGCONT",
            net(),
            stopped,
        ),
        case("for=: the kernel ends a fault by itself", net(), deadline),
        case("two murphies at once do not see each other", net(), two),
        case(
            "in a time namespace the lease is kept",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            shifted,
        ),
        case("SIGKILL at any moment leaves nothing", net(), any_moment),
        case(
            "SIGKILL while the record is written leaves no part of it",
            net(),
            killed_writing,
        ),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"])
    // Signals at random moments: one failure in a thousand counts.
    .once()
}

/// Boot time is what the kernel programs read, not what a time namespace says that it is.
fn shifted() -> Outcome {
    let echo = Echo::start()?;
    // Before Linux 6.3 a process enters the namespace that it made by a fork only.
    let forward = ["--fork", "--time", "--boottime", "1000000", "--"];
    let done = tests::program("unshare")
        .args(forward)
        .args([tests::murphy_path()])
        .args(["run", "-q", "-e", "connect:error=ECONNREFUSED", "--"])
        .args([victim::self_path()])
        .args(victim::words([
            "connect",
            &echo.address.to_string(),
            "5",
            "1",
        ]))
        .run()?;
    ensure!(victim::seen(&done.stdout, "ECONNREFUSED") == 5, "{done}");
    Ok(())
}

/// The lines a victim has printed so far.
fn lines(victim: &ChildGuard) -> Vec<String> {
    victim
        .stdout()
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn sees(victim: &ChildGuard, word: &str) -> anyhow::Result<()> {
    wait_until(PATIENCE, || {
        lines(victim).last().is_some_and(|line| line == word)
    })
    .with_context(|| format!("the victim does not see {word}: {:?}", lines(victim).last()))
}

/// `murphy run ARGS -- victim STEPS`, on the way; the victim's output is murphy's.
fn run(args: &[&str], steps: &[&str]) -> anyhow::Result<ChildGuard> {
    murphy(["run", "-q"])
        .args(args)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words(steps.iter().copied()))
        .spawn()
}

fn killed() -> Outcome {
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "400", "10"];
    let murphy = run(
        &["--lease", LONG_LEASE, "-e", "connect:error=ECONNREFUSED"],
        &steps,
    )?;
    sees(&murphy, "ECONNREFUSED")?;
    murphy.signal(libc::SIGKILL)?;
    let at = Instant::now();
    sees(&murphy, "ok")?;
    let took = at.elapsed();
    // Well within the lease: the links went with their descriptors.
    ensure!(took < WELL_WITHIN, "faults for another {took:?}");
    wait_until(PATIENCE, || lines(&murphy).len() == 400).context("the victim lives on")?;
    Ok(())
}

fn killed_inject() -> Outcome {
    let echo = Echo::start()?;
    let victim = victim::victim(["connect", &echo.address.to_string(), "500", "10"]).spawn()?;
    sees(&victim, "ok")?;
    let pid = victim.pid().to_string();
    let murphy = murphy(["inject", "-e", "connect:error=ECONNREFUSED", "--pid", &pid])
        .args(["--lease", LONG_LEASE])
        .spawn()?;
    sees(&victim, "ECONNREFUSED")?;
    murphy.signal(libc::SIGKILL)?;
    let at = Instant::now();
    sees(&victim, "ok")?;
    ensure!(
        at.elapsed() < WELL_WITHIN,
        "faults for another {:?}",
        at.elapsed()
    );
    Ok(())
}

/// Before 6.6 the classifier outlives its loader for a moment: its lease ends it, the guardian removes it.
fn killed_packets() -> Outcome {
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "1", "0"];
    let murphy = run(&["--lease", "1s", "-e", "egress:loss=100%"], &steps)?;
    let port = echo.address.port();
    wait_until(PATIENCE, || is_connecting(port)).context("the victim does not connect")?;
    // The connection is not made while every SYN is lost.
    thread::sleep(Duration::from_millis(1500));
    ensure!(
        lines(&murphy).is_empty(),
        "connected in spite of the loss: {:?}",
        lines(&murphy)
    );
    murphy.signal(libc::SIGKILL)?;
    sees(&murphy, "ok")
}

/// Whether somebody has sent a SYN to that port of this machine and waits for the answer.
fn is_connecting(port: u16) -> bool {
    // proc_net_tcp: remote address and port, then the state; 02 is SYN_SENT.
    let waits = format!(":{port:04X} 02 ");
    std::fs::read_to_string("/proc/net/tcp").is_ok_and(|table| table.contains(&waits))
}

fn stopped() -> Outcome {
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "2000", "10"];
    let murphy = run(
        &["--lease", "1s", "-e", "connect:error=ECONNREFUSED"],
        &steps,
    )?;
    sees(&murphy, "ECONNREFUSED")?;
    murphy.signal(libc::SIGSTOP)?;
    let at = Instant::now();
    sees(&murphy, "ok")?;
    let took = at.elapsed();
    ensure!(
        took < Duration::from_secs(6),
        "faults for another {took:?}, lease 1 s"
    );
    murphy.signal(libc::SIGCONT)?;
    sees(&murphy, "ECONNREFUSED")?;
    murphy.signal(libc::SIGTERM)?;
    murphy.finish(PATIENCE)?;
    Ok(())
}

fn deadline() -> Outcome {
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "250", "10"];
    let murphy = run(&["-e", "connect:error=ECONNREFUSED:for=1s"], &steps)?;
    sees(&murphy, "ECONNREFUSED")?;
    // It is not murphy that ends it: it is stopped, with a lease that goes on.
    sees(&murphy, "ok")?;
    let done = murphy.finish(PATIENCE)?;
    let seen: Vec<_> = done.stdout.lines().collect();
    let over = seen.iter().position(|line| *line == "ok").unwrap_or(0);
    ensure!(
        over > 0 && seen[over..].iter().all(|line| *line == "ok"),
        "{done}"
    );
    Ok(())
}

fn two() -> Outcome {
    let (one, other) = (Echo::start()?, Echo::start()?);
    let first = run(
        &["-e", "connect:error=ECONNREFUSED"],
        &["connect", &one.address.to_string(), "200", "10"],
    )?;
    let second = run(
        &["-e", "connect:error=ETIMEDOUT"],
        &["connect", &other.address.to_string(), "100", "10"],
    )?;
    let (first, second) = (first.finish(PATIENCE * 2)?, second.finish(PATIENCE * 2)?);
    ensure!(
        victim::seen(&first.stdout, "ECONNREFUSED") == 200,
        "{first}"
    );
    ensure!(victim::seen(&second.stdout, "ETIMEDOUT") == 100, "{second}");
    Ok(())
}

/// Kills murphy at moments spread over its start, its work and its end. The harness looks for leftovers.
fn any_moment() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address;
    let text = address.to_string();
    for round in 0..12 {
        let faults = ["-e", "connect:error=ECONNREFUSED", "-e", "net:loss=50%"];
        let murphy = run(&faults, &["connect", &text, "10", "5"])?;
        thread::sleep(Duration::from_millis(round * 7));
        // It may be done already.
        let _ = murphy.signal(libc::SIGKILL);
        drop(murphy);
        reachable(address)?;
    }
    Ok(())
}

/// A moment that chance seldom meets: the first record is written, and has not got its name.
fn killed_writing() -> Outcome {
    let murphy_itself = tests::murphy_path();
    let inner = [
        murphy_itself.as_os_str(),
        "run".as_ref(),
        "-e".as_ref(),
        "connect:error=ECONNREFUSED".as_ref(),
        "--".as_ref(),
        "true".as_ref(),
    ];
    let done = murphy(["run", "-q", "--backend", "seccomp"])
        .args(["-e", "/^rename:error=EIO:signal=SIGKILL:times=1", "--"])
        .args(inner)
        .run()?;
    ensure!(done.code == Some(128 + libc::SIGKILL), "{done}");
    Ok(())
}

/// This program is no target: it connects whatever happens.
fn reachable(address: SocketAddr) -> anyhow::Result<()> {
    TcpStream::connect_timeout(&address, PATIENCE).context("an untargeted process is hit")?;
    Ok(())
}
