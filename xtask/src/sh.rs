//! Running other programs: quietly, with the end of their output in the error, stopped by Ctrl-C.

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::cost;

/// What a program printed and how it ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The flag that SIGINT and SIGTERM raise; loops that wait look at it and clean up.
fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)))
}

/// From here on Ctrl-C no longer kills us: [`interrupted`] tells.
pub(crate) fn catch_interrupts() -> Result<()> {
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        // A second Ctrl-C ends us at once, should cleaning up hang.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag()))?;
        signal_hook::flag::register(signal, Arc::clone(flag()))?;
    }
    Ok(())
}

/// Whether we were asked to stop.
pub(crate) fn interrupted() -> bool {
    flag().load(Ordering::Relaxed)
}

/// Whether a CI system runs us: nothing is built there for a later run.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Waits for a child; ends it when we are interrupted.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = cost::try_wait(child)? {
            return Ok(status);
        }
        if interrupted() {
            // It has seen the same Ctrl-C if it shares our terminal: let it finish by itself first.
            for _ in 0..20 {
                if let Some(status) = cost::try_wait(child)? {
                    return Ok(status);
                }
                thread::sleep(Duration::from_millis(50));
            }
            child.kill()?;
            return Ok(cost::wait(child)?);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command with its output captured, whatever its status.
pub(crate) fn output(command: &mut Command) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // What was read before an error is all there is to show.
                let _ = stream.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(child.stdout.take().map(|s| Box::new(s) as Box<_>));
    let stderr = reader(child.stderr.take().map(|s| Box::new(s) as Box<_>));
    let status = wait(&mut child)?;
    Ok(Finished {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

/// Runs a command and returns its stdout; a failure shows the end of what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let done = output(command)?;
    if interrupted() {
        bail!("interrupted");
    }
    if !done.status.success() {
        let said = if done.stderr.trim().is_empty() {
            &done.stdout
        } else {
            &done.stderr
        };
        bail!(
            "{} failed ({}):\n{}",
            shown(command),
            done.status,
            tail(said, 15)
        );
    }
    Ok(done.stdout)
}

/// The last `n` lines of a text.
pub(crate) fn tail(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

/// A command line as a person would type it, without the quoting.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Finds a program on PATH, and in the sbin folders that ordinary users' PATHs lack.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// A command found by [`which`], or an error that names the remedy.
pub(crate) fn tool(name: &str) -> Result<Command> {
    match which(name) {
        Some(path) => Ok(Command::new(path)),
        None => bail!("{name} is not installed: run `cargo xtask setup`"),
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
