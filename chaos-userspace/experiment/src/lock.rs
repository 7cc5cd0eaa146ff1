//! One experiment at a time: two would spoil each other's measurements.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another experiment has it.
    #[error("another experiment is under way: {holder}")]
    Held {
        /// Its process and title, as far as it has said.
        holder: String,
    },
    /// The file cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held as long as it lives; the kernel gives it back however its owner ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for an experiment.
    ///
    /// # Errors
    ///
    /// Somebody else has it, or its file cannot be made.
    pub fn take(folder: &Path, title: &str) -> Result<Self, LockError> {
        let path = folder.join("experiment.lock");
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            // Who can open it can hold it.
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed)?;
        // One of an earlier murphy.
        fchmod(&file, Mode::from_raw_mode(0o600)).map_err(|error| failed(error.into()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Who it is may be unknown; that it is held is not.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(LockError::Held { holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let text = format!("process {}, \"{title}\"\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path(), "first").unwrap();
        let error = Lock::take(folder.path(), "second").unwrap_err();
        assert!(error.to_string().contains("\"first\""), "{error}");
        drop(lock);
        Lock::take(folder.path(), "third").unwrap();
    }
}
