//! A `PostgreSQL` server of the test's own.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    net::free_port,
    process::{ChildGuard, Finished, Program, murphy, program, wait_until},
};

/// Emulated machines are slow, and a crash is recovered from first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Immediate shutdown: all of its processes go, and its shared memory.
const SIGQUIT: i32 = 3;

/// A running server on a socket in its folder and a port of 127.0.0.1; both vanish with this.
#[derive(Debug)]
pub struct Postgres {
    server: ChildGuard,
    folder: TempDir,
    programs: PathBuf,
    user: u32,
    port: u16,
}

/// Debian keeps the programs of each version in a folder that is on nobody's PATH.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let found = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file());
    found.max()
}

/// It refuses to be root: the package's user, or nobody.
fn user() -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    line.and_then(|line| line.split(':').nth(2)?.parse().ok())
        .unwrap_or(65534)
}

impl Postgres {
    /// Starts one on a free port, with an empty database `postgres`.
    pub fn start() -> Result<Self> {
        let programs = programs().context("no PostgreSQL")?;
        let (folder, user, port) = (tempfile::tempdir()?, user(), free_port()?);
        chown(folder.path(), Some(user), Some(user))?;
        cluster(&programs, folder.path(), user)?;
        let server = serve(&programs, folder.path(), user, port, &[])?;
        let postgres = Self {
            server,
            folder,
            programs,
            user,
            port,
        };
        postgres.answers()?;
        Ok(postgres)
    }

    /// Starts it again on the files that it has, after it went down.
    pub fn restart(&mut self) -> Result<()> {
        self.quit();
        self.serve(&[])
    }

    /// Ends it as its manager would, with nothing to recover from, and starts it again as the command of `murphy run` with these
    /// options.
    pub fn restart_under(&mut self, options: &[&str]) -> Result<()> {
        self.server.signal(libc::SIGINT)?;
        wait_until(PATIENCE, || !self.server.is_running().unwrap_or(false))?;
        self.serve(options)
    }

    fn serve(&mut self, options: &[&str]) -> Result<()> {
        let (programs, folder) = (&self.programs, self.folder.path());
        self.server = serve(programs, folder, self.user, self.port, options)?;
        self.answers()
    }

    /// Its first process, whose children all others are.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What it said so far.
    pub fn said(&self) -> Result<String> {
        self.server.stderr()
    }

    /// Where its files are.
    pub fn data(&self) -> Result<PathBuf> {
        Ok(self.folder.path().canonicalize()?.join("data"))
    }

    fn answers(&self) -> Result<()> {
        let yes = || {
            self.sql("select 1")
                .is_ok_and(|said| said.stdout.trim() == "1")
        };
        wait_until(PATIENCE, yes).with_context(|| {
            let said = self.server.stderr().unwrap_or_default();
            format!("PostgreSQL did not answer: {said}")
        })
    }

    fn quit(&mut self) {
        if self.server.is_running().unwrap_or(false) {
            let _ = self.server.signal(SIGQUIT);
            let server = &mut self.server;
            let _ = wait_until(Duration::from_secs(10), || {
                !server.is_running().unwrap_or(false)
            });
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A program of its version, such as `psql`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where to find it over TCP: variables that libpq knows.
    pub fn client(&self, path: &Path) -> Program {
        program(path)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGSSLMODE", "disable")
            .env("PGGSSENCMODE", "disable")
    }

    /// Asks over TCP, by psql: bare values, a line each.
    pub fn sql(&self, command: &str) -> Result<Finished> {
        let psql = self.program("psql");
        self.client(&psql).args(["-XAtqc", command]).run()
    }

    /// Asks at its Unix socket.
    pub fn local(&self, path: &Path, command: &str) -> Result<Finished> {
        let client = self.client(path);
        let client = client.env("PGHOST", self.folder.path());
        client.args(["-XAtqc", command]).run()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.quit();
    }
}

/// The package's own new cluster if it is there and nobody uses it, else one by initdb, which takes an emulated
/// machine longer than all tests.
fn cluster(programs: &Path, folder: &Path, user: u32) -> Result<()> {
    let data = folder.join("data");
    let version = programs.parent().and_then(Path::file_name);
    let ready = Path::new("/var/lib/postgresql")
        .join(version.context("a strange folder")?)
        .join("main");
    let made = if ready.join("PG_VERSION").is_file() && !ready.join("postmaster.pid").exists() {
        program("cp").args(["-a"]).args([&ready, &data]).run()?
    } else {
        let mut initdb = program(programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .args([&data])
            .limit(2 * PATIENCE);
        initdb.command().uid(user).gid(user).current_dir(folder);
        initdb.run()?
    };
    anyhow::ensure!(made.code == Some(0), "{made}");
    for (name, text) in [
        ("postgresql.conf", ""),
        ("pg_ident.conf", ""),
        (
            "pg_hba.conf",
            "local all all trust\nhost all all 127.0.0.1/32 trust\n",
        ),
    ] {
        let path = data.join(name);
        fs::write(&path, text)?;
        chown(&path, Some(user), Some(user))?;
    }
    Ok(())
}

fn serve(
    programs: &Path,
    folder: &Path,
    user: u32,
    port: u16,
    options: &[&str],
) -> Result<ChildGuard> {
    let postgres = programs.join("postgres");
    let own = user.to_string();
    let mut server = match options {
        [] => program(postgres),
        options => murphy(["run", "-u", &own])
            .args(options)
            .args(["--"])
            .args([postgres]),
    };
    server = server
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
        .args([folder])
        .args(["-D"])
        .args([folder.join("data")]);
    for setting in [
        "shared_buffers=8MB",
        "max_connections=20",
        "autovacuum=off",
        "jit=off",
        "ssl=off",
        "max_logical_replication_workers=0",
    ] {
        server = server.args(["-c", setting]);
    }
    server.command().current_dir(folder);
    if options.is_empty() {
        server.command().uid(user).gid(user);
    }
    server.spawn()
}
