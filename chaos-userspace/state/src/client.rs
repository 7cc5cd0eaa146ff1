//! Asks and ends the injections of other processes.
//!
//! Records of this user and of root are believed. Those of other users, which root sees too, are hostile
//! input: each folder is looked into by a thread of its own, has one deadline for everything, and at its
//! word nothing is killed and nothing is undone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::control::{Live, Reply, Request, Stopped};
use super::{Record, StateDir, StateError, Unread, exchange, recover};
use murphy_sys::process::Process;

/// How long an injector may take to say how it is; one that is starting is not listening yet.
const STATUS: Duration = Duration::from_millis(1500);

/// How long everything about another user's folder may take: commands answer within two seconds.
const FOREIGN: Duration = Duration::from_millis(1200);

/// What is waited longer for the thread that keeps to that.
const SLACK: Duration = Duration::from_millis(200);

/// How many folders of other users are looked into at once.
const FOLDERS: usize = 256;

/// How long a guardian may take after its injector was killed.
const GUARDIAN: Duration = Duration::from_secs(10);

/// An active injection, in its folder.
pub type Active = (Arc<StateDir>, Record);

/// An active injection and what its injector answered.
#[derive(Debug)]
pub struct Asked {
    /// The folder.
    pub dir: Arc<StateDir>,
    /// The record.
    pub record: Record,
    /// The answer.
    pub reply: Result<Reply, StateError>,
}

/// What was found, and what could not be read.
#[derive(Debug)]
pub struct Survey<T> {
    /// What was found, this user's first.
    pub found: Vec<T>,
    /// Files that could not be read, of this user's and others' folders.
    pub unread: Vec<Unread>,
}

/// What came of ending injections.
#[derive(Debug, Default)]
pub struct Ended {
    /// Those that are reverted.
    pub stopped: Vec<Stopped>,
    /// Those of this user or root that are not.
    pub failed: Vec<StateError>,
    /// Those of other users that are not, and files that could not be read.
    pub unread: Vec<Unread>,
}

/// This user's or root's active injection of an id, and the folder it is in.
///
/// # Errors
///
/// There is none.
pub fn find(id: &str) -> Result<Active, StateError> {
    if !super::name_is_valid(id) {
        return Err(StateError::NotActive(id.to_owned()));
    }
    let mut unread = None;
    for dir in StateDir::trusted() {
        match dir.load(id) {
            Ok(Some(record)) if recover::lives(&dir, &record) => {
                return Ok((Arc::new(dir), record));
            }
            Ok(_) => {}
            Err(why) => unread = Some(why),
        }
    }
    Err(match unread {
        Some(unread) => unread.into(),
        None => StateError::NotActive(id.to_owned()),
    })
}

/// Every active injection of this user's and root's.
pub fn active() -> Survey<Active> {
    let mut survey = Survey {
        unread: StateDir::unusable(),
        ..Survey::default()
    };
    for dir in StateDir::trusted() {
        let dir = Arc::new(dir);
        let listing = dir.list();
        survey.unread.extend(listing.unread);
        for record in listing.records {
            if recover::lives(&dir, &record) {
                survey.found.push((Arc::clone(&dir), record));
            }
        }
    }
    survey
}

/// How every injection is that this user may see, or the one of an id.
pub fn survey(id: Option<&str>) -> Survey<Asked> {
    let foreign = Foreign::begin(id, Some(&Request::Status {}));
    let mut survey = active();
    survey
        .found
        .retain(|(_, record)| id.is_none_or(|id| *id == record.id));
    let injectors: Vec<_> = survey
        .found
        .iter()
        .map(|(dir, record)| (&**dir, &*record.id))
        .collect();
    let replies = exchange::ask(&injectors, &Request::Status {}, Instant::now() + STATUS);
    let asked = survey
        .found
        .iter()
        .zip(replies)
        .map(|((dir, record), reply)| Asked {
            dir: Arc::clone(dir),
            record: record.clone(),
            reply: reply.map_err(|error| silent(&record.id, STATUS, &error)),
        });
    let mut all = Survey {
        found: asked.collect(),
        unread: survey.unread,
    };
    let foreign = foreign.end();
    all.found.extend(foreign.found);
    all.unread.extend(foreign.unread);
    all
}

