//! `egress:loss=…`: true loss. The sender is not told, TCP retransmits, nobody else loses a packet.

use std::time::Duration;

use anyhow::ensure;
use tests::{
    Group, Hit, Outcome, case, murphy, needs, net::Echo, net::grown, victim::seen, victim::victim,
};

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case(
            "a lost datagram is a success to its sender",
            net(),
            datagrams,
        ),
        case("TCP retransmits what was lost", net(), retransmits),
        case(
            "a neighbour on the same port loses nothing",
            net(),
            neighbour,
        ),
        case("port, address and protocol narrow it down", net(), filters),
        case("IPv6 is hit too", net(), ipv6),
        case(
            "a black hole, and a partition from named addresses",
            net(),
            cut,
        ),
        case(
            "ping's replies agree with the count",
            needs![Root, Cgroup2, Atomics, Tool("ping")],
            ping,
        ),
        case(
            "both directions at once",
            needs![Root, Cgroup2, Atomics, Tool("ping")],
            both,
        ),
    ])
}

/// A drop by tc would give the sender EPERM.
fn datagrams() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let hit = Hit::run(&["-e", "egress:loss=100%"], &["udp", &address, "50"])?;
    ensure!(hit.seen("ok") == 50, "{}", hit.victim);
    ensure!(hit.count(0, "injected") == 50, "{}", hit.report);
    Ok(())
}

fn retransmits() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let mut lost = 0;
    let resent = grown("Tcp", "RetransSegs", || {
        let hit = Hit::run(
            &["--seed", "3", "-e", "egress:loss=20%:proto=tcp"],
            &["echo", &address, "40"],
        )?;
        ensure!(hit.seen("ok") == 40, "{}", hit.victim);
        lost = hit.count(0, "injected");
        ensure!(lost > 0, "{}", hit.report);
        Ok(())
    })?;
    // Not every loss is repaired by sending again (a later acknowledgement covers a lost one), but
    // without true loss nothing would be sent again at all.
    ensure!(
        resent > 0,
        "{lost} packets lost, {resent} segments sent again"
    );
    let works = victim(["echo", &address, "5"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 5, "{works}");
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = victim(["echo", &address, "100", "10"]).spawn()?;
    let hit = Hit::run(&["-e", "egress:loss=100%"], &["udp", &address, "50", "10"])?;
    ensure!(hit.count(0, "injected") == 50, "{}", hit.report);
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    Ok(())
}

fn filters() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let port = echo.port();
    for (filter, matched) in [
        (format!("port={port}"), 5),
        (format!("port=1-{}", port - 1), 0),
        (format!("sport={port}"), 0),
        ("dst=127.0.0.0/8".into(), 5),
        ("dst=127.0.0.0/8,10.0.0.0/8".into(), 5),
        ("dst=10.0.0.0/8".into(), 0),
        ("dst=[::1]".into(), 0),
        ("src=127.0.0.1".into(), 5),
        ("src=127.0.0.2,10.0.0.0/8".into(), 0),
        ("proto=udp".into(), 5),
        ("proto=tcp".into(), 0),
        (format!("port={port}:dst=127.0.0.1:proto=udp"), 5),
    ] {
        let fault = format!("egress:loss=100%:{filter}");
        let hit = Hit::run(&["-e", &fault], &["udp", &address, "5"])?;
        ensure!(
            hit.count(0, "matched") == matched,
            "{fault}: {}",
            hit.report
        );
    }
    Ok(())
}

fn ipv6() -> Outcome {
    let Ok(socket) = std::net::UdpSocket::bind("[::1]:0") else {
        return tests::skip("no IPv6 on the loopback interface");
    };
    let address = socket.local_addr()?;
    let fault = format!(
        "egress:loss=100%:dst=[::1]:src=[::]/64:port={}",
        address.port()
    );
    let hit = Hit::run(&["-e", &fault], &["udp", &address.to_string(), "5"])?;
    ensure!(
        hit.seen("ok") == 5 && hit.count(0, "injected") == 5,
        "{}",
        hit.victim
    );
    Ok(())
}

fn cut() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    for (fault, lost) in [
        ("net:blackhole", 1),
        ("egress:partition:dst=127.0.0.1", 1),
        ("ingress:partition:dst=127.0.0.0/8,10.0.0.1", 1),
        ("net:partition:dst=10.0.0.0/8,[::1]", 0),
    ] {
        let hit = Hit::run(&["-e", fault], &["ask", &address, "1"])?;
        let seen = if lost == 1 { "EAGAIN" } else { "ok" };
        ensure!(hit.seen(seen) == 1, "{fault}: {}", hit.victim);
        ensure!(hit.count(0, "injected") == lost, "{fault}: {}", hit.report);
    }
    Ok(())
}

fn ping() -> Outcome {
    let (lost, matched) = pinged("egress:loss=30%")?;
    ensure!(matched == 100, "{matched} of 100 requests matched");
    // 30 ± 5 standard deviations of the binomial distribution.
    ensure!((8..=52).contains(&lost), "{lost} of 100 lost at 30 %");
    Ok(())
}

/// `net` is both: a quarter is left after half of the requests and half of the replies are lost.
fn both() -> Outcome {
    let (lost, _) = pinged("net:loss=50%")?;
    // 75 ± 5 standard deviations of the binomial distribution.
    ensure!(
        (53..=97).contains(&lost),
        "{lost} of 100 lost at 50 % each way"
    );
    Ok(())
}

/// A hundred pings under a fault: how many were lost, by both views, and how many packets matched.
fn pinged(fault: &str) -> anyhow::Result<(u64, u64)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = murphy(["run", "--json", "-o"])
        .args([&output])
        .args(["-e", fault, "--"])
        .args([
            "ping",
            "-q",
            "-c",
            "100",
            "-i",
            "0.01",
            "-W",
            "2",
            "127.0.0.1",
        ])
        .run()?;
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&output)?)?;
    let lost = tests::report::count(&report, 0, "injected");
    let received = format!("100 packets transmitted, {} received", 100 - lost);
    ensure!(done.stdout.contains(&received), "{lost} lost; {done}");
    Ok((lost, tests::report::count(&report, 0, "matched")))
}
