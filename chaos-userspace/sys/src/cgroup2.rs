//! Finds the cgroup2 hierarchy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The cgroup2 hierarchy: where it is mounted, found by type, never by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup2 {
    /// Mount point.
    pub mount: PathBuf,
    /// The directory of the cgroup this process is in.
    pub own: PathBuf,
    /// What of the hierarchy the mount shows, as this process sees it: `/` is all.
    pub root: PathBuf,
}

impl Cgroup2 {
    /// Finds it; `None` where none is mounted.
    pub fn find() -> io::Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own))
    }

    /// From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)).
    fn parse(mounts: &str, cgroups: &str) -> Option<Self> {
        let (root, mount) = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            (right.split(' ').next() == Some("cgroup2")).then(|| (unescape(root), unescape(mount)))
        })?;
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
        // The mount may show a part of the hierarchy only; outside of it, its root must do.
        let below = Path::new(own).strip_prefix(&root).unwrap_or(Path::new(""));
        let mount = PathBuf::from(mount);
        let own = mount.join(below);
        let root = PathBuf::from(root);
        Some(Self { mount, own, root })
    }
}

/// mountinfo writes space, tab, newline and backslash in octal.
pub fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_hierarchies_are_found_by_type() {
        let found = Cgroup2::parse(HYBRID, "3:cpu:/\n0::/user.slice/a\n").unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.own, Path::new("/sys/fs/cgroup/unified/user.slice/a"));
    }

    #[test]
    fn a_mount_of_a_part_and_a_name_with_a_space() {
        let mounts = "41 31 0:38 /docker/x /c\\040g rw - cgroup2 none rw\n";
        let found = Cgroup2::parse(mounts, "0::/docker/x/y\n").unwrap();
        assert_eq!(found.own, Path::new("/c g/y"));
        let outside = Cgroup2::parse(mounts, "0::/elsewhere\n").unwrap();
        assert_eq!(outside.own, Path::new("/c g"));
    }

    #[test]
    fn no_cgroup2() {
        assert_eq!(
            Cgroup2::parse("32 31 0:29 / /c rw - cgroup cgroup rw\n", "0::/\n"),
            None
        );
    }
}
