//! Who is a target now: resolves the plan's selectors, tells the kernel, and follows.
//!
//! The kernel finds by itself who comes to have a user, a name, an executable, or is
//! born in a cgroup or to a target. What only user space can see is looked at again
//! and again: a cgroup, container, unit or file of the same name that is another one.

mod cgroups;
mod containers;
mod file;
mod resolve;

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use chaos_common::target::{Named, Process};

use super::interfaces::Netns;
use super::processes::still_runs;
use super::sockets::Sockets;
use super::{EngineError, processes};
use murphy_fault::plan::{Namespace, Selector, Target, Who};
use murphy_kernel::Kernel;
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::process::{Identity, path_of_fd_here};
use resolve::Resolved;

/// The path of a process's cgroup, from the text of `/proc/PID/cgroup`: that of the second version if it says
/// something, else the longest of the first.
pub(super) fn cgroup_of(text: &str) -> Option<String> {
    let (second, first) = cgroups::parse(text);
    let second = second.filter(|path| *path != "/");
    let path = second.or_else(|| first.into_iter().max_by_key(|path| path.len()))?;
    Some(path.to_owned())
}

pub(crate) use cgroups::unit_name;
pub(crate) use containers::names as container_names;

/// The id of the container that a cgroup path lies in.
pub(super) fn container_of(path: &str) -> Option<String> {
    containers::id_in_path(path).map(str::to_owned)
}

/// How long a container, unit or cgroup may be gone: it may be restarting.
const GONE: Duration = Duration::from_secs(10);

/// How often the machine is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Masks of all classes and of none.
const ALL: u64 = u64::MAX;
const NONE: u64 = 0;

/// A set of selectors, by the bit that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) mask: u64,
    pub(super) who: Who,
}

impl Class {
    /// The classes of a plan that are not its command.
    pub(super) fn of(classes: &[Target]) -> Vec<Self> {
        let of = |(number, class): (u32, &Target)| match class {
            Target::Command => None,
            Target::Running(who) => Some(Self {
                mask: 1 << number,
                who: who.clone(),
            }),
        };
        (0..).zip(classes).filter_map(of).collect()
    }

    /// The same with some of its selectors.
    fn only(&self, wanted: impl Fn(&Selector) -> bool) -> Self {
        let some = |selectors: &[Selector]| {
            let some = selectors.iter().filter(|selector| wanted(selector));
            some.cloned().collect()
        };
        Self {
            mask: self.mask,
            who: Who {
                hit: some(&self.who.hit),
                spare: some(&self.who.spare),
                exempt: self.who.exempt,
            },
        }
    }
}

/// Tells the kernel the names that narrow the command of `run` down. Who has them already
/// is of no interest: its processes are yet to come.
///
/// # Errors
///
/// An executable is not there: it has no number to be known by.
pub(super) fn name(
    classes: &[Class],
    cgroup2: &Cgroup2,
    kernel: &mut Kernel,
) -> Result<(), EngineError> {
    if classes.is_empty() {
        return Ok(());
    }
    let files: Vec<_> = classes
        .iter()
        .map(|class| class.only(|selector| matches!(selector, Selector::Exe(_))))
        .collect();
    Resolved::of(&files, Some(cgroup2), ALL)?;
    // Users and names need not be there.
    let resolved = Resolved::of(classes, Some(cgroup2), NONE)?;
    kernel.name(&resolved.names)?;
    Ok(())
}

/// The targets of a session.
#[derive(Debug)]
pub(super) struct Targets {
    classes: Vec<Class>,
    /// `None` where none is mounted: then no target is named by a cgroup.
    cgroup2: Option<Cgroup2>,
    resolved: Resolved,
    /// Processes that are named by id or executable, for the kernel's table.
    named: BTreeMap<Identity, Process>,
    /// Processes that are hit, and the classes they are in.
    members: BTreeMap<Identity, u64>,
    /// The sockets that are known to be theirs.
    sockets: Sockets,
    /// Network namespaces that were named by a process: by its id, another may come to be meant.
    held: Vec<File>,
    looked: Instant,
    /// When a container, unit or cgroup was last there.
    seen: Instant,
}

impl Targets {
    /// Resolves selectors. Nothing is told to the kernel.
    ///
    /// # Errors
    ///
    /// One of them means nothing, or what is never hit.
    pub(super) fn resolve(
        classes: Vec<Class>,
        cgroup2: Option<Cgroup2>,
    ) -> Result<Self, EngineError> {
        // Exemptions are by id too.
        processes::initial_namespace()?;
        let resolved = Resolved::of(&classes, cgroup2.as_ref(), ALL)?;
        let mut held = Vec::new();
        let mut targets = Self {
            classes: hold(classes, &mut held)?,
            cgroup2,
            resolved,
            named: BTreeMap::new(),
            members: BTreeMap::new(),
            sockets: Sockets::default(),
            held,
            looked: Instant::now(),
            seen: Instant::now(),
        };
        targets.scan();
        Ok(targets)
    }

