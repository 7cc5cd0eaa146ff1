//! Kernel state that outlives its maker (cgroups, filters, interfaces), and how it is removed.
//!
//! The injector journals each [`Cleanup`] in its record and with its guardian before it makes the
//! thing itself. A cleanup is idempotent: what is already gone is [`Outcome::NothingToDo`].

#![deny(clippy::wildcard_enum_match_arm)]

mod limits;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use murphy_kernel::clsact::{self, Side};
use murphy_kernel::netem;
use murphy_sys::owner::Owner;
use murphy_sys::process::{ProcFolder, Resource};

/// How long processes may go on forking or dying in a cgroup that is to be emptied.
const EMPTYING: Duration = Duration::from_secs(2);

/// Something that outlives its maker unless it is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cleanup {
    /// A cgroup (v2, not threaded) of ours. Undone by moving every process out of it and of the cgroups below, which go too.
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// The directory of the cgroup that gets its processes; if that is gone, the nearest one above it.
        back_to: PathBuf,
    },
    /// A tc filter, on kernels where it has no link. Undone by its priority, which no other injector uses.
    TcFilter {
        /// The network namespace, if it is not the injector's own. The path has to name it for as long as the injector lives,
        /// which that of a process does not. The guardian opens it when this is journalled, and needs no path later.
        netns: Option<PathBuf>,
        /// The interface.
        ifindex: u32,
        /// Its name when the filter was made, for messages.
        interface: String,
        /// The side of clsact.
        #[serde(default)]
        side: Side,
        /// Priority of the filter.
        priority: u16,
        /// The clsact qdisc was made for this filter, and goes with it unless others use it by then.
        made_clsact: bool,
    },
    /// An ifb with a netem of ours, whose filters are journalled after it and so undone before. Undone when what it holds has
    /// left, or the time for that is up.
    Ifb {
        /// The network namespace, as above.
        netns: Option<PathBuf>,
        /// Its name, which no other injector uses.
        name: String,
        /// How long to wait for what it holds, in ms.
        wait_ms: u64,
    },
    /// A soft limit of a process, lowered by us. Undone by setting it to what it was, for the
    /// process and for descendants that inherited it, unless it was changed meanwhile.
    Limit {
        /// The process.
        process: Owner,
        /// Which of its limits.
        resource: Resource,
        /// What it was set to.
        set: u64,
        /// What it was before.
        was: u64,
        /// When it was set, in clock ticks since boot: descendants from before are journalled by
        /// themselves.
        since: u64,
        /// Boot time in ns at which it is undone at the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ns: Option<u64>,
    },
}

/// A kind of [`Cleanup`]: what stays in the kernel if every process of murphy is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// [`Cleanup::Cgroup`].
    Cgroup,
    /// [`Cleanup::TcFilter`].
    TcFilter,
    /// [`Cleanup::Ifb`].
    Ifb,
    /// [`Cleanup::Limit`].
    Limit,
}

impl Leftover {
    /// What it is, for documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "the command's cgroup",
            Self::TcFilter => "tc filters, inert once the lease is over",
            Self::Ifb => "interfaces (ifb)",
            Self::Limit => "lowered limits",
        }
    }
}

/// What undoing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there, and is gone.
    Done,
    /// It was not there (any more).
    NothingToDo,
    /// It is not what was made any more: another program has changed it, and it stays.
    Changed,
}

impl Cleanup {
    /// Undoes it. Takes at most about two seconds; an ifb as long as it is to be waited for.
    ///
    /// # Errors
    ///
    /// `NotFound` if the network namespace is not at its path any more: it may live on without. Otherwise the kernel's answer;
    /// for a cgroup, what stood in the way when the time was up.
    pub fn undo(&self) -> io::Result<Outcome> {
        self.undo_in(self.namespace()?.as_ref())
    }

    /// What kind it is.
    pub const fn leftover(&self) -> Leftover {
        match self {
            Self::Cgroup { .. } => Leftover::Cgroup,
            Self::TcFilter { .. } => Leftover::TcFilter,
            Self::Ifb { .. } => Leftover::Ifb,
            Self::Limit { .. } => Leftover::Limit,
        }
    }

    /// Whether the guardian undoes it when the lease lapses: no kernel program bounds its effect.
    pub fn ends_with_lease(&self) -> bool {
        match self {
            Self::Limit { .. } => true,
            Self::Cgroup { .. } | Self::TcFilter { .. } | Self::Ifb { .. } => false,
        }
    }

