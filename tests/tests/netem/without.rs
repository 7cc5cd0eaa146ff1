//! A plain delay on a kernel without netem: its module is taken out, and the kernel kept from loading it again, while such a
//! case runs.

use std::{fs, io, net::SocketAddr, net::UdpSocket, time::Duration};

use anyhow::{Context as _, ensure};
use tests::{Outcome, murphy, net::Echo, program, report::count, victim::self_path, wait_until};

use super::{
    killed_late,
    travel::{PATIENCE, least, times, travel, traveller},
};

/// The program that the kernel has load modules.
const LOADER: &str = "/proc/sys/kernel/modprobe";

/// As many datagrams as fill fq's own limit for one connection and a half, and no receiver's buffer.
const BURST: usize = 150;

/// Netem is missing until this goes.
struct Without {
    loader: String,
}

impl Without {
    /// What else murphy takes is loaded before: the kernel loads nothing any more. The outer error is the reason to skip.
    fn begin() -> anyhow::Result<Result<Self, String>> {
        if !fs::exists("/sys/module/sch_netem")? {
            return Ok(Err("netem is built into the kernel".to_owned()));
        }
        let fq = "ip link set lo up && tc qdisc add dev lo root fq";
        let loaded = program("unshare").args(["-n", "sh", "-c", fq]).run()?;
        if loaded.code != Some(0) {
            return Ok(Err(format!("no fq: {}", loaded.stderr)));
        }
        // What else it takes.
        let held = murphy(["run", "-q", "-e", "net:delay=1ms", "--", "true"]).run()?;
        ensure!(held.code == Some(0), "{held}");
        let this = Self {
            loader: fs::read_to_string(LOADER)?,
        };
        fs::write(LOADER, "/nowhere")?;
        // The network namespace of the test before may still have one.
        wait_until(PATIENCE, || {
            program("rmmod")
                .args(["sch_netem"])
                .run()
                .is_ok_and(|done| done.code == Some(0))
        })
        .context("netem is in use")?;
        Ok(Ok(this))
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        let _ = fs::write(LOADER, self.loader.trim());
    }
}

/// Runs a case without netem.
pub(crate) fn without(case: impl FnOnce() -> Outcome) -> Outcome {
    match Without::begin()? {
        Ok(_held) => case(),
        Err(reason) => tests::skip(reason),
    }
}

/// `burst ADDRESS`: sends many datagrams at once, waits for all, and prints how many came back.
pub(crate) fn burst(args: &[String]) -> Outcome {
    let address: SocketAddr = args.first().context("burst ADDRESS")?.parse()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    for _ in 0..BURST {
        socket.send(b"x")?;
    }
    let back: io::Result<Vec<usize>> = (0..BURST).map(|_| socket.recv(&mut [0])).collect();
    println!("{}", back.map_or(0, |back| back.len()));
    Ok(())
}

pub(crate) fn late() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let port = format!("port={}", echo.port());
    let neighbour = program(self_path())
        .args(["trips", "udp", &address, "60", "10"])
        .spawn()?;
    for (fault, at_least, packets) in [
        ("egress:delay=300ms", 300.0, 4),
        ("ingress:delay=300ms", 300.0, 4),
    ] {
        let fault = format!("{fault}:{port}");
        let late = travel(&[&fault], &["udp", &address, "4"])?;
        ensure!(
            late.times.len() == 4 && least(&late.times) >= at_least,
            "{fault}: {:?}",
            late.times
        );
        for counter in ["matched", "injected"] {
            ensure!(
                count(&late.report, 0, counter) == packets,
                "{fault}: {counter} {}",
                late.report
            );
        }
        let warnings = late.report["warnings"].to_string();
        ensure!(warnings.contains("held by fq"), "{}", late.report);
    }
    let neighbour = neighbour.finish(PATIENCE)?;
    let others = times(&neighbour.stdout);
    ensure!(
        others.len() == 60 && others.iter().all(|time| *time < 300.0),
        "a neighbour is late: {neighbour}"
    );
    let streams = travel(&["net:delay=100ms:limit=1000"], &["tcp", &address, "3"])?;
    ensure!(
        streams.times.len() == 4 && least(&streams.times) >= 200.0,
        "{:?}",
        streams.times
    );
    let works = program(self_path())
        .args(["trips", "udp", &address, "5"])
        .run()?;
    ensure!(least(&times(&works.stdout)) < 100.0, "{works}");
    Ok(())
}

/// fq by itself holds 100 packets of a connection.
pub(crate) fn bursts() -> Outcome {
    let echo = Echo::start()?;
    let done = murphy(["run", "-q", "-e", "egress:delay=500ms", "--"])
        .args([self_path()])
        .args(["burst", &echo.address.to_string()])
        .limit(PATIENCE)
        .run()?;
    ensure!(done.stdout.trim() == BURST.to_string(), "{done}");
    Ok(())
}

/// What says when a packet may depart must not tell its receiver when it came.
pub(crate) fn time_stamps() -> Outcome {
    // SO_TIMESTAMPNS_OLD (asm-generic/socket.h).
    let program = "
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 35, 1)
s.bind(('127.0.0.1', 0))
for _ in range(3):
    s.sendto(b'x', s.getsockname())
    _, notes, _, _ = s.recvmsg(10, 100)
    seconds, _ = struct.unpack('qq', notes[0][2])
    print(abs(time.time() - seconds) < 60)
";
    let done = murphy(["run", "-q", "-e", "ingress:delay=50ms", "--"])
        .args(["python3", "-c", program])
        .limit(PATIENCE)
        .run()?;
    ensure!(done.stdout == "True\nTrue\nTrue\n", "{done}");
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    let fault = "egress:delay=50ms:jitter=5ms";
    let done = murphy(["run", "-e", fault, "--", "true"]).run()?;
    ensure!(
        done.code == Some(125)
            && done.stderr.contains("CONFIG_NET_SCH_NETEM")
            && done.stderr.contains("`delay=` alone"),
        "{done}"
    );
    let doctor = |fault: &str| murphy(["doctor", "-e", fault]).run();
    let plain = doctor("net:delay=50ms")?;
    ensure!(
        plain.code == Some(0) && plain.stdout.contains("fq on an ifb"),
        "{plain}"
    );
    let more = doctor("net:rate=1mbit")?;
    ensure!(more.code == Some(77), "{more}");
    Ok(())
}

pub(crate) fn killed() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let murphy = murphy(["run", "-q", "-e", "net:delay=100ms", "--"])
        .args(traveller(&["udp", &address, "300", "10"]))
        .spawn()?;
    killed_late(&murphy, 2)
}
