//! Where a path leads: files and folders by identity, and everything that a pattern of paths may reach.
//!
//! A path is compared after links, `..`, mounts and `/proc/PID/root` are resolved, as far as it exists now. Nothing here
//! changes anything, and a path that cannot be looked at is compared by its name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use murphy_fault::Glob;
use murphy_sys::cgroup2::unescape;

/// Device and inode.
pub(super) type Id = (u64, u64);

/// Links that are followed, as the kernel does (`MAXSYMLINKS`).
const LINKS: u32 = 40;

/// Entries of a folder that are looked at.
const ENTRIES: usize = 4096;

/// The identity of a file or folder, links followed.
pub(super) fn id(path: &Path) -> Option<Id> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A path that is resolved.
pub(super) struct Resolved {
    /// Without links as far as it exists, and without `.` and `..`.
    pub(super) path: PathBuf,
    /// The identities of the file and of every folder above it, by the name as given and by the resolved one.
    ids: Vec<Id>,
}

/// Resolves an absolute path; a relative one from the current folder.
pub(super) fn resolve(path: &Path) -> Resolved {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = follow(&whole, LINKS);
    let ids = whole
        .ancestors()
        .chain(real.ancestors())
        .filter_map(id)
        .collect();
    Resolved { path: real, ids }
}

/// Follows the links of a path, of which the end may not exist: a link may lead to what is made later.
fn follow(path: &Path, links: u32) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let Some(parent) = path.parent() else {
        return PathBuf::from("/");
    };
    if links > 0
        && let Ok(target) = fs::read_link(path)
    {
        return follow(&parent.join(target), links - 1);
    }
    let mut real = follow(parent, links);
    match path.components().next_back() {
        Some(Component::Normal(name)) => real.push(name),
        Some(Component::ParentDir) => drop(real.pop()),
        _ => {}
    }
    real
}

/// Without `.` and `..`, each of which leaves the folder before it.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    plain
}

/// The folder before a pattern's first wildcard.
pub(super) fn literal_folder(pattern: &str) -> PathBuf {
    let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    let (folder, _) = literal.rsplit_once('/').unwrap_or(("", ""));
    PathBuf::from(format!("{folder}/"))
}

/// What is directly in a folder, up to a bound.
pub(super) fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(ENTRIES).map(|entry| entry.path())
}

/// A name of a path, or any name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Is(String),
    Any,
}

/// A file, or a folder with all that is below it, under every name by which it is reached.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    id: Option<Id>,
    names: Vec<Vec<Name>>,
}

impl Tree {
    /// The tree at an absolute path.
    pub(super) fn new(path: &Path) -> Self {
        let real = resolve(path).path;
        let mut paths = vec![without_dots(path), real.clone()];
        paths.extend(mounts_of(&real));
        paths.sort();
        paths.dedup();
        let plain = |path: &PathBuf| -> Vec<Name> {
            let text = path.to_string_lossy();
            let names = text.split('/').filter(|name| !name.is_empty());
            names.map(|name| Name::Is(name.to_owned())).collect()
        };
        let is = |name: &str| Name::Is(name.to_owned());
        let mut names: Vec<Vec<Name>> = paths.iter().map(plain).collect();
        // Every process shows every file once more.
        for path in [plain(&real), plain(&without_dots(path))] {
            for before in [
                vec![is("proc"), Name::Any, is("root")],
                vec![is("proc"), Name::Any, is("task"), Name::Any, is("root")],
            ] {
                names.push([before, path.clone()].concat());
            }
        }
        for open in ["cwd", "fd"] {
            names.push(vec![is("proc"), Name::Any, is(open)]);
            names.push(vec![is("proc"), Name::Any, is("task"), Name::Any, is(open)]);
        }
        Self {
            id: id(path),
            names,
        }
    }

    /// Whether a pattern of paths may match something in the tree.
    pub(super) fn is_reached_by(&self, pattern: &Glob) -> bool {
        let text = pattern.as_str();
        let is_literal = !text.contains(['*', '?', '[']);
        let (folder, rest) = match is_literal {
            true => (PathBuf::from(text), ""),
            false => {
                let folder = literal_folder(text);
                // One that begins with a wildcard begins at the root all the same.
                let length = match text.starts_with('/') {
                    true => folder.as_os_str().len(),
                    false => 0,
                };
                (folder, text.get(length..).unwrap_or_default())
            }
        };
        let real = resolve(&folder);
        if self.id.is_some_and(|id| real.ids.contains(&id)) {
            return true;
        }
        [without_dots(&folder), real.path].iter().any(|folder| {
            let folder = folder.to_string_lossy();
            let names = folder.split('/').chain(rest.split('/'));
            let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
            names.dedup_by(|next, name| *next == "**" && *name == "**");
            let literal = folder.split('/').filter(|name| !name.is_empty()).count();
            self.names.iter().any(|tree| reaches(&names, literal, tree))
        })
    }
}

