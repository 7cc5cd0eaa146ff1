//! The lock under which records come, or go for others.
//!
//! It is held on a file in the state folder that only the folder's owner can open. A lock on the folder itself
//! could be held by anybody who can read that. The file is there while the lock is held; one that an owner
//! left which was killed is taken over.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

/// The file's name.
const NAME: &str = ".lock";

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
    folder: Option<OwnedFd>,
}

impl Lock {
    /// Takes the lock of a folder if it is free. `None`: another process has it, or just gave it back.
    ///
    /// # Errors
    ///
    /// The folder cannot be locked.
    pub(super) fn take(folder: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let create = OFlags::CREATE | OFlags::RDWR;
        let (file, folder) = match openat(folder, NAME, create | FLAGS, MODE) {
            Ok(file) => (file, Some(folder.try_clone_to_owned()?)),
            // On a full or read-only disk there is no other file to lock, and what is there can still be cleaned up.
            Err(Errno::NOSPC | Errno::DQUOT | Errno::ROFS) => {
                let itself = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                (openat(folder, ".", itself, Mode::empty())?, None)
            }
            Err(error) => return Err(error.into()),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if let Some(folder) = &folder
            && !is_named(folder, &file)
        {
            return Ok(None);
        }
        Ok(Some(Self { file, folder }))
    }

    /// Removes the file of an owner that was killed.
    pub(super) fn remove_dead(folder: BorrowedFd<'_>) {
        if let Ok(file) = openat(folder, NAME, OFlags::RDWR | FLAGS, Mode::empty())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Ok(folder) = folder.try_clone_to_owned()
            && is_named(&folder, &file)
        {
            drop(Self {
                file,
                folder: Some(folder),
            });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock goes: who waits for it finds that it is another file's by then.
        if let Some(folder) = &self.folder
            && is_named(folder, &self.file)
        {
            let _ = unlinkat(folder, NAME, AtFlags::empty());
        }
    }
}

const FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whether the name still stands for this file.
fn is_named(folder: &OwnedFd, file: &OwnedFd) -> bool {
    let named = statat(folder, NAME, AtFlags::SYMLINK_NOFOLLOW);
    match (named, fstat(file)) {
        (Ok(named), Ok(file)) => (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn one_has_it_and_nothing_is_left() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let handle = File::open(folder.path())?;
        // A user who can only read the folder holds up no one.
        flock(&handle, FlockOperation::LockExclusive)?;
        let first = Lock::take(handle.as_fd())?;
        assert!(first.is_some() && Lock::take(handle.as_fd())?.is_none());
        Lock::remove_dead(handle.as_fd());
        assert!(Lock::take(handle.as_fd())?.is_none());
        drop(first);
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        fs::write(folder.path().join(NAME), "")?;
        Lock::remove_dead(handle.as_fd());
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        fs::write(folder.path().join(NAME), "")?;
        assert!(Lock::take(handle.as_fd())?.is_some());
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
