//! `process`: a program, its exit status and what it says.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Map, Value, json};

use super::{Call, Failure, seconds};
use crate::model::{Problem, join};
use crate::python_like;
use crate::stop::{Stop, timespec};
use murphy_sys::process::{Process, kill_child};

/// Runs the program to its end.
pub(super) fn run(call: &Call<'_>) -> Result<Value, Failure> {
    let said = call.provider.get("path").and_then(Value::as_str);
    let said = said.ok_or_else(|| Failure::Broken("a process activity has a path".to_owned()))?;
    let path = which(said)
        .ok_or_else(|| Failure::Broken(format!("the program '{said}' cannot be found")))?;
    let command = command(&path, call.arguments())?;
    let timeout = call
        .provider
        .get("timeout")
        .filter(|value| !value.is_null());
    let timeout = timeout.map(|value| seconds(value, "timeout")).transpose()?;
    let (status, stdout, stderr) = output(command, timeout, call.stop)?;
    let text = |bytes| {
        String::from_utf8(bytes)
            .map_err(|_| Failure::Failed("the output is not text in UTF-8".to_owned()))
    };
    let status = status
        .code()
        .or_else(|| status.signal().map(|signal| -signal));
    Ok(json!({"status": status, "stdout": text(stdout)?, "stderr": text(stderr)?}))
}

/// The program with its arguments, as Chaos Toolkit reads them: a text goes through the shell, of a list
/// null and "" are dropped, a table is keys and values by turns.
fn command(path: &Path, arguments: Option<Value>) -> Result<Command, Failure> {
    let words = match arguments {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => {
            let mut line = path.as_os_str().to_owned();
            line.push(OsString::from(format!(" {text}")));
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(line);
            return Ok(command);
        }
        Some(Value::Array(items)) => items,
        Some(Value::Object(map)) => map
            .into_iter()
            .flat_map(|(key, value)| [Value::String(key), value])
            .collect(),
        Some(other) => {
            return Err(Failure::Broken(format!(
                "arguments are a list or a text, not {other}"
            )));
        }
    };
    let empty = |word: &&Value| !word.is_null() && word.as_str() != Some("");
    let mut command = Command::new(path);
    command.args(words.iter().filter(empty).map(python_like::str));
    Ok(command)
}

/// Runs a command with all it says, at most for a time, and until it is to stop.
pub(super) fn output(
    mut command: Command,
    timeout: Option<Duration>,
    stop: &Stop,
) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Failure> {
    let broken = |error: io::Error| Failure::Broken(format!("running a program: {error}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let ended = listen(&mut child, timeout.map(|time| Instant::now() + time), stop);
    if ended.is_err() {
        // It may have ended by itself by now; then there is nothing to kill.
        kill_child(&mut child);
        let _ = child.wait();
    }
    let (stdout, stderr) = ended?;
    Ok((child.wait().map_err(broken)?, stdout, stderr))
}

/// Reads both streams until they are closed and the program has ended.
fn listen(
    child: &mut Child,
    until: Option<Instant>,
    stop: &Stop,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let broken =
        |error: io::Error| Failure::Broken(format!("reading what a program says: {error}"));
    let mut streams = (child.stdout.take(), child.stderr.take());
    let mut said = (Vec::new(), Vec::new());
    let ended = Process::child(child).map_err(broken)?;
    loop {
        let both_closed = streams.0.is_none() && streams.1.is_none();
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        match (&streams.0, &streams.1) {
            (None, None) => fds.push(PollFd::new(&ended, PollFlags::IN)),
            (out, err) => {
                fds.extend(
                    out.iter()
                        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
                );
                fds.extend(
                    err.iter()
                        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
                );
            }
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let ready = match poll(&mut fds, left.map(timespec).as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(|error| broken(error.into()))?,
        };
        if let Some(reason) = stop.reason() {
            return Err(Failure::Stopped(reason));
        }
        if ready == 0 {
            return Err(Failure::Failed(
                "process activity took too long to complete".to_owned(),
            ));
        }
        let ready: Vec<bool> = fds
            .iter()
            .skip(1)
            .map(|fd| !fd.revents().is_empty())
            .collect();
        drop(fds);
        if both_closed {
            return Ok(said);
        }
        let mut ready = ready.into_iter();
        if streams.0.is_some() && ready.next() == Some(true) {
            take(&mut streams.0, &mut said.0).map_err(broken)?;
        }
        if streams.1.is_some() && ready.next() == Some(true) {
            take(&mut streams.1, &mut said.1).map_err(broken)?;
        }
    }
}

/// Reads what is there; a stream that has ended goes.
fn take(stream: &mut Option<impl Read>, said: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = [0; 65536];
    if let Some(open) = stream {
        match open.read(&mut bytes)? {
            0 => *stream = None,
            length => said.extend_from_slice(&bytes[..length]),
        }
    }
    Ok(())
}

/// Finds a program as a shell does: by its path, or in the folders of PATH.
pub(crate) fn which(said: &str) -> Option<PathBuf> {
    let said = match (said.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(said),
    };
    if said.components().count() > 1 || said.is_absolute() {
        return executable(&said).then_some(said);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(&said))
        .find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// Checks the provider's table.
pub(super) fn check(provider: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |key: &str, text: String| problems.push(Problem::new(join(field, key), text));
    match provider.get("path") {
        Some(Value::String(path)) if !path.is_empty() => {
            if which(path).is_none() {
                wrong(
                    "path",
                    format!(
                        "`{path}` is no program here; expected one on PATH, or the path of one"
                    ),
                );
            }
        }
        _ => wrong(
            "path",
            "a process activity has the path of a program".to_owned(),
        ),
    }
    match provider.get("arguments") {
        None | Some(Value::Null | Value::Array(_) | Value::String(_) | Value::Object(_)) => {}
        Some(other) => wrong(
            "arguments",
            format!("expected a list of words or a text for the shell, not {other}"),
        ),
    }
    if let Some(timeout) = provider.get("timeout")
        && !timeout.is_null()
        && !timeout.is_number()
    {
        wrong(
            "timeout",
            format!("expected a number of seconds, not {timeout}"),
        );
    }
}
