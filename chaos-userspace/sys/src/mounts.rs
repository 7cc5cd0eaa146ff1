//! File systems mounted for this process alone.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A mount that is nowhere in the file tree: nobody else sees it, and it goes with its descriptor.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Mounts a file system that needs no source. Needs `CAP_SYS_ADMIN` and Linux 5.2.
    pub fn mount(filesystem: &str, attributes: MountAttrFlags) -> rustix::io::Result<Self> {
        let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self(mount))
    }

    /// The path of a file in it, for this process only.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}
