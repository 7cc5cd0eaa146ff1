//! The folder of records: found, checked, locked, written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::geteuid;

use super::{Owner, Record, StateError};

/// The folder of root's injections, and of the word that nobody may start any.
pub const RUN_DIR: &str = "/run/murphy";

/// Names another folder.
const VARIABLE: &str = "MURPHY_RUN_DIR";

/// How long to wait for another murphy that starts or recovers.
const LOCKED: Duration = Duration::from_secs(15);

/// An open folder of records that nobody else may write.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    handle: File,
}

/// Held while records come, or go for others; ends with the value.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "a descriptor that holds the lock")] File);

impl StateDir {
    /// The folder of this user's injections, made if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made, or somebody else could write into it.
    pub fn own() -> Result<Self, StateError> {
        let path = own_path();
        let make = |source| StateError::Make {
            path: path.clone(),
            source,
        };
        // Records are no secret of root's: everybody may see what is active on a machine.
        let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
        match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => {
                // Whatever the umask took away.
                rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).map_err(|e| make(e.into()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(make(error)),
        }
        Self::open(&path)
    }

    /// Every folder whose injections this user may see: its own, and root's; root sees those of all who are
    /// logged in.
    pub fn visible() -> Vec<Self> {
        let mut paths = vec![own_path()];
        // Whoever names a folder means that one.
        if std::env::var_os(VARIABLE).is_none() {
            paths.push(PathBuf::from(RUN_DIR));
            if geteuid().is_root() {
                paths.extend(of_users());
            }
        }
        paths.dedup();
        paths
            .iter()
            .filter_map(|path| Self::open(path).ok())
            .collect()
    }

    /// Opens one that is there.
    ///
    /// # Errors
    ///
    /// It is not there, or others could write into it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::File {
            doing: "opening the state folder",
            path: path.to_owned(),
            source,
        };
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed)?;
        let metadata = handle.metadata().map_err(failed)?;
        let untrusted = |why| {
            Err(StateError::Untrusted {
                path: path.to_owned(),
                why,
            })
        };
        if metadata.mode() & 0o022 != 0 {
            return untrusted(format!("its mode is {:o}", metadata.mode() & 0o7777));
        }
        let (owner, own) = (metadata.uid(), geteuid().as_raw());
        if owner != own && owner != 0 && own != 0 {
            return untrusted(format!("it belongs to user {owner}"));
        }
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what it says may be acted on by this process: it is this user's own. Root looks into the
    /// folders of others, but undoes nothing at their word.
    pub fn is_own(&self) -> bool {
        self.handle
            .metadata()
            .is_ok_and(|metadata| metadata.uid() == geteuid().as_raw())
    }

    /// Whom it belongs to.
    pub(super) fn user(&self) -> Option<u32> {
        Some(self.handle.metadata().ok()?.uid())
    }

    /// Keeps other murphies from starting and recovering until the lock is dropped.
    ///
    /// # Errors
    ///
    /// Another one has held it for long.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let failed = |source| StateError::File {
            doing: "locking",
            path: self.path.clone(),
            source,
        };
        // A description of its own: the lock goes when it does.
        let handle = File::open(self.within("")).map_err(failed)?;
        let deadline = Instant::now() + LOCKED;
        loop {
            match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(handle)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StateError::Locked {
                        path: self.path.clone(),
                        seconds: LOCKED.as_secs(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// The records in it, by id. What is none is left alone.
    pub fn records(&self) -> Vec<Record> {
        let mut ids: Vec<String> = self
            .names()
            .iter()
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect();
        ids.sort();
        ids.iter().filter_map(|id| self.read(id)).collect()
    }

    /// The record of an id.
    pub fn read(&self, id: &str) -> Option<Record> {
        let text = fs::read(self.record(id)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes a record so that it is there wholly or not at all, and survives a loss of power
    /// where the file system does.
    pub(super) fn write(&self, record: &Record) -> Result<(), StateError> {
        let new = self.temporary(&record.id, &record.owner);
        let to = self.record(&record.id);
        let write = || {
            let _ = fs::remove_file(&new);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&new)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&new, &to)?;
            self.handle.sync_all()
        };
        write().map_err(|source: io::Error| {
            let _ = fs::remove_file(&new);
            StateError::File {
                doing: "writing the record",
                path: self.path.join(format!("{}.json", record.id)),
                source,
            }
        })
    }

    /// Removes all files of an id that are this process's: also what it was writing when it was killed.
    pub(crate) fn remove_of(&self, id: &str, owner: &Owner) -> io::Result<bool> {
        let unfinished = remove_file(&self.temporary(id, owner))?;
        match self.read(id) {
            Some(record) if record.owner == *owner => self.remove(&record),
            _ => Ok(unfinished),
        }
    }

    /// Removes all files of a record, itself last.
    pub(super) fn remove(&self, record: &Record) -> io::Result<bool> {
        let Record { id, owner, .. } = record;
        let mut removed = false;
        for path in [self.socket(id), self.temporary(id, owner), self.record(id)] {
            removed |= remove_file(&path)?;
        }
        Ok(removed)
    }

    /// Names of the files in it.
    pub(super) fn names(&self) -> Vec<String> {
        fs::read_dir(self.within(""))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    fn record(&self, id: &str) -> PathBuf {
        self.within(&format!("{id}.json"))
    }

    /// What becomes the record. It says whose it is: its writer may be killed before there is a record
    /// that does.
    fn temporary(&self, id: &str, owner: &Owner) -> PathBuf {
        let Owner { pid, start, .. } = owner;
        self.within(&format!(".{id}.{pid}-{start}.tmp"))
    }

    /// The id that a file belongs to which is no record, but comes or goes with one.
    pub(super) fn id_of(name: &str) -> Option<&str> {
        let temporary = || {
            let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
            Some(inner.rsplit_once('.')?.0)
        };
        name.strip_suffix(".sock").or_else(temporary)
    }

    /// Where an injector listens. Short enough for a socket's address, however long the folder's path.
    pub(super) fn socket(&self, id: &str) -> PathBuf {
        self.within(&format!("{id}.sock"))
    }

    /// A file in the folder that was opened and checked, whatever its path names by now.
    pub(super) fn within(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()))
    }
}

/// Whether there was one.
fn remove_file(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where this user's injections are noted.
fn own_path() -> PathBuf {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        // The guardian works in another directory.
        return std::path::absolute(&path).unwrap_or_else(|_| path.into());
    }
    if geteuid().is_root() {
        return RUN_DIR.into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).join("murphy"),
        None => std::env::temp_dir().join(format!("murphy-{}", geteuid().as_raw())),
    }
}

/// The folders of users who are logged in.
fn of_users() -> Vec<PathBuf> {
    fs::read_dir("/run/user")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("murphy"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_died_leaves_nothing() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = StateDir::open(folder.path())?;
        let (id, this) = ("a.b", Owner::this());
        let other = Owner {
            start: this.start + 1,
            ..this.clone()
        };
        for owner in [&this, &other] {
            fs::write(dir.temporary(id, owner), "{")?;
        }
        assert!(dir.remove_of(id, &this)?);
        assert!(!dir.remove_of(id, &this)?);
        // Of another injector, which writes it now.
        let names = dir.names();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(StateDir::id_of(&names[0]), Some(id));
        assert!(dir.remove_of(id, &other)?);
        assert!(dir.names().is_empty());
        Ok(())
    }
}