    /// More classes. Nothing is told to the kernel.
    ///
    /// # Errors
    ///
    /// One of their selectors means nothing, or what is never hit.
    pub(super) fn add(&mut self, more: Vec<Class>) -> Result<(), EngineError> {
        let mut classes: Vec<_> = self.classes.iter().map(without_pids).collect();
        classes.extend(more.iter().cloned());
        let new = more.iter().fold(NONE, |mask, class| mask | class.mask);
        let mut resolved = Resolved::of(&classes, self.cgroup2.as_ref(), new)?;
        let held = hold(more, &mut self.held)?;
        resolved.keep_roots(&self.resolved);
        self.resolved = resolved;
        self.classes.extend(held);
        Ok(())
    }

    /// The named network namespaces in which somebody is hit, or will be.
    pub(super) fn networks(&self) -> impl Iterator<Item = Option<Netns>> {
        self.hit().filter_map(|selector| {
            let Selector::Netns(namespace) = selector else {
                return None;
            };
            // One that is gone is none.
            Some(super::interfaces::named(namespace).ok()?.1)
        })
    }

    /// Processes that are hit at the moment.
    pub(super) fn members(&self) -> impl Iterator<Item = Identity> {
        self.members.keys().copied()
    }

    /// The same with the classes they are in.
    pub(super) fn classes_of_members(&self) -> impl Iterator<Item = (Identity, u64)> {
        self.members.iter().map(|(&pid, &classes)| (pid, classes))
    }

    fn hit(&self) -> impl Iterator<Item = &Selector> {
        self.classes.iter().flat_map(|class| &class.who.hit)
    }

    /// Whether who comes later may be anywhere, and is hit without being looked for.
    pub(super) fn are_standing(&self) -> bool {
        self.hit().any(Selector::is_standing)
    }

    /// Tells the kernel. `Hook::Follow` is attached by now, so whoever is forked
    /// meanwhile is found there or by looking again.
    pub(super) fn apply(
        &mut self,
        kernel: Option<&mut Kernel>,
        sockets: bool,
    ) -> Result<(), EngineError> {
        let Some(kernel) = kernel else {
            self.scan();
            self.looked = Instant::now();
            self.seen = self.looked;
            return Ok(());
        };
        kernel.name(&self.resolved.names)?;
        loop {
            self.scan();
            if !self.tell(kernel, sockets)? {
                self.looked = Instant::now();
                // They were there when it began, however long attaching took.
                self.seen = self.looked;
                return Ok(());
            }
        }
    }

    /// Looks at the machine again if it is time to. Gives whether it did.
    pub(super) fn follow(
        &mut self,
        kernel: Option<&mut Kernel>,
        sockets: bool,
    ) -> Result<bool, EngineError> {
        let classes: Vec<_> = self.classes.iter().map(without_pids).collect();
        let selectors = |class: &Class| class.who.hit.len() + class.who.spare.len();
        // Without kernel programs children of processes that are named by id are looked for, too.
        let is_still = kernel.is_some() && classes.iter().all(|class| selectors(class) == 0);
        if self.looked.elapsed() < EVERY {
            return Ok(false);
        }
        if is_still {
            if let (Some(kernel), true) = (kernel, sockets) {
                self.mark_known(kernel)?;
            }
            self.looked = Instant::now();
            return Ok(true);
        }
        let resolved = Resolved::of(&classes, self.cgroup2.as_ref(), NONE)?;
        if resolved.missing < classes.iter().map(|class| class.who.hit.len()).sum() {
            self.seen = Instant::now();
        }
        let mut resolved = resolved;
        // Processes and threads are resolved once, at the beginning.
        resolved.keep_roots(&self.resolved);
        let renamed = resolved.names != self.resolved.names;
        self.resolved = resolved;
        self.scan();
        if let Some(kernel) = kernel {
            if renamed {
                kernel.name(&self.resolved.names)?;
            }
            self.tell(kernel, sockets)?;
        }
        self.looked = Instant::now();
        Ok(true)
    }

    /// Whether nobody is left, nor to be expected.
    pub(super) fn have_ended(&self, kernel: Option<&Kernel>) -> bool {
        let others = self
            .hit()
            .any(|selector| !matches!(selector, Selector::Pid(_) | Selector::Tid(_)));
        let by_id = |process: &Process| process.by_id.hit != 0;
        let by_thread = |named: &Named| named.hit != 0;
        let expected = self.are_standing() || others && self.seen.elapsed() < GONE;
        let Some(kernel) = kernel else {
            return !expected && !self.members().any(still_runs);
        };
        !expected
            && !kernel.targets().values().any(by_id)
            && !kernel.threads().values().any(by_thread)
    }

