//! netem per process: packets of the target are late, doubled or slow, those of nobody else are, and no qdisc is touched.

mod paths;
mod table;
mod travel;
mod victims;
mod without;

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use tests::{
    Case, ChildGuard, Group, Outcome, case, murphy, needs, net::Echo, program, report::count,
    victim::self_path, wait_until,
};
use travel::{PATIENCE, least, times, travel, traveller, trips};

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics, Netem, Tool("tc"), Tool("ip")];
    tests::group([
        case("a datagram is late, each way once", net(), datagrams),
        case("TCP is late, and so is its handshake", net(), streams),
        case("a neighbour on the same port is not late", net(), neighbour),
        case("filters and triggers decide before netem", net(), filters),
        case("each fault has a netem of its own", net(), several),
        case("inject, into what already runs", net(), injected),
        case("delays as a table says", net(), table::two_delays),
        case("packets arrive twice", net(), doubled),
        case("loss by netem is true loss", net(), lost),
        case("SIGKILL: the guardian removes it all", net(), killed),
        alone("filters and qdiscs of others stay and work", "others"),
        alone("two hosts, and a root qdisc of mq and fq", "hosts"),
        alone("a process in another namespace is hit there", "container"),
        alone("run follows into another namespace", "away"),
        alone("an interface that comes up later", "later"),
        alone("a packet over VLANs is hit once", "vlan"),
        alone("fragments, and what is behind IPv6 headers", "headers"),
        bare("a plain delay without netem, by fq", without::late),
        bare(
            "without netem, fq loses nothing of a burst",
            without::bursts,
        ),
        bare(
            "without netem, the time of arrival is true",
            without::time_stamps,
        ),
        bare("without netem, the rest is refused", without::refused),
        bare("without netem, SIGKILL leaves nothing", without::killed),
        case("ping is late on its way out", net(), victims::ping),
        case(
            "redis-cli, and redis-server",
            needs![Root, Cgroup2, Atomics, Netem, Tool("redis-server")],
            victims::redis,
        ),
        case(
            "curl at the rate of a link",
            needs![Root, Cgroup2, Atomics, Netem, Tool("nginx"), Tool("curl")],
            victims::curl,
        ),
    ])
    // Classifiers as those of `egress`, which runs everywhere: with links as in the newest kernel,
    // or without as in the oldest that has netem.
    .in_kernels(&["bookworm", "sid"])
    .role("trips", trips)
    .role("burst", without::burst)
    .role("netem-serve", paths::serve)
    .role("netem-in-netns", by_name)
}

fn by_name(args: &[String]) -> Outcome {
    match args {
        [name] if name == "others" => others(),
        [name] => paths::by_name(name),
        _ => anyhow::bail!("netem-in-netns NAME"),
    }
}

/// A case that runs in a network namespace of its own, which takes everything with it.
fn alone(title: &str, name: &'static str) -> Case {
    case(
        title,
        needs![
            Root,
            Cgroup2,
            Atomics,
            Netem,
            Tool("tc"),
            Tool("unshare"),
            Tool("nsenter")
        ],
        move || {
            let done = program("unshare")
                .args(["-n"])
                .args([self_path()])
                .args(["netem-in-netns", name])
                .limit(PATIENCE * 2)
                .run()?;
            ensure!(done.code == Some(0), "{done}");
            Ok(())
        },
    )
}

/// A case on a kernel whose netem is taken out.
fn bare(title: &str, body: fn() -> Outcome) -> Case {
    case(
        title,
        needs![Root, Cgroup2, Atomics, Netem, Tool("tc"), Tool("rmmod")],
        move || without::without(body),
    )
}

