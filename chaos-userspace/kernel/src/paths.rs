//! Folders that faults mean, as the kernel knows them.
//!
//! A kernel program tells by which inode it knows a directory that this process opens; held open, it stays that one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError};
use chaos_common::lsm::{NAME, NAME_KEY, folder};
use chaos_common::{bank, control};

use super::KernelError;
use super::maps::Maps;
use murphy_fault::plan::{Entry, Pattern};

/// What the kernel is to compare: a directory's inode and a name with its end, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Meant {
    directory: u64,
    name: Vec<u8>,
}

/// What a bank of the maps holds of paths.
#[derive(Default)]
struct Held {
    named: BTreeMap<Meant, u64>,
    below: BTreeMap<u64, u64>,
    /// Folders, held open.
    _files: Vec<File>,
}

type Entries = LpmTrie<MapData, [u8; NAME_KEY], u64>;
type Trees = HashMap<MapData, u64, u64>;

/// The maps of paths, and what they hold.
#[derive(Default)]
pub(super) struct Folders {
    maps: Option<(Entries, Trees)>,
    held: [Held; bank::BANKS as usize],
}

/// Folders that are learnt for one plan.
#[derive(Default)]
struct Learnt {
    known: BTreeMap<PathBuf, u64>,
    files: Vec<File>,
}

impl Learnt {
    /// The inode by which the kernel knows a folder. The program that tells must be attached.
    fn learn(&mut self, maps: &mut Maps, folder: &Path) -> Result<u64, KernelError> {
        if let Some(inode) = self.known.get(folder) {
            return Ok(*inode);
        }
        maps.set(control::LEARNED, control::LEARN)?;
        let opened = File::open(folder);
        let inode = maps.get(control::LEARNED)?;
        maps.set(control::LEARNED, 0)?;
        let about = |doing| format!("`path=`: {doing} {}", folder.display());
        let file = opened.map_err(KernelError::io(about("opening the folder")))?;
        if !file.metadata().is_ok_and(|found| found.is_dir()) {
            let problem = std::io::ErrorKind::NotADirectory.into();
            return Err(KernelError::io(about("looking into"))(problem));
        }
        if inode == control::LEARN || inode == 0 {
            let problem = std::io::Error::other("the kernel program did not see it opened");
            return Err(KernelError::io(about("learning"))(problem));
        }
        self.files.push(file);
        self.known.insert(folder.to_owned(), inode);
        Ok(inode)
    }
}

/// What patterns mean now.
fn look_up(maps: &mut Maps, patterns: &BTreeMap<Pattern, u64>) -> Result<Held, KernelError> {
    let mut learnt = Learnt::default();
    let mut named: BTreeMap<Meant, u64> = BTreeMap::new();
    let mut below: BTreeMap<u64, u64> = BTreeMap::new();
    for (pattern, &rules) in patterns {
        let folder = &pattern.folder;
        let directory = learnt.learn(maps, folder)?;
        let mut mean = |directory, name: &[u8]| {
            let name = name.to_vec();
            *named.entry(Meant { directory, name }).or_default() |= rules;
        };
        match &pattern.entry {
            Entry::Begins(beginning) => mean(directory, beginning.as_bytes()),
            Entry::Named(name) => {
                mean(directory, &ended(name));
                let path = folder.join(name);
                // Whoever opens a link opens what it leads to.
                if let Ok(target) = fs::canonicalize(&path)
                    && fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink())
                    && let (Some(folder), Some(name)) = (target.parent(), target.file_name())
                {
                    let name = name.to_string_lossy();
                    mean(learnt.learn(maps, folder)?, &ended(&name));
                }
                // Where something is mounted it is the root of that, and has no other name.
                if is_mount_point(folder, &path) {
                    mean(learnt.learn(maps, &path)?, &ended("/"));
                }
            }
            Entry::Below => {
                *below.entry(directory).or_default() |= rules;
                for mount in mounts_below(folder) {
                    // One that this process may not look into is none of what it can mean.
                    if let Ok(root) = learnt.learn(maps, &mount) {
                        *below.entry(root).or_default() |= rules;
                    }
                }
            }
        }
    }
    Ok(Held {
        named,
        below,
        _files: learnt.files,
    })
}

