//! `murphy panic`: the word that nothing may be started, kept in a file until `murphy resume`.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::{RUN_DIR, StateDir, StateError, files};

const FILE: &str = "panic";

/// The longest word that is read: a command line's.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Who said so, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Real user id of who called `murphy panic`.
    pub uid: u32,
    /// When.
    pub since: String,
    /// Why, as `--reason` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} called murphy panic", self.uid)?;
        if !self.since.is_empty() {
            write!(f, " at {}", self.since)?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// The word that holds now, in this user's folder or root's.
pub fn now(own: Option<&StateDir>) -> Option<Halt> {
    let own = own.map(|dir| dir.path().join(FILE));
    [own, Some(PathBuf::from(RUN_DIR).join(FILE))]
        .into_iter()
        .flatten()
        .find_map(|path| read(&path))
}

/// A file that is there holds even where it cannot be read: who wrote it meant it.
fn read(path: &Path) -> Option<Halt> {
    match files::read(CWD, &path.to_string_lossy(), None, LARGEST) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap_or_else(|_| unreadable(path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // A folder that is none of ours to look into.
        Err(_) if fs::symlink_metadata(path).is_err() => None,
        Err(_) => Some(unreadable(path)),
    }
}

fn unreadable(path: &Path) -> Halt {
    Halt {
        uid: fs::symlink_metadata(path).map_or(0, |metadata| metadata.uid()),
        since: String::new(),
        reason: Some(format!("{} is there", path.display())),
    }
}

/// Says it. Injections that start after this are refused. A file that could be made and not be filled, on a full disk,
/// is as good: it holds.
///
/// # Errors
///
/// It could not be written.
pub fn halt(dir: &StateDir, halt: &Halt) -> Result<(), StateError> {
    let path = dir.within(FILE);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)?;
        file.write_all(&serde_json::to_vec(halt)?)
    };
    match write() {
        Err(_) if now(Some(dir)).is_some() => Ok(()),
        written => written.map_err(|source: io::Error| StateError::Halt {
            path: dir.path().join(FILE),
            source,
        }),
    }
}

/// Takes it back; whether it held.
///
/// # Errors
///
/// It could not be removed.
pub fn resume(dir: &StateDir) -> Result<bool, StateError> {
    match fs::remove_file(dir.within(FILE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StateError::File {
            doing: "removing",
            path: dir.path().join(FILE),
            source,
        }),
    }
}
