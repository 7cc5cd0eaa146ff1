//! What a waiting thread's system call is about: its descriptors, paths and addresses, read from the thread.
//!
//! What is read may be changed by another thread before the kernel reads it again; the faults are made for tests, not for
//! confinement. Whatever cannot be read is an error, and the call goes on.
//!
//! The thread's number may be another thread's by the time something is read. So everything goes
//! through descriptors that are opened once, and the caller checks afterwards that the thread
//! still waits (`Listener::is_valid`): then what was opened was the thread's own.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;
use syscalls::Sysno;

use super::notify::Notification;
use murphy_fault::syscalls::{Argument, arguments};
use murphy_sys::process::{Memory, ProcFolder, Thread, path_of_fd_here, status_number};

/// A thread that waits, and the call it is in.
#[derive(Debug)]
pub(super) struct Victim {
    tid: u32,
    call: Sysno,
    arguments: [u64; 6],
    /// Its folder in `/proc`, from the first use on.
    folder: OnceCell<ProcFolder>,
    /// Its memory, likewise.
    memory: OnceCell<Rc<Memory>>,
    /// Its process and name, likewise.
    identity: OnceCell<(u32, [u8; 16])>,
}

/// What a call closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closes {
    /// It is not close(2).
    Nothing,
    /// This open descriptor.
    Open(u32),
    /// A number that is not open.
    NotOpen,
}

impl Closes {
    /// The open descriptor.
    pub(super) fn open(self) -> Option<u32> {
        match self {
            Self::Open(fd) => Some(fd),
            Self::Nothing | Self::NotOpen => None,
        }
    }
}

impl Victim {
    /// `None` for a call that is none of this architecture's, and for a thread that cannot be seen from here.
    pub(super) fn new(notification: &Notification) -> Option<Self> {
        let call = Sysno::new(usize::try_from(notification.number).ok()?)?;
        (notification.tid != 0)
            .then(|| Self::with_call(notification.tid, call, notification.arguments))
    }

