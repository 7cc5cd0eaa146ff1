//! `interface=…`: of one process's packets, those that cross the named interface are hit. Each case runs in a network namespace of its own,
//! with two cables to another.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    Case, Group, Outcome, case,
    dns::Dns,
    murphy, needs,
    peer::{Peer, shell},
    program,
    report::count,
    victim::self_path,
    wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// Datagrams that go each way.
const N: u64 = 8;

/// Where the other host sends back what it gets, by way of each cable.
const NEAR: &str = "10.9.0.2:7000";
const FAR: &str = "10.9.1.2:7000";

pub(crate) fn group() -> Group {
    tests::group([
        alone("of two ways the named one loses", "one"),
        case(
            "a VLAN and what is below it",
            needs![Root, Cgroup2, Atomics, Vlan, Tool("ip"), Tool("nsenter")],
            || in_netns("layers"),
        ),
        netem("one that comes up later; others have no filter", "later"),
        case(
            "queries and responses that cross it",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("ip"),
                Tool("nsenter"),
                Tool("dnsmasq"),
                Tool("dig"),
                Tool("curl"),
                Tool("python3")
            ],
            || in_netns("answers"),
        ),
        alone("the same number in another namespace", "elsewhere"),
        alone("one that is not there is refused", "refused"),
    ])
    // Classifiers as those of `egress`, which runs everywhere: with links as in the newest kernel,
    // or without as in the oldest that has netem.
    .in_kernels(&["bookworm", "sid"])
    .role("both", both)
    .role("interface-serve", |_| serve())
    .role("interface-in-netns", by_name)
}

/// A case that runs in a network namespace of its own, which takes everything with it.
fn alone(title: &str, name: &'static str) -> Case {
    let needs = needs![Root, Cgroup2, Atomics, Tool("ip"), Tool("nsenter")];
    case(title, needs, move || in_netns(name))
}

/// The same where packets are held.
fn netem(title: &str, name: &'static str) -> Case {
    let needs = needs![
        Root,
        Cgroup2,
        Atomics,
        Netem,
        Tool("ip"),
        Tool("tc"),
        Tool("nsenter")
    ];
    case(title, needs, move || in_netns(name))
}

fn by_name(args: &[String]) -> Outcome {
    match args.first().map(String::as_str) {
        Some("one") => one(),
        Some("layers") => layers(),
        Some("later") => later(),
        Some("answers") => answers(),
        Some("elsewhere") => elsewhere(),
        Some("refused") => refused(),
        other => anyhow::bail!("no case {other:?}"),
    }
}