    /// Boot time in ns at which the guardian undoes it, whatever the lease is.
    pub fn until_ns(&self) -> Option<u64> {
        match self {
            Self::Limit { until_ns, .. } => *until_ns,
            Self::Cgroup { .. } | Self::TcFilter { .. } | Self::Ifb { .. } => None,
        }
    }

    /// Whether there is something to undo, as far as that can be seen by looking.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Limit {
                process,
                resource,
                set,
                ..
            } => limits::is_set(process, *resource, *set),
            Self::Cgroup { .. } | Self::TcFilter { .. } | Self::Ifb { .. } => true,
        }
    }

    /// Opens the network namespace in which to undo it, if that is not the caller's.
    pub fn namespace(&self) -> io::Result<Option<File>> {
        let netns = match self {
            Self::TcFilter { netns, .. } | Self::Ifb { netns, .. } => netns.as_ref(),
            Self::Cgroup { .. } | Self::Limit { .. } => None,
        };
        netns.map(File::open).transpose()
    }

    /// Undoes it in its network namespace, opened before.
    pub fn undo_in(&self, namespace: Option<&File>) -> io::Result<Outcome> {
        match self {
            Self::Cgroup { path, back_to } => remove_cgroup(path, back_to),
            Self::TcFilter {
                ifindex,
                side,
                priority,
                made_clsact,
                ..
            } => inside(namespace, || {
                let filters = clsact::remove_filters(*ifindex, *side, *priority)?;
                let clsact = *made_clsact && clsact::remove_if_empty(*ifindex)?;
                Ok(Outcome::done_if(filters || clsact))
            }),
            Self::Ifb { name, wait_ms, .. } => inside(namespace, || {
                drain(name, Duration::from_millis(*wait_ms))?;
                Ok(Outcome::done_if(netem::remove(name)?))
            }),
            Self::Limit { .. } => {
                let mut outcomes = limits::restore(&self.lowered().into_iter().collect::<Vec<_>>());
                outcomes.pop().unwrap_or(Ok(Outcome::NothingToDo))
            }
        }
    }

    /// The limit that it restores, if it is of that kind.
    fn lowered(&self) -> Option<limits::Lowered<'_>> {
        let Self::Limit {
            process,
            resource,
            set,
            was,
            since,
            ..
        } = self
        else {
            return None;
        };
        Some(limits::Lowered {
            process,
            resource: *resource,
            set: *set,
            was: *was,
            since: *since,
        })
    }
}

/// Undoes several, one after the other, but limits next to each other together: processes are
/// looked at once for all of these.
///
/// # Errors
///
/// Of each, as [`Cleanup::undo`].
pub fn undo_all(cleanups: &[Cleanup]) -> Vec<io::Result<Outcome>> {
    let is_limit = |one: &Cleanup| one.leftover() == Leftover::Limit;
    let groups = cleanups.chunk_by(|one, next| is_limit(one) && is_limit(next));
    let mut outcomes = Vec::new();
    for group in groups {
        let lowered: Vec<_> = group.iter().filter_map(Cleanup::lowered).collect();
        match lowered.is_empty() {
            true => outcomes.extend(group.iter().map(Cleanup::undo)),
            false => outcomes.extend(limits::restore(&lowered)),
        }
    }
    outcomes
}

impl Outcome {
    /// Whether something was undone.
    pub fn done_if(done: bool) -> Self {
        if done { Self::Done } else { Self::NothingToDo }
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup { path, .. } => write!(f, "cgroup {}", path.display()),
            Self::TcFilter {
                netns,
                interface,
                priority,
                ..
            } => {
                write!(f, "tc filter {priority} on {interface}")?;
                in_namespace(f, netns.as_deref())
            }
            Self::Ifb { netns, name, .. } => {
                write!(f, "interface {name}")?;
                in_namespace(f, netns.as_deref())
            }
            Self::Limit {
                process,
                resource,
                set,
                was,
                ..
            } => write!(
                f,
                "limit {} of process {}, {set} instead of {was}",
                resource.name(),
                process.pid
            ),
        }
    }
}

fn in_namespace(f: &mut fmt::Formatter<'_>, netns: Option<&Path>) -> fmt::Result {
    match netns {
        Some(netns) => write!(f, " in {}", netns.display()),
        None => Ok(()),
    }
}

