//! An nginx of the test's own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

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
    server: ChildGuard,
    _folder: TempDir,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one on a free port of 127.0.0.1, which serves `files`: names and contents.
    pub fn start(files: &[(&str, &str)]) -> Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
        Self::at(address, &[], files)
    }

    /// Starts one there, by `prefix`, the words before a command that is to run elsewhere. Names may have folders.
    pub fn at(address: SocketAddr, prefix: &[String], files: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().display();
        // Its workers are another user's.
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534))?;
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().context("a file's folder")?)?;
            fs::write(path, text)?;
        }
        let configuration = folder.path().join("nginx.conf");
        fs::write(
            &configuration,
            format!(
                "daemon off; master_process off; pid {root}/pid; error_log {root}/error; events {{}}
                 http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
                 fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
                 server {{ listen {address}; root {root}; location = /gone {{ return 204; }} }} }}"
            ),
        )?;
        let mut words = prefix.to_vec();
        words.extend(["nginx".to_owned(), "-c".to_owned()]);
        let nginx = Self {
            server: program(&words[0])
                .args(&words[1..])
                .args([&configuration])
                .spawn()?,
            _folder: folder,
            address,
        };
        wait_until(Duration::from_secs(60), || match prefix {
            [] => std::net::TcpStream::connect(address).is_ok(),
            [first, rest @ ..] => {
                let asked = program(first)
                    .args(rest)
                    .args(["curl", "-s", &nginx.url("")]);
                asked.run().is_ok_and(|done| done.code == Some(0))
            }
        })
        .context("nginx did not answer")?;
        Ok(nginx)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}
