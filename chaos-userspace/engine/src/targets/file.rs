//! How the kernel tells one file from another.
//!
//! `stat(2)` is not it: btrfs and overlayfs answer with numbers of their own making.
//! What the kernel's structures hold is in `/proc/PID/fdinfo` and `mountinfo` (proc(5)).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use chaos_common::target::FileId;

/// A file as kernel programs see it. Without a line for its mount or its inode (before
/// 5.14) what `stat` says must do.
pub(super) fn id(path: &Path) -> io::Result<FileId> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let device = field(&info, "mnt_id:").and_then(|mount| device(&mounts, mount));
    let of_stat = number(
        libc::major(metadata.dev()).into(),
        libc::minor(metadata.dev()).into(),
    );
    Ok(FileId {
        device: device.unwrap_or(of_stat),
        inode: field(&info, "ino:").unwrap_or_else(|| metadata.ino()),
    })
}

/// A number in the text of an fdinfo.
fn field(info: &str, name: &str) -> Option<u64> {
    let value = info.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

/// The device of a mount, from the text of mountinfo.
fn device(mounts: &str, mount: u64) -> Option<u64> {
    let mount = mount.to_string();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(&mount))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some(number(major.parse().ok()?, minor.parse().ok()?))
}

/// `MKDEV` of the kernel (`include/linux/kdev_t.h`).
const fn number(major: u64, minor: u64) -> u64 {
    major << 20 | minor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_inode_from_proc() {
        let info = "pos:\t0\nflags:\t012100000\nmnt_id:\t29\nino:\t77\n";
        assert_eq!(field(info, "mnt_id:"), Some(29));
        assert_eq!(field(info, "ino:"), Some(77));
        assert_eq!(field("mnt_id:\t29\n", "ino:"), None);
        let mounts = "290 1 9:9 / /x rw - tmpfs t rw\n29 1 254:1 / / rw - ext4 /dev/vda1 rw\n";
        assert_eq!(device(mounts, 29), Some(254 << 20 | 1));
        assert_eq!(device(mounts, 30), None);
    }

    #[test]
    fn one_file_by_two_paths() {
        let own = std::env::current_exe().unwrap();
        let id_ = id(&own).unwrap();
        assert_eq!(id_, id(Path::new("/proc/self/exe")).unwrap());
        assert_ne!(id_.inode, 0);
        assert!(id(Path::new("/")).is_err());
    }
}
