//! What a request by HTTP costs under a fault that does not match, beside a proxy that does nothing: nginx and wrk on the loopback
//! interface, one connection. A proxy is in the way of everything that it may have to disturb.
//!
//! Where nothing is late, all of them share one CPU: what is compared is then the work that a request takes, and not who is woken where.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;
use tests::{ChildGuard, murphy, murphy_path, net::free_port, nginx::Nginx, program, wait_until};

use crate::rows::row;

/// How long a repetition of a case asks, in seconds.
const ASKS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is between the client and the server.
enum Between {
    Nothing,
    /// Murphy with a fault for somebody else.
    Beside,
    /// Murphy with faults for the client, none of which match.
    Armed(Vec<String>),
    /// A proxy at this port.
    Proxy(u16),
    /// Plain netem at the loopback interface's root.
    Netem(&'static str),
}

struct Case {
    name: String,
    between: Between,
    /// Of each figure that the group has two of.
    values: [Vec<f64>; 2],
}

impl Case {
    fn new(name: impl Into<String>, between: Between) -> Self {
        let values = Default::default();
        Self {
            name: name.into(),
            between,
            values,
        }
    }
}

/// Requests that nothing happens to: how much later they are answered.
pub(crate) fn idle(repetitions: usize) -> Result<()> {
    on_one_cpu()?;
    let nginx = Nginx::start(&[("hello", "hello\n"), ("large", &"x".repeat(256 << 20))])?;
    let toxic = toxic(&nginx, None)?;
    let haproxy = Haproxy::start(nginx.port());
    let never = |port: u16| format!("net:loss=5%:port={port}");
    let mut cases = vec![
        Case::new("alone", Between::Nothing),
        Case::new("murphy, for another process", Between::Beside),
        Case::new("murphy, not matching", Between::Armed(vec![never(1)])),
        Case::new(
            "murphy, 64 rules not matching",
            // `net` is two rules.
            Between::Armed((1..=32).map(never).collect()),
        ),
        Case::new("proxy (noxious), without a toxic", Between::Proxy(toxic.1)),
    ];
    match &haproxy {
        Ok(haproxy) => cases.push(Case::new("proxy (haproxy)", Between::Proxy(haproxy.port))),
        Err(why) => eprintln!("haproxy is not measured: {why:#}"),
    }
    for _ in 0..repetitions {
        for case in &mut cases {
            let asked = ask(&nginx, case)?;
            case.values[0].push(asked.each);
            case.values[1].push(download(&nginx, case)?);
        }
    }
    for case in &cases {
        row("http", &case.name, "a request", "µs", &case.values[0]);
    }
    for case in &cases {
        row("http", &case.name, "a download", "MB/s", &case.values[1]);
    }
    Ok(())
}

/// Requests of which each is to be answered 10 ms later.
pub(crate) fn late(repetitions: usize) -> Result<()> {
    let nginx = Nginx::start(&[("hello", "hello\n")])?;
    let toxic = toxic(&nginx, Some("10"))?;
    let armed = |fault: &str| Between::Armed(vec![fault.to_owned()]);
    let mut cases = [
        // Once there, once back.
        Case::new("plain netem", Between::Netem("delay 5ms")),
        Case::new("murphy", armed("egress:delay=10ms")),
        Case::new("proxy (noxious)", Between::Proxy(toxic.1)),
    ];
    for _ in 0..repetitions {
        for case in &mut cases {
            let asked = ask(&nginx, case)?;
            for (values, value) in case.values.iter_mut().zip([asked.p50, asked.p99]) {
                values.push(value - 10_000.0);
            }
        }
    }
    for (place, what) in ["beyond 10 ms, p50", "beyond 10 ms, p99"]
        .iter()
        .enumerate()
    {
        for case in &cases {
            row(
                "http, 10 ms later",
                &case.name,
                what,
                "µs",
                &case.values[place],
            );
        }
    }
    Ok(())
}

/// Whatever is started from here on stays there too.
fn on_one_cpu() -> Result<()> {
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).context("sched_setaffinity")
}

/// What wrk says, in µs.
struct Asked {
    each: f64,
    p50: f64,
    p99: f64,
}

fn ask(nginx: &Nginx, case: &Case) -> Result<Asked> {
    let address = (Ipv4Addr::LOCALHOST, case.port(nginx));
    let url = format!("http://{}:{}/hello", address.0, address.1);
    let seconds = format!("{ASKS}s");
    let said = case.under(&["wrk", "-t1", "-c1", "--latency", "-d", &seconds, &url])?;
    let field = |name: &str| {
        said.lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .with_context(|| format!("wrk said no {name}:\n{said}"))
    };
    ensure!(!said.contains("Non-2xx"), "{said}");
    let rate: f64 = field("Requests/sec:")?.trim().parse()?;
    Ok(Asked {
        each: 1e6 / rate,
        p50: micros(field("50%")?)?,
        p99: micros(field("99%")?)?,
    })
}

