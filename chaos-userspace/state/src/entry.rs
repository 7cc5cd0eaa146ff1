//! An injection's own record: claimed, written, kept true, removed.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::fs::Mode;

use super::record::VERSION;
use super::{Journalled, Record, Removal, StateDir, StateError, halt, name_is_valid, recover};
use crate::cleanup::Cleanup;
use murphy_fault::plan::{Plan, Target};
use murphy_sys::clock::boot_ns;
use murphy_sys::owner::Owner;

/// What is to be noted of an injection that is about to begin.
#[derive(Debug)]
pub struct Claim {
    dir: StateDir,
    record: Record,
}

/// What the plan does not say of an injection.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The name it is to have, if not one of murphy's choice.
    pub name: Option<String>,
    /// murphy's command.
    pub command: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// Seed of the random decisions.
    pub seed: u64,
    /// How long it injects.
    pub limit: Option<std::time::Duration>,
    /// How long it goes on when murphy hangs.
    pub lease: std::time::Duration,
    /// Of `run`: the command.
    pub words: Vec<String>,
}

impl Claim {
    /// Prepares a record. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// The name is none or in use, the folder cannot be had, or nothing may be started.
    pub fn new(plan: &Plan, about: About) -> Result<Self, StateError> {
        if let Some(name) = &about.name
            && !name_is_valid(name)
        {
            return Err(StateError::Name(name.clone()));
        }
        let dir = StateDir::own()?;
        if let Some(halt) = halt::now(Some(&dir)) {
            return Err(StateError::Halted(Box::new(halt)));
        }
        let id = match about.name {
            Some(name) => {
                free(&dir, &name)?;
                name
            }
            None => new_id(&dir),
        };
        let named = |class: &Target| match class {
            Target::Command => vec![format!("command {}", about.words.join(" "))],
            Target::Running(who) => {
                let hit = who.hit.iter().map(ToString::to_string);
                let spared = who.spare.iter().map(|selector| format!("not {selector}"));
                hit.chain(spared).collect()
            }
        };
        let targets = plan.classes.iter().flat_map(named).collect();
        let record = Record {
            version: VERSION,
            id,
            command: about.command.to_owned(),
            owner: Owner::this(),
            guardian: None,
            uid: rustix::process::getuid().as_raw(),
            sudo_uid: sudo_uid(),
            argv: std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            faults: plan.faults().map(ToString::to_string).collect(),
            targets,
            reason: about.reason,
            seed: about.seed,
            started: jiff::Timestamp::now().to_string(),
            started_boot_ns: boot_ns(),
            limit_s: about.limit.map(|limit| limit.as_secs_f64()),
            lease_s: about.lease.as_secs_f64(),
            journal: Vec::new(),
        };
        Ok(Self { dir, record })
    }

    /// The same, after a fork.
    #[must_use]
    pub fn of_this_process(mut self) -> Self {
        self.record.owner = Owner::this();
        self
    }

    /// The name it will have.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The record as it will be written.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How the record is removed: to be journalled with the guardian before [`Claim::enter`].
    pub fn removal(&self) -> Removal {
        Removal {
            dir: self.dir.path().to_owned(),
            id: self.record.id.clone(),
            owner: self.record.owner.clone(),
        }
    }

    /// Cleans up after the dead, writes the record, and listens at its socket.
    ///
    /// # Errors
    ///
    /// The name was taken or everything halted meanwhile, or the record cannot be written: a full disk.
    pub fn enter(mut self, guardian: u32) -> Result<Entry, StateError> {
        let lock = self.dir.lock()?;
        if let Some(halt) = halt::now(Some(&self.dir)) {
            return Err(StateError::Halted(Box::new(halt)));
        }
        // What cannot be undone is the next one's, or `recover`'s, which tells.
        let _ = recover::dead(&self.dir, false);
        free(&self.dir, &self.record.id)?;
        let socket = self.dir.socket(&self.record.id);
        // Before there is a record: with that, its socket would be removed.
        if std::fs::symlink_metadata(&socket).is_ok() {
            return Err(StateError::InTheWay(self.path("sock")));
        }
        self.record.guardian = Owner::of(guardian);
        self.dir.write(&self.record)?;
        let listen = || {
            let listener = UnixListener::bind(&socket)?;
            // Who may ask is told by the peer's credentials.
            rustix::fs::chmod(&socket, Mode::from_raw_mode(0o666))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|source| StateError::File {
            doing: "making the control socket",
            path: self.path("sock"),
            source,
        })?;
        drop(lock);
        Ok(Entry {
            dir: self.dir,
            record: self.record,
            listener: Some(listener),
        })
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.dir
            .path()
            .join(format!("{}.{extension}", self.record.id))
    }
}

/// A record that is written. Its [`Removal`] is the first undo that is journalled and so
/// the last that is done.
#[derive(Debug)]
pub struct Entry {
    dir: StateDir,
    record: Record,
    listener: Option<UnixListener>,
}

impl Entry {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The folder it is in.
    pub fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// The control socket; it can be taken once.
    pub fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }

    /// Notes what is about to be made.
    ///
    /// # Errors
    ///
    /// It is not noted, and must not be made.
    pub fn journal(&mut self, undo: &Cleanup) -> Result<(), StateError> {
        self.record.journal.push(Journalled::of(undo));
        self.dir.write(&self.record).inspect_err(|_| {
            self.record.journal.pop();
        })
    }

    /// Notes that something was undone, in one write for all. If that cannot be written, it is
    /// found undone later.
    pub fn forget<'c>(&mut self, undone: impl IntoIterator<Item = &'c Cleanup>) {
        let mut journal = std::mem::take(&mut self.record.journal);
        let before = journal.len();
        for undone in undone {
            if let Some(at) = journal.iter().rposition(|entry| entry.undo == *undone) {
                journal.remove(at);
            }
        }
        let is_shorter = journal.len() < before;
        self.record.journal = journal;
        if is_shorter {
            let _ = self.dir.write(&self.record);
        }
    }
}

/// Refuses an id that a living injection has.
fn free(dir: &StateDir, id: &str) -> Result<(), StateError> {
    match dir.read(id) {
        Some(record) if recover::lives(dir, &record) => Err(StateError::Taken {
            id: id.to_owned(),
            what: record.summary(),
        }),
        _ => Ok(()),
    }
}

/// Six digits, short enough to be typed.
fn new_id(dir: &StateDir) -> String {
    let mut id = String::new();
    for _ in 0..8 {
        let mut bytes = [0; 3];
        let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let [a, b, c] = match drawn {
            Ok(3) => bytes,
            _ => {
                let [.., a, b, c] = boot_ns().to_be_bytes();
                [a, b, c]
            }
        };
        id = format!("{a:02x}{b:02x}{c:02x}");
        if dir.read(&id).is_none() {
            break;
        }
    }
    id
}

/// Who called sudo(8). The variable is worth something only where nobody but root could have set it.
fn sudo_uid() -> Option<u32> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    std::env::var("SUDO_UID").ok()?.parse().ok()
}
