//! What selectors mean on this machine now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chaos_common::target::{COMM, Named};

use super::super::interfaces::Netns;
use super::super::processes::{self, Stat};
use super::{Class, cgroups, containers, file};
use crate::EngineError;
use murphy_fault::plan::{EXEMPT, Selector, Who};
use murphy_kernel::{KernelError, Names};
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::process::{Identity, ProcFolder};

/// Selectors, resolved.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// For the kernel.
    pub(super) names: Names,
    /// Named processes, whose descendants inherit it.
    pub(super) roots: BTreeMap<Identity, Named>,
    /// Named threads.
    pub(super) threads: BTreeMap<Identity, Named>,
    /// Directories of the named cgroups.
    directories: BTreeMap<PathBuf, Named>,
    /// Executables by the numbers that `stat` gives.
    files: BTreeMap<(u64, u64), Named>,
    /// How many of those that are to be hit mean nothing now.
    pub(super) missing: usize,
}

/// The hierarchy as it is, looked at once for all selectors that ask.
struct Present {
    directories: Vec<PathBuf>,
    /// Process, and its cgroup paths in the first version.
    processes: Vec<(Identity, Vec<String>)>,
}

impl Resolved {
    /// Resolves the selectors of classes. What does not exist is an error in
    /// those of `strict`, else it is noted.
    pub(super) fn of(
        classes: &[Class],
        cgroup2: Option<&Cgroup2>,
        strict: u64,
    ) -> Result<Self, EngineError> {
        let mut resolved = Self::default();
        if classes.iter().any(|class| class.who.exempt) {
            for name in EXEMPT {
                resolved.names.comms.insert(comm(name), Named::EXEMPT);
            }
        }
        let mut present = None;
        for (selector, named, who) in classes.iter().flat_map(selectors) {
            let strict = strict & (named.hit | named.spare) != 0;
            match resolved.add(selector, named, who, cgroup2, &mut present) {
                Err(error) if strict => return Err(error),
                Err(_) if named.hit != 0 => resolved.missing += 1,
                Ok(()) | Err(_) => {}
            }
            if strict && named.hit != 0 {
                must_run(selector)?;
            }
        }
        Ok(resolved)
    }

    /// Names processes and threads as they were named before, if they still run.
    pub(super) fn keep_roots(&mut self, before: &Self) {
        for (&process, &named) in &before.roots {
            if processes::still_runs(process) {
                add(&mut self.roots, process, named);
            }
        }
        for (&thread, &named) in &before.threads {
            if processes::still_runs(thread) {
                add(&mut self.threads, thread, named);
            }
        }
    }