    /// Finds the processes that are hit.
    fn scan(&mut self) {
        let all = processes::all();
        let inherited = processes::inherited(&self.resolved.roots, &all);
        self.members.clear();
        self.named.clear();
        for (&pid, stat) in &all {
            if processes::never(pid, stat).is_some() {
                continue;
            }
            // All that is read of it is read of the process that was listed.
            let identity = stat.identity(pid);
            let Ok(folder) = identity.folder() else {
                continue;
            };
            let process = Process {
                by_id: inherited.get(&pid).copied().unwrap_or_default(),
                by_exe: self.resolved.of_exe(&folder),
            };
            let cgroup2 = self.cgroup2.as_ref();
            let others = self.resolved.of_others(&folder, stat, cgroup2);
            let classes = process.by_id.or(process.by_exe).or(others).classes();
            if classes != 0 {
                self.members.insert(identity, classes);
            }
            // Who is spared by these is in the table too, and its children with it.
            if process != Process::default() {
                self.named.insert(identity, process);
            }
        }
        for (&thread, named) in &self.resolved.threads {
            if named.hit != 0
                && let Ok(folder) = thread.folder()
                && let Ok(pid) = folder.status_number("Tgid:")
                && let Some(stat) = all.get(&pid)
            {
                *self.members.entry(stat.identity(pid)).or_default() |= named.hit;
            }
        }
    }

    /// Marks the sockets of the processes that the kernel's table has: those that were named by id,
    /// and their children.
    fn mark_known(&mut self, kernel: &mut Kernel) -> Result<(), EngineError> {
        let mut members = self.members.clone();
        for (pid, process) in kernel.targets() {
            let classes = process.by_id.or(process.by_exe).classes();
            if classes != 0
                && let Ok(identity) = Identity::of(pid)
            {
                members.insert(identity, classes);
            }
        }
        self.sockets.mark(kernel, members.into_iter()).map(drop)
    }

    /// Tells the kernel of processes and sockets. Gives whether there was anything new.
    fn tell(&mut self, kernel: &mut Kernel, sockets: bool) -> Result<bool, EngineError> {
        let known = kernel.targets();
        let mut new = false;
        for (&identity, process) in &self.named {
            let pid = identity.id;
            let old = known.get(&pid).copied().unwrap_or_default();
            let wanted = Process {
                // It may have inherited a name from one that has ended.
                by_id: old.by_id.or(process.by_id),
                by_exe: process.by_exe,
            };
            if wanted == old {
                continue;
            }
            let Ok(folder) = identity.folder() else {
                continue;
            };
            kernel.target(pid, wanted)?;
            // One that ended meanwhile would leave its name to another. The folder tells: it is
            // pinned, and the kernel forgets a process at its end by itself.
            if processes::runs(&folder) {
                new = true;
            } else {
                kernel.untarget(pid);
            }
        }
        let known = kernel.threads();
        for (&identity, &named) in &self.resolved.threads {
            let tid = identity.id;
            let old = known.get(&tid).copied().unwrap_or_default();
            let wanted = old.or(named);
            let Ok(folder) = identity.folder() else {
                continue;
            };
            if wanted == old || !processes::runs(&folder) {
                continue;
            }
            kernel.target_thread(tid, wanted)?;
            if processes::runs(&folder) {
                new = true;
            } else {
                kernel.untarget_thread(tid);
            }
        }
        if !sockets {
            return Ok(new);
        }
        let members = self.members.iter().map(|(&one, &classes)| (one, classes));
        let marked = self.sockets.mark(kernel, members)?;
        Ok(new || marked.owners != 0)
    }
}

/// Ids are used again by others: namespaces of processes are held open.
fn hold(mut classes: Vec<Class>, held: &mut Vec<File>) -> Result<Vec<Class>, EngineError> {
    let whos = classes.iter_mut().map(|class| &mut class.who);
    for selector in whos.flat_map(|who| who.hit.iter_mut().chain(&mut who.spare)) {
        if let Selector::Netns(namespace) = selector
            && namespace.is_nameless()
        {
            let file = super::interfaces::open(namespace)
                .map_err(EngineError::io("opening a network namespace"))?;
            *namespace = Namespace::At(path_of_fd_here(&file));
            held.push(file);
        }
    }
    Ok(classes)
}

/// Ids are used again by others: processes and threads are resolved once, at the beginning.
fn without_pids(class: &Class) -> Class {
    class.only(|selector| !matches!(selector, Selector::Pid(_) | Selector::Tid(_)))
}
