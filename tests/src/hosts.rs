//! Two hosts with a cable between them: network namespaces of the test's own.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::process::{ChildGuard, Program, program, wait_until};

/// Two hosts; both vanish with this, and the cable with them.
///
/// Each is a process that does nothing, and `nsenter` goes there: `ip netns` would leave a mount, and hide the cgroups.
#[derive(Debug)]
pub struct Hosts {
    here: ChildGuard,
    there: ChildGuard,
}

impl Hosts {
    /// Makes them: here 198.18.0.1 and `fd00:18::1`, there the same with 2.
    pub fn new() -> Result<Self> {
        let hosts = Self {
            here: host()?,
            there: host()?,
        };
        let (here, there) = (hosts.here.pid(), hosts.there.pid());
        ip(&format!(
            "ip link add cable netns {here} type veth peer name cable netns {there}"
        ))?;
        for (pid, number) in [(here, 1), (there, 2)] {
            let ip = |line: &str| ip(&format!("{} ip {line}", enter(pid).join(" ")));
            ip(&format!("addr add 198.18.0.{number}/24 dev cable"))?;
            ip(&format!("addr add fd00:18::{number}/64 dev cable nodad"))?;
            ip("link set lo up")?;
            ip("link set cable up")?;
        }
        Ok(hosts)
    }

    /// The other host's IPv4 address.
    pub fn there(&self) -> IpAddr {
        [198, 18, 0, 2].into()
    }

    /// The other host's IPv6 address.
    pub fn there6(&self) -> IpAddr {
        [0xfd00, 0x18, 0, 0, 0, 0, 0, 2].into()
    }

    /// A command on this host.
    pub fn here(&self, command: &str) -> Program {
        on(self.here.pid(), command)
    }

    /// A command on the other host.
    pub fn over_there(&self, command: &str) -> Program {
        on(self.there.pid(), command)
    }

    /// The words before a command that is to run on the other host.
    pub fn way_there(&self) -> [String; 4] {
        enter(self.there.pid())
    }
}

fn host() -> Result<ChildGuard> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let host = program("unshare").args(["-n", "sleep", "600"]).spawn()?;
    let namespace = format!("/proc/{}/ns/net", host.pid());
    wait_until(Duration::from_secs(60), || {
        std::fs::read_link(&namespace).is_ok_and(|of| of != own)
    })
    .context("no network namespace")?;
    Ok(host)
}

fn enter(pid: u32) -> [String; 4] {
    ["nsenter".into(), "-t".into(), pid.to_string(), "-n".into()]
}

fn on(pid: u32, command: &str) -> Program {
    let [first, rest @ ..] = enter(pid);
    program(first).args(rest).args([command])
}

fn ip(line: &str) -> Result<()> {
    let (first, rest) = line.split_once(' ').context("a command")?;
    let done = program(first).args(rest.split(' ')).run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}
