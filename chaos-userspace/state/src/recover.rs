//! Cleaning up after injectors that died together with their guardians.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::record::VERSION;
use super::{Journalled, Owner, Record, StateDir};
use crate::cleanup::{Cleanup, Outcome};

/// How long a guardian may take with what its injector left: it goes first.
const GUARDIAN: Duration = Duration::from_secs(5);

/// What was done, or would be, about one dead injection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Its id.
    pub id: String,
    /// Whose it was and what it did.
    pub what: String,
    /// What is undone now.
    pub undone: Vec<String>,
    /// What was undone already.
    pub gone: Vec<String>,
    /// What could not be undone, and why; the record stays.
    pub failed: Vec<String>,
}

/// Whether a record's injector runs. In doubt it does.
pub fn lives(dir: &StateDir, record: &Record) -> bool {
    record
        .owner
        .runs()
        // Of another pid namespace: somebody listens, or nobody does.
        .unwrap_or_else(|| match dir.connect(&record.id) {
            Ok(_) => true,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
        })
}

/// Undoes what dead injectors left. The caller holds the folder's lock, unless it only looks (`dry`).
pub fn dead(dir: &StateDir, dry: bool) -> Vec<Recovered> {
    if !dir.is_own() {
        return Vec::new();
    }
    let records = dir.list().records;
    let mut done = Vec::new();
    for record in &records {
        // Its guardian is at work: what is still there goes.
        let is_guarded = || record.guardian.as_ref().and_then(Owner::runs) == Some(true);
        if record.version == VERSION && !lives(dir, record) && !(dry && is_guarded()) {
            done.push(one(dir, record, dry));
        }
    }
    if !dry {
        strays(dir);
    }
    done
}

fn one(dir: &StateDir, record: &Record, dry: bool) -> Recovered {
    let mut recovered = Recovered {
        id: record.id.clone(),
        what: record.summary(),
        undone: Vec::new(),
        gone: Vec::new(),
        failed: Vec::new(),
    };
    if !dry {
        await_guardian(record);
    }
    for entry in record.journal.iter().rev() {
        let what = entry.undo.to_string();
        if dry {
            match entry.undo.is_pending() {
                true => recovered.undone.push(what),
                false => recovered.gone.push(what),
            }
            continue;
        }
        match entry.undo() {
            Ok(Outcome::Done) => recovered.undone.push(what),
            Ok(Outcome::NothingToDo) => recovered.gone.push(what),
            Ok(Outcome::Changed) => recovered.gone.push(changed(&what)),
            Err(error) => recovered.failed.push(format!("{what}: {error}")),
        }
    }
    if !dry
        && recovered.failed.is_empty()
        && let Err(error) = dir.remove(record)
    {
        recovered.failed.push(format!("its record: {error}"));
    }
    recovered
}

/// What is reported of something that another program has changed.
pub fn changed(what: &str) -> String {
    format!("{what}: another program has changed it since; it stays as it is")
}

fn await_guardian(record: &Record) {
    let Some(guardian) = &record.guardian else {
        return;
    };
    let deadline = Instant::now() + GUARDIAN;
    while guardian.runs() == Some(true) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes records that were being written, the first of their ids, by injectors that died meanwhile: new ones
/// come only under the lock. All other files stay, also sockets: they may be another program's, and an injector's
/// goes with its record.
fn strays(dir: &StateDir) {
    for name in dir.names() {
        if let Some(id) = StateDir::id_of(&name)
            && matches!(dir.load(id), Ok(None))
        {
            let _ = fs::remove_file(dir.within(&name));
        }
    }
}

impl Journalled {
    /// An entry, with what it takes to find its network namespace again.
    pub(super) fn of(undo: &Cleanup) -> Self {
        let namespace = undo.namespace().ok().flatten();
        Self {
            netns: namespace.and_then(|file| Some(file.metadata().ok()?.ino())),
            undo: undo.clone(),
        }
    }

    /// Undoes it, from whichever process.
    fn undo(&self) -> io::Result<Outcome> {
        let Some(inode) = self.netns else {
            return self.undo.undo();
        };
        match namespace(inode) {
            Some(file) => self.undo.undo_in(Some(&file)),
            // It went, and everything in it.
            None => Ok(Outcome::NothingToDo),
        }
    }
}

/// A network namespace by its inode: that of some process, or one with a name (ip-netns(8)).
fn namespace(inode: u64) -> Option<File> {
    let of_processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let processes = of_processes
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path().join("ns/net"));
    let paths: Vec<PathBuf> = processes.chain(named.map(|entry| entry.path())).collect();
    paths
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode))
        .and_then(|path| File::open(path).ok())
}
