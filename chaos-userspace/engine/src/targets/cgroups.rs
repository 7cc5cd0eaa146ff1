//! Cgroups as targets: by path, by container, by systemd unit.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use chaos_common::control::MAX_CGROUP_LEVEL;

use murphy_sys::cgroup2::Cgroup2;

/// Inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// The directory of a cgroup that is given by an absolute path or one below the mount.
pub(super) fn find(cgroup2: &Cgroup2, path: &Path) -> io::Result<PathBuf> {
    let below = path.strip_prefix(&cgroup2.mount).unwrap_or(path);
    let below = below.strip_prefix("/").unwrap_or(below);
    if below.components().any(|part| part == Component::ParentDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let directory = cgroup2.mount.join(below);
    // Only directories of the hierarchy itself are cgroups.
    fs::metadata(directory.join("cgroup.procs"))?;
    Ok(directory)
}

/// Its id, as kernel programs see it: the directory's inode.
pub(super) fn id(directory: &Path) -> io::Result<u64> {
    Ok(fs::metadata(directory)?.ino())
}

/// The depths at which a cgroup can lie, a bit each: all of them where this process
/// sees a part of the hierarchy only. `None`: too deep.
pub(super) fn levels(cgroup2: &Cgroup2, directory: &Path) -> Option<u64> {
    let namespace = fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
    if namespace.as_os_str() != INITIAL_NAMESPACE {
        return Some((1 << MAX_CGROUP_LEVEL) - 1);
    }
    let below = directory.strip_prefix(&cgroup2.mount).ok()?;
    let depth = names(&cgroup2.root) + names(below);
    (depth < MAX_CGROUP_LEVEL as usize).then(|| 1 << depth)
}

fn names(path: &Path) -> usize {
    let normal = |part: &Component<'_>| matches!(part, Component::Normal(_));
    path.components().filter(normal).count()
}

/// All directories of the hierarchy, the mount itself left out.
pub(super) fn all(cgroup2: &Cgroup2) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![cgroup2.mount.clone()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
                next.push(entry.path());
            }
        }
    }
    found
}

/// The name of a unit with its type, as its cgroup is called.
pub(crate) fn unit_name(unit: &str) -> String {
    const TYPES: [&str; 6] = ["service", "scope", "slice", "socket", "mount", "swap"];
    match unit.rsplit_once('.') {
        Some((_, kind)) if TYPES.contains(&kind) => unit.to_owned(),
        _ => format!("{unit}.service"),
    }
}

/// Whether a cgroup path is that of a unit of the system's manager; a user's own
/// manager (`user@UID.service`) has units of its own below it.
pub(super) fn is_unit(path: &Path, unit: &str) -> bool {
    path.file_name().is_some_and(|name| name == unit)
        && !path
            .parent()
            .into_iter()
            .flat_map(Path::components)
            .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"user@"))
}

/// Of the text of `/proc/PID/cgroup` (cgroups(7)): the path in the second version,
/// and those in the first.
pub(super) fn parse(text: &str) -> (Option<&str>, Vec<&str>) {
    let mut second = None;
    let mut first = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if hierarchy == "0" {
            second = Some(path);
        } else {
            first.push(path);
        }
    }
    (second, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_services_unless_they_say_otherwise() {
        assert_eq!(unit_name("nginx"), "nginx.service");
        assert_eq!(unit_name("user.slice"), "user.slice");
        assert_eq!(unit_name("getty@tty1"), "getty@tty1.service");
        assert_eq!(unit_name("a.b"), "a.b.service");
    }

    #[test]
    fn a_users_unit_is_not_the_systems() {
        let is = |path: &str| is_unit(Path::new(path), "nginx.service");
        assert!(is("/system.slice/nginx.service"));
        assert!(!is("/system.slice/nginx.service/x"));
        assert!(!is(
            "/user.slice/user-0.slice/user@0.service/app.slice/nginx.service"
        ));
    }

    #[test]
    fn the_cgroups_of_a_process() {
        let text = "12:pids:/docker/a:b\n1:name=systemd:/docker/a\n0::/x y\nnonsense\n";
        assert_eq!(
            parse(text),
            (Some("/x y"), vec!["/docker/a:b", "/docker/a"])
        );
        assert_eq!(parse(""), (None, vec![]));
    }

    #[test]
    fn the_depth_below_the_root() {
        assert_eq!(names(Path::new("/")), 0);
        assert_eq!(names(Path::new("a/b")), 2);
        assert_eq!(names(Path::new("/a/b/")), 2);
    }

    #[test]
    fn nothing_outside_the_mount() {
        let cgroup2 = Cgroup2 {
            mount: "/nowhere".into(),
            own: "/nowhere".into(),
            root: "/".into(),
        };
        let kind = |path: &str| find(&cgroup2, Path::new(path)).unwrap_err().kind();
        assert_eq!(kind("../etc"), io::ErrorKind::InvalidInput);
        assert_eq!(kind("a"), io::ErrorKind::NotFound);
    }
}
