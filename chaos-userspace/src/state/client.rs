//! Asking and ending the injections of other processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::control::{Live, Reply, Request, Stopped};
use super::{Record, StateDir, StateError, recover};
use crate::sys::process::Process;

/// How long an injector may take to say how it is; one that is starting is not listening yet.
const STATUS: Duration = Duration::from_secs(2);

/// How long a guardian may take after its injector was killed.
const GUARDIAN: Duration = Duration::from_secs(10);

/// The active injection of an id, and the folder it is in.
///
/// # Errors
///
/// There is none.
pub fn find(id: &str) -> Result<(StateDir, Record), StateError> {
    active()
        .into_iter()
        .find(|(_, record)| record.id == id)
        .ok_or_else(|| StateError::NotActive(id.to_owned()))
}

/// Every active injection that this user may see.
pub fn active() -> Vec<(StateDir, Record)> {
    let mut found = Vec::new();
    for dir in StateDir::visible() {
        for record in dir.records() {
            if recover::lives(&dir, &record)
                && let Ok(dir) = StateDir::open(dir.path())
            {
                found.push((dir, record));
            }
        }
    }
    found
}

/// How an injection is now.
///
/// # Errors
///
/// Its injector does not answer, or not to this user.
pub fn status(dir: &StateDir, id: &str) -> Result<Live, StateError> {
    match ask(dir, id, &Request::Status {}, STATUS)? {
        Reply::Status(live) => Ok(*live),
        other => Err(unexpected(id, other)),
    }
}

/// Lets an injection with `--keepalive` go on; for how many seconds.
///
/// # Errors
///
/// It has no `--keepalive`, or does not answer.
pub fn renew(dir: &StateDir, id: &str) -> Result<f64, StateError> {
    match ask(dir, id, &Request::Renew {}, STATUS)? {
        Reply::Renewed(seconds) => Ok(seconds),
        other => Err(unexpected(id, other)),
    }
}

/// Ends an injection, and returns when it is reverted. An injector that does not answer in time is killed;
/// its guardian reverts, or this process if that is dead too.
///
/// # Errors
///
/// It may not be ended by this user, or something could not be undone.
pub fn stop(
    dir: &StateDir,
    record: &Record,
    reason: Option<&str>,
    patience: Duration,
) -> Result<Stopped, StateError> {
    stop_for(dir, record, reason, None, patience)
}

/// Ends an injection on behalf of somebody, who is noted instead of this process's user.
///
/// # Errors
///
/// As [`stop`].
pub fn stop_for(
    dir: &StateDir,
    record: &Record,
    reason: Option<&str>,
    by: Option<&str>,
    patience: Duration,
) -> Result<Stopped, StateError> {
    let request = Request::Stop {
        reason: reason.map(str::to_owned),
        by: by.map(str::to_owned),
    };
    match ask(dir, &record.id, &request, patience) {
        Ok(Reply::Stopped(stopped)) => return Ok(*stopped),
        Ok(Reply::Error(why)) => {
            return Err(StateError::Refused {
                id: record.id.clone(),
                why,
            });
        }
        Ok(_) | Err(_) => {}
    }
    // It ended by itself meanwhile, or hangs, or is stopped.
    let killed = kill_owner(dir, record)?;
    settle(dir, record)?;
    Ok(Stopped {
        id: record.id.clone(),
        ended: if killed {
            format!(
                "process {} did not answer within {patience:?} and was killed",
                record.owner.pid
            )
        } else {
            "it ended by itself meanwhile".to_owned()
        },
        report: None,
    })
}

/// Kills an injector, if it runs; whether it did. It is told from another process of the same id.
fn kill_owner(dir: &StateDir, record: &Record) -> Result<bool, StateError> {
    let refused = |why: String| StateError::Refused {
        id: record.id.clone(),
        why,
    };
    let pid = record.owner.pid;
    let Ok(process) = Process::open(pid) else {
        return Ok(false);
    };
    // Checked with the descriptor in hand: it cannot become another process any more.
    match record.owner.runs() {
        Some(true) => {}
        Some(false) => return Ok(false),
        None => {
            return Err(refused(
                "it does not answer, and runs in another pid namespace: kill it there".to_owned(),
            ));
        }
    }
    // In a folder of a user's own, the record may name any process.
    if !dir.is_own() && crate::engine::process_user(record.owner.pid) != dir.user() {
        return Err(refused(
            "its record names a process of another user".to_owned(),
        ));
    }
    match process.signal(Signal::KILL) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(refused(format!("killing process {pid}: {error}"))),
    }
}

/// Waits until the guardian of a dead injector has removed the record; else does its work.
fn settle(dir: &StateDir, record: &Record) -> Result<(), StateError> {
    let deadline = Instant::now() + GUARDIAN;
    while Instant::now() < deadline {
        match dir.read(&record.id) {
            Some(now) if now.owner == record.owner => thread::sleep(Duration::from_millis(10)),
            _ => return Ok(()),
        }
        let guarded = record.guardian.as_ref().and_then(super::Owner::runs);
        if guarded != Some(true) && record.owner.runs() == Some(false) {
            break;
        }
    }
    let _lock = dir.lock()?;
    let failed: Vec<String> = recover::dead(dir, false)
        .into_iter()
        .filter(|recovered| recovered.id == record.id)
        .flat_map(|recovered| recovered.failed)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(StateError::Refused {
        id: record.id.clone(),
        why: format!("not undone: {}", failed.join("; ")),
    })
}

/// Asks one question.
fn ask(
    dir: &StateDir,
    id: &str,
    request: &Request,
    patience: Duration,
) -> Result<Reply, StateError> {
    let deadline = Instant::now() + patience;
    let ask = || {
        let mut stream = UnixStream::connect(dir.socket(id))?;
        stream.set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    ask().map_err(|error: std::io::Error| StateError::Refused {
        id: id.to_owned(),
        why: match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                format!("its injector does not answer within {patience:?}")
            }
            _ => format!("its injector does not answer: {error}"),
        },
    })
}

fn unexpected(id: &str, reply: Reply) -> StateError {
    StateError::Refused {
        id: id.to_owned(),
        why: match reply {
            Reply::Error(why) => why,
            other => format!("a strange answer: {other:?}"),
        },
    }
}
