//! The victim of these tests, and what it and the kernel say of its travels.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tests::{Outcome, murphy, victim::self_path};

/// Kernel and emulator together are slow at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The victim: `trips udp|tcp|large|options ADDRESS N [PAUSE_MS]` sends a byte (`large`: a datagram of 4000 in fragments,
/// `options`: one behind an extension header of IPv6) there and back N times, and prints how long each took in µs;
/// a TCP connection's first line is that of its handshake. What is lost is `lost`.
pub(crate) fn trips(args: &[String]) -> Outcome {
    let [kind, address, count, pause @ ..] = args else {
        anyhow::bail!("trips KIND ADDRESS N [PAUSE]");
    };
    let address: SocketAddr = address.parse()?;
    let pause = pause.first().map_or(Ok(0), |pause| pause.parse())?;
    let begun = Instant::now();
    let mut trip: Box<dyn FnMut() -> io::Result<()>> = if kind == "tcp" {
        let mut stream = TcpStream::connect(address)?;
        println!("{}", begun.elapsed().as_micros());
        stream.set_nodelay(true)?;
        Box::new(move || {
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])
        })
    } else {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        if kind == "options" {
            destination_options(&socket)?;
        }
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let datagram = vec![b'x'; if kind == "large" { 4000 } else { 1 }];
        Box::new(move || {
            socket.send(&datagram)?;
            socket.recv(&mut [0]).map(drop)
        })
    };
    for _ in 0..count.parse::<u32>()? {
        let begun = Instant::now();
        match trip() {
            Ok(()) => println!("{}", begun.elapsed().as_micros()),
            Err(_) => println!("lost"),
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    Ok(())
}

pub(crate) fn traveller(steps: &[&str]) -> Vec<String> {
    [self_path().to_string_lossy().as_ref(), "trips"]
        .iter()
        .chain(steps)
        .map(|word| (*word).to_owned())
        .collect()
}

/// The times that a victim printed, in ms.
pub(crate) fn times(stdout: &str) -> Vec<f64> {
    stdout
        .lines()
        .filter_map(|line| line.parse::<f64>().ok())
        .map(|micros| micros / 1000.0)
        .collect()
}

pub(crate) fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

pub(crate) struct Travelled {
    pub(crate) times: Vec<f64>,
    pub(crate) report: serde_json::Value,
    pub(crate) stdout: String,
}

/// `murphy run FAULTS -- trips STEPS`: both views.
pub(crate) fn travel(faults: &[&str], steps: &[&str]) -> anyhow::Result<Travelled> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = faults
        .iter()
        .fold(murphy(["run", "--json", "--seed", "5"]), |run, fault| {
            run.args(["-e", fault])
        })
        .args(["-o"])
        .args([&output])
        .args(["--"])
        .args(traveller(steps))
        .limit(PATIENCE * 2)
        .run()?;
    ensure!(done.code == Some(0), "{done}");
    let report = std::fs::read_to_string(&output).with_context(|| done.to_string())?;
    Ok(Travelled {
        times: times(&done.stdout),
        report: serde_json::from_str(&report)?,
        stdout: done.stdout,
    })
}

/// Puts an extension header, of nothing but padding, before all that a socket sends.
fn destination_options(socket: &UdpSocket) -> io::Result<()> {
    // Next header and length are the kernel's; PadN with four bytes (RFC 8200).
    let header = [0_u8, 0, 1, 4, 0, 0, 0, 0];
    // SAFETY: the pointer is to that many bytes, which live until the call is over.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DSTOPTS,
            header.as_ptr().cast(),
            size_of_val(&header) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