/// Waits until an ifb holds nothing any more, but no longer than that. What it still holds then is lost.
fn drain(name: &str, longest: Duration) -> io::Result<()> {
    let deadline = Instant::now() + longest;
    while netem::held(name)?.is_some_and(|held| held > 0) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Does something in a network namespace, from a thread of its own: the caller's threads stay in theirs.
fn inside(
    namespace: Option<&File>,
    action: impl FnOnce() -> io::Result<Outcome> + Send,
) -> io::Result<Outcome> {
    let Some(namespace) = namespace else {
        return action();
    };
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            action()
        })?;
        inside
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Empties and removes a cgroup and those below it. Processes may fork meanwhile, and a dying one keeps its cgroup busy for a
/// moment: both are tried again until the time is up.
fn remove_cgroup(path: &Path, back_to: &Path) -> io::Result<Outcome> {
    if !path.try_exists()? {
        return Ok(Outcome::NothingToDo);
    }
    let deadline = Instant::now() + EMPTYING;
    let mut pause = Duration::from_millis(1);
    loop {
        match empty_and_remove(path, back_to) {
            Ok(()) => return Ok(Outcome::Done),
            Err(error) if Instant::now() >= deadline => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("not emptied within {} s: {error}", EMPTYING.as_secs()),
                ));
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// One attempt: the cgroups below first, then this one.
fn empty_and_remove(cgroup: &Path, back_to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty_and_remove(&entry.path(), back_to)?;
        }
    }
    move_processes(cgroup, back_to)?;
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves the processes that are in a cgroup now.
fn move_processes(cgroup: &Path, back_to: &Path) -> io::Result<()> {
    let processes = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        processes => processes?,
    };
    if processes.is_empty() {
        return Ok(());
    }
    let destination = back_to
        .ancestors()
        .map(|directory| directory.join("cgroup.procs"))
        .find(|file| file.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup to move processes to"))?;
    // One that cannot be moved keeps the cgroup, but not the others in it.
    let mut stuck = Ok(());
    for pid in processes.lines() {
        // So the kernel shows a process that our pid namespace does not see. Written, it would mean ourselves.
        let moved = if pid == "0" {
            Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it holds a process of another pid namespace",
            ))
        } else if pid.parse().is_ok_and(|pid| is_in(pid, cgroup)) {
            fs::write(&destination, pid)
        } else {
            // It has ended, or moved by itself. Whatever has its number now is not ours to move.
            Ok(())
        };
        match moved {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            moved => stuck = stuck.and(moved),
        }
    }
    stuck
}

/// Whether a process is in a cgroup of the second version now.
fn is_in(pid: u32, cgroup: &Path) -> bool {
    let text = ProcFolder::open(pid).and_then(|folder| folder.read_text("cgroup"));
    let text = text.unwrap_or_default();
    let mut lines = text.lines();
    let path = lines.find_map(|line| line.strip_prefix("0::/"));
    // Below the mount, whose own path comes first in the cgroup's.
    path.is_some_and(|path| !path.is_empty() && cgroup.ends_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(netns: Option<&str>) -> Cleanup {
        Cleanup::TcFilter {
            netns: netns.map(PathBuf::from),
            ifindex: 2,
            interface: "eth0".to_owned(),
            side: Side::Egress,
            priority: 1234,
            made_clsact: true,
        }
    }

    #[test]
    fn what_is_gone_needs_no_undoing() {
        let gone = PathBuf::from("/nowhere/at/all");
        let cgroup = Cleanup::Cgroup {
            path: gone.clone(),
            back_to: gone,
        };
        assert_eq!(cgroup.undo().unwrap(), Outcome::NothingToDo);
    }

    #[test]
    fn a_namespace_without_its_path_may_live_on() {
        let error = filter(Some("/nowhere/at/all")).undo().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn says_what_it_undoes() {
        assert_eq!(filter(None).to_string(), "tc filter 1234 on eth0");
        assert_eq!(
            filter(Some("/run/netns/blue")).to_string(),
            "tc filter 1234 on eth0 in /run/netns/blue"
        );
    }

    #[test]
    fn travels_as_json() {
        let undo = Cleanup::Cgroup {
            path: "/sys/fs/cgroup/murphy-1".into(),
            back_to: "/sys/fs/cgroup".into(),
        };
        let json = serde_json::to_string(&undo).unwrap();
        assert_eq!(
            json,
            r#"{"kind":"cgroup","path":"/sys/fs/cgroup/murphy-1","back_to":"/sys/fs/cgroup"}"#
        );
        assert_eq!(serde_json::from_str::<Cleanup>(&json).unwrap(), undo);
    }
}
