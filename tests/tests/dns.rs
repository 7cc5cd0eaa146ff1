//! `dns:…`: names that do not exist, lead elsewhere or get no answer, for the target alone. A real resolver asks a real server.

use anyhow::{Context as _, ensure};
use tests::{
    Finished, Group, Need, Outcome, case,
    dns::{A, AAAA, Dns},
    hosts::Hosts,
    murphy, needs, program,
    report::count,
};

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a name that does not exist, counted, and over when murphy is",
            least(),
            nxdomain,
        ),
        case("a neighbour finds the name", least(), neighbour),
        case("names by glob, without regard to case", least(), names),
        case("response codes by name and by number", least(), codes),
        case("a wrong address", least(), answer),
        case("IPv6: server and address", least(), ipv6),
        case("queries that are lost", least(), lost),
        case("by TCP the connection is reset", least(), tcp),
        case("what is no query is let be", least(), no_query),
        case(
            "libc's resolver, and a local stub at port 53",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("dnsmasq"),
                Tool("dig"),
                Tool("unshare"),
                Tool("getent")
            ],
            libc,
        ),
        case(
            "a server on another host",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("dnsmasq"),
                Tool("dig"),
                Tool("ip"),
                Tool("nsenter")
            ],
            other_host,
        ),
    ])
    // Classifiers as those of `egress`, which runs everywhere. These take the longest: a kernel
    // without links has them, and `http` runs in one with links.
    .in_kernels(&["bookworm"])
}

fn least() -> Vec<Need> {
    needs![Root, Cgroup2, Atomics, Tool("dnsmasq"), Tool("dig")]
}

/// Runs dig under a fault on the server's port: what it said, matched, injected.
fn hit(dns: &Dns, fault: &str, dig: &[String]) -> anyhow::Result<(Finished, u64, u64)> {
    let fault = format!("{fault}:port={}", dns.address.port());
    let mut words = vec!["dig".to_owned()];
    words.extend_from_slice(dig);
    under(&["-e".to_owned(), fault], &words)
}

fn under(args: &[String], command: &[String]) -> anyhow::Result<(Finished, u64, u64)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = murphy(["run", "--json", "-o"])
        .args([&output])
        .args(args)
        .args(["--"])
        .args(command)
        .run()?;
    let text = std::fs::read_to_string(&output).with_context(|| format!("no report of {done}"))?;
    let report = serde_json::from_str(&text)?;
    Ok((
        done,
        count(&report, 0, "matched"),
        count(&report, 0, "injected"),
    ))
}

/// dig's words for everything it got.
fn whole(dns: &Dns, name: &str, kind: &str) -> Vec<String> {
    let mut words = dns.question(name, kind);
    words.retain(|word| word != "+short");
    words
}

fn nxdomain() -> Outcome {
    let dns = Dns::start()?;
    let works = dns.ask("db.example.com")?;
    ensure!(works.stdout.trim() == A, "{works}");
    let dig = whole(&dns, "db.example.com", "A");
    let (done, matched, injected) = hit(&dns, "dns:rcode=NXDOMAIN", &dig)?;
    ensure!(
        done.stdout.contains("status: NXDOMAIN") && done.stdout.contains("ANSWER: 0"),
        "{done}"
    );
    ensure!(matched == 1 && injected == 1, "{matched} {injected}");
    let works = dns.ask("db.example.com")?;
    ensure!(works.stdout.trim() == A, "{works}");
    Ok(())
}

fn neighbour() -> Outcome {
    let dns = Dns::start()?;
    let fault = format!("dns:rcode=SERVFAIL:port={}", dns.address.port());
    let script = format!(
        "for i in 1 2 3 4 5 6; do dig {}; done",
        dns.question("example.com", "A").join(" ")
    );
    let target = murphy(["run", "-q", "-e", &fault, "--", "sh", "-c", &script]).spawn()?;
    for _ in 0..4 {
        let asked = dns.ask("example.com")?;
        ensure!(asked.stdout.trim() == A, "{asked}");
    }
    let target = target.finish(std::time::Duration::from_secs(60))?;
    ensure!(target.stdout.is_empty(), "{target}");
    Ok(())
}

