//! `--observe`: what callers saw, beside what the kernel programs did; and *missed*, which needs nobody to ask for it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    ChildGuard, Group, Hit, Outcome, case, murphy, murphy_path, needs,
    net::Echo,
    report::count,
    victim::{self, seen, victim},
    wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    let group = tests::group([
        case("connects came back as injected", net(), connects),
        case("writes and opens came back as injected", lsm(), files),
        #[cfg(target_arch = "x86_64")]
        case("32-bit calls are observed alike", net(), old::observed),
        case("a neighbour is not counted", net(), neighbour),
        case("another result is told apart", net(), altered),
        case("packets have no caller", net(), packets),
        case("nobody asked, nothing is said", net(), unasked),
        case("killed, it leaves nothing", net(), killed),
        case("nothing to observe is refused", needs![], refused),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"]);
    #[cfg(target_arch = "x86_64")]
    let group = group.role("old", old::connect);
    group
}

/// Of so many injected so many came back as injected and the others as something else, but for what the kernel did not show.
fn counted(report: &Value, fault: usize, injected: u64, as_injected: u64) -> Outcome {
    let unseen = report["unseen"].as_u64().context("no unseen")?;
    let (observed, altered) = (
        count(report, fault, "observed"),
        count(report, fault, "altered"),
    );
    ensure!(count(report, fault, "injected") == injected, "{report}");
    ensure!(
        observed <= as_injected && altered <= injected - as_injected,
        "{report}"
    );
    ensure!(observed + altered + unseen >= injected, "{report}");
    // What nobody tells apart would pass too.
    ensure!(observed + altered > 0, "{report}");
    Ok(())
}

fn connects() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    // Of two rules each has its own count.
    let hit = Hit::run(
        &[
            "--observe",
            "-e",
            "connect:error=ECONNREFUSED:when=2+2",
            "-e",
            "connect:error=ETIMEDOUT:times=3",
        ],
        &["connect", &address, "20"],
    )?;
    for (fault, word, times) in [(0, "ECONNREFUSED", 10), (1, "ETIMEDOUT", 3)] {
        ensure!(hit.seen(word) == times, "{}", hit.victim);
        counted(&hit.report, fault, times, times)?;
    }
    ensure!(hit.seen("ok") == 7, "{}", hit.victim);
    ensure!(hit.report["missed"].is_u64(), "{}", hit.report);
    let again = victim(["connect", &address, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

fn files() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let hit = Hit::run(
        &["--observe", "-e", "write:error=ENOSPC:on=file:when=1+2"],
        &["write", &file, "40"],
    )?;
    ensure!(hit.seen("ENOSPC") == 20, "{}", hit.victim);
    counted(&hit.report, 0, 20, 20)?;
    let fault = format!("openat:error=EACCES:path={file}");
    let hit = Hit::run(&["--observe", "-e", &fault], &["open", &file, "15"])?;
    ensure!(hit.seen("EACCES") == 15, "{}", hit.victim);
    counted(&hit.report, 0, 15, 15)?;
    let again = victim(["open", &file, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

/// Connecting by the 32-bit way into the kernel, as old programs do.
#[cfg(target_arch = "x86_64")]
mod old {
    use std::{
        net::{Ipv4Addr, SocketAddrV4},
        os::fd::AsRawFd as _,
    };

    use anyhow::{Context as _, ensure};
    use tests::{Outcome, murphy, net::Echo, program, victim};

    /// `connect` in the table of 32-bit calls (4.3).
    const CONNECT: i64 = 362;

    /// Connects five times to the port that is the argument, and prints what each call gave.
    pub(super) fn connect(args: &[String]) -> Outcome {
        let port: u16 = args.first().context("no port")?.parse()?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        // SAFETY: new memory, in the lower 2 GiB, where a 32-bit call can name it.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        ensure!(page != libc::MAP_FAILED, "no memory below 2 GiB");
        let name = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from(*address.ip()).to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: the page is larger, aligned, and ours.
        unsafe { page.cast::<libc::sockaddr_in>().write(name) };
        for _ in 0..5 {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            let gave: i64;
            // SAFETY: the call reads the address and nothing else; its registers are as the ABI wants them, and rbx, which
            // the compiler keeps for itself, is put back.
            unsafe {
                std::arch::asm!(
                    "xchg {first}, rbx",
                    "int 0x80",
                    "xchg {first}, rbx",
                    first = inout(reg) i64::from(socket.as_raw_fd()) => _,
                    inlateout("rax") CONNECT => gave,
                    in("rcx") page,
                    in("rdx") size_of::<libc::sockaddr_in>(),
                    lateout("r8") _,
                    lateout("r9") _,
                    lateout("r10") _,
                    lateout("r11") _,
                );
            }
            println!("{}", gave as i32);
        }
        Ok(())
    }

    pub(super) fn observed() -> Outcome {
        let echo = Echo::start()?;
        let port = echo.port().to_string();
        let alone = program(victim::self_path()).args(["old", &port]).run()?;
        if alone.signal == Some(libc::SIGSEGV) {
            return tests::skip("the kernel has no 32-bit calls");
        }
        let report = tempfile::NamedTempFile::new()?;
        let fault = format!("connect:error=ECONNREFUSED:port={port}:when=2+");
        let done = murphy(["run", "--observe", "--json", "-e", &fault, "-o"])
            .args([report.path()])
            .args(["--"])
            .args([victim::self_path()])
            .args(["old", &port])
            .run()?;
        let lines: Vec<_> = done.stdout.lines().collect();
        ensure!(lines == ["0", "-111", "-111", "-111", "-111"], "{done}");
        let report = serde_json::from_str(&std::fs::read_to_string(report.path())?)?;
        super::counted(&report, 0, 4, 4)
    }
}

/// A process that runs already is hit until it is killed; another does the same beside it and fails by itself, with the same error.
fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let nobody = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")?;
        closed.local_addr()?.to_string()
    };
    let steps = |address| ["connect", address, "100000", "5"];
    let neighbour = victim(steps(&nobody)).spawn()?;
    let target = victim(steps(&echo.address.to_string())).spawn()?;
    let murphy = murphy(["inject", "--observe", "--json", "-q"])
        .args(["-e", "connect:error=ECONNREFUSED", "--pid"])
        .args([target.pid().to_string()])
        .spawn()?;
    sees(&target, "ECONNREFUSED", 20)?;
    target.signal(libc::SIGKILL)?;
    let target = target.finish(PATIENCE)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let report: Value = serde_json::from_str(done.stderr.trim()).context(done.to_string())?;
    let injected = count(&report, 0, "injected");
    // What came back last may not have been printed any more.
    let printed = seen(&target.stdout, "ECONNREFUSED");
    ensure!(
        (printed..=printed + 1).contains(&injected),
        "{printed}: {report}"
    );
    counted(&report, 0, injected, injected)?;
    neighbour.signal(libc::SIGKILL)?;
    let neighbour = neighbour.finish(PATIENCE)?;
    ensure!(seen(&neighbour.stdout, "ECONNREFUSED") > 0, "{neighbour}");
    Ok(())
}

/// Waits until a victim has printed this so often.
fn sees(victim: &ChildGuard, word: &str, times: u64) -> Outcome {
    wait_until(PATIENCE, || {
        victim.stdout().is_ok_and(|said| seen(&said, word) >= times)
    })
    .with_context(|| format!("the victim does not see {word} {times} times"))
}

/// A murphy inside of another: the kernel asks the inner one first, and the outer one's error is what the caller gets.
fn altered() -> Outcome {
    let echo = Echo::start()?;
    let folder = tempfile::tempdir()?;
    let inner = folder.path().join("inner.json");
    let outer = folder.path().join("outer.json");
    let run = |error: &str| {
        let fault = format!("connect:error={error}:port={}", echo.port());
        ["run", "--observe", "--json", "-e"]
            .map(str::to_owned)
            .into_iter()
            .chain([fault, "-o".to_owned()])
    };
    let done = murphy(run("EPERM"))
        .args([&outer])
        .args(["--"])
        .args([murphy_path()])
        .args(run("ECONNREFUSED"))
        .args([&inner])
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words(["connect", &echo.address.to_string(), "5"]))
        .run()?;
    ensure!(seen(&done.stdout, "EPERM") == 5, "{done}");
    for (file, observed) in [(inner, 0), (outer, 5)] {
        let report: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        counted(&report, 0, 5, observed)?;
    }
    Ok(())
}

fn packets() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let run = ["run", "--observe", "-e", "connect:error=EPERM:times=2"];
    let done = murphy(run)
        .args(["-e", "egress:loss=1ppm", "--"])
        .args([victim::self_path()])
        .args(victim::words(["connect", &address, "5"]))
        .run()?;
    let row = |fault: &str| {
        let row = done.stderr.lines().find(|line| line.contains(fault));
        row.map(|row| row.split_whitespace().collect::<Vec<_>>())
            .with_context(|| done.to_string())
    };
    ensure!(row("FAULT ")?[3] == "OBSERVED", "{done}");
    let connect = row("connect:")?;
    ensure!(connect[2] == "2" && connect[3] != "-", "{done}");
    ensure!(row("egress:")?[3] == "-", "{done}");
    Ok(())
}

fn unasked() -> Outcome {
    let echo = Echo::start()?;
    let hit = Hit::run(
        &["-e", "connect:error=EPERM"],
        &["connect", &echo.address.to_string(), "3"],
    )?;
    let fault = &hit.report["faults"][0];
    ensure!(fault["injected"] == 3, "{}", hit.report);
    ensure!(
        fault.get("observed").is_none() && fault.get("altered").is_none(),
        "{}",
        hit.report
    );
    ensure!(
        hit.report["missed"] == 0 && hit.report.get("unseen").is_none(),
        "{}",
        hit.report
    );
    Ok(())
}

/// The harness looks for what is left once this is done.
fn killed() -> Outcome {
    let echo = Echo::start()?;
    let target = victim(["connect", &echo.address.to_string(), "100000", "5"]).spawn()?;
    let murphy = murphy(["inject", "--observe", "-e", "connect:error=EPERM", "--pid"])
        .args([target.pid().to_string()])
        .spawn()?;
    sees(&target, "EPERM", 5)?;
    murphy.signal(libc::SIGKILL)?;
    wait_until(PATIENCE, || {
        target.stdout().is_ok_and(|said| said.ends_with("ok\n"))
    })
    .context("the faults go on")?;
    Ok(())
}

fn refused() -> Outcome {
    for (command, fault, reason) in [
        (
            ["run", "--backend", "bpf"].as_slice(),
            "egress:loss=1%",
            "hits packets",
        ),
        (
            &["run", "--backend", "seccomp"],
            "write:error=EIO",
            "is carried out by seccomp",
        ),
    ] {
        let done = murphy(command)
            .args(["--observe", "-e", fault, "--", "true"])
            .run()?;
        ensure!(done.code == Some(125), "{done}");
        ensure!(
            done.stderr.contains(fault) && done.stderr.contains(reason),
            "{done}"
        );
        ensure!(done.stderr.contains("--observe"), "{done}");
    }
    Ok(())
}
