//! `-vvv`: a line for each connect and packet, what became of it and why; at most 1 000 a second.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{
    Finished, Group, Outcome, case, murphy, needs,
    net::{Echo, free_port},
    program, victim, wait_until,
};

/// Emulated kernels are slow.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case(
            "curl's connect has a line, and curl's output none",
            needs![Root, Cgroup2, Atomics, Tool("curl"), Tool("python3")],
            curl,
        )
        .in_kernels(&[]),
        case("a connect and why it was let through", net(), connects),
        case("a packet, both ends, and why", net(), packets),
        case("a packet after the lease", net(), lease),
        case("inject: a neighbour is not a target", net(), neighbour),
        case(
            "flooded: 1 000 lines a second, and the others counted",
            net(),
            flood,
        ),
        case("without kernel programs it says so", needs![], none).in_kernels(&[]),
    ])
    // The programs that write lines are the same on every kernel, the verifiers are not: the oldest
    // that has their atomic operations, and the newest.
    .in_kernels(&["bookworm", "sid"])
}

/// What the command's packets and connects came to, with the lines.
fn run(fault: &str, steps: &[&str]) -> Result<Finished> {
    murphy(["run", "-vvv", "-e", fault, "--"])
        .args([victim::self_path()])
        .args(victim::words(steps.iter().copied()))
        .run()
}

/// How many lines begin and end so.
fn lines(done: &Finished, head: &str, tail: &str) -> usize {
    let is_one = |line: &&str| line.starts_with(head) && line.ends_with(tail);
    done.stderr.lines().filter(is_one).count()
}

fn curl() -> Outcome {
    let port = free_port()?.to_string();
    let serve = ["-m", "http.server", "--bind", "127.0.0.1", &port];
    let _server = program("python3").args(serve).spawn()?;
    let address = format!("127.0.0.1:{port}");
    wait_until(PATIENCE, || TcpStream::connect(&address).is_ok())?;
    let url = format!("http://{address}/");
    let run = |verbose: &str| {
        let fault = ["-e", "connect:error=EIO:port=1"];
        murphy(["run", verbose])
            .args(fault)
            .args(["--", "curl", "-s", &url])
            .run()
    };
    let line = format!("connect4 {address} skipped: port");
    let done = run("-vvv")?;
    ensure!(lines(&done, &line, &line) == 1, "{done}");
    ensure!(lines(&done, "connect4 ", "") == 1, "{done}");
    ensure!(done.stdout.contains("Directory listing"), "{done}");
    ensure!(!done.stdout.contains("connect4"), "{done}");
    let done = run("-vv")?;
    ensure!(lines(&done, "connect", "") == 0, "{done}");
    Ok(())
}

fn connects() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    for (filter, became) in [
        ("", "injected"),
        (":port=1", "skipped: port"),
        (":dst=10.0.0.0/8,[::1]", "skipped: address"),
        (":connlimit=100", "skipped: connlimit"),
        (":p=1ppm", "skipped: trigger p"),
        (":when=3+", "skipped: trigger when"),
        (":after=1h", "skipped: trigger after"),
        (":comm=other", "skipped: not a target"),
    ] {
        let fault = format!("connect:error=EIO{filter}");
        let done = run(&fault, &["connect", &address, "2"])?;
        let head = format!("connect4 {address} ");
        ensure!(lines(&done, &head, became) == 2, "{fault}: {done}");
        ensure!(lines(&done, "connect", "") == 2, "{fault}: {done}");
    }
    let done = run(
        "connect:error=EIO:times=1",
        &["connect", "[2001:db8::1]:9", "1"],
    )?;
    ensure!(
        lines(&done, "connect6 [2001:db8::1]:9 ", "injected") == 1,
        "{done}"
    );
    Ok(())
}

