//! What packets cross: namespaces, interfaces that come later, VLANs, fragments, extension headers. Each case runs in a network
//! namespace of its own, the first host; the second is that of a child.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    thread,
};

use anyhow::{Context as _, ensure};
use tests::{
    Outcome, murphy,
    net::Echo,
    peer::{Peer, shell},
    program,
    report::count,
    victim::self_path,
    wait_until,
};

use super::{
    tc,
    travel::{PATIENCE, least, times, travel, traveller},
};

/// Where the second host's server listens.
const PORT: u16 = 7000;

pub(crate) fn by_name(name: &str) -> Outcome {
    match name {
        "hosts" => hosts(),
        "container" => container(),
        "away" => away(),
        "later" => later(),
        "vlan" => vlan(),
        "headers" => headers(),
        _ => anyhow::bail!("no case {name}"),
    }
}

/// `netem-serve ADDRESS`: sends back what it gets on TCP and UDP, until it is ended.
pub(crate) fn serve(args: &[String]) -> Outcome {
    let address: SocketAddr = args.first().context("netem-serve ADDRESS")?.parse()?;
    let tcp = TcpListener::bind(address)?;
    let udp = UdpSocket::bind(address)?;
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], from);
        }
    });
    println!("ready");
    for mut stream in tcp.incoming().flatten() {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// One with the addresses 10.9.0.2 and `fd09::2`; ours are 10.9.0.1 and `fd09::1` on `va`, which has two queues.
fn connected() -> anyhow::Result<Peer> {
    let host = Peer::start()?;
    let pid = host.pid();
    shell(&format!(
        "ip link set lo up
         ip link add va numtxqueues 2 numrxqueues 2 type veth peer name vb netns {pid}
         ip addr add 10.9.0.1/24 dev va
         ip addr add fd09::1/64 dev va nodad
         ip link set va up"
    ))?;
    host.shell(
        "ip link set lo up
         ip addr add 10.9.0.2/24 dev vb
         ip addr add fd09::2/64 dev vb nodad
         ip link set vb up",
    )?;
    Ok(host)
}

fn hosts() -> Outcome {
    let host = connected()?;
    shell("tc qdisc replace dev va root handle 9: mq && tc qdisc replace dev va parent 9:1 fq")?;
    let qdiscs = tc(&["qdisc", "show", "dev", "va"])?;
    let _server = host.serve("netem-serve", &[&format!("10.9.0.2:{PORT}")])?;
    let to = format!("10.9.0.2:{PORT}");
    let late = travel(&["net:delay=50ms"], &["tcp", &to, "5"])?;
    ensure!(
        late.times.len() == 6 && least(&late.times) >= 100.0,
        "{:?}",
        late.times
    );
    let works = program(self_path())
        .args(["trips", "tcp", &to, "5"])
        .run()?;
    ensure!(least(&times(&works.stdout)) < 50.0, "{works}");
    let after = tc(&["qdisc", "show", "dev", "va"])?;
    ensure!(qdiscs == after, "before: {qdiscs}\nafter: {after}");
    Ok(())
}

/// The target is in another network namespace than murphy, as those in containers are.
fn container() -> Outcome {
    let host = connected()?;
    let echo = Echo::at("10.9.0.1:0")?;
    let victim = host
        .enter()
        .args(traveller(&["tcp", &echo.address.to_string(), "2000", "20"]))
        .spawn()?;
    let last = || {
        times(&victim.stdout().unwrap_or_default())
            .last()
            .copied()
            .unwrap_or(0.0)
    };
    wait_until(PATIENCE, || last() > 0.0)?;
    let pid = victim.pid().to_string();
    let hit = murphy(["inject", "-e", "net:delay=150ms", "--pid", &pid]).spawn()?;
    let links =
        || -> anyhow::Result<String> { Ok(host.enter().args(["ip", "-br", "link"]).run()?.stdout) };
    // A slow machine may be as late by itself, but makes no ifb.
    wait_until(PATIENCE, || {
        links().is_ok_and(|links| links.contains("murphy"))
    })
    .context("the other namespace gets an ifb")?;
    wait_until(PATIENCE, || last() >= 300.0).context("it is late")?;
    hit.signal(libc::SIGINT)?;
    let ended = hit.finish(PATIENCE)?;
    ensure!(ended.code == Some(0), "{ended}");
    ensure!(!links()?.contains("murphy"), "left behind: {}", links()?);
    wait_until(PATIENCE, || last() < 150.0).context("still late afterwards")
}

/// The command goes to another network namespace by itself.
fn away() -> Outcome {
    let host = connected()?;
    let echo = Echo::at("10.9.0.1:0")?;
    let pid = host.pid().to_string();
    let run = murphy(["run", "-q", "-e", "egress:delay=200ms:proto=udp", "--"])
        .args(["nsenter", "-n", "-t", &pid])
        .args(traveller(&["udp", &echo.address.to_string(), "500", "20"]))
        .spawn()?;
    wait_until(PATIENCE, || {
        times(&run.stdout().unwrap_or_default())
            .iter()
            .any(|time| *time >= 200.0)
    })
    .context("it is late")?;
    run.signal(libc::SIGTERM)?;
    run.finish(PATIENCE)?;
    Ok(())
}

fn later() -> Outcome {
    let host = connected()?;
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    let _server = host.serve("netem-serve", &[&format!("0.0.0.0:{PORT}")])?;
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.05; done; exec \"$@\"",
        go.display()
    );
    let run = murphy(["run", "-q", "-e", "egress:delay=100ms", "--", "sh", "-c"])
        .args([script.as_str(), "sh"])
        .args(traveller(&["udp", &format!("10.9.1.2:{PORT}"), "5"]))
        .spawn()?;
    let filters = |device: &str| {
        program("tc")
            .args(["filter", "show", "dev", device, "egress"])
            .run()
            .is_ok_and(|shown| shown.stdout.contains("murphy"))
    };
    wait_until(PATIENCE, || filters("va"))?;
    let pid = host.pid();
    shell(&format!(
        "ip link add vc type veth peer name vd netns {pid}
         ip addr add 10.9.1.1/24 dev vc
         ip link set vc up"
    ))?;
    host.shell("ip addr add 10.9.1.2/24 dev vd; ip link set vd up")?;
    wait_until(PATIENCE, || filters("vc")).context("the new interface gets its filter")?;
    fs::write(&go, "")?;
    let done = run.finish(PATIENCE)?;
    let times = times(&done.stdout);
    ensure!(times.len() == 5 && least(&times) >= 100.0, "{done}");
    ensure!(!filters("vc"), "a filter is left");
    Ok(())
}

