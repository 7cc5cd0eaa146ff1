//! Another host for a test that runs in a network namespace of its own: the namespace of a child.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    Outcome,
    process::{ChildGuard, Program, program, wait_until},
    victim::self_path,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host; it vanishes with this, and its cables with it.
#[derive(Debug)]
pub struct Peer(ChildGuard);

impl Peer {
    /// Starts one without any cable.
    pub fn start() -> Result<Self> {
        let peer = Self(program("unshare").args(["-n", "sleep", "300"]).spawn()?);
        let pid = peer.pid();
        let own = fs::read_link("/proc/self/ns/net")?;
        wait_until(PATIENCE, || {
            fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other != own)
        })?;
        Ok(peer)
    }

    /// The process whose network namespace it is.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// What comes before a command that is to run there.
    pub fn enter(&self) -> Program {
        program("nsenter").args(["-n", "-t", &self.pid().to_string()])
    }

    /// Runs a script there, to its first mistake.
    pub fn shell(&self, script: &str) -> Outcome {
        let done = self.enter().args(["sh", "-ec", script]).run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(())
    }

    /// Starts this program there in the role of a server, which prints `ready` when it is.
    pub fn serve(&self, role: &str, args: &[&str]) -> Result<ChildGuard> {
        let serve = self.enter().args([self_path()]).args([role]);
        let server = serve.args(args).spawn()?;
        wait_until(PATIENCE, || {
            server.stdout().is_ok_and(|said| said.contains("ready"))
        })?;
        Ok(server)
    }
}

/// Runs a script here, to its first mistake.
pub fn shell(script: &str) -> Outcome {
    let done = program("sh").args(["-ec", script]).run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}
