//! Network namespaces, and the interfaces in them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{ProcFolder, path_of_fd_here, path_of_own_fd};

/// The first letters of the names of interfaces that injectors make.
pub const OWN_PREFIX: &str = "murphy";

/// Asks what kind of namespace a descriptor stands for (`linux/nsfs.h`).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, which only this namespace gives it.
    pub index: u32,
}

/// Interfaces that are up in the calling thread's network namespace, without those that injectors made.
pub fn up() -> io::Result<Vec<Interface>> {
    let mut names: Vec<_> = getifaddrs()?
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .map(|interface| interface.interface_name)
        .filter(|name| !name.starts_with(OWN_PREFIX))
        .collect();
    names.sort();
    names.dedup();
    let mut interfaces = Vec::new();
    for name in names {
        // One that went away meanwhile is none of ours.
        if let Ok(index) = if_nametoindex(name.as_str()) {
            interfaces.push(Interface { name, index });
        }
    }
    Ok(interfaces)
}

/// Does something inside a network namespace, by a thread of its own.
pub fn inside<T: Send>(netns: Option<&Netns>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(netns) = netns else {
        return Ok(work());
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(netns.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in another network namespace panicked"))?
    })
}

/// Magic number of the file system of namespaces (`NSFS_MAGIC`, linux/magic.h).
const NSFS: u64 = 0x6e73_6673;

/// Opens the file of a namespace.
///
/// A path may lead anywhere, and opening some files does something: a device, a FIFO. So it is
/// looked at first, through a descriptor that does nothing, and only then opened.
pub fn open_at(path: &Path) -> io::Result<File> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if u64::try_from(rustix::fs::fstatfs(&found)?.f_type) != Ok(NSFS) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(path_of_fd_here(&found))
}

/// Opens the file of the network namespace of a process.
pub fn open_of(process: &ProcFolder) -> io::Result<File> {
    process.open_file("ns/net", OFlags::RDONLY)
}

/// A network namespace that is not this process's own, held open so that it stays
/// the same one when the process it was found by ends and its id is used again.
#[derive(Debug)]
pub struct Netns {
    file: File,
    identity: PathBuf,
}

impl Netns {
    /// The namespace of a process; `None` if it is this process's own.
    pub fn of(process: &ProcFolder) -> io::Result<Option<Self>> {
        let (_, namespace) = Self::opened(open_of(process)?)?;
        Ok(namespace)
    }

    /// The namespace that an open file stands for.
    pub fn opened(file: File) -> io::Result<(u32, Option<Self>)> {
        // SAFETY: the request takes no argument (ioctl_ns(2)); the descriptor is open.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let inode = file.metadata()?.ino();
        let number = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidData)?;
        // As links in /proc say it; those of a file that is mounted say where.
        let identity = PathBuf::from(format!("net:[{number}]"));
        let own = std::fs::read_link("/proc/self/ns/net")? == identity;
        Ok((number, (!own).then_some(Self { file, identity })))
    }

    /// The number of the namespace that a process is in.
    pub fn number_of(process: &ProcFolder) -> Option<u32> {
        let namespace = process.stat("ns/net").ok()?;
        u32::try_from(namespace.st_ino).ok()
    }

    /// What tells it from others.
    pub fn identity(&self) -> &Path {
        &self.identity
    }

    /// A path by which others (the guardian) can open it while this lives.
    pub fn path(&self) -> PathBuf {
        path_of_own_fd(&self.file)
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}
