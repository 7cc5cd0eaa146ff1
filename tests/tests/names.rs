//! `dst=NAME`: what a name stands for is hit, what it stands for no more is not, and nobody beside it ever is.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tests::{
    ChildGuard, Group, Outcome, Program, case, murphy_path, needs, net::Echo, program,
    report::count, victim, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let own_hosts = || needs![Root, Tool("unshare"), Tool("mount")];
    tests::group([
        case("a name without an address is refused", own_hosts(), refused),
        case("a dry run says what it means now", own_hosts(), dry_run),
        case(
            "a name that moves takes the faults with it",
            needs![Root, Cgroup2, Atomics, Tool("unshare"), Tool("mount")],
            moves,
        ),
        case(
            "packets to a name, in both families",
            needs![Root, Cgroup2, Atomics, Tool("unshare"), Tool("mount")],
            packets,
        ),
        case("the seccomp backend follows too", own_hosts(), by_seccomp),
    ])
    // By seccomp, of which the oldest kernel has all that is used.
    .in_kernels(&["sid", "bullseye"])
}

const NAME: &str = "db.murphy.invalid";
/// One that is gone after a while.
const GONE: &str = "gone.murphy.invalid";

/// A program that sees this file as `/etc/hosts`, in a mount namespace of its own. No resolver is asked besides.
fn seeing(hosts: &Path, words: &[&str]) -> Program {
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    program("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([hosts])
        .args(words)
}

fn is(hosts: &Path, addresses: &[&str]) -> Outcome {
    let lines: Vec<_> = addresses
        .iter()
        .map(|address| format!("{address} {NAME}\n"))
        .collect();
    // Written over where it is: the mount is of this very file.
    Ok(fs::write(hosts, lines.concat())?)
}

fn refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    is(&hosts, &[])?;
    let fault = format!("connect:error=EPERM:dst=10.0.0.0/8,{NAME}");
    let murphy = murphy_path();
    let murphy = murphy.to_str().context("a path in UTF-8")?;
    let done = seeing(&hosts, &[murphy, "run", "-e", &fault, "--", "echo", "ran"]).run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    for word in [
        &format!("`{NAME}` in `{fault}`"),
        "getent ahosts",
        "10.0.0.1",
    ] {
        ensure!(done.stderr.contains(word), "no `{word}` in {done}");
    }
    Ok(())
}

fn dry_run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    is(&hosts, &["127.0.0.2", "fd00::2"])?;
    let fault = format!("connect:error=EPERM:dst={NAME}");
    let murphy = murphy_path();
    let murphy = murphy.to_str().context("a path in UTF-8")?;
    let words = [murphy, "run", "--dry-run", "-e", &fault, "--", "true"];
    let done = seeing(&hosts, &words).run()?;
    let line = format!("name     {NAME} is 127.0.0.2, fd00::2");
    ensure!(
        done.stdout.contains(&line) && done.stdout.contains(&fault),
        "{done}"
    );
    let words = [
        murphy,
        "run",
        "--dry-run",
        "--json",
        "-e",
        &fault,
        "--",
        "true",
    ];
    let done = seeing(&hosts, &words).run()?;
    let shown: serde_json::Value = serde_json::from_str(&done.stdout)?;
    let wanted = serde_json::json!({ NAME: ["127.0.0.2", "fd00::2"] });
    ensure!(shown["names"] == wanted, "{done}");
    Ok(())
}

/// Victims that connect to a server each, at addresses of their own and the same port.
struct Victims {
    /// 127.0.0.2, and so on.
    first: ChildGuard,
    second: ChildGuard,
    third: ChildGuard,
    /// Of nobody that is named.
    neighbour: ChildGuard,
}

