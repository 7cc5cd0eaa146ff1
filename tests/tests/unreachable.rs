//! `egress:unreachable=…`: the sender gets an ICMP error, nobody else does.

use std::time::Duration;

use anyhow::ensure;
use tests::{
    Group, Hit, Need, Outcome, case, hosts::Hosts, needs, net::Echo, report::count, victim,
    victim::seen,
};

/// What a connect sees, and a connected UDP socket if it is told.
const V4: [(&str, &str, Option<&str>); 4] = [
    ("net", "ENETUNREACH", None),
    ("host", "EHOSTUNREACH", None),
    ("port", "ECONNREFUSED", Some("ECONNREFUSED")),
    ("admin", "EHOSTUNREACH", Some("EHOSTUNREACH")),
];
const V6: [(&str, &str, Option<&str>); 4] = [
    ("net", "ENETUNREACH", None),
    ("host", "EHOSTUNREACH", None),
    ("port", "ECONNREFUSED", Some("ECONNREFUSED")),
    ("admin", "EACCES", Some("EACCES")),
];

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "connect and connected UDP see it, it is counted, and over when murphy is",
            least(),
            seen_and_counted,
        ),
        case("IPv6", least(), ipv6),
        case("a neighbour sees nothing", least(), neighbour),
        case(
            "ping is told",
            needs![Root, Cgroup2, Atomics, Tool("ping")],
            ping,
        ),
        case(
            "a peer on another host",
            needs![Root, Cgroup2, Atomics, Tool("ip"), Tool("nsenter")],
            other_host,
        ),
    ])
    // Classifiers as those of `egress`, which runs everywhere: with links as in the newest kernel,
    // or without.
    .in_kernels(&["bookworm", "sid"])
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

fn seen_and_counted() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    for (what, connect, datagram) in V4 {
        let fault = format!("egress:unreachable={what}:port={}", echo.port());
        let hit = Hit::run(&["-e", &fault], &["connect", &address, "1"])?;
        ensure!(hit.seen(connect) == 1, "{fault}: {}", hit.victim);
        ensure!(
            hit.count(0, "injected") > 0 && hit.count(0, "failed") == 0,
            "{}",
            hit.report
        );
        let hit = Hit::run(&["-e", &fault], &["ask", &address, "1"])?;
        match datagram {
            Some(error) => ensure!(hit.seen(error) == 1, "{fault}: {}", hit.victim),
            None => ensure!(hit.seen("EAGAIN") == 1, "{fault}: {}", hit.victim),
        }
        ensure!(hit.count(0, "injected") == 1, "{}", hit.report);
    }
    let works = victim::victim(["ask", &address, "3"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 3, "{works}");
    Ok(())
}

fn ipv6() -> Outcome {
    let Ok(socket) = std::net::TcpListener::bind("[::1]:0") else {
        return tests::skip("no IPv6 on the loopback interface");
    };
    let address = socket.local_addr()?;
    for (what, connect, datagram) in V6 {
        let fault = format!("egress:unreachable={what}:port={}", address.port());
        let hit = Hit::run(&["-e", &fault], &["connect", &address.to_string(), "1"])?;
        ensure!(hit.seen(connect) == 1, "{fault}: {}", hit.victim);
        if let Some(error) = datagram {
            let hit = Hit::run(&["-e", &fault], &["ask", &address.to_string(), "1"])?;
            ensure!(hit.seen(error) == 1, "{fault}: {}", hit.victim);
        }
    }
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = victim::victim(["echo", &address, "100", "10"]).spawn()?;
    let hit = Hit::run(
        &["-e", "egress:unreachable=port"],
        &["ask", &address, "20", "10"],
    )?;
    ensure!(hit.seen("ECONNREFUSED") == 20, "{}", hit.victim);
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    Ok(())
}

fn ping() -> Outcome {
    let done = tests::murphy(["run", "-q", "-e", "egress:unreachable=host", "--"])
        .args(["ping", "-c", "2", "-W", "2", "127.0.0.1"])
        .run()?;
    ensure!(
        done.stdout.contains("Destination Host Unreachable") && done.stdout.contains("+2 errors"),
        "{done}"
    );
    Ok(())
}

fn other_host() -> Outcome {
    let hosts = Hosts::new()?;
    for (there, error) in [(hosts.there(), "EHOSTUNREACH"), (hosts.there6(), "EACCES")] {
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("report.json");
        let address = std::net::SocketAddr::from((there, 7007)).to_string();
        let done = hosts
            .here(&tests::murphy_path().to_string_lossy())
            .args(["run", "--json", "-o"])
            .args([&output])
            .args(["-e", "egress:unreachable=admin:port=7007", "--"])
            .args([victim::self_path()])
            .args(victim::words(["ask", &address, "1"]))
            .run()?;
        ensure!(seen(&done.stdout, error) == 1, "{done}");
        let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&output)?)?;
        ensure!(count(&report, 0, "injected") == 1, "{report}");
    }
    Ok(())
}
