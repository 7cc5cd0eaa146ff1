//! `connect:error=…`: the caller is refused, nothing is sent, nobody else notices.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::report::count;
use tests::{
    Group, Hit, Outcome, case, murphy, needs, net::Echo, redis::Redis, victim::seen, victim::victim,
};

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "refused, counted, and over when murphy is",
            needs![Root, Cgroup2, Atomics],
            refused,
        ),
        case(
            "a neighbour on the same port sees nothing",
            needs![Root, Cgroup2, Atomics],
            neighbour,
        ),
        case(
            "port and address narrow it down",
            needs![Root, Cgroup2, Atomics],
            filters,
        ),
        case("IPv6 is hit too", needs![Root, Cgroup2, Atomics], ipv6),
        case(
            "IPv4 by an IPv6 socket matches dst of either form, by every backend",
            needs![Root, Cgroup2, Atomics],
            mapped,
        ),
        case(
            "when= and times= count matches",
            needs![Root, Cgroup2, Atomics],
            triggers,
        ),
        case(
            "pulse= is active and quiet by turns",
            needs![Root, Cgroup2, Atomics],
            pulse,
        ),
        case(
            "over= spares what is within a rate",
            needs![Root, Cgroup2, Atomics],
            over,
        ),
        case(
            "connlimit= lets so many be at once",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            connlimit,
        ),
        case(
            "connlimit= is shared by targets, and exact",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            connlimit_shared,
        ),
        case(
            "MPTCP that joins subflows connects once",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Mptcp,
                Tool("python3"),
                Tool("unshare"),
                Tool("ip")
            ],
            joined,
        ),
        case(
            "rate_limit= spaces injections, and spares times=",
            needs![Root, Cgroup2, Atomics],
            rate_limit,
        ),
        case(
            "p= holds its share, and the seed repeats it",
            needs![Root, Cgroup2, Atomics],
            probability,
        ),
        case(
            "redis-cli is refused by a server that runs",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("redis-server"),
                Tool("redis-cli")
            ],
            redis,
        ),
    ])
}

