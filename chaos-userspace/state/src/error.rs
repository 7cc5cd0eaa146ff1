//! What goes wrong with the state folder, each with its remedy.

use std::io;
use std::path::PathBuf;

use super::Unread;
use super::halt::Halt;

/// Why the state could not be read, written or acted on.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made.
    #[error("the state folder {path} cannot be made: {source}")]
    Make {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else could write records into it.
    #[error("the state folder {path} is not to be trusted: {why}")]
    Untrusted {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Something in it cannot be read or written.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// `murphy panic` could not be noted.
    #[error("the word that nothing may be started could not be written: {path}: {source}")]
    Halt {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What stands where a record is expected is none.
    #[error("{} of user {}: {}", .0.path.display(), .0.uid, .0.why)]
    Unread(Unread),
    /// An injection has ended, and its record could not be removed.
    #[error("it has ended, and its record {0} could not be removed")]
    Kept(PathBuf),
    /// Another program's file has the name of an injector's socket.
    #[error("{0} is there already, and no record says that it is murphy's")]
    InTheWay(PathBuf),
    /// Another murphy holds the folder's lock.
    #[error(
        "another murphy has been starting or recovering for more than {seconds} s: {path} is locked"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The id is in use.
    #[error("an injection called {id} is active: {what}")]
    Taken {
        /// The id.
        id: String,
        /// Whose it is and what it does.
        what: String,
    },
    /// `murphy panic` was called.
    #[error("nothing may be started on this machine: {0}")]
    Halted(Box<Halt>),
    /// Not an id.
    #[error(
        "`{0}` is no name for an injection: letters, digits, dots, dashes and underscores, at most 64, \
         beginning with a letter or digit"
    )]
    Name(String),
    /// No such injection.
    #[error("no injection called {0} is active: it has ended, or never began")]
    NotActive(String),
    /// The injector did not do what it was asked.
    #[error("{id}: {why}")]
    Refused {
        /// The id.
        id: String,
        /// Its words.
        why: String,
    },
}

impl StateError {
    /// What its user can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Make { .. } | Self::File { .. } => {
                "murphy notes what it will have to undo before it makes it; name a folder that can be \
                 written: MURPHY_RUN_DIR=/path murphy …"
                    .to_owned()
            }
            Self::Halt { path, .. } => format!(
                "injections can be started again: make {} writable, or free space or inodes on it, and call \
                 murphy panic again; until then stop what starts injections",
                path.parent().unwrap_or(path).display()
            ),
            Self::Kept(_) => {
                "make the folder writable; murphy recover, or the next start, then removes it".to_owned()
            }
            Self::InTheWay(_) => "choose another --name, or remove it".to_owned(),
            Self::Unread(_) => {
                "only a regular file of the folder's owner, as murphy writes it, is read; remove what is none"
                    .to_owned()
            }
            Self::Untrusted { path, .. } => format!(
                "it has to belong to you or root and to be writable by its owner alone: chmod go-w {}",
                path.display()
            ),
            Self::Locked { .. } => "try again; murphy status lists what is active".to_owned(),
            Self::Taken { id, .. } => format!("murphy stop {id} ends it; or choose another --name"),
            Self::Halted(_) => "murphy resume allows it again".to_owned(),
            Self::NotActive(_) => "murphy status lists what is active".to_owned(),
            Self::Name(_) | Self::Refused { .. } => return None,
        })
    }

    /// Whether it says that something is not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::File { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ))
    }

    /// Whether it may pass: somebody else is in the way.
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. } | Self::Taken { .. } | Self::Halted(_)
        )
    }
}

impl From<Unread> for StateError {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}