impl Folders {
    /// Learns what patterns mean, and writes it into a bank that no program reads.
    pub(super) fn fill(
        &mut self,
        maps: &mut Maps,
        pin: impl Fn(&str) -> PathBuf,
        patterns: &BTreeMap<Pattern, u64>,
        bank: u32,
    ) -> Result<(), KernelError> {
        let new = look_up(maps, patterns)?;
        self.clear(bank)?;
        if self.maps.is_none() {
            let names = Map::LpmTrie(MapData::from_pin(pin("ENTRIES"))?).try_into()?;
            let trees = Map::HashMap(MapData::from_pin(pin("TREES"))?).try_into()?;
            self.maps = Some((names, trees));
        }
        let (Some((names, trees)), Some(held)) = (&mut self.maps, self.held.get_mut(bank as usize))
        else {
            return Ok(());
        };
        *held = new;
        for meant in held.named.keys() {
            // A trie answers with the longest entry that fits, so each holds those that it goes beyond.
            let covering = held.named.iter().filter(|(shorter, _)| {
                shorter.directory == meant.directory && meant.name.starts_with(&shorter.name)
            });
            let rules = covering.fold(0, |rules, (_, more)| rules | more);
            names.insert(&key(meant, bank), rules, 0)?;
        }
        for (&directory, &rules) in &held.below {
            trees.insert(folder(directory, bank), rules, 0)?;
        }
        Ok(())
    }

    /// Empties a bank that no program reads, and lets its folders go.
    pub(super) fn clear(&mut self, bank: u32) -> Result<(), MapError> {
        let old = std::mem::take(&mut self.held[bank as usize]);
        let Some((names, trees)) = &mut self.maps else {
            return Ok(());
        };
        for meant in old.named.keys() {
            gone(names.remove(&key(meant, bank)))?;
        }
        for &directory in old.below.keys() {
            gone(trees.remove(&folder(directory, bank)))?;
        }
        Ok(())
    }
}

/// What a write that failed left out is not there to be removed.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A whole name, with the 0 that ends it.
fn ended(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn key(meant: &Meant, bank: u32) -> Key<[u8; NAME_KEY]> {
    let mut bytes = [0; NAME_KEY];
    bytes[..8].copy_from_slice(&folder(meant.directory, bank).to_ne_bytes());
    let length = meant.name.len().min(NAME);
    bytes[8..8 + length].copy_from_slice(&meant.name[..length]);
    // At most 576 bits.
    Key::new((8 + length) as u32 * 8, bytes)
}

fn is_mount_point(folder: &Path, path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev());
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
        && matches!((device(folder), device(path)), (Ok(above), Ok(here)) if above != here)
}

/// What is mounted below a folder, as this process sees it.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(folder) = fs::canonicalize(folder) else {
        return Vec::new();
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // proc_pid_mountinfo(5): the fifth field is the mount point, with blanks and the like as octal numbers.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(unescaped(point)))
        .filter(|point| *point != folder && point.starts_with(&folder))
        .collect()
}

fn unescaped(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |field, (octal, plain)| {
        field.replace(octal, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_is_compared_with_its_end_and_a_beginning_without() {
        let key = |name: &[u8]| {
            let meant = Meant {
                directory: 8,
                name: name.to_vec(),
            };
            let key = key(&meant, 1);
            (key.prefix_len(), key.data()[8..12].to_vec())
        };
        assert_eq!(key(&ended("ab")), (88, b"ab\0\0".to_vec()));
        assert_eq!(key(b"ab"), (80, b"ab\0\0".to_vec()));
        assert_eq!(key(b""), (64, vec![0; 4]));
    }

    #[test]
    fn mount_points_may_have_blanks() {
        assert_eq!(unescaped("/a\\040b"), "/a b");
    }
}