impl Asked {
    /// How it is, if its injector said so.
    ///
    /// # Errors
    ///
    /// Its injector does not answer, or not to this user.
    pub fn into_live(self) -> (Record, Result<Live, StateError>) {
        let live = match self.reply {
            // Whose it is, another user's injector may lie about.
            Ok(Reply::Status(live)) if self.dir.is_foreign() => Ok(Live {
                record: self.record.clone(),
                ..*live
            }),
            Ok(Reply::Status(live)) => Ok(*live),
            Ok(other) => Err(unexpected(&self.record.id, other)),
            Err(error) => Err(error),
        };
        (self.record, live)
    }
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

/// The same for an id, also of another user's injection.
///
/// # Errors
///
/// There is none, it has no `--keepalive`, or does not answer.
pub fn renew_any(id: &str) -> Result<f64, StateError> {
    match find(id) {
        Ok((dir, _)) => return renew(&dir, id),
        Err(StateError::NotActive(_)) => {}
        Err(error) => return Err(error),
    }
    let survey = Foreign::begin(Some(id), Some(&Request::Renew {})).end();
    match survey.found.into_iter().next() {
        Some(asked) => match asked.reply? {
            Reply::Renewed(seconds) => Ok(seconds),
            other => Err(unexpected(id, other)),
        },
        None => Err(not_active(id, survey.unread)),
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

/// Ends an injection on behalf of a client, which is noted instead of this process's user.
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
    let until = Instant::now() + patience;
    match ask(dir, &record.id, &stopping(reason, by), patience) {
        Ok(Reply::Stopped(stopped)) => return Ok(*stopped),
        Ok(Reply::Error(why)) => {
            return Err(StateError::Refused {
                id: record.id.clone(),
                why,
            });
        }
        Ok(_) | Err(_) => {}
    }
    // It is ending, by itself or at the word of another stop, or it hangs, or is stopped: only one
    // that is still active when the patience is over is killed.
    let is_active = || {
        let same = |now: Record| now.owner == record.owner;
        dir.read(&record.id).is_some_and(same) && record.owner.runs() != Some(false)
    };
    while is_active() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    let killed = is_active() && kill_owner(dir, record)?;
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

/// Ends the injections of some ids, all at once: a slow injector keeps no other's faults in force. An id
/// that this user and root have not is looked for among other users'.
///
/// # Errors
///
/// One of them is not active; nothing is ended then.
pub fn stop_ids(
    ids: &[String],
    reason: Option<&str>,
    by: Option<&str>,
    patience: Duration,
) -> Result<Ended, StateError> {
    let mut trusted = Vec::new();
    let mut others = Vec::new();
    for id in ids {
        match find(id) {
            Ok(active) => trusted.push(active),
            Err(StateError::NotActive(_)) => match any_foreign(id) {
                Ok(()) => others.push(id),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    let request = stopping(reason, by);
    let begun: Vec<_> = others
        .iter()
        .map(|id| (id, Foreign::begin(Some(id), Some(&request))))
        .collect();
    let mut ended = stop_these(&trusted, reason, by, patience);
    for (id, foreign) in begun {
        let survey = foreign.end();
        if survey.found.is_empty() {
            ended.failed.push(not_active(id, survey.unread));
            continue;
        }
        for asked in survey.found {
            match asked.into_stopped() {
                Ok(stopped) => ended.stopped.push(stopped),
                // It was asked for by its name.
                Err(unread) => ended.failed.push(unread.into()),
            }
        }
    }
    Ok(ended)
}

/// Ends everything that this user may end.
pub fn stop_all(reason: Option<&str>, patience: Duration) -> Ended {
    let foreign = Foreign::begin(None, Some(&stopping(reason, None)));
    let survey = active();
    let mut ended = stop_these(&survey.found, reason, None, patience);
    ended.unread.extend(survey.unread);
    let foreign = foreign.end();
    for asked in foreign.found {
        match asked.into_stopped() {
            Ok(stopped) => ended.stopped.push(stopped),
            Err(unread) => ended.unread.push(unread),
        }
    }
    ended.unread.extend(foreign.unread);
    ended
}

/// Ends several at once.
fn stop_these(
    wanted: &[Active],
    reason: Option<&str>,
    by: Option<&str>,
    patience: Duration,
) -> Ended {
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .iter()
            .map(|(dir, record)| {
                let stop = move || stop_for(dir, record, reason, by, patience);
                let started = thread::Builder::new().spawn_scoped(scope, stop);
                (started.ok(), stop)
            })
            .collect();
        threads
            .into_iter()
            // Without a thread it is ended by this one.
            .map(|(started, stop)| {
                started.map_or_else(|| Ok(stop()), thread::ScopedJoinHandle::join)
            })
            .collect()
    });
    let mut ended = Ended::default();
    for (result, (dir, record)) in results.into_iter().zip(wanted) {
        match result {
            Ok(Ok(one)) => {
                ended.stopped.push(one);
                // It was to go with the injection.
                let is_there = |now: Record| now.owner == record.owner;
                if dir.read(&record.id).is_some_and(is_there) {
                    let path = dir.path().join(format!("{}.json", record.id));
                    ended.failed.push(StateError::Kept(path));
                }
            }
            Ok(Err(error)) => ended.failed.push(error),
            Err(_) => ended.failed.push(StateError::Refused {
                id: record.id.clone(),
                why: "the thread that was to stop it panicked".to_owned(),
            }),
        }
    }
    ended
}

/// Whether another user has an active injection of an id.
fn any_foreign(id: &str) -> Result<(), StateError> {
    let survey = Foreign::begin(Some(id), None).end();
    if survey.found.is_empty() {
        return Err(not_active(id, survey.unread));
    }
    Ok(())
}

impl Asked {
    /// How it ended; else why another user's injection did not.
    fn into_stopped(self) -> Result<Stopped, Unread> {
        let (dir, record) = (self.dir, self.record);
        match self.reply {
            Ok(Reply::Stopped(stopped)) => Ok(Stopped {
                id: record.id,
                ..*stopped
            }),
            Ok(Reply::Error(why)) => Err(of(&dir, &record, why)),
            Ok(_) | Err(_) => {
                let why =
                    "it did not answer; at the word of another user's record nothing is killed";
                Err(of(&dir, &record, why.to_owned()))
            }
        }
    }
}

/// What is said of a record that is passed over.
fn of(dir: &StateDir, record: &Record, why: String) -> Unread {
    dir.unread(dir.path().join(format!("{}.json", record.id)), why)
}

fn stopping(reason: Option<&str>, by: Option<&str>) -> Request {
    Request::Stop {
        reason: reason.map(str::to_owned),
        by: by.map(str::to_owned),
    }
}

fn not_active(id: &str, unread: Vec<Unread>) -> StateError {
    let file = format!("{id}.json");
    let it = |unread: &Unread| unread.path.file_name().is_some_and(|name| *name == *file);
    match unread.into_iter().find(it) {
        Some(unread) => unread.into(),
        None => StateError::NotActive(id.to_owned()),
    }
}

/// The folders of other users, each asked by a thread of its own. A thread that the other user keeps waiting, for
/// example by a file system of its own, is left behind.
struct Foreign {
    deadline: Instant,
    answers: std::sync::mpsc::Receiver<(usize, Survey<Asked>)>,
    folders: Vec<(PathBuf, u32)>,
    unread: Vec<Unread>,
}

impl Foreign {
    /// Begins to ask every injection, or those of an id. Without a request they are only looked for.
    fn begin(id: Option<&str>, request: Option<&Request>) -> Self {
        let deadline = Instant::now() + FOREIGN;
        let mut folders = StateDir::foreign();
        let mut unread = Vec::new();
        for (path, uid) in folders.split_off(folders.len().min(FOLDERS)) {
            unread.push(Unread {
                path,
                uid,
                why: format!("{FOLDERS} folders of other users are looked into, no more"),
            });
        }
        let (sender, answers) = channel();
        for (number, (path, uid)) in folders.iter().enumerate() {
            let (path, uid, sender) = (path.clone(), *uid, sender.clone());
            let (id, request) = (id.map(str::to_owned), request.cloned());
            let look = move || {
                let survey = look_into(&path, uid, id.as_deref(), request.as_ref(), deadline);
                let _ = sender.send((number, survey));
            };
            let begun = thread::Builder::new().spawn(look);
            if let (Err(error), Some((path, uid))) = (begun, folders.get(number)) {
                unread.push(Unread {
                    path: path.clone(),
                    uid: *uid,
                    why: error.to_string(),
                });
            }
        }
        Self {
            deadline,
            answers,
            folders,
            unread,
        }
    }

    /// Waits for the answers, as long as there is time.
    fn end(self) -> Survey<Asked> {
        let until = self.deadline + SLACK;
        let mut surveys: Vec<Option<Survey<Asked>>> = Vec::new();
        surveys.resize_with(self.folders.len(), || None);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok((number, survey)) => {
                    if let Some(place) = surveys.get_mut(number) {
                        *place = Some(survey);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let mut all = Survey {
            found: Vec::new(),
            unread: self.unread,
        };
        for (survey, (path, uid)) in surveys.into_iter().zip(self.folders) {
            match survey {
                Some(survey) => {
                    all.found.extend(survey.found);
                    all.unread.extend(survey.unread);
                }
                None if all.unread.iter().any(|unread| unread.path == path) => {}
                None => all.unread.push(Unread {
                    path,
                    uid,
                    why: format!("it could not be read within {FOREIGN:?}"),
                }),
            }
        }
        all
    }
}

/// Asks the injections of another user.
fn look_into(
    path: &std::path::Path,
    uid: u32,
    id: Option<&str>,
    request: Option<&Request>,
    deadline: Instant,
) -> Survey<Asked> {
    let mut survey = Survey::default();
    let dir = match StateDir::open_foreign(path, uid) {
        Ok(dir) => Arc::new(dir),
        Err(error) => {
            // Most users have none.
            if !error.is_absence() {
                survey.unread.push(Unread {
                    path: path.to_owned(),
                    uid,
                    why: error.to_string(),
                });
            }
            return survey;
        }
    };
    let records = match id {
        None => {
            let listing = dir.list();
            survey.unread = listing.unread;
            listing.records
        }
        Some(id) => match dir.load(id) {
            Ok(record) => record.into_iter().collect(),
            Err(unread) => {
                survey.unread.push(unread);
                Vec::new()
            }
        },
    };
    let records: Vec<_> = records
        .into_iter()
        .filter(|record| recover::lives(&dir, record))
        .collect();
    let injectors: Vec<_> = records.iter().map(|record| (&*dir, &*record.id)).collect();
    let replies = match request {
        Some(request) => exchange::ask(&injectors, request, deadline),
        None => {
            let nothing = |_| Err(std::io::Error::other("it was not asked"));
            injectors.iter().map(nothing).collect()
        }
    };
    survey.found = records
        .into_iter()
        .zip(replies)
        .map(|(record, reply)| Asked {
            dir: Arc::clone(&dir),
            reply: reply.map_err(|error| silent(&record.id, FOREIGN, &error)),
            record,
        })
        .collect();
    survey
}

impl<T> Default for Survey<T> {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            unread: Vec::new(),
        }
    }
}

/// Kills an injector of this user's or root's, if it runs; whether it did. It is told from another process of the
/// same id.
fn kill_owner(dir: &StateDir, record: &Record) -> Result<bool, StateError> {
    let refused = |why: String| StateError::Refused {
        id: record.id.clone(),
        why,
    };
    // The record may name any process.
    if dir.is_foreign() {
        return Err(refused(format!(
            "it does not answer, and its record is user {}'s, at whose word nothing is killed",
            dir.owner()
        )));
    }
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
    let mut replies = exchange::ask(&[(dir, id)], request, Instant::now() + patience);
    let reply = replies
        .pop()
        .unwrap_or_else(|| Err(std::io::Error::other("it was not asked")));
    reply.map_err(|error| silent(id, patience, &error))
}

fn silent(id: &str, patience: Duration, error: &std::io::Error) -> StateError {
    StateError::Refused {
        id: id.to_owned(),
        why: match error.kind() {
            std::io::ErrorKind::TimedOut => {
                format!("its injector does not answer within {patience:?}")
            }
            _ => format!("its injector does not answer: {error}"),
        },
    }
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
