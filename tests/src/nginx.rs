//! An nginx of the test's own.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    net::free_port,
    process::{ChildGuard, program, wait_until},
};

/// A running server of one folder's files; it and the folder vanish with this.
#[derive(Debug)]
pub struct Nginx {
    // The server goes before the folder it reads.
    _server: ChildGuard,
    _folder: TempDir,
    port: u16,
}

impl Nginx {
    /// Starts one on a free port of 127.0.0.1, which serves `files`: names and contents.
    pub fn start(files: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (root, port) = (folder.path().display(), free_port()?);
        // Its workers are another user's.
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534))?;
        for (name, text) in files {
            fs::write(folder.path().join(name), text)?;
        }
        let configuration = folder.path().join("nginx.conf");
        fs::write(
            &configuration,
            format!(
                "daemon off; master_process off; pid {root}/pid; error_log {root}/error; events {{}}
                 http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
                 fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
                 server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
            ),
        )?;
        let server = program("nginx").args(["-c"]).args([&configuration]);
        let nginx = Self {
            _server: server.spawn()?,
            _folder: folder,
            port,
        };
        wait_until(Duration::from_secs(60), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .context("nginx did not answer")?;
        Ok(nginx)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}
