//! A redis server of the test's own.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    net::free_port,
    process::{ChildGuard, Finished, program, wait_until},
};

/// A running server; it and its folder vanish with this.
#[derive(Debug)]
pub struct Redis {
    // The server goes before the folder it writes to.
    server: ChildGuard,
    folder: TempDir,
    port: u16,
}

impl Redis {
    /// Starts one on a free port, with `options` such as `--appendonly yes`.
    pub fn start<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let server = program("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .args([folder.path()])
            .args(options)
            .spawn()?;
        let redis = Self {
            server,
            folder,
            port,
        };
        wait_until(Duration::from_secs(60), || {
            redis.cli(["ping"]).is_ok_and(|f| f.stdout.trim() == "PONG")
        })
        .context("redis-server did not answer")?;
        Ok(redis)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `redis-cli` against it.
    pub fn cli<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Finished> {
        program("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(args)
            .run()
    }
}
