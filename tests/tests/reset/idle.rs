//! `egress:reset=all`: connections that nobody speaks on are reset when the fault is armed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Finished, Outcome, Program, hosts::Hosts, murphy, program, report::count, victim,
    victim::seen, victim::self_path, wait_until,
};

use super::{PATIENCE, PEER, server};

/// The victim: `hold ADDRESS N` makes connections, says so, says nothing on them, and tells how each ended.
pub(crate) fn hold(args: &[String]) -> Outcome {
    let [address, count] = args else {
        anyhow::bail!("hold ADDRESS N");
    };
    let address: SocketAddr = address.parse()?;
    let streams = (0..count.parse::<u32>()?)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<Vec<_>, _>>()?;
    println!("connected");
    let waiting: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || match stream.read(&mut [0]) {
                Ok(n) => println!("got {n}"),
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {
                    println!("ECONNABORTED");
                }
                Err(error) => println!("{error}"),
            })
        })
        .collect();
    for one in waiting {
        one.join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    }
    Ok(())
}

/// Starts it, and waits until it is connected.
fn connected(program: Program, address: SocketAddr, count: usize) -> anyhow::Result<ChildGuard> {
    let victim = program
        .args(["hold", &address.to_string(), &count.to_string()])
        .spawn()?;
    wait_until(PATIENCE, || says(&victim, "connected") == 1).context("not connected")?;
    Ok(victim)
}

fn says(victim: &ChildGuard, word: &str) -> u64 {
    seen(&victim.stdout().unwrap_or_default(), word)
}

/// `murphy inject` against it; armed when this returns.
fn inject(fault: &str, victim: &ChildGuard, more: &[&str]) -> anyhow::Result<ChildGuard> {
    let injector = murphy(["inject", "--json", "--for", "5m", "-e", fault, "--pid"])
        .args([victim.pid().to_string()])
        .args(more)
        .spawn()?;
    wait_until(PATIENCE, || {
        injector.stderr().is_ok_and(|said| said.contains("armed"))
    })
    .with_context(|| injector.stderr().unwrap_or_default())?;
    Ok(injector)
}

/// Ends it; what it counted.
fn ended(injector: ChildGuard) -> anyhow::Result<(Finished, Value)> {
    injector.signal(libc::SIGINT)?;
    let done = injector.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let line = done.stderr.lines().last().unwrap_or_default();
    let report = serde_json::from_str(line).with_context(|| done.to_string())?;
    Ok((done, report))
}

/// Both ends, the neighbour, the counters, the events, and afterwards.
pub(crate) fn both_ends() -> Outcome {
    let (address, told) = server("127.0.0.1:0")?;
    // This process is no target.
    let mut neighbour = TcpStream::connect(address)?;
    let mut speaks = || {
        neighbour.write_all(b"x")?;
        neighbour.read_exact(&mut [0])
    };
    speaks()?;
    let victim = connected(program(self_path()), address, 1)?;
    let folder = tempfile::tempdir()?;
    let events = folder.path().join("events");
    let events = events.to_str().context("a path")?;
    let fault = format!("egress:reset=all:port={}", address.port());
    let injector = inject(&fault, &victim, &["--events", events])?;
    let server = told.recv_timeout(PATIENCE).context("not reset")?;
    ensure!(
        server == Some(std::io::ErrorKind::ConnectionReset),
        "the other end saw {server:?}"
    );
    let pid = victim.pid();
    let victim = victim.finish(PATIENCE)?;
    ensure!(seen(&victim.stdout, "ECONNABORTED") == 1, "{victim}");
    speaks().context("a neighbour's connection was reset")?;
    let (done, report) = ended(injector)?;
    ensure!(
        count(&report, 0, "matched") == 1 && count(&report, 0, "injected") == 1,
        "{done}"
    );
    let text = std::fs::read_to_string(events)?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    let matches: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "match")
        .collect();
    ensure!(
        matches.len() == 1
            && matches[0]["verdict"] == "injected"
            && matches[0]["n"] == 1
            && matches[0]["pid"] == pid
            && matches[0]["port"] == address.port(),
        "{text}"
    );
    let repeated = murphy(["replay", events]).run()?;
    ensure!(repeated.code == Some(0), "{repeated}");
    speaks().context("a neighbour's connection afterwards")?;
    let works = victim::victim(["echo", &address.to_string(), "3"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 3, "{works}");
    Ok(())
}

/// Triggers choose among them; by IPv6, where there is that.
pub(crate) fn some() -> Outcome {
    let (address, told) = server("[::1]:0").or_else(|_| server("127.0.0.1:0"))?;
    let victim = connected(program(self_path()), address, 3)?;
    let injector = inject("egress:reset=all:times=2", &victim, &[])?;
    for _ in 0..2 {
        let server = told.recv_timeout(PATIENCE).context("not reset")?;
        ensure!(
            server == Some(std::io::ErrorKind::ConnectionReset),
            "the other end saw {server:?}"
        );
    }
    wait_until(PATIENCE, || says(&victim, "ECONNABORTED") == 2)?;
    let (done, report) = ended(injector)?;
    let counted = |name| count(&report, 0, name);
    ensure!(
        counted("matched") == 3
            && counted("injected") == 2
            && report["faults"][0]["suppressed"]["times"] == 1,
        "{done}"
    );
    ensure!(told.try_recv().is_err(), "all three were reset");
    Ok(())
}

/// A target in another network namespace, and its peer on another host.
pub(crate) fn other_host() -> Outcome {
    let hosts = Hosts::new()?;
    let peer = hosts
        .over_there("python3")
        .args(["-c", PEER, &hosts.there().to_string()])
        .spawn()?;
    wait_until(PATIENCE, || {
        peer.stdout().is_ok_and(|said| said.contains("listening"))
    })?;
    let address = SocketAddr::from((hosts.there(), 7007));
    let victim = hosts.here(&self_path().to_string_lossy());
    let victim = connected(victim, address, 1)?;
    let injector = inject("egress:reset=all:dst=198.18.0.0/24", &victim, &[])?;
    let victim = victim.finish(PATIENCE)?;
    ensure!(seen(&victim.stdout, "ECONNABORTED") == 1, "{victim}");
    let peer = peer.finish(PATIENCE)?;
    ensure!(peer.stdout.contains("ConnectionResetError"), "{peer}");
    let (done, report) = ended(injector)?;
    ensure!(count(&report, 0, "injected") == 1, "{done}");
    Ok(())
}