fn in_netns(name: &str) -> Outcome {
    let done = program("unshare")
        .args(["-n"])
        .args([self_path()])
        .args(["interface-in-netns", name])
        .limit(PATIENCE * 2)
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// The victim: `both ADDRESS ADDRESS…` sends [`N`] datagrams to each by one socket, by turns, and prints how many came back of each.
fn both(addresses: &[String]) -> Outcome {
    let addresses = addresses
        .iter()
        .map(|text| text.parse::<SocketAddr>())
        .collect::<Result<Vec<_>, _>>()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut back = vec![0; addresses.len()];
    for _ in 0..N {
        for address in &addresses {
            // The address of the other end is looked for first, which an unlucky packet does not survive.
            while socket.send_to(b"x", address).is_err() {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    // What comes back does so soon; with a machine that is held up, when something else has.
    let mut quiet = 0;
    while quiet < 3 && back.iter().any(|count| *count < N) {
        match socket.recv_from(&mut [0; 16]) {
            Ok((_, from)) => {
                quiet = 0;
                if let Some(at) = addresses.iter().position(|address| *address == from) {
                    back[at] += 1;
                }
            }
            // At least one way works, so as long as nothing has come there is more to come.
            Err(_) if back.contains(&N) => quiet += 1,
            Err(_) => {}
        }
    }
    println!("{back:?}");
    Ok(())
}

/// Sends back what it gets, at whatever address, until it is ended.
fn serve() -> Outcome {
    let sockets = [NEAR, FAR].map(UdpSocket::bind);
    println!("ready");
    let threads = sockets.map(|socket| {
        thread::spawn(move || -> Outcome {
            let socket = socket?;
            let mut buffer = [0; 64];
            loop {
                let (length, from) = socket.recv_from(&mut buffer)?;
                let _ = socket.send_to(&buffer[..length], from);
            }
        })
    });
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    }
    Ok(())
}

/// Ours are `va` (10.9.0.1) and `vc` (10.9.1.1), which has the number that the other host's `near` has.
fn connected() -> anyhow::Result<Peer> {
    let host = Peer::start()?;
    let pid = host.pid();
    shell(&format!(
        "ip link set lo up
         ip link add va index 71 type veth peer name near index 72 netns {pid}
         ip link add vc index 72 type veth peer name far index 71 netns {pid}
         ip addr add 10.9.0.1/24 dev va
         ip addr add 10.9.1.1/24 dev vc
         ip link set va up
         ip link set vc up"
    ))?;
    host.shell(
        "ip link set lo up
         ip addr add 10.9.0.2/24 dev near
         ip addr add 10.9.1.2/24 dev far
         ip link set near up
         ip link set far up",
    )?;
    Ok(host)
}

/// `murphy run FAULTS -- both TO`: what came back, and what was counted.
fn hit(faults: &[&str], to: &[&str]) -> anyhow::Result<(String, Value)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let mut run = murphy(["run", "--json", "-o"]).args([&output]);
    for fault in faults {
        run = run.args(["-e", fault]);
    }
    let done = run
        .args(["--"])
        .args([self_path()])
        .args(["both"])
        .args(to)
        .run()?;
    let text = fs::read_to_string(&output).with_context(|| format!("no report of {done}"))?;
    Ok((done.stdout.trim().to_owned(), serde_json::from_str(&text)?))
}

/// The same without murphy.
fn untouched(to: &[&str]) -> Outcome {
    let done = program(self_path()).args(["both"]).args(to).run()?;
    let all = vec![N; to.len()];
    ensure!(done.stdout.trim() == format!("{all:?}"), "{done}");
    Ok(())
}

fn one() -> Outcome {
    let host = connected()?;
    let _server = host.serve("interface-serve", &[])?;
    let ways = [NEAR, FAR];
    untouched(&ways)?;
    for (fault, back) in [
        ("net:blackhole:interface=lo,v[ab]", [0, N]),
        ("ingress:loss=100%:interface=vc", [N, 0]),
        ("net:loss=100%:interface=va:dst=10.9.1.2", [N, N]),
    ] {
        // The second names none: it is asked about what the first lets be.
        let neighbour = program(self_path()).args(["both"]).args(ways).spawn()?;
        let every = "egress:loss=1ppm:seed=1:proto=udp";
        let (seen, report) = hit(&[fault, every], &ways)?;
        ensure!(seen == format!("{back:?}"), "{fault}: {seen}");
        let lost: u64 = back.iter().map(|back| N - back).sum();
        for counter in ["matched", "injected"] {
            ensure!(count(&report, 0, counter) == lost, "{fault}: {report}");
        }
        let others = match fault.starts_with("ingress") {
            true => 2 * N,
            false => 2 * N - lost,
        };
        ensure!(count(&report, 1, "matched") == others, "{fault}: {report}");
        let neighbour = neighbour.finish(PATIENCE)?;
        ensure!(
            neighbour.stdout.trim() == format!("{:?}", [N, N]),
            "{fault}: {neighbour}"
        );
    }
    untouched(&ways)
}

/// A packet of the VLAN crosses its device and the one below. A fault that names the lower one is asked there, one that names both
/// is asked once, whatever other faults were asked about.
fn layers() -> Outcome {
    let host = connected()?;
    // The other end takes the addresses of the cables, so that the server is the same.
    shell(
        "ip link add link va name va.5 type vlan id 5
         ip addr del 10.9.0.1/24 dev va
         ip addr add 10.9.0.1/24 dev va.5
         ip link set va.5 up",
    )?;
    host.shell(
        "ip link add link near name near.5 type vlan id 5
         ip addr del 10.9.0.2/24 dev near
         ip addr add 10.9.0.2/24 dev near.5
         ip link set near.5 up",
    )?;
    let _server = host.serve("interface-serve", &[])?;
    let ways = [NEAR, FAR];
    let never = "loss=1ppm:seed=1:proto=udp";
    let faults = [
        format!("egress:{never}"),
        format!("egress:{never}:interface=va"),
        format!("egress:{never}:interface=va.5"),
        format!("egress:{never}:interface=va*"),
        format!("ingress:{never}:interface=va.5"),
        // What has found its socket came by the VLAN's device.
        format!("ingress:{never}:interface=va"),
    ];
    let (seen, report) = hit(&faults.each_ref().map(String::as_str), &ways)?;
    ensure!(seen == format!("{:?}", [N, N]), "{seen}");
    for (fault, wanted) in [2 * N, N, N, N, N, 0].into_iter().enumerate() {
        let matched = count(&report, fault, "matched");
        ensure!(matched == wanted, "{}: {report}", faults[fault]);
    }
    let (seen, report) = hit(&["egress:loss=100%:interface=va"], &ways)?;
    ensure!(seen == format!("{:?}", [0, N]), "{seen}");
    ensure!(count(&report, 0, "injected") == N, "{report}");
    untouched(&ways)
}

/// DNS and HTTP: of two faults for the one cable that is used, that which names the other is never asked.
fn answers() -> Outcome {
    let host = connected()?;
    let pid = host.pid().to_string();
    let there = ["nsenter", "-n", "-t", &pid].map(str::to_owned);
    let dns = Dns::at("10.9.0.2:53".parse()?, &there)?;
    let _http = host
        .enter()
        .args(["python3", "-m", "http.server", "8080", "--bind", "10.9.0.2"])
        .spawn()?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let ask = |fault: &str, words: &[String]| -> anyhow::Result<(String, Value)> {
        let done = murphy(["run", "--json", "-o"])
            .args([&output])
            .args(["-e", &format!("{fault}:interface=vc")])
            .args(["-e", &format!("{fault}:interface=va")])
            .args(["--"])
            .args(words)
            .run()?;
        let text = fs::read_to_string(&output).with_context(|| done.to_string())?;
        Ok((done.stdout.trim().to_owned(), serde_json::from_str(&text)?))
    };
    let curl = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "--max-time",
        "20",
        "-w",
        "%{http_code}",
        "http://10.9.0.2:8080/",
    ]
    .map(str::to_owned);
    let get = || program(&curl[0]).args(&curl[1..]).run();
    wait_until(PATIENCE, || get().is_ok_and(|done| done.stdout == "200"))?;
    let mut dig = vec!["dig".to_owned()];
    dig.extend(dns.question("example.com", "A"));
    for (fault, words, answer) in [
        ("dns:answer=192.0.2.99", dig.as_slice(), "192.0.2.99"),
        ("http:status=503", curl.as_slice(), "503"),
    ] {
        let (seen, report) = ask(fault, words)?;
        ensure!(seen == answer, "{fault}: {seen}");
        ensure!(
            count(&report, 0, "matched") == 0 && count(&report, 1, "injected") == 1,
            "{fault}: {report}"
        );
    }
    let works = dns.ask("example.com")?;
    ensure!(works.stdout.trim() == tests::dns::A, "{works}");
    let works = get()?;
    ensure!(works.stdout == "200", "{works}");
    Ok(())
}

/// Held packets come back to the interface that they left by, and are not asked about again.
fn later() -> Outcome {
    let host = connected()?;
    let _server = host.serve("interface-serve", &[])?;
    let folder = tempfile::tempdir()?;
    let (go, output) = (folder.path().join("go"), folder.path().join("report.json"));
    shell("ip link set vc down")?;
    shell("ip link set vc name waits")?;
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.05; done; exec \"$@\"",
        go.display()
    );
    let run = murphy(["run", "--json", "-o"])
        .args([&output])
        .args(["-e", "net:delay=50ms:proto=udp:interface=vc*"])
        .args(["-e", "egress:loss=1ppm:seed=1:proto=udp:interface=vc*"])
        .args(["--", "sh", "-c", &script, "sh"])
        .args([self_path()])
        .args(["both", NEAR, FAR])
        .spawn()?;
    let has_filter = |device: &str| -> anyhow::Result<bool> {
        let of = |side| {
            program("tc")
                .args(["filter", "show", "dev", device, side])
                .run()
        };
        Ok(of("egress")?.stdout.contains("murphy") && of("ingress")?.stdout.contains("murphy"))
    };
    let ifbs = || program("ip").args(["-br", "link"]).run();
    wait_until(PATIENCE, || {
        ifbs().is_ok_and(|shown| shown.stdout.contains("murphy"))
    })?;
    shell("ip link set waits name vc; ip addr replace 10.9.1.1/24 dev vc; ip link set vc up")?;
    wait_until(PATIENCE, || has_filter("vc").unwrap_or(false)).context("it gets its filters")?;
    // What a later look has found: by then the one before is done.
    shell("ip link add vcx type veth peer name other; ip link set vcx up; ip link set other up")?;
    wait_until(PATIENCE, || has_filter("vcx").unwrap_or(false))?;
    for unnamed in ["va", "other"] {
        ensure!(!has_filter(unnamed)?, "{unnamed} is named by nobody");
    }
    let begun = Instant::now();
    fs::write(&go, "")?;
    let done = run.finish(PATIENCE)?;
    ensure!(done.stdout.trim() == format!("{:?}", [N, N]), "{done}");
    let took = begun.elapsed();
    ensure!(took >= Duration::from_millis(100), "{took:?}: each way");
    let report: Value = serde_json::from_str(&fs::read_to_string(&output)?)?;
    ensure!(count(&report, 0, "injected") == 2 * N, "{report}");
    ensure!(count(&report, 1, "matched") == N, "{report}");
    ensure!(!has_filter("vc")?, "a filter is left");
    untouched(&[NEAR, FAR])
}