fn refused() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let works = victim(["connect", &address, "3"]).run()?;
    ensure!(seen(&works.stdout, "ok") == 3, "{works}");

    let hit = Hit::run(
        &["-e", "connect:error=ETIMEDOUT"],
        &["connect", &address, "5"],
    )?;
    ensure!(hit.seen("ETIMEDOUT") == 5, "{}", hit.victim);
    ensure!(
        hit.count(0, "matched") == 5 && hit.count(0, "injected") == 5,
        "{}",
        hit.report
    );

    let again = victim(["connect", &address, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = victim(["connect", &address, "60", "20"]).spawn()?;
    let hit = Hit::run(
        &["-e", "connect:error=ECONNREFUSED"],
        &["connect", &address, "20", "20"],
    )?;
    ensure!(hit.seen("ECONNREFUSED") == 20, "{}", hit.victim);
    let neighbour = neighbour.finish(std::time::Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 60, "{neighbour}");
    Ok(())
}

/// Opens connections and keeps them, `+`, closes the one it kept last, `-`, or all, `0`; says what became of each.
const POOL: &str = "
import errno, socket, sys
kept, seen = [], []
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
mptcp = sys.argv[3] == 'MPTCP'
kind, protocol = (socket.SOCK_STREAM, 262) if mptcp else (getattr(socket, sys.argv[3]), 0)
for step in sys.argv[4]:
    if step == '+':
        one = socket.socket(family, kind, protocol)
        try:
            one.connect((sys.argv[1], int(sys.argv[2])))
            kept.append(one)
            seen.append('ok')
        except OSError as error:
            # Closed later: it must not take a place.
            kept.insert(0, one)
            seen.append(errno.errorcode[error.errno])
    elif step == '-':
        kept.pop().close()
    else:
        while kept: kept.pop().close()
print(*seen)
";

fn connlimit() -> Outcome {
    // The last is how an IPv6 socket names an IPv4 address: those of every JVM do.
    for (host, server, filter) in [
        ("127.0.0.1", "127.0.0.1", "dst=127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1", "dst=127.0.0.0/8"),
        ("::1", "::1", "dst=[::1]"),
    ] {
        let echo = match TcpListener::bind((server, 0)) {
            Err(_) if host == "::1" => {
                return tests::skip("IPv4 is as it should be; no IPv6 on the loopback interface");
            }
            listener => listener?,
        };
        let port = echo.local_addr()?.port().to_string();
        let pool = |fault: &str, kind: &str, steps: &str| -> Result<(String, Value)> {
            let folder = tempfile::tempdir()?;
            let report = folder.path().join("report.json");
            let done = murphy(["run", "--json", "-o"])
                .args([&report])
                .args(["-e", fault, "--", "python3", "-c", POOL])
                .args([host, &port, kind, steps])
                .run()?;
            ensure!(done.code == Some(0), "{done}");
            let report = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
            Ok((done.stdout.trim().to_owned(), report))
        };
        let fault = format!("connect:error=EAGAIN:port={port}:{filter}:connlimit=3");
        // The subflow that MPTCP connects is not the socket that is closed.
        for kind in ["SOCK_STREAM", "MPTCP"] {
            let (seen, report) = pool(&fault, kind, "+++++-++0++++")?;
            ensure!(
                seen == "ok ok ok EAGAIN EAGAIN ok EAGAIN ok ok ok EAGAIN",
                "{kind}: {seen}: {report}"
            );
            // What is within the limit is no match.
            ensure!(
                count(&report, 0, "matched") == 4 && count(&report, 0, "injected") == 4,
                "{kind}: {report}"
            );
        }
        let (seen, _) = pool(&fault, "SOCK_DGRAM", "+++++")?;
        ensure!(seen == "ok ok ok ok ok", "datagrams: {seen}");
        let other = "connect:error=EAGAIN:port=1:connlimit=1";
        let (seen, _) = pool(other, "SOCK_STREAM", "+++")?;
        ensure!(seen == "ok ok ok", "another port: {seen}");
        let other = format!("connect:error=EAGAIN:port={port}:connlimit=1:times=1");
        let (seen, _) = pool(&other, "SOCK_STREAM", "+++-+")?;
        ensure!(seen == "ok EAGAIN ok ok", "once: {seen}");
    }
    Ok(())
}

fn connlimit_shared() -> Outcome {
    // Four processes of eight threads each connect over and over, and each keeps what it gets for a moment.
    const CROWD: &str = "
import os, socket, sys, threading, time
def one(out):
    for turn in range(10):
        with socket.socket() as client:
            try:
                client.connect(('127.0.0.1', int(sys.argv[1])))
                os.write(out, b'+')
                time.sleep(0.01)
                os.write(out, b'-')
            except BlockingIOError:
                os.write(out, b'x')
                time.sleep(0.003)
children = []
for process in range(4):
    if (child := os.fork()) == 0:
        threads = [threading.Thread(target=one, args=(1,)) for i in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)
";
    let echo = Echo::start()?;
    let port = echo.port().to_string();
    let neighbour = victim(["connect", &echo.address.to_string(), "60", "20"]).spawn()?;
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.json");
    let fault = format!("connect:error=EAGAIN:port={port}:connlimit=5");
    let done = murphy(["run", "--json", "-o"])
        .args([&report])
        .args(["-e", &fault, "--", "python3", "-c", CROWD, &port])
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let (mut open, mut most, mut refused) = (0_u32, 0, 0_u64);
    for step in done.stdout.bytes() {
        match step {
            b'+' => open += 1,
            b'-' => open -= 1,
            b'x' => refused += 1,
            _ => {}
        }
        most = most.max(open);
    }
    // `-` is written before the place is free, so there never seem to be more than there are.
    ensure!(most <= 5 && open == 0, "{most} at once: {}", done.stdout);
    ensure!(
        refused > 0 && count(&report, 0, "injected") == refused,
        "{refused}: {report}"
    );
    let neighbour = neighbour.finish(std::time::Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 60, "{neighbour}");
    Ok(())
}

/// The kernel connects further subflows itself, in a thread of its own.
fn joined() -> Outcome {
    const TALK: &str = "
import socket, sys, time
turns, steps = int(sys.argv[1]), int(sys.argv[2])
def joins():
    names, values = [line.split() for line in open('/proc/net/netstat') if line.startswith('MPTcpExt')]
    return int(dict(zip(names, values))['MPJoinSynAckRx'])
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
server.bind(('0.0.0.0', 0))
server.listen()
for turn in range(turns):
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    client.connect(('10.9.0.1', server.getsockname()[1]))
    other, _ = server.accept()
    for step in range(steps):
        client.sendall(b'x')
        other.recv(1)
        other.sendall(b'y')
        client.recv(1)
        if joins() > turn: break
        time.sleep(0.02)
    client.close()
    other.close()
print('joined', joins())
";
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.json");
    let script = "ip link set lo up
        ip addr add 10.9.0.1/32 dev lo
        ip addr add 10.9.0.2/32 dev lo
        ip mptcp limits set subflows 4 add_addr_accepted 4
        ip mptcp endpoint add 10.9.0.2 dev lo signal
        exec \"$@\"";
    let run = |fault: &str, turns: &str, steps: &str| -> Result<(String, Value)> {
        let done = tests::program("unshare")
            .args(["-n", "sh", "-ec", script, "sh"])
            .args([tests::murphy_path()])
            .args(["run", "--json", "-o"])
            .args([&report])
            .args(["-e", fault, "--", "python3", "-c", TALK, turns, steps])
            .run()?;
        ensure!(done.code == Some(0), "{done}");
        let report = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
        Ok((done.stdout.trim().to_owned(), report))
    };
    let (said, report) = run("connect:error=EAGAIN:when=100", "3", "500")?;
    ensure!(said == "joined 3", "{said}");
    ensure!(count(&report, 0, "matched") == 3, "{report}");
    // A place each, and none for a subflow.
    let (said, report) = run("connect:error=EAGAIN:connlimit=1", "3", "500")?;
    ensure!(said == "joined 3", "{said}");
    ensure!(count(&report, 0, "matched") == 0, "{report}");
    // The packets of a subflow are the connection's all the same.
    let (said, report) = run("egress:blackhole:dst=10.9.0.2", "1", "25")?;
    ensure!(said == "joined 0", "{said}");
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    Ok(())
}

fn filters() -> Outcome {
    let (one, other) = (Echo::start()?, Echo::start()?);
    let rule = format!("connect:error=EPERM:port={}:dst=127.0.0.0/8", one.port());
    let hit = Hit::run(&["-e", &rule], &["connect", &one.address.to_string(), "3"])?;
    ensure!(
        hit.seen("EPERM") == 3 && hit.count(0, "injected") == 3,
        "{}",
        hit.victim
    );
    let hit = Hit::run(
        &["-e", &rule],
        &["connect", &other.address.to_string(), "3"],
    )?;
    ensure!(
        hit.seen("ok") == 3 && hit.count(0, "matched") == 0,
        "{}",
        hit.victim
    );
    let elsewhere = format!("connect:error=EPERM:port={}:dst=10.0.0.0/8", one.port());
    let hit = Hit::run(
        &["-e", &elsewhere],
        &["connect", &one.address.to_string(), "3"],
    )?;
    ensure!(
        hit.seen("ok") == 3 && hit.count(0, "matched") == 0,
        "{}",
        hit.victim
    );
    Ok(())
}

fn ipv6() -> Outcome {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return tests::skip("no IPv6 on the loopback interface");
    };
    let address = listener.local_addr()?.to_string();
    let hit = Hit::run(
        &["-e", "connect:error=ENETUNREACH:dst=[::1]"],
        &["connect", &address, "3"],
    )?;
    ensure!(
        hit.seen("ENETUNREACH") == 3 && hit.count(0, "injected") == 3,
        "{}",
        hit.victim
    );
    let hit = Hit::run(
        &["-e", "connect:error=ENETUNREACH:dst=[::2]"],
        &["connect", &address, "3"],
    )?;
    ensure!(
        hit.seen("ok") == 3 && hit.count(0, "matched") == 0,
        "{}",
        hit.victim
    );
    Ok(())
}

