//! Sockets that a target had before the programs were attached.

use std::fs;
use std::os::fd::OwnedFd;

use aya::Ebpf;
use aya::maps::{MapError, SkStorage};
use chaos_common::target::Socket;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{KernelError, links};

/// Marks the internet sockets of a process as owned by a target of these classes;
/// gives how many there were.
///
/// Each descriptor is borrowed (`pidfd_getfd`, 5.6; needs `CAP_SYS_PTRACE`) for as
/// long as the storage is written. It works in any network namespace.
pub(super) fn own(object: &mut Ebpf, tgid: u32, classes: u64) -> Result<usize, KernelError> {
    let Some(map) = object.map_mut("SOCKETS") else {
        return Ok(0);
    };
    let mut storage: SkStorage<_, Socket> = map.try_into()?;
    let Some(pid) = i32::try_from(tgid).ok().and_then(Pid::from_raw) else {
        return Ok(0);
    };
    let process = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| KernelError::io(format!("opening process {tgid}"))(error.into()))?;
    let mut owned = 0;
    for number in socket_descriptors(tgid) {
        // A descriptor may be gone by now, or be a socket that takes no storage.
        let Ok(socket) = borrow(&process, number) else {
            continue;
        };
        let Ok(network) = links::cookie(&socket) else {
            continue;
        };
        let known = Socket { classes, network };
        match storage.insert(&socket, known, 0) {
            Ok(()) => owned += 1,
            Err(MapError::SyscallError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(owned)
}

pub(super) fn borrow(process: &OwnedFd, number: i32) -> rustix::io::Result<OwnedFd> {
    pidfd_getfd(process, number, PidfdGetfdFlags::empty())
}

pub(super) fn socket_descriptors(tgid: u32) -> Vec<i32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{tgid}/fd")) else {
        return Vec::new();
    };
    folder
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