/// wrk's times: `83.00us`, `10.12ms`, `1.02s`.
fn micros(word: &str) -> Result<f64> {
    let word = word.trim();
    let (number, unit) = match word.strip_suffix("us") {
        Some(number) => (number, 1.0),
        None => match word.strip_suffix("ms") {
            Some(number) => (number, 1e3),
            None => (word.trim_end_matches('s'), 1e6),
        },
    };
    Ok(number.parse::<f64>().with_context(|| word.to_owned())? * unit)
}

/// MB a second of one large file.
fn download(nginx: &Nginx, case: &Case) -> Result<f64> {
    let url = format!("http://{}:{}/large", Ipv4Addr::LOCALHOST, case.port(nginx));
    let said = case.under(&[
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{speed_download}",
        &url,
    ])?;
    Ok(said.trim().parse::<f64>().context(said)? / 1e6)
}

impl Case {
    fn port(&self, nginx: &Nginx) -> u16 {
        match self.between {
            Between::Proxy(port) => port,
            _ => nginx.port(),
        }
    }

    /// What a client prints that runs so.
    fn under(&self, words: &[&str]) -> Result<String> {
        let mut line = Vec::new();
        let mut beside = None;
        match &self.between {
            Between::Beside => beside = Some(Beside::start()?),
            Between::Armed(faults) => {
                line.extend([
                    murphy_path().display().to_string(),
                    "run".to_owned(),
                    "-q".to_owned(),
                ]);
                for fault in faults {
                    line.extend(["-e".to_owned(), fault.clone()]);
                }
                line.push("--".to_owned());
            }
            Between::Netem(ask) => super::rows::tc(&format!("qdisc add dev lo root netem {ask}"))?,
            Between::Nothing | Between::Proxy(_) => {}
        }
        line.extend(words.iter().map(|&word| word.to_owned()));
        let done = program(&line[0]).args(&line[1..]).limit(PATIENCE).run();
        if let Between::Netem(_) = self.between {
            super::rows::tc("qdisc del dev lo root")?;
        }
        if let Some(beside) = beside {
            beside.end()?;
        }
        let done = done?;
        ensure!(done.code == Some(0), "{done}");
        Ok(done.stdout)
    }
}

/// Murphy with a fault for a process that sleeps.
struct Beside {
    murphy: ChildGuard,
    _other: ChildGuard,
}

impl Beside {
    fn start() -> Result<Self> {
        let other = program("sleep").args(["600"]).spawn()?;
        let pid = other.pid().to_string();
        let murphy = murphy(["inject", "--pid", &pid, "-e", "net:loss=5%"]).spawn()?;
        wait_until(PATIENCE, || {
            murphy.stderr().is_ok_and(|text| text.contains("armed"))
        })
        .with_context(|| format!("not armed: {}", murphy.stderr().unwrap_or_default()))?;
        Ok(Self {
            murphy,
            _other: other,
        })
    }

    fn end(self) -> Result<()> {
        self.murphy.signal(libc::SIGINT)?;
        self.murphy.finish(PATIENCE)?;
        Ok(())
    }
}

/// The rival that `cargo xtask bench` has built, and its port.
fn toxic(nginx: &Nginx, latency: Option<&str>) -> Result<(ChildGuard, u16)> {
    let port = free_port()?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let guard = program("toxic-proxy")
        .args([local(port), local(nginx.port())])
        .args(latency)
        .spawn()?;
    answers(port).with_context(|| guard.stderr().unwrap_or_default())?;
    Ok((guard, port))
}

/// A proxy made to be fast, which can do nothing to anybody: what a proxy costs at least.
struct Haproxy {
    port: u16,
    _guard: ChildGuard,
    _folder: TempDir,
}

impl Haproxy {
    fn start(upstream: u16) -> Result<Self> {
        let port = free_port()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("haproxy.cfg");
        let local = Ipv4Addr::LOCALHOST;
        fs::write(
            &file,
            format!(
                "defaults\n mode tcp\n option splice-auto\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen measured\n bind {local}:{port}\n server nginx {local}:{upstream}\n"
            ),
        )?;
        let guard = program("haproxy")
            .args(["-db", "-f"])
            .args([&file])
            .spawn()?;
        answers(port).with_context(|| guard.stderr().unwrap_or_default())?;
        Ok(Self {
            port,
            _guard: guard,
            _folder: folder,
        })
    }
}

fn answers(port: u16) -> Result<()> {
    wait_until(PATIENCE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    })
}
