//! `egress:reset`: both ends of a TCP connection see it reset, a connection that is being made is refused, others live on.

mod idle;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tests::{
    Group, Hit, Need, Outcome, case, hosts::Hosts, murphy, needs, net::Echo, redis::Redis,
    report::count, victim, victim::seen, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "both ends see it, it is counted, and over when murphy is",
            least(),
            both_ends,
        ),
        case("IPv6", least(), ipv6),
        case(
            "a connection that is being made is refused",
            least(),
            refused,
        ),
        case("a neighbour's connection lives on", least(), neighbour),
        case("a connection of before", least(), of_before),
        case("an idle connection, at once", least(), idle::both_ends),
        case("some of several idle ones", least(), idle::some),
        case(
            "an idle one in another namespace",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("ip"),
                Tool("nsenter"),
                Tool("python3")
            ],
            idle::other_host,
        ),
        case(
            "redis-cli loses its server",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("redis-server"),
                Tool("redis-cli")
            ],
            redis,
        ),
        case(
            "a peer on another host",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("ip"),
                Tool("nsenter"),
                Tool("python3")
            ],
            other_host,
        ),
    ])
    // Classifiers as those of `egress`, which runs everywhere: with links as in the newest kernel,
    // or without.
    .in_kernels(&["bookworm", "sid"])
    .role("hold", idle::hold)
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics]
}

/// A server that echoes, and tells of each connection how it ended: `None` for an orderly end.
fn server(address: &str) -> anyhow::Result<(SocketAddr, Receiver<Option<std::io::ErrorKind>>)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            // Nobody listens any more once the test is over.
            thread::spawn(move || tell.send(serve(stream)));
        }
    });
    Ok((address, told))
}

fn serve(mut stream: TcpStream) -> Option<std::io::ErrorKind> {
    let mut buffer = [0; 64];
    loop {
        let done = stream.read(&mut buffer).and_then(|n| {
            stream.write_all(&buffer[..n])?;
            Ok(n)
        });
        match done {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

fn reset_midway(bind: &str) -> Outcome {
    let (address, told) = server(bind)?;
    let works = victim::victim(["echo", &address.to_string(), "3"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 3, "{works}");
    ensure!(told.recv_timeout(PATIENCE)?.is_none());
    // SYN, ACK, then data and acknowledgements: some go there and back before the eighth.
    let fault = format!("egress:reset:port={}:when=8", address.port());
    let hit = Hit::run(&["-e", &fault], &["echo", &address.to_string(), "9"])?;
    ensure!(
        hit.seen("ok") > 0 && hit.seen("ECONNRESET") == 1,
        "{}",
        hit.victim
    );
    ensure!(hit.count(0, "injected") == 1, "{}", hit.report);
    let server = told.recv_timeout(PATIENCE)?;
    ensure!(
        server == Some(std::io::ErrorKind::ConnectionReset),
        "the other end saw {server:?}"
    );
    let works = victim::victim(["echo", &address.to_string(), "3"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 3, "{works}");
    Ok(())
}

fn both_ends() -> Outcome {
    reset_midway("127.0.0.1:0")
}

fn ipv6() -> Outcome {
    if TcpListener::bind("[::1]:0").is_err() {
        return tests::skip("no IPv6 on the loopback interface");
    }
    reset_midway("[::1]:0")
}

fn refused() -> Outcome {
    let echo = Echo::start()?;
    let fault = format!("net:reset:port={}", echo.port());
    let hit = Hit::run(
        &["-e", &fault],
        &["connect", &echo.address.to_string(), "3"],
    )?;
    ensure!(hit.seen("ECONNREFUSED") == 3, "{}", hit.victim);
    ensure!(
        hit.count(0, "matched") == 3 && hit.count(0, "injected") == 3,
        "{}",
        hit.report
    );
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = victim::victim(["echo", &address, "100", "10"]).spawn()?;
    let hit = Hit::run(
        &["-e", "egress:reset:proto=tcp"],
        &["connect", &address, "20", "10"],
    )?;
    ensure!(hit.seen("ECONNREFUSED") == 20, "{}", hit.victim);
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    Ok(())
}

fn of_before() -> Outcome {
    let (address, told) = server("127.0.0.1:0")?;
    let target = victim::victim(["echo", &address.to_string(), "400", "50"]).spawn()?;
    wait_until(PATIENCE, || {
        target.stdout().is_ok_and(|said| said.contains("ok"))
    })?;
    let done = murphy([
        "inject",
        "--json",
        "-e",
        "egress:reset",
        "--for",
        "20s",
        "--pid",
    ])
    .args([target.pid().to_string()])
    .spawn()?;
    let server = told.recv_timeout(PATIENCE).context("not reset")?;
    ensure!(
        server == Some(std::io::ErrorKind::ConnectionReset),
        "the other end saw {server:?}"
    );
    wait_until(PATIENCE, || {
        target
            .stdout()
            .is_ok_and(|said| said.contains("ECONNRESET"))
    })
    .context("the target did not see it")?;
    done.signal(libc::SIGINT)?;
    let done = done.finish(PATIENCE)?;
    drop(target);
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

fn redis() -> Outcome {
    let redis = Redis::start([])?;
    // SYN, ACK, then the command.
    let fault = format!("egress:reset:port={}:when=3", redis.port());
    let cli = murphy(["run", "-q", "-e", &fault, "--", "redis-cli", "-p"])
        .args([redis.port().to_string(), "ping".into()])
        .run()?;
    ensure!(!cli.stdout.contains("PONG"), "{cli}");
    let after = redis.cli(["ping"])?;
    ensure!(after.stdout.trim() == "PONG", "{after}");
    Ok(())
}

/// Listens, says so, echoes once, then says what it sees.
const PEER: &str = "
import socket, sys
server = socket.create_server((sys.argv[1], 7007), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('listening', flush=True)
peer, _ = server.accept()
peer.settimeout(30)
try:
    while True:
        data = peer.recv(64)
        if not data:
            print('end', flush=True)
            break
        peer.sendall(data)
except OSError as error:
    print(type(error).__name__, flush=True)
";

fn other_host() -> Outcome {
    let hosts = Hosts::new()?;
    for there in [hosts.there(), hosts.there6()] {
        let peer = hosts
            .over_there("python3")
            .args(["-c", PEER, &there.to_string()])
            .spawn()?;
        wait_until(PATIENCE, || {
            peer.stdout().is_ok_and(|said| said.contains("listening"))
        })?;
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("report.json");
        let address = SocketAddr::from((there, 7007)).to_string();
        let done = hosts
            .here(&tests::murphy_path().to_string_lossy())
            .args(["run", "--json", "-o"])
            .args([&output])
            .args(["-e", "egress:reset:when=8", "--"])
            .args([victim::self_path()])
            .args(victim::words(["echo", &address, "9"]))
            .run()?;
        ensure!(
            seen(&done.stdout, "ok") > 0 && seen(&done.stdout, "ECONNRESET") == 1,
            "{done}"
        );
        let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&output)?)?;
        ensure!(count(&report, 0, "injected") == 1, "{report}");
        let peer = peer.finish(PATIENCE)?;
        ensure!(peer.stdout.contains("ConnectionResetError"), "{peer}");
    }
    Ok(())
}
