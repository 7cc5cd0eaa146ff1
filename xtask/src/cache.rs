//! Where everything that is downloaded or built outside the workspace lives.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The cache folder: `$MURPHY_CACHE`, else `murphy` in the user's cache folder.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the folder; it is created by whoever first writes to it.
    pub(crate) fn open() -> Result<Self> {
        let under = |var: &str, tail: &str| {
            env::var_os(var)
                .filter(|v| !v.is_empty())
                .map(|v| Path::new(&v).join(tail))
        };
        let root = under("MURPHY_CACHE", "")
            .or_else(|| under("XDG_CACHE_HOME", "murphy"))
            .or_else(|| under("HOME", ".cache/murphy"));
        let Some(root) = root else {
            bail!("no place for the cache: set MURPHY_CACHE to a folder");
        };
        // Paths are handed to programs that run elsewhere.
        let root = std::path::absolute(&root)?;
        Ok(Self { root })
    }

    /// A cache elsewhere, for tests.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// `tools/`: a `cargo install --root`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// A tool installed by setup, whether it is there or not.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// `qemu/`: an unpacked QEMU with its libraries.
    pub(crate) fn qemu(&self) -> PathBuf {
        self.root.join("qemu")
    }

    /// `kernels/NAME/`.
    pub(crate) fn kernel(&self, name: &str) -> PathBuf {
        self.root.join("kernels").join(name)
    }

    /// `images/`: root file systems for the guests.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// `apt/NAME/`: one private apt state per set of sources.
    pub(crate) fn apt(&self, name: &str) -> PathBuf {
        self.root.join("apt").join(name)
    }

    /// `chaostoolkit/`: a Python environment.
    pub(crate) fn chaos_toolkit(&self) -> PathBuf {
        self.root.join("chaostoolkit")
    }

    /// `logs/`: kernel consoles of boots that went wrong.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The root itself, for messages.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// Replaces the folder `to` by `from`, so that a half-finished `to` is never seen.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot replace {}", to.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("cannot move into {}", to.display()))
}

/// An empty folder beside `to`, on the same file system, for [`publish`].
pub(crate) fn scratch(to: &Path) -> Result<PathBuf> {
    let dir = beside(to);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    unfinished(to)
}

/// The same folder with what is in it already.
pub(crate) fn unfinished(to: &Path) -> Result<PathBuf> {
    let dir = beside(to);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    to.with_file_name(name)
}
