//! Ports, servers to talk to, and what the kernel counted.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result};

/// A TCP port of 127.0.0.1 that nobody listens on just now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A server in a thread that sends back what it gets, on TCP and on UDP at the same port. It lives as
/// long as the test program.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Echo {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        Self::at("127.0.0.1:0")
    }

    /// Starts one at another address; port 0 is a free one.
    pub fn at(address: &str) -> Result<Self> {
        let tcp = TcpListener::bind(address)?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address)?;
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((n, from)) = udp.recv_from(&mut buffer) {
                // A fault may be on it; the client sees that no answer comes.
                let _ = udp.send_to(&buffer[..n], from);
            }
        });
        Ok(Self { address })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// A counter of `/proc/net/snmp` or `/proc/net/netstat`: `counter("Tcp", "RetransSegs")`.
pub fn counter(protocol: &str, name: &str) -> Result<i64> {
    for file in ["/proc/net/snmp", "/proc/net/netstat"] {
        let text = fs::read_to_string(file)?;
        if let Some(value) = find(&text, protocol, name) {
            return Ok(value);
        }
    }
    anyhow::bail!("no counter {protocol} {name}")
}

/// What a counter grew by while `work` ran.
pub fn grown(protocol: &str, name: &str, work: impl FnOnce() -> Result<()>) -> Result<i64> {
    let before = counter(protocol, name)?;
    work().with_context(|| format!("while counting {protocol} {name}"))?;
    Ok(counter(protocol, name)? - before)
}

/// Lines come in pairs: `Tcp: Names…` and `Tcp: values…`.
fn find(text: &str, protocol: &str, name: &str) -> Option<i64> {
    let mut rows = text
        .lines()
        .filter_map(|l| l.split_once(": "))
        .filter(|(p, _)| *p == protocol);
    let column = rows.next()?.1.split(' ').position(|n| n == name)?;
    rows.next()?.1.split(' ').nth(column)?.parse().ok()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 7 -1\n";
        assert_eq!(find(text, "Tcp", "RetransSegs"), Some(-1));
        assert_eq!(find(text, "Udp", "RetransSegs"), None);
    }
}
