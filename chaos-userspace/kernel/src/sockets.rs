//! Sockets that a target has without having made, connected or accepted them under the programs.

use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{MapError, SkStorage};
use chaos_common::target::Socket;
use rustix::net::{AddressFamily, sockopt};

use super::raw::Raw;
use super::{KernelError, links};
use murphy_sys::process::Process;

/// Marks the internet sockets of a process as owned by a target of these classes, all whose inode
/// numbers are not `known`, which then has these too. Returns how many of them no target had
/// before.
///
/// Each descriptor is borrowed (`pidfd_getfd`, 5.6; needs `CAP_SYS_PTRACE`) for as long as the
/// storage is written. It works in any network namespace.
pub(super) fn own(
    object: &mut Ebpf,
    process: &Process,
    classes: u64,
    known: &mut BTreeSet<u64>,
) -> Result<usize, KernelError> {
    let Some(map) = object.map_mut("SOCKETS") else {
        return Ok(0);
    };
    let mut storage: SkStorage<_, Raw<Socket>> = map.try_into()?;
    let mut foreign = 0;
    let mut there = BTreeSet::new();
    for (number, inode) in sockets(process) {
        if !there.insert(inode) || known.contains(&inode) {
            continue;
        }
        // A descriptor may be gone by now, or be a socket that takes no storage.
        let Ok(socket) = process.duplicate_fd(number) else {
            continue;
        };
        if !is_of_internet(&socket) {
            continue;
        }
        let Ok(network) = links::cookie(&socket) else {
            continue;
        };
        foreign += usize::from(storage.get(&socket, 0).is_err());
        match storage.insert(&socket, Raw(Socket { classes, network }), 0) {
            Ok(()) | Err(MapError::SyscallError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    *known = there;
    Ok(foreign)
}

fn is_of_internet(socket: &impl std::os::fd::AsFd) -> bool {
    sockopt::socket_domain(socket).is_ok_and(|domain| {
        // Those of other families send no packets of IP, but for these.
        matches!(
            domain,
            AddressFamily::INET | AddressFamily::INET6 | AddressFamily::PACKET
        )
    })
}

/// Whether what this process executes inherits internet sockets.
pub fn are_inherited() -> bool {
    Process::this().is_ok_and(|process| {
        let kept = |&(number, _): &(i32, u64)| is_kept(number);
        let kept: Vec<_> = sockets(&process).into_iter().filter(kept).collect();
        kept.into_iter()
            .filter_map(|(number, _)| process.duplicate_fd(number).ok())
            .any(|socket| is_of_internet(&socket))
    })
}

/// Marks the sockets that what this process executes inherits.
pub(super) fn own_inherited(object: &mut Ebpf, classes: u64) -> Result<(), KernelError> {
    let this = Process::this().map_err(KernelError::io("opening this process"))?;
    let mut closed = sockets(&this);
    closed.retain(|&(number, _)| !is_kept(number));
    let mut known = closed.into_iter().map(|(_, inode)| inode).collect();
    own(object, &this, classes, &mut known).map(drop)
}

/// Whether a descriptor of this process stays open when it executes a program.
fn is_kept(number: i32) -> bool {
    // SAFETY: the call takes integers only.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// The numbers of a process's descriptors that are sockets; none if it has ended.
pub(super) fn socket_descriptors(process: &Process) -> Vec<i32> {
    sockets(process)
        .into_iter()
        .map(|(number, _)| number)
        .collect()
}

/// The descriptors of a process that are sockets, with their inode numbers.
fn sockets(process: &Process) -> Vec<(i32, u64)> {
    let Ok(folder) = process.folder() else {
        return Vec::new();
    };
    let names = folder.list("fd").unwrap_or_default();
    let socket = |name: String| {
        let link = folder.read_link(&format!("fd/{name}")).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some((name.parse().ok()?, inode.parse().ok()?))
    };
    names.into_iter().filter_map(socket).collect()
}