    fn add(
        &mut self,
        selector: &Selector,
        named: Named,
        who: &Who,
        cgroup2: Option<&Cgroup2>,
        present: &mut Option<Present>,
    ) -> Result<(), EngineError> {
        let missing = |remedy| EngineError::NoTarget {
            what: selector.to_string(),
            remedy,
        };
        match selector {
            Selector::All => self.names.all |= named.hit,
            Selector::Pid(pid) => {
                let process = processes::check(*pid, who.exempt && named.hit != 0)?;
                add(&mut self.roots, process, named);
            }
            Selector::Tid(tid) => {
                let thread = processes::check_thread(*tid, who.exempt && named.hit != 0)?;
                add(&mut self.threads, thread, named);
            }
            Selector::Uid(id) => add(&mut self.names.uids, *id, named),
            Selector::User(_) => return Err(missing(NO_USER)),
            Selector::Comm(name) => {
                if named.hit != 0 && who.exempt && EXEMPT.contains(&cut(name)) {
                    return Err(EngineError::ExemptName(name.clone()));
                }
                add(&mut self.names.comms, comm(name), named);
            }
            Selector::Exe(path) => {
                let id = file::id(path).map_err(|_| missing(NO_FILE))?;
                let metadata = fs::metadata(path).map_err(|_| missing(NO_FILE))?;
                add(&mut self.names.exes, id, named);
                add(&mut self.files, (metadata.dev(), metadata.ino()), named);
            }
            Selector::Cgroup(path) => {
                let cgroup2 = cgroup2.ok_or(KernelError::NoCgroup2)?;
                let directory = cgroups::find(cgroup2, path).map_err(|_| missing(NO_CGROUP))?;
                self.cgroup(directory, named, cgroup2)
                    .map_err(|()| missing(NO_CGROUP))?;
            }
            Selector::Container(word) => {
                let present = present.get_or_insert_with(|| Present::of(cgroup2));
                let ids: BTreeSet<_> = present.ids();
                let meant = containers::meant(word, &ids);
                if meant.len() > 1 {
                    return Err(missing(AMBIGUOUS));
                }
                let id = meant.first().ok_or_else(|| missing(NO_CONTAINER))?;
                let is = |path: &Path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    containers::id(&name) == Some(id)
                };
                self.group(present, named, cgroup2, is)
                    .map_err(|()| missing(NO_CONTAINER))?;
            }
            Selector::Unit(unit) => {
                let present = present.get_or_insert_with(|| Present::of(cgroup2));
                let unit = cgroups::unit_name(unit);
                self.group(present, named, cgroup2, |path| {
                    cgroups::is_unit(path, &unit)
                })
                .map_err(|()| missing(NO_UNIT))?;
            }
            Selector::Netns(namespace) => {
                processes::initial_namespace()?;
                let (number, _) = super::super::interfaces::named(namespace)
                    .map_err(|_| missing(NO_NAMESPACE))?;
                add(&mut self.names.networks, number, named);
                // One that has no name lives as long as it has processes.
                if named.hit != 0 && namespace.is_nameless() {
                    let is_in_it = |pid: u32| {
                        let folder = ProcFolder::open(pid);
                        folder.is_ok_and(|folder| Netns::number_of(&folder) == Some(number))
                    };
                    let others = |pid: &u32| *pid != std::process::id();
                    if !processes::all().into_keys().filter(others).any(is_in_it) {
                        return Err(missing(NO_NAMESPACE));
                    }
                }
            }
        }
        Ok(())
    }

    /// A container or a unit: its cgroups; where it has none of the second version, its processes.
    fn group(
        &mut self,
        present: &Present,
        named: Named,
        cgroup2: Option<&Cgroup2>,
        is: impl Fn(&Path) -> bool,
    ) -> Result<(), ()> {
        let mut found = false;
        if let Some(cgroup2) = cgroup2 {
            for directory in present.directories.iter().filter(|path| is(path)) {
                found |= self.cgroup(directory.clone(), named, cgroup2).is_ok();
            }
        }
        // An empty one of the second version may stand beside the one that counts.
        for (pid, paths) in &present.processes {
            let in_it = |path: &String| Path::new(path).ancestors().any(&is);
            if paths.iter().any(in_it) {
                add(&mut self.roots, *pid, named);
                found = true;
            }
        }
        if found { Ok(()) } else { Err(()) }
    }

    fn cgroup(&mut self, directory: PathBuf, named: Named, cgroup2: &Cgroup2) -> Result<(), ()> {
        let id = cgroups::id(&directory).map_err(drop)?;
        self.names.levels |= cgroups::levels(cgroup2, &directory).ok_or(())?;
        add(&mut self.names.cgroups, id, named);
        add(&mut self.directories, directory, named);
        Ok(())
    }

    /// What a process is named apart from its id and its executable.
    pub(super) fn of_others(
        &self,
        folder: &ProcFolder,
        stat: &Stat,
        cgroup2: Option<&Cgroup2>,
    ) -> Named {
        let mut named = Named {
            hit: self.names.all,
            spare: 0,
        };
        if !self.names.uids.is_empty()
            && let Ok(user) = folder.status_number("Uid:")
        {
            named = named.or(get(&self.names.uids, &user));
        }
        named = named.or(get(&self.names.comms, &comm(&stat.name)));
        if !self.names.networks.is_empty()
            && let Some(number) = Netns::number_of(folder)
        {
            named = named.or(get(&self.names.networks, &number));
        }
        if !self.directories.is_empty()
            && let Some(cgroup2) = cgroup2
            && let Ok(text) = folder.read_text("cgroup")
            && let (Some(path), _) = cgroups::parse(&text)
        {
            let below = Path::new(path).strip_prefix(&cgroup2.root);
            let own = cgroup2.mount.join(below.unwrap_or(Path::new("")));
            for directory in own.ancestors() {
                named = named.or(get(&self.directories, directory));
            }
        }
        named
    }

    /// What a process is named by the file it executes.
    pub(super) fn of_exe(&self, folder: &ProcFolder) -> Named {
        if self.files.is_empty() {
            return Named::default();
        }
        match folder.stat("exe") {
            Ok(file) => get(&self.files, &(file.st_dev, file.st_ino)),
            Err(_) => Named::default(),
        }
    }
}