fn names() -> Outcome {
    let dns = Dns::start()?;
    let long = format!("{0}.{0}.{0}.example.com", "x".repeat(60));
    for (glob, name, refused) in [
        ("db.example.com", "DB.Example.com", true),
        ("DB.EXAMPLE.COM", "db.example.com", true),
        ("db.example.com", "a.db.example.com", false),
        ("*.example.com", "a.db.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com,example.com", "example.com", true),
        ("*ample.com", "example.com", true),
        ("*.example.org", "www.example.com", false),
        ("*.example.com", &long, true),
    ] {
        let dig = dns.question(name, "A");
        let (done, matched, _) = hit(&dns, &format!("dns:rcode=REFUSED:name={glob}"), &dig)?;
        let answered = done.stdout.trim() == A;
        ensure!(
            answered != refused && matched == u64::from(refused),
            "{glob}, {name}: matched {matched}, {done}"
        );
    }
    Ok(())
}

fn codes() -> Outcome {
    let dns = Dns::start()?;
    for (code, status) in [
        ("servfail", "SERVFAIL"),
        ("REFUSED", "REFUSED"),
        ("4", "NOTIMP"),
        ("NOERROR", "NOERROR"),
    ] {
        let dig = whole(&dns, "example.com", "A");
        let (done, ..) = hit(&dns, &format!("dns:rcode={code}"), &dig)?;
        ensure!(done.stdout.contains(&format!("status: {status}")), "{done}");
        ensure!(!done.stdout.contains(A), "{done}");
    }
    Ok(())
}

fn answer() -> Outcome {
    let dns = Dns::start()?;
    let fault = "dns:answer=10.9.8.7:name=*.example.com";
    let (done, _, injected) = hit(&dns, fault, &dns.question("db.example.com", "A"))?;
    ensure!(done.stdout.trim() == "10.9.8.7" && injected == 1, "{done}");
    // There is no other address to find it by.
    let (done, _, injected) = hit(&dns, fault, &whole(&dns, "db.example.com", "AAAA"))?;
    ensure!(
        done.stdout.contains("status: NOERROR")
            && done.stdout.contains("ANSWER: 0")
            && injected == 1,
        "{done}"
    );
    Ok(())
}

fn ipv6() -> Outcome {
    let Ok(socket) = std::net::UdpSocket::bind("[::1]:0") else {
        return tests::skip("no IPv6 on the loopback interface");
    };
    let address = socket.local_addr()?;
    drop(socket);
    let dns = Dns::at(address, &[])?;
    let (done, ..) = hit(
        &dns,
        "dns:answer=[fd00::99]",
        &dns.question("example.com", "AAAA"),
    )?;
    ensure!(done.stdout.trim() == "fd00::99", "{done}");
    let (done, ..) = hit(
        &dns,
        "dns:rcode=NXDOMAIN:dst=[::1]",
        &whole(&dns, "example.com", "A"),
    )?;
    ensure!(done.stdout.contains("status: NXDOMAIN"), "{done}");
    let (done, matched, _) = hit(
        &dns,
        "dns:rcode=NXDOMAIN:dst=127.0.0.1",
        &dns.question("example.com", "AAAA"),
    )?;
    ensure!(done.stdout.trim() == AAAA && matched == 0, "{done}");
    Ok(())
}

/// The resolver asks again, and the second query goes through.
fn lost() -> Outcome {
    let dns = Dns::start()?;
    let mut dig = dns.question("example.com", "A");
    dig.retain(|word| !word.starts_with("+t"));
    dig.extend(["+tries=2".into(), "+time=2".into()]);
    let (done, matched, injected) = hit(&dns, "dns:drop:times=1", &dig)?;
    ensure!(
        done.stdout.contains(A) && done.stdout.contains("timed out"),
        "{done}"
    );
    ensure!(matched == 2 && injected == 1, "{matched} {injected}");
    Ok(())
}