/// A packet crosses the VLAN's device and the one below.
fn vlan() -> Outcome {
    let host = connected()?;
    let made = program("sh")
        .args([
            "-ec",
            "ip link add link va name va.5 type vlan id 5
             ip addr add 10.9.5.1/24 dev va.5
             ip link set va.5 up",
        ])
        .run()?;
    if made.code != Some(0) {
        return tests::skip(format!("no VLANs: {}", made.stderr));
    }
    host.shell(
        "ip link add link vb name vb.5 type vlan id 5
         ip addr add 10.9.5.2/24 dev vb.5
         ip link set vb.5 up",
    )?;
    let _server = host.serve("netem-serve", &[&format!("10.9.5.2:{PORT}")])?;
    let to = format!("10.9.5.2:{PORT}");
    for fault in [
        "egress:delay=100ms:proto=udp",
        "ingress:delay=100ms:proto=udp",
    ] {
        let late = travel(&[fault], &["udp", &to, "5"])?;
        ensure!(
            count(&late.report, 0, "injected") == 5 && least(&late.times) >= 100.0,
            "{fault}: {:?} {}",
            late.times,
            late.report
        );
    }
    let loss = travel(&["egress:loss=1ppm:proto=udp"], &["udp", &to, "5"])?;
    ensure!(count(&loss.report, 0, "matched") == 5, "{}", loss.report);
    Ok(())
}

/// A port is in the first fragment, and behind whatever headers come before it.
fn headers() -> Outcome {
    let host = connected()?;
    let _server = host.serve("netem-serve", &[&format!("[::]:{PORT}")])?;
    let (four, six) = (format!("10.9.0.2:{PORT}"), format!("[fd09::2]:{PORT}"));
    for (to, kind, filter, matched) in [
        (&four, "large", "port=7000", 5),
        (&six, "large", "proto=udp", 15),
        (&six, "large", "port=7000", 5),
        (&six, "options", "port=7000:proto=udp", 5),
    ] {
        let fault = format!("egress:delay=50ms:{filter}");
        let late = travel(&[&fault], &[kind, to, "5"])?;
        ensure!(
            count(&late.report, 0, "injected") == matched && least(&late.times) >= 50.0,
            "{fault} of {kind} to {to}: {:?} {}",
            late.times,
            late.report
        );
    }
    Ok(())
}
