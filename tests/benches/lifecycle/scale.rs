//! Many events at once, many children a second.

use std::{
    fs,
    net::UdpSocket,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{murphy, victim::self_path, wait_until};

use crate::{by::By, row};

const PATIENCE: Duration = Duration::from_secs(300);
/// Events of a burst.
const BURST: u32 = 1_000_000;
/// Children, one after the other.
const CHILDREN: u32 = 2_000;

/// Sends datagrams as fast as one thread can.
pub(crate) fn send(address: &str, count: u32) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..count {
        socket.send_to(b"x", address)?;
    }
    Ok(())
}

/// A million injections by one thread, each told to a file: how many are, and how many murphy says were lost.
pub(crate) fn events(repetitions: usize) -> Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let address = receiver.local_addr()?;
    let (mut rate, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let folder = tempfile::tempdir()?;
        let (file, report) = (folder.path().join("events"), folder.path().join("report"));
        let fault = format!("egress:loss=100%:port={}", address.port());
        let begun = Instant::now();
        let done = murphy(["run", "--json", "-e", &fault, "--events"])
            .args([&file])
            .args(["-o"])
            .args([&report])
            .args(["--"])
            .args([self_path()])
            .args(["load", "send", &address.to_string(), &BURST.to_string()])
            .limit(PATIENCE)
            .run()?;
        let took = begun.elapsed().as_secs_f64();
        ensure!(done.code == Some(0), "{done}");
        let report: Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
        let told = fs::read_to_string(&file)?;
        let told = told
            .lines()
            .filter(|line| line.contains("\"event\":\"match\""))
            .count();
        let said = report["events_lost"].as_u64().context("no events_lost")?;
        ensure!(
            told as u64 + said == u64::from(BURST),
            "{told} told and {said} lost of {BURST}"
        );
        rate.push(f64::from(BURST) / took);
        lost.push(said as f64 / f64::from(BURST) * 100.0);
    }
    row("events", "of a burst of a million", "lost", "%", &lost);
    row("events", "injected and told", "rate", "a second", &rate);
    Ok(())
}

/// Children that live for one connect each: how many a second, and how many were missed.
pub(crate) fn children(repetitions: usize) -> Result<()> {
    const PORT: u16 = 47;
    let cases = [None].into_iter().chain(By::ALL.map(Some));
    let mut all: Vec<_> = cases.map(|by| (by, Vec::new(), Vec::new())).collect();
    for _ in 0..repetitions {
        for (by, rate, missed) in &mut all {
            let injector = by.map(|by| by.start(PORT)).transpose()?;
            if injector.is_some() {
                wait_until(PATIENCE, || !connects(PORT))?;
            }
            let begun = Instant::now();
            let mut escaped = 0;
            for _ in 0..CHILDREN {
                escaped += u32::from(child(PORT)?);
            }
            rate.push(f64::from(CHILDREN) / begun.elapsed().as_secs_f64());
            missed.push(f64::from(escaped));
            if let Some(injector) = injector {
                injector.signal(libc::SIGTERM)?;
                injector.finish(PATIENCE)?;
            }
            // Afterwards they are let be: they can be missed.
            sleep(Duration::from_millis(10));
            ensure!(child(PORT)?, "a child is hit after the end");
        }
    }
    let name = |by: Option<By>| by.map_or("nobody injects", By::name);
    for (by, rate, _) in &all {
        row(
            "children",
            name(*by),
            "forked, connected, gone",
            "a second",
            rate,
        );
    }
    for (by, _, missed) in all.iter().filter(|(by, ..)| by.is_some()) {
        row("children", name(*by), "missed of 2000", "children", missed);
    }
    Ok(())
}

fn connects(port: u16) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0");
    socket.is_ok_and(|socket| socket.connect(("127.0.0.1", port)).is_ok())
}

/// Forks a child that connects once; whether it could.
fn child(port: u16) -> Result<bool> {
    // SAFETY: this program has one thread, so the child may do what it likes; it leaves without its parent's destructors.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let could = connects(port);
        // SAFETY: no precondition.
        unsafe { libc::_exit(i32::from(could)) };
    }
    ensure!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: writes the status of a child of ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(
        waited == pid && libc::WIFEXITED(status),
        "a child ended by {status}"
    );
    Ok(libc::WEXITSTATUS(status) != 0)
}