/// Whether a path at or below `tree` matches the names of a pattern, of which the first `literal` have no wildcards.
fn reaches(pattern: &[&str], literal: usize, tree: &[Name]) -> bool {
    let Some((name, below)) = tree.split_first() else {
        return true;
    };
    let Some((first, rest)) = pattern.split_first() else {
        return false;
    };
    let left = literal.saturating_sub(1);
    if literal == 0 && *first == "**" {
        return reaches(rest, 0, tree) || reaches(pattern, 0, below);
    }
    let meets = match name {
        // The number of a process, thread or descriptor, or a link to the own one.
        Name::Any => {
            literal == 0
                || first.bytes().all(|byte| byte.is_ascii_digit())
                || matches!(*first, "self" | "thread-self")
        }
        Name::Is(name) if literal > 0 => *first == name,
        Name::Is(name) => glob::Pattern::new(first).is_ok_and(|one| one.matches(name)),
    };
    meets && reaches(rest, left, below)
}

/// One line of `/proc/self/mountinfo`.
struct Mount {
    device: String,
    root: PathBuf,
    at: PathBuf,
}

/// Other paths at which a file or folder, or something in it, is mounted too.
fn mounts_of(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<Mount> = text.lines().filter_map(mount).collect();
    // Of mounts at one point the last one is seen.
    let own = mounts
        .iter()
        .rev()
        .filter(|mount| path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.components().count());
    let mut inside: Vec<(&str, PathBuf)> = Vec::new();
    if let Some(own) = own
        && let Ok(rest) = path.strip_prefix(&own.at)
    {
        inside.push((&own.device, own.root.join(rest)));
    }
    let below = mounts.iter().filter(|mount| mount.at.starts_with(path));
    inside.extend(below.map(|mount| (mount.device.as_str(), mount.root.clone())));
    let shown = |(device, place): &(&str, PathBuf)| -> Vec<PathBuf> {
        let same = mounts.iter().filter(|mount| mount.device == *device);
        same.filter_map(|mount| match place.strip_prefix(&mount.root) {
            Ok(rest) => Some(mount.at.join(rest)),
            Err(_) => mount.root.starts_with(place).then(|| mount.at.clone()),
        })
        .collect()
    };
    let mut found: Vec<PathBuf> = inside.iter().flat_map(shown).collect();
    // A trailing `/`, which joining nothing leaves.
    for path in &mut found {
        *path = without_dots(path);
    }
    found
}

fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    let (root, at) = (fields.next()?, fields.next()?);
    Some(Mount {
        device,
        root: unescape(root).into(),
        at: unescape(at).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use murphy_sys::process::folder_of_this;

    fn reached(tree: &str, pattern: &str) -> bool {
        Tree::new(Path::new(tree)).is_reached_by(&Glob::new(pattern).unwrap())
    }

    #[test]
    fn names_and_patterns() {
        for (tree, pattern, is) in [
            ("/nowhere/etc", "/nowhere/etc", true),
            ("/nowhere/etc", "/nowhere/etc/passwd", true),
            ("/nowhere/etc", "/nowhere/etcetera", false),
            ("/nowhere/etc", "/nowhere", false),
            ("/nowhere/etc", "/nowhere/*", true),
            ("/nowhere/etc", "/nowhere/e*", true),
            ("/nowhere/etc", "/nowhere/x*", false),
            ("/nowhere/etc", "/nowhere/*/passwd", true),
            ("/nowhere/etc", "/nowhere/**", true),
            ("/nowhere/etc/a", "/nowhere/*", false),
            ("/nowhere/etc/a", "/nowhere/*/b", false),
            ("/nowhere/etc/a", "/**/b", true),
            ("/nowhere/etc", "/n[ao]where/etc/x", true),
            ("/nowhere/etc", "/nowhere/./x/../etc/b", true),
            ("/nowhere/etc", "/proc/*/root/nowhere/etc/passwd", true),
            ("/nowhere/etc", "/proc/**", true),
            ("/nowhere/etc", "/proc/*/status", false),
            ("/nowhere/etc", "/proc/sys/**", false),
            ("/nowhere/etc", "/proc/1/*/nowhere/etc/x", true),
            ("/nowhere/etc", "**/passwd", true),
            ("/", "/srv/x", true),
        ] {
            assert_eq!(reached(tree, pattern), is, "{tree} {pattern}");
        }
    }

    #[test]
    fn links_and_other_roads() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("secret/inner")).unwrap();
        fs::write(real.join("secret/file"), "").unwrap();
        fs::hard_link(real.join("secret/file"), real.join("hard")).unwrap();
        std::os::unix::fs::symlink("secret", real.join("link")).unwrap();
        let at = |path: &str| format!("{}/{path}", real.display());
        for pattern in [
            at("secret/x"),
            at("link/x"),
            at("link/**"),
            at("link/inner/../file"),
            at("secret/../link/*"),
            at("l*/x"),
            format!("/proc/self/root{}", at("secret/x")),
            format!("{}/root{}", folder_of_this(), at("secret/**")),
        ] {
            for tree in ["secret", "link"] {
                // A wildcard meets names, and the link's only where that is restricted.
                if pattern.contains("l*/") && tree == "secret" {
                    continue;
                }
                assert!(reached(&at(tree), &pattern), "{tree} {pattern}");
            }
        }
        std::os::unix::fs::symlink("secret/not-there", real.join("dangling")).unwrap();
        assert!(reached(&at("secret"), &at("dangling")));
        assert!(reached(&at("secret/file"), &at("hard")));
        assert!(!reached(&at("secret"), &at("other/**")));
    }
}