impl Victims {
    fn start() -> anyhow::Result<Self> {
        let server = Echo::at("127.0.0.2:0")?;
        let port = server.port();
        let at = |address: &str| Echo::at(&format!("{address}:{port}"));
        let others = ["127.0.0.3", "127.0.0.4", "127.0.0.5"].map(at);
        let [second, third, neighbour] = others;
        let connecting = |to: &Echo| {
            let to = to.address.to_string();
            victim::victim(["connect", &to, "100000", "20"]).spawn()
        };
        Ok(Self {
            first: connecting(&server)?,
            second: connecting(&second?)?,
            third: connecting(&third?)?,
            neighbour: connecting(&neighbour?)?,
        })
    }
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

fn moves() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (hosts, report) = (folder.path().join("hosts"), folder.path().join("report"));
    fs::write(&hosts, format!("127.0.0.2 {NAME}\n127.0.0.4 {GONE}\n"))?;
    let victims = Victims::start()?;
    let Victims {
        first,
        second,
        third,
        neighbour,
    } = &victims;
    for victim in [first, second, third, neighbour] {
        sees(victim, "ok")?;
    }
    let fault = format!("connect:error=ECONNREFUSED:dst={NAME},{GONE}");
    let pids = [first, second, third, neighbour].map(|victim| victim.pid().to_string());
    let (murphy, output) = (murphy_path(), report.to_string_lossy());
    let murphy = murphy.to_str().context("a path in UTF-8")?;
    let mut words = vec![murphy, "inject", "--json", "-o", &output, "--for", "5m"];
    words.extend(pids.iter().flat_map(|pid| ["--pid", pid.as_str()]));
    words.extend(["-e", &fault]);
    let injector = seeing(&hosts, &words).spawn()?;
    sees(first, "ECONNREFUSED")?;
    sees(second, "ok")?;
    sees(third, "ECONNREFUSED")?;
    is(&hosts, &["127.0.0.3", "fd00::3"])?;
    sees(second, "ECONNREFUSED")?;
    sees(first, "ok")?;
    // Of one that is gone murphy goes on with what it knew, and says so.
    let told = || {
        let said = injector.stderr().unwrap_or_default();
        said.matches("cannot be looked up any more").count()
    };
    wait_until(PATIENCE, || told() > 0).context("nothing is said")?;
    sees(third, "ECONNREFUSED")?;
    injector.signal(libc::SIGINT)?;
    let done = injector.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    for victim in [first, second, third] {
        sees(victim, "ok")?;
    }
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
    let warned = report["warnings"][0].as_str().unwrap_or_default();
    ensure!(
        warned.contains(GONE) && report["warnings"].get(1).is_none(),
        "{report}"
    );
    let lost = |victim: &ChildGuard| -> anyhow::Result<u64> {
        Ok(victim::seen(&victim.stdout()?, "ECONNREFUSED"))
    };
    let seen = lost(first)? + lost(second)? + lost(third)?;
    ensure!(
        count(&report, 0, "injected") == seen && count(&report, 0, "matched") == seen,
        "{seen} seen: {report}"
    );
    ensure!(
        report["faults"][0]["fault"] == fault.as_str(),
        "another fault is shown: {report}"
    );
    ensure!(lost(neighbour)? == 0, "a neighbour was hit");
    Ok(())
}

fn packets() -> Outcome {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    is(&hosts, &["127.0.0.2", "::1"])?;
    // The family that the other tests have not, where there is one.
    let server = Echo::at("[::1]:0").or_else(|_| Echo::at("127.0.0.2:0"))?;
    let neighbour = Echo::at("127.0.0.3:0")?;
    let murphy = murphy_path();
    let murphy = murphy.to_str().context("a path in UTF-8")?;
    let fault = format!("egress:loss=100%:dst={NAME}:proto=udp");
    let own = victim::self_path();
    let own = own.to_str().context("a path in UTF-8")?;
    for (to, injected) in [(server.address, 5), (neighbour.address, 0)] {
        let report = folder.path().join("report");
        let (to, output) = (to.to_string(), report.to_string_lossy());
        let words = [
            murphy, "run", "--json", "-o", &output, "-e", &fault, "--", own, "victim", "udp", &to,
            "5",
        ];
        let done = seeing(&hosts, &words).run()?;
        let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
        ensure!(
            count(&report, 0, "injected") == injected && victim::seen(&done.stdout, "ok") == 5,
            "{to}: {report} {done}"
        );
    }
    Ok(())
}

fn by_seccomp() -> Outcome {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    is(&hosts, &["127.0.0.2"])?;
    let server = Echo::at("127.0.0.2:0")?;
    let other = Echo::at(&format!("127.0.0.3:{}", server.port()))?;
    let fault = format!("connect:error=ETIMEDOUT:dst={NAME}");
    let (murphy, own) = (murphy_path(), victim::self_path());
    let (murphy, own) = (murphy.to_string_lossy(), own.to_string_lossy());
    let (first, second) = (server.address.to_string(), other.address.to_string());
    let script = "\"$0\" victim connect $1 100000 50 & exec \"$0\" victim connect $2 100000 50 >&2";
    let words = [
        &murphy,
        "run",
        "-q",
        "--orphans",
        "kill",
        "--backend",
        "seccomp",
        "-e",
        &fault,
        "--",
        "sh",
        "-c",
        script,
        &own,
        &first,
        &second,
    ];
    let run = seeing(&hosts, &words).spawn()?;
    let see = |which: &str, word: &str| {
        let last = || {
            let said = match which {
                "first" => run.stdout(),
                _ => run.stderr(),
            };
            Some(said.ok()?.lines().last()?.to_owned())
        };
        wait_until(PATIENCE, || last().is_some_and(|line| line == word))
            .with_context(|| format!("{which} does not see {word}: {:?}", last()))
    };
    see("first", "ETIMEDOUT")?;
    see("second", "ok")?;
    is(&hosts, &["127.0.0.3"])?;
    see("second", "ETIMEDOUT")?;
    see("first", "ok")?;
    run.signal(libc::SIGINT)?;
    run.finish(PATIENCE)?;
    Ok(())
}