fn tcp() -> Outcome {
    let dns = Dns::start()?;
    let mut dig = dns.question("db.example.com", "A");
    dig.push("+tcp".into());
    let (done, matched, injected) = hit(&dns, "dns:rcode=NXDOMAIN:name=*.example.com", &dig)?;
    ensure!(
        !done.stdout.contains(A) && done.stdout.contains("reset"),
        "{done}"
    );
    ensure!(matched >= 1 && injected == matched, "{matched} {injected}");
    let (done, matched, _) = hit(&dns, "dns:rcode=NXDOMAIN:name=*.example.org", &dig)?;
    ensure!(done.stdout.trim() == A && matched == 0, "{done}");
    Ok(())
}

/// Datagrams to the server's port that are none, and too short to be one.
fn no_query() -> Outcome {
    let echo = tests::net::Echo::start()?;
    let fault = format!("dns:rcode=NXDOMAIN:port={}", echo.port());
    let hit = tests::Hit::run(&["-e", &fault], &["udp", &echo.address.to_string(), "5"])?;
    ensure!(
        hit.seen("ok") == 5 && hit.count(0, "matched") == 0,
        "{}",
        hit.report
    );
    Ok(())
}

/// In a mount namespace of the test's own, where resolv.conf names the server. Without that file libc asks 127.0.0.1.
/// (`ahostsv4` would find nothing on a machine whose only address is the loopback's: `AI_ADDRCONFIG`.)
fn libc() -> Outcome {
    let folder = tempfile::tempdir()?;
    let conf = folder.path().join("resolv.conf");
    std::fs::write(&conf, "nameserver 127.0.0.1\n")?;
    let Ok(_server) = Dns::at("127.0.0.1:53".parse()?, &[]) else {
        return tests::skip("port 53 is taken");
    };
    let script = format!(
        "if [ -e /etc/resolv.conf ]; then mount --bind {} /etc/resolv.conf; fi; getent hosts www.example.com",
        conf.display()
    );
    let command = ["unshare", "-m", "sh", "-c", &script].map(str::to_owned);
    let works = program(&command[0]).args(&command[1..]).run()?;
    ensure!(works.stdout.contains("www.example.com"), "{works}");
    let fault = |text: &str| ["-e".to_owned(), text.to_owned()];
    let (done, _, injected) = under(&fault("dns:rcode=NXDOMAIN:name=www.example.com"), &command)?;
    ensure!(done.code == Some(2) && injected > 0, "{done}");
    let (done, _, injected) = under(&fault("dns:answer=10.1.2.3"), &command)?;
    ensure!(
        done.stdout.starts_with("10.1.2.3") && injected > 0,
        "{done}"
    );
    Ok(())
}

/// The answer comes back by an interface with addresses of its own, and its checksums are looked at.
fn other_host() -> Outcome {
    let hosts = Hosts::new()?;
    for (server, fault, wanted) in [
        (hosts.there(), "dns:answer=10.9.8.7", "10.9.8.7"),
        (hosts.there6(), "dns:answer=10.9.8.7", "10.9.8.7"),
        (hosts.there6(), "dns:rcode=NXDOMAIN", ""),
    ] {
        let dns = Dns::at((server, 53).into(), &hosts.way_there())?;
        let question = dns.question("example.com", "A");
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("report.json");
        let done = hosts
            .here(&tests::murphy_path().to_string_lossy())
            .args(["run", "--json", "-o"])
            .args([&output])
            .args(["-e", fault, "--", "dig"])
            .args(&question)
            .run()?;
        let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&output)?)?;
        ensure!(done.stdout.trim() == wanted, "{fault}, {server}: {done}");
        ensure!(count(&report, 0, "injected") == 1, "{report}");
        let works = hosts.here("dig").args(&question).run()?;
        ensure!(works.stdout.trim() == A, "{works}");
    }
    Ok(())
}
