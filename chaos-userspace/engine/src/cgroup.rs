//! The cgroup that `run` makes for its command.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::EngineError;
use murphy_state::cleanup::Cleanup;
use murphy_sys::cgroup2::Cgroup2;

/// A cgroup below murphy's own, so that the limits murphy runs under hold for the
/// command too. It is removed by the [`Cleanup`] that was journalled before.
#[derive(Debug)]
pub(super) struct RunCgroup {
    path: PathBuf,
    back_to: PathBuf,
}

impl RunCgroup {
    /// Chooses a place; nothing is made.
    pub(super) fn below(cgroup2: &Cgroup2) -> Self {
        Self {
            path: cgroup2.own.join(format!("murphy-{}", std::process::id())),
            back_to: cgroup2.own.clone(),
        }
    }

    /// How it is undone: processes that are left go back to murphy's own cgroup.
    pub(super) fn cleanup(&self) -> Cleanup {
        Cleanup::Cgroup {
            path: self.path.clone(),
            back_to: self.back_to.clone(),
        }
    }

    /// Makes it.
    pub(super) fn make(&self) -> Result<(), EngineError> {
        fs::create_dir(&self.path).map_err(|source| EngineError::Cgroup {
            path: self.path.clone(),
            source,
        })
    }

    /// Its id, as `bpf_get_current_ancestor_cgroup_id` gives it: the directory's inode.
    pub(super) fn id(&self) -> Result<u64, EngineError> {
        let metadata =
            fs::metadata(&self.path).map_err(EngineError::io("looking at the run cgroup"))?;
        Ok(metadata.ino())
    }

    /// How deep below the root it lies; `None` inside a cgroup namespace, where that cannot be
    /// told.
    pub(super) fn level(&self, cgroup2: &Cgroup2) -> Option<u64> {
        /// The inode of the whole hierarchy's root (`kernfs`).
        const ROOT: u64 = 1;
        let root = fs::metadata(&cgroup2.mount).ok()?;
        let below = self.path.strip_prefix(&cgroup2.mount).ok()?;
        (root.ino() == ROOT).then(|| below.components().count() as u64)
    }

    /// Its directory, to attach programs to.
    pub(super) fn open(&self) -> Result<File, EngineError> {
        File::open(&self.path).map_err(EngineError::io("opening the run cgroup"))
    }

    /// The file that takes the ids of processes to be moved in.
    pub(super) fn procs(&self) -> Result<File, EngineError> {
        File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))
            .map_err(EngineError::io("opening the run cgroup's cgroup.procs"))
    }

    /// The processes in it and below it now.
    pub(super) fn members(&self) -> Vec<u32> {
        let mut members = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
                members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        members
    }
}