impl Present {
    fn of(cgroup2: Option<&Cgroup2>) -> Self {
        let processes = processes::all()
            .into_iter()
            .filter_map(|(pid, stat)| {
                let process = stat.identity(pid);
                let text = process.folder().ok()?.read_text("cgroup").ok()?;
                let (_, first) = cgroups::parse(&text);
                Some((process, first.into_iter().map(str::to_owned).collect()))
            })
            .collect();
        Self {
            directories: cgroup2.map(cgroups::all).unwrap_or_default(),
            processes,
        }
    }

    /// Ids of the containers there are.
    fn ids(&self) -> BTreeSet<String> {
        let names = self
            .directories
            .iter()
            .filter_map(|path| path.file_name()?.to_str());
        let first = self.processes.iter().flat_map(|(_, paths)| paths);
        names
            .filter_map(containers::id)
            .chain(first.filter_map(|path| containers::id_in_path(path)))
            .map(str::to_owned)
            .collect()
    }
}

/// The selectors of a class, and what each means for whom it names.
fn selectors(class: &Class) -> impl Iterator<Item = (&Selector, Named, &Who)> {
    let hit = Named {
        hit: class.mask,
        spare: 0,
    };
    let spare = Named {
        hit: 0,
        spare: class.mask,
    };
    let hits = class.who.hit.iter().map(move |one| (one, hit, &class.who));
    let spares = class.who.spare.iter();
    hits.chain(spares.map(move |one| (one, spare, &class.who)))
}

/// A name that no process has is more likely a mistake than a process to come.
fn must_run(selector: &Selector) -> Result<(), EngineError> {
    let Selector::Comm(name) = selector else {
        return Ok(());
    };
    let runs = |stat: &Stat| stat.name == cut(name);
    if processes::all().values().any(runs) {
        return Ok(());
    }
    Err(EngineError::NoTarget {
        what: selector.to_string(),
        remedy: NO_COMM,
    })
}

const NO_COMM: &str =
    "ps -eo comm lists those there are; --exe takes a program that does not run yet";
const NO_USER: &str = "getent passwd lists those there are";
const NO_FILE: &str =
    "name an executable file by its path; of a script, the interpreter is executed";
const NO_CGROUP: &str =
    "find / -name cgroup.procs lists those there are; murphy needs one of the cgroup2 hierarchy";
const NO_CONTAINER: &str = "it has to run; say its id or the beginning of it: docker ps, crictl ps";
const NO_NAMESPACE: &str =
    "ip netns list names those that have a name; lsns -t net those that some process is in";
const NO_UNIT: &str = "it has to run: systemctl list-units";
const AMBIGUOUS: &str = "several containers are meant; say more of its id";

fn add<K: Ord>(map: &mut BTreeMap<K, Named>, key: K, named: Named) {
    let entry = map.entry(key).or_default();
    *entry = entry.or(named);
}

fn get<K: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(
    map: &BTreeMap<K, Named>,
    key: &Q,
) -> Named {
    map.get(key).copied().unwrap_or_default()
}

/// A name as long as the kernel keeps it.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(COMM - 1);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// A name as the kernel holds it.
fn comm(name: &str) -> [u8; COMM] {
    let mut padded = [0; COMM];
    let length = name.len().min(COMM - 1);
    padded[..length].copy_from_slice(&name.as_bytes()[..length]);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(&comm("systemd-journald"), b"systemd-journal\0");
        assert_eq!(&comm("sh"), b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(cut("systemd-journald"), "systemd-journal");
        assert_eq!(cut("sh"), "sh");
    }

    #[test]
    fn a_default_exemption_is_not_a_target() {
        let who = Who {
            hit: vec![Selector::Comm("sshd".into())],
            spare: vec![],
            exempt: true,
        };
        let cgroup2 = Cgroup2 {
            mount: "/nowhere".into(),
            own: "/nowhere".into(),
            root: "/".into(),
        };
        let class = |who| [Class { mask: 1, who }];
        let refused = Resolved::of(&class(who.clone()), Some(&cgroup2), 1);
        assert!(matches!(refused, Err(EngineError::ExemptName(_))));
        let all = Who {
            exempt: false,
            ..who
        };
        let resolved = Resolved::of(&class(all), Some(&cgroup2), 0).unwrap();
        let sshd = Stat {
            parent: 1,
            flags: 0,
            name: "sshd".into(),
            start: 0,
        };
        let folder = ProcFolder::open(1).unwrap();
        assert_eq!(
            resolved.of_others(&folder, &sshd, Some(&cgroup2)).classes(),
            1
        );
    }
}