fn mapped() -> Outcome {
    // `dst`, whether a call with 127.0.0.1 is hit, and whether one with ::ffff:127.0.0.1 is.
    const CASES: [(&str, bool, bool); 6] = [
        ("127.0.0.1", true, true),
        ("127.0.0.2", false, false),
        ("[::ffff:127.0.0.1]", false, true),
        ("[::ffff:127.0.0.0]/104", false, true),
        ("[::ffff:127.0.0.2]", false, false),
        ("[::]/0", false, true),
    ];
    const SCRIPT: &str = "for port in 1 2 3 4 5 6
        do \"$0\" victim connect 127.0.0.1:$port 1
           \"$0\" victim connect [::ffff:127.0.0.1]:$port 1
        done";
    // Each fault has a port of its own; no program listens on it.
    let faults: Vec<_> = (1..)
        .zip(CASES)
        .map(|(port, (dst, ..))| format!("connect:error=ENETDOWN:port={port}:dst={dst}"))
        .collect();
    let wanted: Vec<_> = CASES.iter().flat_map(|case| [case.1, case.2]).collect();
    for backend in ["bpf", "seccomp"] {
        let folder = tempfile::tempdir()?;
        let report = folder.path().join("report.json");
        let each = faults.iter().flat_map(|fault| ["-e", fault.as_str()]);
        let done = murphy(["run", "--backend", backend, "--json", "-o"])
            .args([&report])
            .args(each)
            .args(["--", "sh", "-ec", SCRIPT])
            .args([tests::victim::self_path()])
            .run()?;
        ensure!(done.code == Some(0), "{backend}: {done}");
        let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
        let hit: Vec<_> = done.stdout.lines().map(|line| line == "ENETDOWN").collect();
        ensure!(hit == wanted, "{backend}: {hit:?}, not {wanted:?}: {done}");
        for (number, (dst, v4, v6)) in CASES.into_iter().enumerate() {
            let hits = u64::from(v4) + u64::from(v6);
            ensure!(
                count(&report, number, "injected") == hits,
                "{backend}, {dst}: {report}"
            );
        }
    }
    Ok(())
}

