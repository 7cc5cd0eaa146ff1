//! Opens what stands in a state folder, whichever user put it there.
//!
//! Root looks into the folders of other users, who may put a FIFO, a device, a link or an endless file where
//! murphy expects a record. These functions open regular files and sockets of the folder's owner and nothing
//! else, follow no link, read no more than a limit, and never wait.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
};
use serde::Serialize;

/// Something in a state folder that could not be read or asked, and is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The file or the folder.
    pub path: PathBuf,
    /// The user that the folder belongs to.
    pub uid: u32,
    /// What is wrong with it.
    pub why: String,
}

/// Reads a regular file of `owner`, or of anybody, in a folder.
///
/// # Errors
///
/// It is not there, no regular file, another user's, or longer than `limit` bytes.
pub(super) fn read(
    folder: BorrowedFd<'_>,
    name: &str,
    owner: Option<u32>,
    limit: u64,
) -> io::Result<Vec<u8>> {
    // Opening a FIFO or a device does not wait, and a link is not followed.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).map_err(refused)?;
    check(&file, FileType::RegularFile, owner)?;
    let mut bytes = Vec::new();
    // A file that grows meanwhile has no more to say either.
    File::from(file).take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Connects to a Unix socket of `owner` in a folder, without waiting.
///
/// # Errors
///
/// It is not there, no socket, another user's; `ConnectionRefused` if no process listens, `WouldBlock` if too many
/// wait to be accepted.
pub(super) fn connect(folder: BorrowedFd<'_>, name: &str, owner: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty())?;
    check(&file, FileType::Socket, Some(owner))?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // The socket that was checked, whatever its name stands for by now.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    connect_socket(&socket, &address)?;
    Ok(socket)
}

/// Checks what was opened.
fn check(file: &OwnedFd, wanted: FileType, owner: Option<u32>) -> io::Result<()> {
    let stat = fstat(file)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != wanted {
        return Err(io::Error::other(format!(
            "it is {}, not {}",
            named(found),
            named(wanted)
        )));
    }
    if let Some(owner) = owner
        && stat.st_uid != owner
    {
        return Err(io::Error::other(format!(
            "it belongs to user {}, not to {owner}",
            stat.st_uid
        )));
    }
    Ok(())
}

fn refused(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::LOOP => io::Error::other("it is a symbolic link, not a regular file"),
        // No reader or writer at the other end: a socket, or a device without a driver.
        rustix::io::Errno::NXIO => {
            io::Error::other("it is a socket or a device, not a regular file")
        }
        other => other.into(),
    }
}

fn named(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "no file of a known kind",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files_of_the_owner_are_read() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let user = rustix::process::geteuid().as_raw();
        fs::write(path("good"), "{}")?;
        fs::write(path("large"), vec![b' '; 100])?;
        fs::create_dir(path("directory"))?;
        symlink("/dev/zero", path("link"))?;
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
        let _listener = UnixListener::bind(path("socket"))?;
        let handle = File::open(folder.path())?;
        let read = |name: &str, owner| {
            let read = read(handle.as_fd(), name, Some(owner), 10);
            read.map_err(|error| error.to_string())
        };
        assert_eq!(read("good", user), Ok(b"{}".to_vec()));
        for (name, why) in [
            ("large", "larger than 10 bytes"),
            ("directory", "a directory"),
            ("link", "a symbolic link"),
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("absent", "No such file"),
        ] {
            let said = read(name, user).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
        assert!(
            read("good", user + 1)
                .unwrap_err()
                .contains("belongs to user")
        );
        Ok(())
    }

    #[test]
    fn a_link_to_a_socket_is_not_connected_to() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let user = rustix::process::geteuid().as_raw();
        let _listener = UnixListener::bind(folder.path().join("a.sock"))?;
        symlink("a.sock", folder.path().join("b.sock"))?;
        let handle = File::open(folder.path())?;
        assert!(connect(handle.as_fd(), "a.sock", user).is_ok());
        assert!(connect(handle.as_fd(), "b.sock", user).is_err());
        assert!(connect(handle.as_fd(), "a.sock", user + 1).is_err());
        Ok(())
    }
}
