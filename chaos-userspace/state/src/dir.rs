//! The folder of records: found, checked, locked, written.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, fchmod};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::files::{self, Unread};
use super::lock::Lock;
use super::{Owner, Record, StateError, name_is_valid};

/// The folder of root's injections, and of the word that nobody may start any.
pub const RUN_DIR: &str = "/run/murphy";

/// Names another folder.
const VARIABLE: &str = "MURPHY_RUN_DIR";

/// How long to wait for another murphy that starts or recovers.
const LOCKED: Duration = Duration::from_secs(15);

/// The largest record of this user or root: command lines may have 2 MiB, and are in it twice.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The largest record of another user, who decides how long root reads. A thousand limits fit in.
const LARGEST_FOREIGN: u64 = 256 * 1024;

/// How many records of another user are looked at.
const FOREIGN_RECORDS: usize = 64;

/// How many files in another user's folder are listed in search of records.
const FOREIGN_FILES: usize = 4096;

/// An open folder of records that only its owner may write.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    handle: File,
    owner: u32,
}

/// How the record of an injection is removed by the process that ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The folder.
    pub(super) dir: PathBuf,
    /// The injection's id.
    pub id: String,
    /// Whose record it is: the id may be another injection's by now.
    pub(super) owner: Owner,
}

impl Removal {
    /// Removes it. Whether there was something of it.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened, or a file in it not be removed.
    pub fn remove(&self) -> io::Result<bool> {
        let dir = StateDir::open(&self.dir).map_err(io::Error::other)?;
        dir.remove_of(&self.id, &self.owner)
    }
}