/// Targets in two namespaces; `near` there has the number that `vc` has here.
fn elsewhere() -> Outcome {
    let host = connected()?;
    let _server = host.serve("interface-serve", &[])?;
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.05; done; exec \"$@\"",
        go.display()
    );
    let echo = UdpSocket::bind("10.9.0.1:7000")?;
    thread::spawn(move || -> Outcome {
        loop {
            let (_, from) = echo.recv_from(&mut [0; 64])?;
            let _ = echo.send_to(b"x", from);
        }
    });
    let waiting = |way: tests::Program, to: &[&str]| {
        way.args(["sh", "-c", &script, "sh"])
            .args([self_path()])
            .args(["both"])
            .args(to)
            .spawn()
    };
    let here = waiting(program("env"), &[NEAR, FAR])?;
    let there = waiting(host.enter(), &["10.9.0.1:7000"])?;
    let (of_child, own) = (
        format!("/proc/{}/ns/net", there.pid()),
        fs::read_link("/proc/self/ns/net")?,
    );
    wait_until(PATIENCE, || {
        fs::read_link(&of_child).is_ok_and(|other| other != own)
    })?;
    let output = folder.path().join("report.json");
    let inject = murphy(["inject", "--json", "-o"])
        .args([&output])
        .args(["-e", "egress:loss=100%:proto=udp:interface=vc"])
        .args(["-e", "egress:loss=1ppm:seed=1:proto=udp:interface=near"])
        .args(["--pid", &here.pid().to_string()])
        .args(["--pid", &there.pid().to_string()])
        .spawn()?;
    wait_until(PATIENCE, || {
        inject.stderr().is_ok_and(|said| said.contains("Ctrl-C"))
    })
    .context("it begins")?;
    fs::write(&go, "")?;
    let (here, there) = (here.finish(PATIENCE)?, there.finish(PATIENCE)?);
    ensure!(here.stdout.trim() == format!("{:?}", [N, 0]), "{here}");
    ensure!(there.stdout.trim() == format!("{:?}", [N]), "{there}");
    let done = inject.finish(PATIENCE)?;
    let text = fs::read_to_string(&output).with_context(|| format!("no report of {done}"))?;
    let report: Value = serde_json::from_str(&text)?;
    for fault in [0, 1] {
        ensure!(count(&report, fault, "matched") == N, "{report}");
    }
    untouched(&[NEAR, FAR])
}

fn refused() -> Outcome {
    let _host = connected()?;
    for way in [&["run"][..], &["run", "--dry-run"]] {
        let done = murphy(way.iter().copied())
            .args(["-e", "egress:loss=1%:interface=va,nowhere0"])
            .args(["--", "touch", "/tmp/murphy-must-not-run"])
            .run()?;
        ensure!(done.code == Some(125), "{done}");
        for phrase in [
            "`nowhere0`",
            "egress:loss=1%:interface=va,nowhere0",
            "vc",
            "ip link",
        ] {
            ensure!(done.stderr.contains(phrase), "{phrase}: {done}");
        }
    }
    ensure!(!fs::exists("/tmp/murphy-must-not-run")?);
    // A pattern may wait.
    let (seen, report) = hit(&["egress:loss=100%:interface=nowhere*"], &[])?;
    ensure!(seen == "[]", "{seen} {report}");
    Ok(())
}