fn triggers() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let hit = Hit::run(
        &["-e", "connect:error=ECONNREFUSED:when=3..9+2:times=3"],
        &["connect", &address, "12"],
    )?;
    let wanted = "ok ok ECONNREFUSED ok ECONNREFUSED ok ECONNREFUSED ok ok ok ok ok";
    let got = hit.victim.stdout.lines().collect::<Vec<_>>().join(" ");
    ensure!(got == wanted, "{got}");
    ensure!(
        hit.count(0, "matched") == 12
            && hit.count(0, "injected") == 3
            && hit.count(0, "when") == 8
            && hit.count(0, "times") == 1,
        "{}",
        hit.report
    );
    Ok(())
}

fn pulse() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    // The first part is longer than any run, or over before the victim's first instruction.
    for (pulse, refused) in [("1h/1us", 10), ("1us/1h", 0)] {
        let fault = format!("connect:error=ECONNREFUSED:pulse={pulse}");
        let hit = Hit::run(&["-e", &fault], &["connect", &address, "10"])?;
        ensure!(hit.seen("ECONNREFUSED") == refused, "{}", hit.victim);
        ensure!(
            hit.count(0, "injected") == refused && hit.count(0, "pulse") == 10 - refused,
            "{}",
            hit.report
        );
    }
    let hit = Hit::run(
        &["-e", "connect:error=ECONNREFUSED:pulse=500ms/300ms"],
        &["connect", &address, "60", "50"],
    )?;
    let refused = hit.seen("ECONNREFUSED");
    ensure!(refused + hit.seen("ok") == 60, "{}", hit.victim);
    ensure!(
        hit.count(0, "injected") == refused
            && hit.count(0, "pulse") == 60 - refused
            && hit.count(0, "matched") == 60,
        "{}",
        hit.report
    );
    // At least 3 s are more than three periods; one turn less is left to a machine that stalls.
    let lines: Vec<_> = hit.victim.stdout.lines().collect();
    let turns = lines.windows(2).filter(|pair| pair[0] != pair[1]).count();
    ensure!(turns >= 4, "only {turns} turns: {}", hit.victim);
    Ok(())
}