fn datagrams() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let port = format!("port={}", echo.port());
    for (fault, at_least, packets) in [
        ("egress:delay=50ms", 50.0, 10),
        ("ingress:delay=50ms", 50.0, 10),
        ("net:delay=50ms:jitter=5ms:distribution=normal", 70.0, 20),
    ] {
        let fault = format!("{fault}:{port}");
        let late = travel(&[&fault], &["udp", &address, "10"])?;
        ensure!(
            late.times.len() == 10 && least(&late.times) >= at_least,
            "{fault}: {:?}",
            late.times
        );
        for counter in ["matched", "injected"] {
            let counted = count(&late.report, 0, counter);
            ensure!(counted == packets, "{fault}: {counter} {}", late.report);
        }
    }
    let works = program(self_path())
        .args(["trips", "udp", &address, "5"])
        .run()?;
    ensure!(
        least(&times(&works.stdout)) < 50.0,
        "still late afterwards: {works}"
    );
    Ok(())
}

fn streams() -> Outcome {
    let echo = Echo::start()?;
    let late = travel(
        &["net:delay=50ms"],
        &["tcp", &echo.address.to_string(), "5"],
    )?;
    ensure!(
        late.times.len() == 6 && least(&late.times) >= 100.0,
        "{:?}",
        late.times
    );
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = program(self_path())
        .args(["trips", "tcp", &address, "60", "10"])
        .spawn()?;
    let late = travel(&["net:delay=300ms"], &["tcp", &address, "3"])?;
    ensure!(least(&late.times) >= 600.0, "{:?}", late.times);
    let neighbour = neighbour.finish(PATIENCE)?;
    let others = times(&neighbour.stdout);
    ensure!(others.len() == 61, "{neighbour}");
    // Under emulation one may be late by itself, but not by so much.
    ensure!(
        others.iter().all(|time| *time < 300.0),
        "a neighbour is late: {others:?}"
    );
    Ok(())
}

fn filters() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let port = echo.port();
    for (rest, matched, injected) in [
        (format!("port={port}:dst=127.0.0.0/8:proto=udp"), 6, 6),
        ("proto=tcp".to_owned(), 0, 0),
        ("when=2..4+2".to_owned(), 6, 2),
        ("times=3".to_owned(), 6, 3),
        (format!("for=1us:port=1-{port}"), 6, 0),
    ] {
        let fault = format!("egress:delay=80ms:{rest}");
        let some = travel(&[&fault], &["udp", &address, "6"])?;
        let late = some.times.iter().filter(|time| **time >= 80.0).count() as u64;
        let counted = |name| count(&some.report, 0, name);
        ensure!(
            counted("injected") == injected
                && (counted("matched") == matched || counted("expired") == matched),
            "{fault}: {}",
            some.report
        );
        ensure!(late >= injected, "{fault}: {:?}", some.times);
    }
    Ok(())
}

/// The first fault that hits wins; each has its own queue.
fn several() -> Outcome {
    let echo = Echo::start()?;
    let late = travel(
        &[
            "egress:delay=200ms:proto=udp:times=2",
            "egress:delay=100ms:proto=udp:times=2",
            "ingress:delay=50ms:proto=tcp",
        ],
        &["udp", &echo.address.to_string(), "6"],
    )?;
    let counts: Vec<_> = (0..3)
        .map(|fault| count(&late.report, fault, "injected"))
        .collect();
    ensure!(counts == [2, 2, 0], "{}", late.report);
    let bounds = [200.0, 200.0, 100.0, 100.0, 0.0, 0.0];
    ensure!(
        late.times
            .iter()
            .zip(bounds)
            .all(|(time, least)| *time >= least)
            && late.times.len() == 6,
        "{:?}",
        late.times
    );
    Ok(())
}

fn injected() -> Outcome {
    let echo = Echo::start()?;
    let victim = program(self_path())
        .args(["trips", "tcp", &echo.address.to_string(), "2000", "20"])
        .spawn()?;
    let last = |victim: &ChildGuard| {
        times(&victim.stdout().unwrap_or_default())
            .last()
            .copied()
            .unwrap_or(0.0)
    };
    wait_until(PATIENCE, || last(&victim) > 0.0)?;
    let pid = victim.pid().to_string();
    let hit = murphy(["inject", "-e", "net:delay=150ms", "--pid", &pid]).spawn()?;
    wait_until(PATIENCE, || last(&victim) >= 300.0).context("an existing connection is late")?;
    hit.signal(libc::SIGINT)?;
    let ended = hit.finish(PATIENCE)?;
    ensure!(ended.code == Some(0), "{ended}");
    wait_until(PATIENCE, || last(&victim) < 150.0).context("still late afterwards")?;
    Ok(())
}

