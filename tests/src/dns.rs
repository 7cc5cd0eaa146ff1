//! A DNS server of the test's own, and a resolver to ask it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    net::free_port,
    process::{ChildGuard, Finished, Program, program, wait_until},
};

/// What the server says of every name in `example.com`.
pub const A: &str = "192.0.2.7";
/// The same, IPv6.
pub const AAAA: &str = "2001:db8::7";

/// A running dnsmasq that knows `example.com` and all below, and asks nobody.
#[derive(Debug)]
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    _server: ChildGuard,
}

impl Dns {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        Self::at(SocketAddr::new([127, 0, 0, 1].into(), free_port()?), &[])
    }

    /// Starts one there, by `prefix`, the words before a command that is to run elsewhere.
    pub fn at(address: SocketAddr, prefix: &[String]) -> Result<Self> {
        let mut words = prefix.to_vec();
        words.extend(
            [
                "dnsmasq",
                "--keep-in-foreground",
                "--no-daemon",
                "--bind-interfaces",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
                "--pid-file",
                "--user=root",
            ]
            .map(str::to_owned),
        );
        words.push(format!("--listen-address={}", address.ip()));
        words.push(format!("--port={}", address.port()));
        for answer in [A, AAAA] {
            words.push(format!("--address=/example.com/{answer}"));
        }
        let (first, rest) = words.split_first().context("a command")?;
        let server = program(first).args(rest).spawn()?;
        let dns = Self {
            address,
            _server: server,
        };
        wait_until(Duration::from_secs(60), || {
            let mut asked = prefix.to_vec();
            asked.push("dig".to_owned());
            let asked =
                program(&asked[0])
                    .args(&asked[1..])
                    .args(question(address, "example.com", "A"));
            asked.run().is_ok_and(|done| done.stdout.trim() == A)
        })
        .context("dnsmasq did not answer")?;
        Ok(dns)
    }

    /// `dig`'s arguments for a question to this server.
    pub fn question(&self, name: &str, kind: &str) -> Vec<String> {
        question(self.address, name, kind)
    }

    /// Asks it.
    pub fn ask(&self, name: &str) -> Result<Finished> {
        self.dig(name).run()
    }

    /// A question to it, not asked yet.
    pub fn dig(&self, name: &str) -> Program {
        program("dig").args(self.question(name, "A"))
    }
}

/// One try, five seconds: under emulation the server may take one.
fn question(address: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    vec![
        format!("@{}", address.ip()),
        "-p".into(),
        address.port().to_string(),
        "+short".into(),
        "+tries=1".into(),
        "+time=5".into(),
        name.into(),
        kind.into(),
    ]
}
