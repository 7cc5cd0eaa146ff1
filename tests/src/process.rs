//! Running programs in tests: with a time limit, everything captured, nothing left running.

use std::{
    env,
    ffi::OsStr,
    fmt,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
    command: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            signal,
            took,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}\nexit status {code:?}, signal {signal:?}, {took:.2?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// A program to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    limit: Duration,
}

/// No test waits longer for one program, unless it says so.
const LIMIT: Duration = Duration::from_secs(60);

/// A program on PATH, or in the folders that ordinary users' PATHs lack.
pub fn program(name: impl AsRef<OsStr>) -> Program {
    let mut command = Command::new(name);
    let path = env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null());
    Program {
        command,
        limit: LIMIT,
    }
}

/// `murphy ARGS…`
pub fn murphy<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Program {
    program(murphy_path()).args(args)
}

/// The binary under test: `$MURPHY_BIN`, or cargo's newest beside the test program.
pub fn murphy_path() -> PathBuf {
    if let Some(path) = env::var_os("MURPHY_BIN") {
        return path.into();
    }
    // target/PROFILE/deps/TEST-HASH → target/PROFILE/murphy
    let near = env::current_exe().ok();
    near.iter()
        .flat_map(|exe| exe.ancestors().skip(1).take(2))
        .map(|dir| dir.join("murphy"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| "murphy".into())
}

impl Program {
    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command, for what is not covered here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end, whatever its status. Over the time limit it is killed, which is an error that
    /// shows what it had said.
    pub fn run(self) -> Result<Finished> {
        let limit = self.limit;
        self.spawn()?.finish(limit)
    }

    /// Starts it.
    pub fn spawn(mut self) -> Result<ChildGuard> {
        // Files rather than pipes: a grandchild that lives on cannot block us.
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let line: Vec<_> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_string_lossy)
            .collect();
        let line = line.join(" ");
        let child = self
            .command
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {line}"))?;
        Ok(ChildGuard {
            child,
            stdout,
            stderr,
            started: Instant::now(),
            command: line,
        })
    }
}

/// A running program, killed by its pid when this goes.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
    stdout: File,
    stderr: File,
    started: Instant,
    command: String,
}

impl ChildGuard {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its number.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let signal = rustix::process::Signal::from_named_raw(signal);
        let (Some(pid), Some(signal)) = (pid, signal) else {
            bail!("no such signal");
        };
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> Result<String> {
        contents(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> Result<String> {
        contents(&self.stderr)
    }

    /// Waits for its end, at most this long.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return self.finished(status);
            }
            if Instant::now() > until {
                self.child.kill()?;
                let status = self.child.wait()?;
                bail!(
                    "not done after {limit:?}, killed: {}",
                    self.finished(status)?
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn finished(&self, status: ExitStatus) -> Result<Finished> {
        Ok(Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout()?,
            stderr: self.stderr()?,
            took: self.started.elapsed(),
            command: self.command.clone(),
        })
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a file that another process is writing, without moving the position they share.
fn contents(file: &File) -> Result<String> {
    use std::os::unix::fs::FileExt as _;
    let length = file.metadata()?.len();
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for a condition; an error if it does not come true in time.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + limit;
    while !condition() {
        if Instant::now() > until {
            bail!("not within {limit:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