/// Ten at once and then one an hour: the ones after them are over.
fn over() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let fault = "connect:error=ECONNREFUSED:when=3+:over=10/h";
    let hit = Hit::run(&["-e", fault], &["connect", &address, "20"])?;
    let refused = hit.victim.stdout.lines().map(|line| line != "ok");
    ensure!(refused.eq((0..20).map(|n| n >= 12)), "{}", hit.victim);
    ensure!(
        hit.count(0, "injected") == 8
            && hit.count(0, "when") == 2
            && hit.count(0, "rate_limit") == 10,
        "{}",
        hit.report
    );
    let spared = victim(["connect", &address, "20"]).run()?;
    ensure!(seen(&spared.stdout, "ok") == 20, "{spared}");
    Ok(())
}

fn rate_limit() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    // At once, and then not again; the others use up nothing.
    let hit = Hit::run(
        &[
            "-e",
            "connect:error=ECONNREFUSED:when=3+:rate_limit=1/h:times=2",
        ],
        &["connect", &address, "8"],
    )?;
    let got = hit.victim.stdout.lines().collect::<Vec<_>>().join(" ");
    ensure!(got == "ok ok ECONNREFUSED ok ok ok ok ok", "{got}");
    ensure!(
        hit.count(0, "injected") == 1
            && hit.count(0, "when") == 2
            && hit.count(0, "rate_limit") == 5
            && hit.count(0, "times") == 0,
        "{}",
        hit.report
    );

    let paced = ["connect", &address, "60", "50"];
    let hit = Hit::run(&["-e", "connect:error=ECONNREFUSED:rate_limit=5/s"], &paced)?;
    let refused = hit.seen("ECONNREFUSED");
    ensure!(refused + hit.seen("ok") == 60, "{}", hit.victim);
    ensure!(
        hit.count(0, "injected") == refused && hit.count(0, "rate_limit") == 60 - refused,
        "{}",
        hit.report
    );
    // 200 ms apart at least, on the kernel's own clock; a machine that stalls makes them fewer.
    let most = hit.report["seconds"].as_f64().unwrap_or_default() * 5.0 + 1.0;
    ensure!(
        refused >= 3 && refused as f64 <= most,
        "{refused} refused, {most} allowed: {}",
        hit.report
    );

    let hit = Hit::run(
        &["-e", "connect:error=ECONNREFUSED:rate_limit=5/s:times=3"],
        &paced,
    )?;
    ensure!(
        hit.seen("ECONNREFUSED") == 3 && hit.count(0, "injected") == 3,
        "{}",
        hit.report
    );
    ensure!(
        hit.count(0, "rate_limit") + hit.count(0, "times") == 57 && hit.count(0, "times") > 0,
        "{}",
        hit.report
    );
    Ok(())
}

fn probability() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let run = || {
        Hit::run(
            &["--seed", "7", "-e", "connect:error=ECONNREFUSED:p=30%"],
            &["connect", &address, "300"],
        )
    };
    let (first, second) = (run()?, run()?);
    ensure!(
        first.victim.stdout == second.victim.stdout,
        "the same seed decided differently"
    );
    let refused = first.seen("ECONNREFUSED");
    ensure!(refused == first.count(0, "injected"), "{}", first.report);
    ensure!(
        first.count(0, "probability") == 300 - refused,
        "{}",
        first.report
    );
    // 90 ± 5 standard deviations of the binomial distribution.
    ensure!((50..=130).contains(&refused), "{refused} of 300 at 30 %");
    Ok(())
}

fn redis() -> Outcome {
    let redis = Redis::start([])?;
    let fault = format!("connect:error=ECONNREFUSED:port={}", redis.port());
    let cli = murphy(["run", "-q", "-e", &fault, "--", "redis-cli", "-p"])
        .args([redis.port().to_string(), "ping".into()])
        .run()?;
    ensure!(
        cli.code != Some(0) && cli.stderr.contains("refused"),
        "{cli}"
    );
    let after = redis.cli(["ping"])?;
    ensure!(after.stdout.trim() == "PONG", "{after}");
    Ok(())
}
