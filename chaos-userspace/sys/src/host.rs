//! What there is to know of this machine without changing it.

use std::fs;
use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::mounts::Detached;

/// The kernel's release, as `uname -r`.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Lockdown state: `none`, `integrity` or `confidentiality`; `None` where the kernel has none.
pub fn lockdown() -> Option<String> {
    let text = security("lockdown")?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Active security modules; `None` where it cannot be read.
pub fn security_modules() -> Option<String> {
    security("lsm").map(|text| text.trim().to_owned())
}

/// A file of securityfs. Where that is not mounted, a detached mount that goes
/// with its descriptor is looked into.
fn security(name: &str) -> Option<String> {
    if let Ok(text) = fs::read_to_string(Path::new("/sys/kernel/security").join(name)) {
        return Some(text);
    }
    let mount = Detached::mount("securityfs", MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    fs::read_to_string(mount.path(name)).ok()
}
