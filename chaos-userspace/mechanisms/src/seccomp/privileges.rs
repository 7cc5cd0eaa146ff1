//! The capabilities of the supervisor: what it keeps, and what it lays down while it writes in a
//! thread's place.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// To look into threads, find their files, and signal them.
fn needed() -> CapsHashSet {
    CapsHashSet::from([
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_DAC_READ_SEARCH,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_KILL,
    ])
}

/// Gives up what the supervisor does not need.
///
/// Without `CAP_SYS_PTRACE` the kernel lets it look into threads of its own user only, and only
/// into those that have no capability which it lacks (`ptrace(2)`, "access mode checking"). So it
/// keeps them all there, and [`write_as_thread`] lays them down for each write.
pub(super) fn drop_unneeded() -> io::Result<()> {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).map_err(failed)? {
        return Ok(());
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        let have = caps::read(None, set).map_err(failed)?;
        let left = have.intersection(&needed()).copied().collect();
        caps::set(None, set, &left).map_err(failed)?;
    }
    Ok(())
}

/// Writes in a thread's place, without rights that the thread may lack: a write by a process with
/// `CAP_FSETID` leaves a file's set-user-ID bit, one with `CAP_SYS_RESOURCE` takes the blocks that
/// are reserved for root.
pub(super) fn write_as_thread<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let have = caps::read(None, CapSet::Effective).map_err(failed)?;
    let few: CapsHashSet = have.intersection(&needed()).copied().collect();
    if few == have {
        return write();
    }
    caps::set(None, CapSet::Effective, &few).map_err(failed)?;
    let written = write();
    // They are still permitted, so that this does not fail. If it did, later looks would, and be
    // counted as failed.
    let _ = caps::set(None, CapSet::Effective, &have);
    written
}

fn failed(error: caps::errors::CapsError) -> io::Error {
    io::Error::other(error)
}