/// The records of a folder, and what was taken for one and is none.
#[derive(Debug, Default)]
pub struct Listing {
    /// The records, by id.
    pub records: Vec<Record>,
    /// The rest.
    pub unread: Vec<Unread>,
}

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
        let made = match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(make(error)),
        };
        let dir = Self::open(&path)?;
        if made {
            // Whatever the umask took away.
            fchmod(&dir.handle, Mode::from_raw_mode(mode)).map_err(|e| make(e.into()))?;
        }
        Ok(dir)
    }

    /// The folders whose word this user can rely on: its own, and root's.
    pub fn trusted() -> Vec<Self> {
        let paths = trusted_paths().into_iter();
        paths.filter_map(|path| Self::open(&path).ok()).collect()
    }

    /// The folders among these that are there and cannot be used, each with the reason.
    pub(super) fn unusable() -> Vec<Unread> {
        let paths = trusted_paths().into_iter();
        paths
            .filter_map(|path| match Self::open(&path) {
                Err(error) if !error.is_absence() => Some(Unread {
                    path,
                    uid: geteuid().as_raw(),
                    why: error.to_string(),
                }),
                _ => None,
            })
            .collect()
    }

    /// The folders of other users who are logged in, with their ids. Only root looks into them.
    pub(super) fn foreign() -> Vec<(PathBuf, u32)> {
        if is_named() || !geteuid().is_root() {
            return Vec::new();
        }
        fs::read_dir("/run/user")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let uid = entry.file_name().to_str()?.parse().ok()?;
                (uid != 0).then(|| (entry.path().join("murphy"), uid))
            })
            .collect()
    }

    /// Opens one that belongs to this user or to root.
    ///
    /// # Errors
    ///
    /// It is not there, or others could write into it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let own = geteuid().as_raw();
        Self::open_if(path, |owner| owner == own || owner == 0)
    }

    /// Opens one that belongs to another user.
    ///
    /// # Errors
    ///
    /// It is not there, or not that user's alone.
    pub(super) fn open_foreign(path: &Path, uid: u32) -> Result<Self, StateError> {
        Self::open_if(path, |owner| owner == uid)
    }

    fn open_if(path: &Path, may_own: impl FnOnce(u32) -> bool) -> Result<Self, StateError> {
        let failed = |source| StateError::File {
            doing: "opening the state folder",
            path: path.to_owned(),
            source,
        };
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK)
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
        let owner = metadata.uid();
        if !may_own(owner) {
            return untrusted(format!("it belongs to user {owner}"));
        }
        Ok(Self {
            path: path.to_owned(),
            handle,
            owner,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what it says may be acted on by this process: it is this user's own. Root looks into the
    /// folders of others, but undoes nothing and kills nothing at their word.
    pub fn is_own(&self) -> bool {
        self.owner == geteuid().as_raw()
    }

    /// Whether it belongs to neither this user nor root: what stands in it may be meant to do harm.
    pub(super) fn is_foreign(&self) -> bool {
        !self.is_own() && self.owner != 0
    }

    /// Whom it belongs to.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Keeps other murphies from starting and recovering until the lock is dropped.
    ///
    /// # Errors
    ///
    /// Another one has held it for long.
    pub fn lock(&self) -> Result<Lock, StateError> {
        self.lock_within(LOCKED)
    }

    /// The same, for who cannot wait as long.
    ///
    /// # Errors
    ///
    /// Another one has held it for that long.
    pub fn lock_within(&self, patience: Duration) -> Result<Lock, StateError> {
        let failed = |source| StateError::File {
            doing: "locking",
            path: self.path.clone(),
            source,
        };
        let deadline = Instant::now() + patience;
        loop {
            match Lock::take(self.handle.as_fd()) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    return Err(StateError::Locked {
                        path: self.path.clone(),
                        seconds: patience.as_secs(),
                    });
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// The records in it, by id. Of another user's folder no more than [`FOREIGN_RECORDS`].
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let mut names = self.names();
        if self.is_foreign() && names.len() > FOREIGN_FILES {
            names.truncate(FOREIGN_FILES);
            let why =
                format!("it holds more than {FOREIGN_FILES} files: the others are not listed");
            listing.unread.push(self.unread(self.path.clone(), why));
        }
        names.retain(|name| name.ends_with(".json"));
        names.sort();
        if self.is_foreign() && names.len() > FOREIGN_RECORDS {
            let why = format!(
                "it holds {} records: only {FOREIGN_RECORDS} are looked at",
                names.len()
            );
            names.truncate(FOREIGN_RECORDS);
            listing.unread.push(self.unread(self.path.clone(), why));
        }
        for id in names.iter().filter_map(|name| name.strip_suffix(".json")) {
            match self.load(id) {
                Ok(Some(record)) => listing.records.push(record),
                // It has just ended.
                Ok(None) => {}
                Err(unread) => listing.unread.push(unread),
            }
        }
        listing
    }

    /// The record of an id, if there is one that can be read.
    pub fn read(&self, id: &str) -> Option<Record> {
        self.load(id).ok().flatten()
    }

    /// The record of an id, if there is one.
    ///
    /// # Errors
    ///
    /// Something else has its name.
    pub fn load(&self, id: &str) -> Result<Option<Record>, Unread> {
        let name = format!("{id}.json");
        let unread = |why| self.unread(self.path.join(&name), why);
        if !name_is_valid(id) {
            return Err(unread("its name is no id of an injection".to_owned()));
        }
        let largest = if self.is_foreign() {
            LARGEST_FOREIGN
        } else {
            LARGEST
        };
        let text = match files::read(self.handle.as_fd(), &name, Some(self.owner), largest) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unread(error.to_string())),
        };
        let mut record: Record = serde_json::from_slice(&text)
            .map_err(|error| unread(format!("it is no record: {error}")))?;
        if record.id != id {
            return Err(unread("it is the record of another id".to_owned()));
        }
        if self.is_foreign() {
            // Whose it is, the kernel says.
            record.uid = self.owner;
            record.sudo_uid = None;
        }
        Ok(Some(record))
    }

    /// Something in this folder that is passed over.
    pub(super) fn unread(&self, path: PathBuf, why: String) -> Unread {
        Unread {
            path,
            uid: self.owner,
            why,
        }
    }

    /// Connects to an injector, without waiting.
    pub(super) fn connect(&self, id: &str) -> io::Result<OwnedFd> {
        files::connect(self.handle.as_fd(), &format!("{id}.sock"), self.owner)
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
            file.write_all(&serde_json::to_vec(&record.for_everybody())?)?;
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
    fn remove_of(&self, id: &str, owner: &Owner) -> io::Result<bool> {
        let unfinished = remove_file(&self.temporary(id, owner))?;
        // It may have been killed while it held the lock.
        Lock::remove_dead(self.handle.as_fd());
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

    /// Notes that a socket is a daemon's: when it is dead, the next daemon may replace it, wherever it is.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn note_socket(&self, socket: &Metadata) -> Result<(), StateError> {
        let name = note_of(socket);
        let write = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(self.within(&name))
        };
        match write() {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(StateError::File {
                doing: "noting the socket in",
                path: self.path.join(name),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a daemon has noted that a socket is its own.
    pub fn made_socket(&self, socket: &Metadata) -> bool {
        files::read(self.handle.as_fd(), &note_of(socket), Some(self.owner), 0).is_ok()
    }

    /// Removes the note.
    pub fn forget_socket(&self, socket: &Metadata) {
        // One that stays is of a socket that is gone.
        let _ = fs::remove_file(self.within(&note_of(socket)));
    }

    /// Names of the files in it.
    pub(super) fn names(&self) -> Vec<String> {
        fs::read_dir(self.within(""))
            .into_iter()
            .flatten()
            .flatten()
            // One more than the limit shows that some are left out.
            .take(if self.is_foreign() {
                FOREIGN_FILES + 1
            } else {
                usize::MAX
            })
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

    /// The id whose record a file was to become: the other way round of `temporary`.
    pub(super) fn id_of(name: &str) -> Option<&str> {
        let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
        let (id, writer) = inner.rsplit_once('.')?;
        let (pid, start) = writer.split_once('-')?;
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        (is_number(pid) && is_number(start) && name_is_valid(id)).then_some(id)
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

/// The name of the note about a socket. Its inode may be another file's later, but not with that time.
fn note_of(socket: &Metadata) -> String {
    format!(
        ".{:x}-{:x}-{}.{:09}.socket",
        socket.dev(),
        socket.ino(),
        socket.mtime(),
        socket.mtime_nsec()
    )
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
    if let Some(path) = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        return PathBuf::from(path).join("murphy");
    }
    let user = geteuid().as_raw();
    // Where the variable is lost, as by su(1), the folder is there all the same.
    let runtime = PathBuf::from(format!("/run/user/{user}"));
    if fs::symlink_metadata(&runtime).is_ok_and(|folder| folder.is_dir() && folder.uid() == user) {
        return runtime.join("murphy");
    }
    // Others may have taken this name before: then it is not trusted, see `open`.
    std::env::temp_dir().join(format!("murphy-{user}"))
}

/// The paths of this user's folder and of root's.
fn trusted_paths() -> Vec<PathBuf> {
    let mut paths = vec![own_path()];
    // A folder that is named is the only one.
    if !is_named() {
        paths.push(PathBuf::from(RUN_DIR));
    }
    paths.dedup();
    paths
}

/// Whether the environment names the folder.
fn is_named() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
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
