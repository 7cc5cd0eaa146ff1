//! The network interfaces that packets of a target can leave by.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::EngineError;
use crate::kernel::links;
use crate::plan::{Link, Network, Plan};

/// Asks what kind of namespace a descriptor stands for (`linux/nsfs.h`).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
}

/// Interfaces that are up in the calling thread's network namespace, without those that injectors made.
pub(super) fn up() -> io::Result<Vec<Interface>> {
    let mut names: Vec<_> = getifaddrs()?
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .map(|interface| interface.interface_name)
        .filter(|name| !name.starts_with(super::netem::PREFIX))
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

/// All interfaces of a network namespace, without those that injectors made.
pub(super) fn of(netns: Option<&Netns>) -> Result<Network, EngineError> {
    let mut network = inside(netns, links::network)
        .and_then(|network| network)
        .map_err(EngineError::io("listing network interfaces"))?;
    let others = |link: &Link| !link.name.starts_with(super::netem::PREFIX);
    network.links.retain(others);
    Ok(network)
}

/// A plan that knows the interfaces which its faults name, if any does, in the network namespaces of its targets.
///
/// # Errors
///
/// One that is nowhere, or more than there is room for.
pub(super) fn locate<'n>(
    plan: Plan,
    namespaces: impl IntoIterator<Item = Option<&'n Netns>>,
) -> Result<Plan, EngineError> {
    if !plan.names_interfaces() {
        return Ok(plan);
    }
    let networks = namespaces
        .into_iter()
        .map(of)
        .collect::<Result<Vec<_>, _>>()?;
    // Where there are no targets left there is nothing to look at.
    if let Some((name, fault)) = plan.nowhere(&networks).filter(|_| !networks.is_empty()) {
        let links = networks.iter().flat_map(|network| &network.links);
        let there: BTreeSet<_> = links.map(|link| link.name.as_str()).collect();
        return Err(EngineError::NoInterface {
            name: name.clone(),
            fault: fault.to_string(),
            there: there.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    let plan = plan.located(&networks);
    match plan.masks.interfaces.len() {
        0..=Plan::MOST_INTERFACES => Ok(plan),
        count => Err(EngineError::TooManyInterfaces {
            count,
            most: Plan::MOST_INTERFACES,
        }),
    }
}

/// Does something inside a network namespace, by a thread of its own.
pub(super) fn inside<T: Send>(
    netns: Option<&Netns>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let Some(netns) = netns else {
        return Ok(work());
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(netns.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in another network namespace panicked"))?
    })
}

/// A network namespace that is not this process's own, held open so that it stays
/// the same one when the process it was found by ends and its id is used again.
#[derive(Debug)]
pub(super) struct Netns {
    file: File,
    identity: PathBuf,
}

impl Netns {
    /// The namespace of a process; `None` if it is this process's own.
    pub(super) fn of(pid: u32) -> io::Result<Option<Self>> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let identity = std::fs::read_link(&path)?;
        if std::fs::read_link("/proc/self/ns/net")? == identity {
            return Ok(None);
        }
        let file = File::open(path)?;
        Ok(Some(Self { file, identity }))
    }

    /// The namespace that a file stands for, with its number; `None` if it is this process's own.
    pub(super) fn at(path: &Path) -> io::Result<(u32, Option<Self>)> {
        // A path may lead anywhere, and only namespaces have a kind.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
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
    pub(super) fn number_of(pid: u32) -> Option<u32> {
        let metadata = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
        u32::try_from(metadata.ino()).ok()
    }

    /// What tells it from others.
    pub(super) fn identity(&self) -> &Path {
        &self.identity
    }

    /// A path by which others (the guardian) can open it while this lives.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.file.as_raw_fd()
        ))
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}