fn doubled() -> Outcome {
    let pinged = murphy(["run", "-q", "-e", "egress:duplicate=100%", "--"])
        .args(["ping", "-c", "3", "-i", "0.2", "127.0.0.1"])
        .run()?;
    ensure!(
        pinged.stdout.contains("+3 duplicates") || pinged.stdout.contains("+2 duplicates"),
        "{pinged}"
    );
    Ok(())
}

fn lost() -> Outcome {
    let echo = Echo::start()?;
    let some = travel(
        &["egress:loss=100%:delay=1ms:times=2"],
        &["udp", &echo.address.to_string(), "4"],
    )?;
    let lost = some.stdout.lines().filter(|line| *line == "lost").count();
    ensure!(lost == 2, "{}", some.stdout);
    Ok(())
}

/// Interfaces of murphy's that there are.
fn ours() -> BTreeSet<String> {
    std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("murphy"))
        .collect()
}

fn killed() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let murphy = murphy([
        "run",
        "-q",
        "-e",
        "net:delay=100ms",
        "-e",
        "egress:rate=1gbit",
        "--",
    ])
    .args(traveller(&["udp", &address, "300", "10"]))
    .spawn()?;
    killed_late(&murphy, 3)
}

/// Ends one whose command is late by 100 ms each way, and has so many ifbs.
fn killed_late(murphy: &ChildGuard, ifbs: usize) -> Outcome {
    let times = |murphy: &ChildGuard| times(&murphy.stdout().unwrap_or_default());
    wait_until(PATIENCE, || times(murphy).iter().any(|time| *time >= 200.0))?;
    ensure!(ours().len() == ifbs, "{:?}", ours());
    murphy.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || ours().is_empty()).context("an ifb is left")?;
    wait_until(PATIENCE, || {
        times(murphy).last().is_some_and(|time| *time < 100.0)
    })
    .context("late after the end")?;
    Ok(())
}

pub(crate) fn tc(args: &[&str]) -> anyhow::Result<String> {
    let done = program("tc").args(args).run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(done.stdout)
}

/// In a namespace of its own: somebody else's qdisc, and a filter with an action on either side.
fn others() -> Outcome {
    let script = "ip link set lo up && tc qdisc add dev lo root handle 5: pfifo limit 500 && tc qdisc add dev lo clsact && \
                  tc filter add dev lo egress prio 7 matchall action gact continue && \
                  tc filter add dev lo ingress prio 7 matchall action gact continue";
    let made = program("sh").args(["-c", script]).run()?;
    ensure!(made.code == Some(0), "{made}");
    let configured = || -> anyhow::Result<Vec<String>> {
        ["egress", "ingress"]
            .iter()
            .map(|side| tc(&["filter", "show", "dev", "lo", side]))
            .chain([tc(&["qdisc", "show", "dev", "lo"])])
            .collect()
    };
    let before = configured()?;
    let echo = Echo::start()?;
    let late = travel(
        &["net:delay=50ms"],
        &["udp", &echo.address.to_string(), "10"],
    )?;
    ensure!(least(&late.times) >= 100.0, "{:?}", late.times);
    let after = configured()?;
    ensure!(before == after, "before: {before:#?}\nafter: {after:#?}");
    // Ten each way, and on the way out the kernel classifies a packet again when it is back from the ifb, but passes
    // over the action.
    for side in ["egress", "ingress"] {
        let shown = tc(&["-s", "filter", "show", "dev", "lo", side])?;
        let seen: u64 = shown
            .split("Sent ")
            .nth(1)
            .and_then(|rest| {
                rest.split(" bytes ")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse()
                    .ok()
            })
            .with_context(|| shown.clone())?;
        ensure!(
            seen >= 20,
            "{side}: the other's action has seen {seen}: {shown}"
        );
    }
    Ok(())
}