fn packets() -> Outcome {
    let echo = Echo::start()?;
    let (address, port) = (echo.address.to_string(), echo.port());
    let out = format!(" > 127.0.0.1:{port} ");
    for (fault, became) in [
        ("egress:loss=100%", "injected"),
        ("egress:loss=100%:port=1", "skipped: port"),
        ("egress:loss=100%:src=10.0.0.1", "skipped: address"),
        ("egress:loss=100%:proto=tcp", "skipped: protocol"),
        ("egress:loss=1ppm", "skipped: trigger p"),
    ] {
        let done = run(fault, &["udp", &address, "3"])?;
        let tail = format!("{out}{became}");
        ensure!(
            lines(&done, "egress 127.0.0.1:", &tail) == 3,
            "{fault}: {done}"
        );
    }
    // The server's answers leave its own socket, and arrive at the command's. The whole machine's
    // packets are no target's, and may have used up the lines for them.
    let answer = format!("127.0.0.1:{port} > 127.0.0.1:");
    let (leaves, arrives) = (format!("egress {answer}"), format!("ingress {answer}"));
    let mut done = run("net:loss=100%:port=1", &["ask", &address, "3"])?;
    wait_until(PATIENCE, || {
        if lines(&done, &leaves, "skipped: not a target") == 3 {
            return true;
        }
        if let Ok(again) = run("net:loss=100%:port=1", &["ask", &address, "3"]) {
            done = again;
        }
        false
    })
    .with_context(|| done.to_string())?;
    ensure!(lines(&done, &arrives, "skipped: port") == 3, "{done}");
    let Ok(socket) = std::net::UdpSocket::bind("[::1]:0") else {
        return Ok(());
    };
    let address = socket.local_addr()?.to_string();
    let done = run("egress:loss=100%:port=1", &["udp", &address, "3"])?;
    let tail = format!(" > {address} skipped: port");
    ensure!(lines(&done, "egress [::1]:", &tail) == 3, "{done}");
    Ok(())
}

/// A stopped murphy renews nothing; its programs' lines wait for it.
fn lease() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let args = ["-vvv", "--lease", "1s", "-e", "egress:loss=1ppm", "--"];
    let run = murphy(["run"])
        .args(args)
        .args([victim::self_path()])
        .args(victim::words(["udp", &address, "300", "20"]))
        .spawn()?;
    wait_until(PATIENCE, || {
        run.stdout().is_ok_and(|said| said.contains("ok"))
    })
    .context("the victim does not run")?;
    run.signal(libc::SIGSTOP)?;
    thread::sleep(Duration::from_secs(3));
    run.signal(libc::SIGCONT)?;
    let done = run.finish(PATIENCE)?;
    let head = "egress 127.0.0.1:";
    ensure!(lines(&done, head, "skipped: trigger p") > 0, "{done}");
    ensure!(lines(&done, head, "skipped: lease") > 0, "{done}");
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let own = victim::victim(["connect", &address, "100000", "20"]).spawn()?;
    let pid = own.pid().to_string();
    let fault = ["-e", "connect:error=EIO:p=1ppm"];
    let murphy = murphy(["inject", "-vvv", "--pid", &pid])
        .args(fault)
        .spawn()?;
    let has = |text: &str| murphy.stderr().is_ok_and(|said| said.contains(text));
    let (hit, spared) = (
        format!("connect4 {address} skipped: trigger p\n"),
        format!("connect4 {address} skipped: not a target\n"),
    );
    wait_until(PATIENCE, || has(&hit)).context("no line of the target")?;
    let stranger = victim::victim(["connect", &address, "1"]).run()?;
    ensure!(stranger.code == Some(0), "{stranger}");
    wait_until(PATIENCE, || has(&spared)).context("no line of the neighbour")?;
    murphy.signal(libc::SIGTERM)?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// The programs of connects see the command's alone, so that all of them are known.
fn flood() -> Outcome {
    const CONNECTS: usize = 20_000;
    let steps = ["tally:connect", "192.0.2.1:9", &CONNECTS.to_string()];
    let done = run("connect:error=ECONNREFUSED", &steps)?;
    let refused = format!("ECONNREFUSED {CONNECTS}");
    ensure!(done.stdout.contains(&refused), "{done}");
    let line = "connect4 192.0.2.1:9 injected";
    let written = lines(&done, line, line);
    let more = done.stderr.lines().find_map(|said| {
        let (count, _) = said.strip_prefix("murphy: ")?.split_once(" lines more")?;
        count.parse::<usize>().ok()
    });
    let more = more.unwrap_or(0);
    ensure!(
        written + more == CONNECTS,
        "{written} lines and {more} more of {CONNECTS}"
    );
    let (_, seconds) = done
        .stderr
        .split_once("faults were armed for ")
        .context("no report")?;
    let seconds: f64 = seconds.split(' ').next().unwrap_or_default().parse()?;
    // The report's tenths are rounded, and a second may begin with the first line. A tenth of the
    // lines is for others than targets.
    let most = 1000 * ((seconds + 0.05).floor() as usize + 1);
    ensure!(
        (900..=most).contains(&written),
        "{written} lines in {seconds} s"
    );
    Ok(())
}

fn none() -> Outcome {
    let fault = ["-e", "write:error=EIO:path=/nowhere"];
    let done = murphy(["run", "-vvv", "--backend", "seccomp"])
        .args(fault)
        .args(["--", "true"])
        .run()?;
    ensure!(
        done.stderr
            .contains("murphy: -vvv adds nothing: no kernel program"),
        "{done}"
    );
    Ok(())
}
