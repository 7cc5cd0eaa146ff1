//! A bpffs that nobody else sees, so that the objects can share maps.
//!
//! A loader gives each object maps of its own unless they are pinned. Pinning
//! into the system's bpffs would leave files behind when the process is killed;
//! a detached mount goes with its descriptor, pins and all.

use std::path::PathBuf;

use rustix::mount::MountAttrFlags;

use murphy_sys::mounts::Detached;

/// A detached bpffs.
#[derive(Debug)]
pub(super) struct Bpffs(Detached);

impl Bpffs {
    /// Makes one. Needs `CAP_SYS_ADMIN` and Linux 5.2.
    pub(super) fn detached() -> rustix::io::Result<Self> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NOSUID;
        Detached::mount("bpf", attributes).map(Self)
    }

    /// The path of a pin, for this process only.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}
