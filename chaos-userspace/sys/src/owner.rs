//! A process as it can be told from any later one of the same id.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::LazyLock;

use super::process::ProcFolder;
use serde::{Deserialize, Serialize};

/// A process: its id alone is used again by others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// When it began, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
    /// Which boot that was.
    pub boot: String,
    /// The inode of the pid namespace in which the id holds.
    pub pid_namespace: u64,
}

impl Owner {
    /// This process.
    pub fn this() -> Self {
        Self::of(std::process::id()).unwrap_or_else(|| Self {
            pid: std::process::id(),
            start: 0,
            boot: boot().to_owned(),
            pid_namespace: pid_namespace(),
        })
    }

    /// A process of this pid namespace, if it runs.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start: start(pid)?,
            boot: boot().to_owned(),
            pid_namespace: pid_namespace(),
        })
    }

    /// Whether it was noted since this boot.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }

    /// Whether it still runs; `None` if its id means nothing in this process's pid namespace.
    pub fn runs(&self) -> Option<bool> {
        if self.boot != boot() {
            return Some(false);
        }
        if self.pid_namespace != pid_namespace() {
            return None;
        }
        Some(start(self.pid) == Some(self.start))
    }
}

/// When a process began; `None` if there is none, or a zombie.
fn start(pid: u32) -> Option<u64> {
    let stat = ProcFolder::open(pid).ok()?.read("stat").ok()?;
    let text = String::from_utf8_lossy(&stat);
    // The name in parentheses may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    if rest.starts_with(['Z', 'X']) {
        return None;
    }
    // Fields are counted from the third, the state (proc_pid_stat(5)).
    rest.split(' ').nth(22 - 3)?.parse().ok()
}

/// This boot. It is compared with every record, of which there may be many.
fn boot() -> &'static str {
    static BOOT: LazyLock<String> = LazyLock::new(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    });
    &BOOT
}

/// A process stays in its pid namespace for life, and murphy forks none into another.
fn pid_namespace() -> u64 {
    static NAMESPACE: LazyLock<u64> =
        LazyLock::new(|| fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino()));
    *NAMESPACE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_from_others() {
        let this = Owner::this();
        assert_eq!(this.runs(), Some(true));
        let earlier = Owner {
            start: this.start.wrapping_sub(1),
            ..this.clone()
        };
        assert_eq!(earlier.runs(), Some(false));
        let before_reboot = Owner {
            boot: "another".to_owned(),
            ..this.clone()
        };
        assert_eq!(before_reboot.runs(), Some(false));
        let elsewhere = Owner {
            pid_namespace: 1,
            ..this
        };
        assert_eq!(elsewhere.runs(), None);
    }
}