    fn with_call(tid: u32, call: Sysno, arguments: [u64; 6]) -> Self {
        Self {
            tid,
            call,
            arguments,
            folder: OnceCell::new(),
            memory: OnceCell::new(),
            identity: OnceCell::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_this_thread(call: Sysno, arguments: [u64; 6]) -> Self {
        let tid = nix::unistd::gettid().as_raw().cast_unsigned();
        Self::with_call(tid, call, arguments)
    }

    /// The call it is in.
    pub(super) fn call(&self) -> Sysno {
        self.call
    }

    /// The call's arguments.
    pub(super) fn arguments(&self) -> [u64; 6] {
        self.arguments
    }

    /// A handle for signals to the thread and for its descriptors.
    pub(super) fn thread(&self) -> io::Result<Thread> {
        Thread::open(self.tid)
    }

    fn proc(&self) -> io::Result<&ProcFolder> {
        if self.folder.get().is_none() {
            let _ = self.folder.set(ProcFolder::open(self.tid)?);
        }
        self.folder
            .get()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Its memory, as it was when this was first called.
    pub(super) fn memory(&self) -> io::Result<&Rc<Memory>> {
        if self.memory.get().is_none() {
            let _ = self.memory.set(Rc::new(self.proc()?.memory()?));
        }
        self.memory
            .get()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether it has a limit of its own to how long a file gets (`RLIMIT_FSIZE`).
    pub(super) fn file_size_is_limited(&self) -> io::Result<bool> {
        let limits = self.proc()?.read_text("limits")?;
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file size"));
        let limit = limit.and_then(|limit| limit.split_whitespace().next());
        limit
            .map(|limit| limit != "unlimited")
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn each(&self) -> impl Iterator<Item = (usize, Argument, u64)> {
        let values = arguments(self.call).zip(self.arguments);
        values
            .enumerate()
            .map(|(i, (kind, value))| (i, kind, value))
    }

    /// The descriptors it is called with.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = u32> {
        // The kernel looks at the lower half only.
        self.each()
            .filter(|(_, kind, _)| *kind == Argument::Fd)
            .map(|(.., value)| value as u32)
    }

    /// What the call would close, if it is close(2).
    pub(super) fn closes(&self) -> io::Result<Closes> {
        if self.call != Sysno::close {
            return Ok(Closes::Nothing);
        }
        // The kernel looks at the lower half only.
        let fd = self.arguments[0] as u32;
        match self.proc()?.stat(&format!("fd/{fd}")) {
            Ok(_) => Ok(Closes::Open(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Closes::NotOpen),
            Err(error) => Err(error),
        }
    }

    /// The types (`i_mode >> 12`) of the files behind its descriptors and paths.
    pub(super) fn file_types(&self) -> io::Result<Vec<u32>> {
        let mut types = Vec::new();
        for fd in self.descriptors() {
            match self.proc()?.stat(&format!("fd/{fd}")) {
                Ok(file) => types.push(file.st_mode >> 12),
                // Not open: the kernel will say so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for path in self.named()? {
            let opened = self.proc()?.open_in_root(&path, false);
            match opened.and_then(|file| Ok(rustix::fs::fstat(file)?)) {
                Ok(file) => types.push(file.st_mode >> 12),
                Err(_) if self.creates() => types.push(libc::S_IFREG >> 12),
                Err(_) => {}
            }
        }
        Ok(types)
    }

    /// The paths of the files that it names and that are behind its descriptors: as they were said, and without links where
    /// that is another.
    pub(super) fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for fd in self.descriptors() {
            match self.proc()?.read_link(&format!("fd/{fd}")) {
                Ok(path) => paths.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for path in self.named()? {
            if let Some(real) = self.without_links(&path)
                && real != path
            {
                paths.push(real);
            }
            paths.push(path);
        }
        Ok(paths)
    }

    /// The addresses that it is called with, each with its port.
    pub(super) fn addresses(&self) -> io::Result<Vec<(IpAddr, u16)>> {
        let mut addresses = Vec::new();
        for (i, kind, place) in self.each() {
            if kind != Argument::Address || place == 0 {
                continue;
            }
            let length = self.arguments.get(i + 1).copied().unwrap_or(0);
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(28);
            let mut bytes = [0; 28];
            let length = self.read(place, &mut bytes[..length])?;
            addresses.extend(address(&bytes[..length]));
        }
        Ok(addresses)
    }

    /// Its process and its name, as they were when this was first called.
    pub(super) fn identity(&self) -> (u32, [u8; 16]) {
        *self.identity.get_or_init(|| {
            let read = |name| self.proc().and_then(|folder| folder.read(name));
            let status = read("status").unwrap_or_default();
            let process = status_number(&String::from_utf8_lossy(&status), "Tgid:");
            let mut name = [0; 16];
            let comm = read("comm").unwrap_or_default();
            let comm = comm.iter().take_while(|byte| **byte != b'\n');
            for (to, from) in name.iter_mut().take(15).zip(comm) {
                *to = *from;
            }
            (process.unwrap_or(self.tid), name)
        })
    }

    /// The absolute paths that it is called with, `.` and `..` taken out.
    fn named(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut folder = None;
        for (_, kind, value) in self.each() {
            match kind {
                Argument::Dir => folder = Some(value as u32),
                Argument::Cwd => paths.push(self.folder(None)?),
                Argument::Path => {
                    // No path: futimens(3) and the like mean the descriptor itself.
                    let said = match value {
                        0 => PathBuf::new(),
                        place => self.string(place)?,
                    };
                    let path = match said.is_absolute() {
                        true => said,
                        false => self.folder(folder.take())?.join(said),
                    };
                    paths.push(normal(&path));
                }
                Argument::Fd | Argument::Address | Argument::Other => {}
            }
        }
        Ok(paths)
    }

    /// What a relative path begins at.
    fn folder(&self, descriptor: Option<u32>) -> io::Result<PathBuf> {
        match descriptor.map(u32::cast_signed) {
            None | Some(libc::AT_FDCWD) => self.proc()?.read_link("cwd"),
            Some(fd) => self.proc()?.read_link(&format!("fd/{fd}")),
        }
    }

    /// Whether the call makes a regular file where there is none.
    fn creates(&self) -> bool {
        let flags = match self.call.name() {
            "open" => self.arguments[1],
            "openat" => self.arguments[2],
            "creat" => return true,
            _ => return false,
        };
        flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0
    }

    /// The path with its links resolved as the thread resolves them, below its own root. Of a file
    /// that does not exist its folder's links.
    fn without_links(&self, path: &Path) -> Option<PathBuf> {
        let folder = self.proc().ok()?;
        let name_of = |fd: &std::os::fd::OwnedFd| std::fs::read_link(path_of_fd_here(fd)).ok();
        let root = folder.open_file("root", OFlags::PATH).ok()?;
        // Where the thread has our root, this is `/`.
        let root = name_of(&root.into())?;
        let resolved = |path: &Path| {
            let real = name_of(&folder.open_in_root(path, false).ok()?)?;
            let inside = real.strip_prefix(&root).ok()?;
            Some(Path::new("/").join(inside))
        };
        resolved(path).or_else(|| Some(resolved(path.parent()?)?.join(path.file_name()?)))
    }

    /// Reads a string of at most a path's length.
    fn string(&self, place: u64) -> io::Result<PathBuf> {
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        let mut place = place;
        while text.len() < libc::PATH_MAX as usize {
            // Page by page, since the next may not be there.
            let length = usize::try_from(PAGE - place % PAGE).unwrap_or(1).min(256);
            let mut piece = [0; 256];
            let length = self.read(place, &mut piece[..length])?;
            let piece = &piece[..length];
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend(&piece[..end]);
                return Ok(OsStr::from_bytes(&text).into());
            }
            text.extend(piece);
            place += length as u64;
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Reads memory of the thread's; how much, at least a byte.
    pub(super) fn read(&self, place: u64, to: &mut [u8]) -> io::Result<usize> {
        self.memory()?.read(place, to)
    }
}

/// Without `.` and `..`, which here are taken to go back one name.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    normal
}

/// The address and port of a `sockaddr_in` or `sockaddr_in6`, in the family that the caller used.
fn address(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let address = match i32::from(family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)),
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(
            <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?,
        )),
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// This thread, as if it were in that call.
    fn me(call: Sysno, arguments: [u64; 6]) -> Victim {
        Victim::of_this_thread(call, arguments)
    }

    #[test]
    fn paths_are_read_and_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::write(real.join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", real.join("link")).unwrap();
        let text = format!("{}/x/.././link\0", real.display());
        let place = text.as_ptr() as u64;
        let cwd = u64::from(libc::AT_FDCWD.cast_unsigned());
        let paths = me(Sysno::openat, [cwd, place, 0, 0, 0, 0]).paths().unwrap();
        assert_eq!(paths, [real.join("file"), real.join("link")]);
        // Relative to a descriptor.
        let open = fs::File::open(&real).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&open) as u64;
        let text = "new\0";
        let victim = me(Sysno::openat, [fd, text.as_ptr() as u64, 0, 0, 0, 0]);
        assert_eq!(victim.paths().unwrap(), [real.join("new")]);
        assert!(victim.file_types().unwrap().is_empty());
        let victim = me(Sysno::fsync, [fd, 0, 0, 0, 0, 0]);
        assert_eq!(victim.paths().unwrap(), [real]);
        assert_eq!(victim.file_types().unwrap(), [4]);
        assert!(me(Sysno::openat, [fd, 8, 0, 0, 0, 0]).paths().is_err());
    }

    #[test]
    fn addresses_of_both_kinds() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(&v4), Some(("127.0.0.1".parse().unwrap(), 8080)));
        let mut v6 = [0; 28];
        v6[0] = 10;
        v6[3] = 80;
        v6[23] = 1;
        assert_eq!(address(&v6), Some(("::1".parse().unwrap(), 80)));
        v6[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(address(&v6), Some((mapped, 80)));
        assert_eq!(address(&[1, 0, 47, 0]), None);
        assert_eq!(address(&v4[..6]), None);
    }

    #[test]
    fn folders_are_left_again() {
        assert_eq!(normal(Path::new("/a/../../b/./c")), Path::new("/b/c"));
    }
}
