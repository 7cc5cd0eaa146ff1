//! Sockets that a target had before the programs were attached.

use aya::Ebpf;
use aya::maps::{MapError, SkStorage};
use chaos_common::target::Socket;

use super::raw::Raw;
use super::{KernelError, links};
use murphy_sys::process::Process;

/// Marks the internet sockets of a process as owned by a target of these classes;
/// gives how many there were.
///
/// Each descriptor is borrowed (`pidfd_getfd`, 5.6; needs `CAP_SYS_PTRACE`) for as
/// long as the storage is written. It works in any network namespace.
pub(super) fn own(
    object: &mut Ebpf,
    process: &Process,
    classes: u64,
) -> Result<usize, KernelError> {
    let Some(map) = object.map_mut("SOCKETS") else {
        return Ok(0);
    };
    let mut storage: SkStorage<_, Raw<Socket>> = map.try_into()?;
    let mut owned = 0;
    for number in socket_descriptors(process) {
        // A descriptor may be gone by now, or be a socket that takes no storage.
        let Ok(socket) = process.duplicate_fd(number) else {
            continue;
        };
        let Ok(network) = links::cookie(&socket) else {
            continue;
        };
        let known = Socket { classes, network };
        match storage.insert(&socket, Raw(known), 0) {
            Ok(()) => owned += 1,
            Err(MapError::SyscallError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(owned)
}

/// The numbers of a process's descriptors that are sockets; none if it has ended.
pub(super) fn socket_descriptors(process: &Process) -> Vec<i32> {
    let Ok(folder) = process.folder() else {
        return Vec::new();
    };
    let is_socket = |name: &String| {
        let link = folder.read_link(&format!("fd/{name}"));
        link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    let names = folder.list("fd").unwrap_or_default();
    let sockets = names.into_iter().filter(is_socket);
    sockets.filter_map(|name| name.parse().ok()).collect()
}
