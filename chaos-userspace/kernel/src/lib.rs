//! The kernel side, loaded: the only place that imports aya.
//!
//! Programs and links are owned by descriptors of this process: when it ends,
//! however it ends, they are gone. The exception, a tc filter on kernels without
//! tcx, is journalled with the guardian by the engine.

#![deny(clippy::wildcard_enum_match_arm)]

mod attributes;
mod banks;
mod bpffs;
pub mod btf;
pub mod clsact;
mod code;
pub mod connections;
mod error;
mod events;
pub mod inspect;
pub mod links;
pub mod listen;
mod loader;
mod log;
mod maps;
mod missed;
pub mod netem;
mod netlink;
mod objects;
mod parallel;
mod paths;
pub mod privileges;
pub mod probe;
mod raw;
pub mod sleep;
mod sockets;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::thread;

use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry, KProbe,
    LinkOrder, Lsm, ProgramError, RawTracePoint, TcAttachType,
};
use chaos_common::counters::Counters;
use chaos_common::interface::{Interface, Naming};
use chaos_common::rule::RuleState;
use chaos_common::target::{Named, Process};
use chaos_common::{control, dims, lsm};

use crate::listen::Listen;
use bpffs::Bpffs;
use maps::Maps;
use murphy_fault::Family;
use murphy_fault::plan::{Hook, Plan, function};
use murphy_sys::host;
use paths::Folders;

pub use error::{KernelError, Missing};
pub use events::Events;
pub use log::Log;
pub use maps::Names;
pub use missed::Missed;
pub use sockets::are_inherited as sockets_are_inherited;

/// `struct pt_regs`: where the number of the system call is. The kernel's BTF
/// knows the structure too, but the member's name differs by architecture.
#[cfg(target_arch = "x86_64")]
const REGS_SYSCALL: (&str, &str) = ("pt_regs", "orig_ax");
#[cfg(target_arch = "aarch64")]
const REGS_SYSCALL: (&str, &str) = ("pt_regs", "syscallno");

/// Where its first argument is.
#[cfg(target_arch = "x86_64")]
const REGS_FIRST: (&str, &str) = ("pt_regs", "di");
#[cfg(target_arch = "aarch64")]
const REGS_FIRST: (&str, &str) = ("pt_regs", "regs");

/// How a 32-bit system call is told: a bit (`asm/thread_info.h`) of a word in
/// `thread_info`, which begins the task structure.
#[cfg(target_arch = "x86_64")]
const COMPAT: (&str, u32) = ("status", 0x0002); // TS_COMPAT
#[cfg(target_arch = "aarch64")]
const COMPAT: (&str, u32) = ("flags", 1 << 22); // _TIF_32BIT

/// What the names of system calls' functions begin with (`__SYSCALL_DEFINEx`, `asm/syscall_wrapper.h`).
#[cfg(target_arch = "x86_64")]
const SYSCALL_PREFIX: &str = "__x64_";
#[cfg(target_arch = "aarch64")]
const SYSCALL_PREFIX: &str = "__arm64_";

/// Where a hook's programs go.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The hook says it all.
    Everywhere,
    /// A cgroup directory.
    Cgroup(&'a File),
    /// A network interface, by a tcx link.
    Interface {
        /// Its name.
        name: &'a str,
    },
    /// A network interface, by a filter of its clsact qdisc.
    Filter {
        /// Its name.
        name: &'a str,
        /// Priority, unique to this injector.
        priority: u16,
    },
    /// An offset in a file.
    Code {
        /// The file.
        file: &'a Path,
        /// The instruction's offset in it.
        offset: u64,
        /// What its program is told.
        cookie: Option<u64>,
    },
}

/// A plan's programs, loaded but not attached, and its maps, filled but not armed.
pub struct Kernel {
    objects: BTreeMap<Family, Ebpf>,
    maps: Maps,
    folders: Folders,
    /// The kernel's type information, parsed when the first LSM program needs it.
    btf: Option<aya::Btf>,
    /// Places of [`lsm::OPTIONAL`] that this kernel does not have.
    missing: Vec<&'static str>,
    /// Hooks whose programs are loaded.
    hooks: BTreeSet<Hook>,
    /// Probes in programs' code.
    code: code::Links,
    /// How many runs of programs the kernel skipped, once they are detached.
    missed: Missed,
    /// The programs were told where the kernel keeps what tells tasks apart; it cannot be told to them later.
    tells_tasks: bool,
    /// The lines of the network programs, where they are wanted.
    log: Option<Log>,
    /// Holds the pins of the shared maps.
    bpffs: Bpffs,
}

/// A program that is to be loaded.
struct Load {
    /// Which one it is of those that were asked for.
    order: usize,
    hook: Hook,
    name: &'static str,
    place: &'static str,
}

impl Load {
    fn is(&self, family: Family, name: &str) -> bool {
        self.hook.family() == family && self.name == name
    }

    fn carry_out(
        &self,
        program: &mut aya::programs::Program,
        btf: Option<&aya::Btf>,
    ) -> Result<(), KernelError> {
        let (_, function) = self.place.split_once('/').unwrap_or(("", self.place));
        let result = match (program, btf) {
            (aya::programs::Program::Lsm(lsm), Some(btf)) => lsm.load(function, btf),
            (aya::programs::Program::FEntry(fentry), Some(btf)) => {
                fentry.load(&format!("{SYSCALL_PREFIX}{function}"), btf)
            }
            (aya::programs::Program::CgroupSockAddr(program), _) => program.load(),
            (aya::programs::Program::CgroupSock(program), _) => program.load(),
            (aya::programs::Program::CgroupSkb(program), _) => program.load(),
            (aya::programs::Program::SchedClassifier(program), _) => program.load(),
            (aya::programs::Program::RawTracePoint(program), _) => program.load(),
            (aya::programs::Program::KProbe(program), _) => program.load(),
            (aya::programs::Program::UProbe(program), _) => program.load(),
            _ => return Err(KernelError::NoProgram(self.name)),
        };
        result.map_err(|source| KernelError::Load {
            program: self.name,
            place: self.place,
            hook: self.hook,
            source: Box::new(source),
        })
    }
}

/// Loads programs, one on each processor. Of several errors it returns that of the program which
/// was requested first.
fn load_at_once(
    loads: Vec<(Load, &mut aya::programs::Program)>,
    btf: Option<&aya::Btf>,
) -> Result<(), KernelError> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    // An object gives its programs in a random order.
    let order = |(load, _): &(Load, _)| load.order;
    parallel::for_each(loads, order, processors, |(load, program)| {
        load.carry_out(program, btf)
    })
}

impl Kernel {
    /// Loads what a plan needs and nothing else.
    pub fn load(plan: &Plan, listen: Listen, lines: bool) -> Result<Self, KernelError> {
        let mut kernel = Self::prepare(plan, listen, lines)?;
        let hooks: Vec<_> = plan.hooks.iter().copied().collect();
        kernel.load_all(&hooks)?;
        kernel.hooks.extend(hooks);
        kernel.learn(plan, kernel.maps.bank())?;
        Ok(kernel)
    }

    /// Loads the objects of a plan and fills their maps; the kernel has seen no program yet.
    pub fn prepare(plan: &Plan, listen: Listen, lines: bool) -> Result<Self, KernelError> {
        privileges::check(plan)?;
        if plan.families().contains(&Family::Lsm)
            && let Some(active) = host::security_modules()
            && !active.split(',').any(|module| module == "bpf")
        {
            return Err(KernelError::LsmInactive { active });
        }
        let bpffs = Bpffs::detached().map_err(KernelError::Bpffs)?;
        let offsets = Offsets::needed(plan)?;
        let mut objects = BTreeMap::new();
        for family in plan.families() {
            let object = load_object(family, plan, listen, lines, &bpffs, &offsets)?;
            objects.insert(family, object);
        }
        let net = objects.get_mut(&Family::Net).filter(|_| lines);
        let log = net.map(Log::of).transpose()?;
        let maps = Maps::fill(|name| bpffs.path(name), plan, listen)?;
        Ok(Self {
            objects,
            maps,
            folders: Folders::default(),
            btf: None,
            missing: offsets.missing,
            code: code::Links::default(),
            missed: Missed::default(),
            tells_tasks: tells_tasks(plan),
            hooks: BTreeSet::new(),
            log,
            bpffs,
        })
    }

    /// Learns which folders the rules of a plan mean, and writes them into a bank that no program reads, or none by yet.
    fn learn(&mut self, plan: &Plan, bank: u32) -> Result<(), KernelError> {
        if plan.masks.paths.is_empty() {
            return Ok(self.folders.clear(bank)?);
        }
        let teller = Hook::Lsm(lsm::Place::Learn);
        self.load_programs(teller)?;
        self.attach(teller, Place::Everywhere)?;
        let bpffs = &self.bpffs;
        let learnt = self.folders.fill(
            &mut self.maps,
            |name| bpffs.path(name),
            &plan.masks.paths,
            bank,
        );
        // Others pay for what is attached.
        for &(name, _) in teller.programs() {
            if let aya::programs::Program::Lsm(program) = self.program(teller, name)? {
                let _ = program.unload();
            }
        }
        learnt
    }

    /// Loads a hook's programs into the kernel, where the verifier looks at them.
    pub fn load_programs(&mut self, hook: Hook) -> Result<(), KernelError> {
        self.load_all(&[hook])
    }

    /// Loads the programs of several hooks, several at a time: the verifier takes most of an
    /// injection's start, and one processor for each program.
    fn load_all(&mut self, hooks: &[Hook]) -> Result<(), KernelError> {
        let is_lsm = |hook: &Hook| hook.family() == Family::Lsm;
        if self.btf.is_none() && hooks.iter().any(is_lsm) {
            self.btf = Some(aya::Btf::from_sys_fs()?);
        }
        if hooks.iter().any(|hook| matches!(hook, Hook::Sleep(_))) {
            sleep::check()?;
        }
        let mut wanted = self.wanted(hooks)?;
        let mut loads = Vec::new();
        for (&family, object) in &mut self.objects {
            for (name, program) in object.programs_mut() {
                let at = wanted.iter().position(|load| load.is(family, name));
                if let Some(load) = at.map(|at| wanted.swap_remove(at)) {
                    loads.push((load, program));
                }
            }
        }
        load_at_once(loads, self.btf.as_ref())
    }

    /// The programs of some hooks that this kernel has a place for and that are not loaded.
    fn wanted(&self, hooks: &[Hook]) -> Result<Vec<Load>, KernelError> {
        let mut wanted: Vec<Load> = Vec::new();
        for &hook in hooks {
            for &(name, place) in hook.programs() {
                if self.missing.contains(&place) {
                    continue;
                }
                let family = hook.family();
                let program = self
                    .objects
                    .get(&family)
                    .and_then(|object| object.program(name))
                    .ok_or(KernelError::NoProgram(name))?;
                // One program is for all system calls.
                let for_all = matches!(hook, Hook::Override(_) | Hook::Spin(_) | Hook::Uprobe(_));
                let is_there = program.fd().is_ok() || wanted.iter().any(|l| l.is(family, name));
                if for_all && is_there {
                    continue;
                }
                wanted.push(Load {
                    order: wanted.len(),
                    hook,
                    name,
                    place,
                });
            }
        }
        Ok(wanted)
    }

    /// Attaches a hook's programs. They run from now on, and let everything be until armed.
    pub fn attach(&mut self, hook: Hook, place: Place<'_>) -> Result<(), KernelError> {
        let function = symbol(hook);
        for &(name, where_) in hook.programs() {
            if self.missing.contains(&where_) {
                continue;
            }
            let where_ = function.as_deref().unwrap_or(where_);
            let program = self.program(hook, name)?;
            let attached = match (program, place) {
                (aya::programs::Program::UProbe(program), Place::Code { .. }) => {
                    code::attach(program, place).map(|link| self.code.extend(link))
                }
                (program, place) => attach(program, where_, place),
            };
            attached.map_err(|source| KernelError::Attach {
                program: name,
                place: match place {
                    Place::Interface { name } | Place::Filter { name, .. } => {
                        format!("{where_} of {name}")
                    }
                    Place::Code { file, offset, .. } => {
                        format!("{where_} of {} at {offset:#x}", file.display())
                    }
                    Place::Everywhere | Place::Cgroup(_) => where_.to_owned(),
                },
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    fn program(
        &mut self,
        hook: Hook,
        name: &'static str,
    ) -> Result<&mut aya::programs::Program, KernelError> {
        self.objects
            .get_mut(&hook.family())
            .and_then(|object| object.program_mut(name))
            .ok_or(KernelError::NoProgram(name))
    }

    /// A loaded program, for filters that take it by its descriptor.
    pub fn descriptor(
        &mut self,
        hook: Hook,
        name: &'static str,
    ) -> Result<BorrowedFd<'_>, KernelError> {
        let aya::programs::Program::SchedClassifier(program) = self.program(hook, name)? else {
            return Err(KernelError::NoProgram(name));
        };
        let descriptor = program.fd().map_err(|_| KernelError::NoProgram(name))?;
        Ok(descriptor.as_fd())
    }

    /// The map in which programs say until when threads wait; it can be mapped into memory.
    pub fn held_pages(&self) -> Result<BorrowedFd<'_>, KernelError> {
        let object = self.objects.get(&Family::Lsm);
        match object.and_then(|object| object.map("HELD")) {
            Some(aya::maps::Map::Array(map)) => Ok(map.fd().as_fd()),
            _ => Err(KernelError::NoProgram("HELD")),
        }
    }

    /// Sets a slot of [`chaos_common::control`].
    pub fn set_control(&mut self, slot: u32, value: u64) -> Result<(), KernelError> {
        Ok(self.maps.set(slot, value)?)
    }

    /// Reads a slot of [`chaos_common::control`].
    pub fn control(&self, slot: u32) -> Result<u64, KernelError> {
        Ok(self.maps.get(slot)?)
    }

    /// Lets injections happen until this boot time (ns), if armed.
    pub fn lease_until(&mut self, boot_ns: u64) -> Result<(), KernelError> {
        self.set_control(control::LEASE_UNTIL, boot_ns)
    }

    /// What became of the matches so far, of the rule in this slot.
    pub fn counters(&self, slot: u32) -> Result<Counters, KernelError> {
        Ok(self.maps.counters(slot)?)
    }

    /// Says what became of matches before there were programs to count them, of the rule in this slot; nothing has counted
    /// there yet.
    pub fn begin_with(
        &mut self,
        slot: u32,
        counters: Counters,
        state: RuleState,
    ) -> Result<(), KernelError> {
        Ok(self.maps.begin_with(slot, counters, state)?)
    }

    /// Whether another plan finds its targets with the programs that are loaded.
    pub fn can_tell(&self, plan: &Plan) -> bool {
        self.tells_tasks || !tells_tasks(plan)
    }

    /// Loads what another plan needs beside what is loaded; gives its hooks, which are to be attached.
    pub fn extend(&mut self, plan: &Plan, listen: Listen) -> Result<Vec<Hook>, KernelError> {
        let hooks: Vec<_> = plan.hooks.difference(&self.hooks).copied().collect();
        if hooks.is_empty() {
            return Ok(hooks);
        }
        let offsets = Offsets::needed(plan)?;
        self.missing.extend_from_slice(&offsets.missing);
        for family in plan.families() {
            if !self.objects.contains_key(&family) {
                // The reader of lines exists by now and knows one object, so these programs write
                // none.
                let object = load_object(family, plan, listen, false, &self.bpffs, &offsets)?;
                self.objects.insert(family, object);
            }
        }
        let bpffs = &self.bpffs;
        self.maps.open_more(|name| bpffs.path(name))?;
        self.load_all(&hooks)?;
        self.hooks.extend(&hooks);
        Ok(hooks)
    }

    /// Puts another plan in force, in one write; see [`Plan::succeed`].
    pub fn replace(&mut self, plan: &Plan, fresh: &[u32]) -> Result<(), KernelError> {
        // Nearly always this has been over for long.
        self.settle();
        self.learn(plan, self.maps.other_bank())?;
        Ok(self.maps.replace(plan, fresh)?)
    }

    /// Waits until no program judges by the plan before this one any more.
    pub fn settle(&mut self) {
        self.maps.settle();
        // What is left there is meant by no rule, and the next plan's folders try again.
        let _ = self.folders.clear(self.maps.other_bank());
    }

    /// How many runs of the programs the kernel skipped.
    pub fn missed(&self) -> Missed {
        if self.objects.is_empty() {
            return self.missed;
        }
        let of = |observing: bool| {
            let programs = self.objects.values().flat_map(Ebpf::programs);
            programs
                .filter(|(name, _)| {
                    let mut observers = Hook::Observe.programs().iter();
                    observers.any(|(observer, _)| observer == name) == observing
                })
                // One that was not needed is not loaded.
                .filter_map(|(_, program)| program.fd().ok())
                .map(|program| missed::of(program.as_fd()))
                .sum()
        };
        Missed {
            asked: of(false),
            observing: of(true),
        }
    }

    /// Detaches and unloads every program. The maps, and what they counted, stay.
    pub fn detach(&mut self) {
        self.missed = self.missed();
        self.code = code::Links::default();
        // In the order of families: those that inject, then those that see calls come back.
        self.objects.clear();
        // A folder that is held open cannot be unmounted.
        self.folders = Folders::default();
    }

    /// The buffer of events; it can be taken once, where somebody is to listen.
    pub fn take_events(&mut self) -> Option<Events> {
        self.maps.take_events()
    }

    /// The lines of the network programs; they can be taken once, where they are wanted.
    pub fn take_log(&mut self) -> Option<Log> {
        self.log.take()
    }

    /// Says whom the rules are for, beside thread groups.
    pub fn name(&mut self, names: &Names) -> Result<(), KernelError> {
        Ok(self.maps.name(names)?)
    }

    /// Says which interfaces the rules in force name from now on: see [`Plan::located`].
    pub fn locate(&mut self, interfaces: &BTreeMap<Interface, Naming>) -> Result<(), KernelError> {
        Ok(self.maps.locate(interfaces)?)
    }

    /// Names a thread group; `Hook::Follow` does the same for its children.
    pub fn target(&mut self, tgid: u32, process: Process) -> Result<(), KernelError> {
        Ok(self.maps.target(tgid, process)?)
    }

    /// Takes a thread group's name away.
    pub fn untarget(&mut self, tgid: u32) {
        self.maps.untarget(tgid);
    }

    /// The thread groups that have a name now.
    pub fn targets(&self) -> BTreeMap<u32, Process> {
        self.maps.targets()
    }

    /// Names a thread; `Hook::Follow` takes the name away when it ends.
    pub fn target_thread(&mut self, tid: u32, named: Named) -> Result<(), KernelError> {
        Ok(self.maps.target_thread(tid, named)?)
    }

    /// Takes a thread's name away.
    pub fn untarget_thread(&mut self, tid: u32) {
        self.maps.untarget_thread(tid);
    }

    /// The threads that have a name now.
    pub fn threads(&self) -> BTreeMap<u32, Named> {
        self.maps.threads()
    }

    /// Makes the sockets that what this process executes inherits a target's of these classes.
    pub fn own_inherited_sockets(&mut self, classes: u64) -> Result<(), KernelError> {
        match self.objects.get_mut(&Family::Net) {
            Some(object) => sockets::own_inherited(object, classes),
            None => Ok(()),
        }
    }

    /// Makes sockets of a process its own, see [`sockets::own`].
    pub fn own_sockets(
        &mut self,
        process: &murphy_sys::process::Process,
        classes: u64,
        known: &mut BTreeSet<u64>,
    ) -> Result<usize, KernelError> {
        match self.objects.get_mut(&Family::Net) {
            Some(object) => sockets::own(object, process, classes, known),
            None => Ok(0),
        }
    }
}

/// The kernel function that a hook is on, if the hook does not say it.
pub fn symbol(hook: Hook) -> Option<String> {
    if let Hook::Override(call) | Hook::Spin(call) = hook {
        return Some(format!("{SYSCALL_PREFIX}sys_{}", function(call)?));
    }
    None
}

/// Whether a plan chooses among running tasks.
fn tells_tasks(plan: &Plan) -> bool {
    plan.masks.dimensions & dims::TARGETS != 0
}

/// Offsets of structure members, as far as the plan's objects ask for them, and what else the kernel's BTF is asked.
#[derive(Default)]
struct Offsets {
    members: Vec<(Family, &'static str, u32)>,
    missing: Vec<&'static str>,
}

impl Offsets {
    fn needed(plan: &Plan) -> Result<Self, KernelError> {
        let lsm = plan.families().contains(&Family::Lsm);
        let kprobe = plan.families().contains(&Family::Kprobe);
        let follow = plan.hooks.contains(&Hook::Follow);
        let running = tells_tasks(plan);
        let answers = plan
            .hooks
            .iter()
            .any(|hook| matches!(hook, Hook::Uprobe(_)));
        let observe = plan.observes();
        if !lsm && !kprobe && !follow && !running && !observe {
            return Ok(Self::default());
        }
        let btf = btf::Btf::of_kernel()?;
        let mut offsets = Vec::new();
        let mut add = |family, members: &[(&'static str, &'static str, &'static str)]| {
            for &(name, structure, member) in members {
                offsets.push((family, name, btf.offset(structure, member)?));
            }
            Ok::<_, KernelError>(())
        };
        if lsm {
            add(
                Family::Lsm,
                &[
                    ("FILE_INODE", "file", "f_inode"),
                    ("FILE_DENTRY", "file", "f_path"),
                    ("PATH_DENTRY", "path", "dentry"),
                    ("DENTRY_PARENT", "dentry", "d_parent"),
                    ("DENTRY_NAME", "dentry", "d_name"),
                    ("DENTRY_INODE", "dentry", "d_inode"),
                    ("TASK_CRED", "task_struct", "cred"),
                    ("TASK_REAL_CRED", "task_struct", "real_cred"),
                    ("INODE_MODE", "inode", "i_mode"),
                    ("REGS_SYSCALL", REGS_SYSCALL.0, REGS_SYSCALL.1),
                ],
            )?;
        }
        if kprobe {
            add(
                Family::Kprobe,
                &[
                    ("REGS_SYSCALL", REGS_SYSCALL.0, REGS_SYSCALL.1),
                    ("REGS_FIRST", REGS_FIRST.0, REGS_FIRST.1),
                    ("TASK_FILES", "task_struct", "files"),
                    ("FILES_TABLE", "files_struct", "fdt"),
                    ("TABLE_SIZE", "fdtable", "max_fds"),
                    ("TABLE_FILES", "fdtable", "fd"),
                    ("FILE_INODE", "file", "f_inode"),
                    ("INODE_MODE", "inode", "i_mode"),
                ],
            )?;
        }
        if follow {
            add(
                Family::Trace,
                &[
                    ("TASK_TGID", "task_struct", "tgid"),
                    ("TASK_SIGNAL", "task_struct", "signal"),
                    ("SIGNAL_LIVE", "signal_struct", "live"),
                    ("TASK_MM", "task_struct", "mm"),
                    ("MM_EXE", "mm_struct", "exe_file"),
                    ("FILE_INODE", "file", "f_inode"),
                    ("INODE_NUMBER", "inode", "i_ino"),
                    ("INODE_SUPER", "inode", "i_sb"),
                    ("SUPER_DEVICE", "super_block", "s_dev"),
                ],
            )?;
        }
        if observe {
            add(
                Family::Trace,
                &[("REGS_SYSCALL", REGS_SYSCALL.0, REGS_SYSCALL.1)],
            )?;
        }
        if running {
            let uprobe = answers.then_some(Family::Uprobe);
            for family in [Family::Lsm, Family::Net, Family::Kprobe]
                .into_iter()
                .chain(uprobe)
            {
                add(
                    family,
                    &[
                        ("TASK_FLAGS", "task_struct", "flags"),
                        ("TASK_LEADER", "task_struct", "group_leader"),
                        ("TASK_COMM", "task_struct", "comm"),
                        ("TASK_NSPROXY", "task_struct", "nsproxy"),
                        ("NSPROXY_NET", "nsproxy", "net_ns"),
                        ("NET_NUMBER", "net", "ns"),
                    ],
                )?;
            }
        }
        // Structures inside of structures.
        for (name, structure, member) in [
            ("FILE_DENTRY", "path", "dentry"),
            ("DENTRY_NAME", "qstr", "name"),
            ("NET_NUMBER", "ns_common", "inum"),
        ] {
            let inner = btf.offset(structure, member)?;
            for (_, _, offset) in offsets.iter_mut().filter(|(_, of, _)| *of == name) {
                *offset += inner;
            }
        }
        // A later plan may need it of the object that is loaded now.
        if lsm && let Some(index) = btf.parameter("bpf_lsm_inode_setattr", "dentry")? {
            offsets.push((Family::Lsm, "SETATTR_DENTRY", index));
        }
        // A kernel without 32-bit calls may lack the word; then the bit stays 0.
        if (lsm || kprobe)
            && let Ok(word) = btf.offset("thread_info", COMPAT.0)
        {
            let info = btf.offset("task_struct", "thread_info")?;
            for family in [Family::Lsm, Family::Kprobe] {
                offsets.push((family, "TASK_COMPAT", info + word));
                offsets.push((family, "TASK_COMPAT_BIT", COMPAT.1));
            }
        }
        if observe {
            let injecting = [Family::Net, Family::Lsm, Family::Kprobe];
            offsets.extend(injecting.map(|family| (family, "OBSERVE", 1)));
        }
        let mut missing = Vec::new();
        let places = plan.hooks.iter().flat_map(|hook| hook.programs());
        for &(_, place) in places.filter(|(_, place)| lsm::OPTIONAL.contains(place)) {
            if !btf.has_function(&place.replace("lsm/", "bpf_lsm_"))? {
                missing.push(place);
            }
        }
        Ok(Self {
            members: offsets,
            missing,
        })
    }
}

fn load_object(
    family: Family,
    plan: &Plan,
    listen: Listen,
    lines: bool,
    bpffs: &Bpffs,
    offsets: &Offsets,
) -> Result<Ebpf, KernelError> {
    let sizes = maps::sizes(plan, listen);
    let (level, listen) = (log::level(lines), listen.wire());
    let mut loader = loader::new();
    for name in maps::SHARED {
        loader.map_pin_path(name, bpffs.path(name));
    }
    for (name, size) in sizes.into_iter().chain(log::sizes(lines)) {
        loader.map_max_entries(name, size);
    }
    loader.override_global("LISTEN", &listen, true);
    loader.override_global(log::LEVEL, &level, family == Family::Net);
    for (of, name, offset) in &offsets.members {
        if *of == family {
            loader.override_global(name, offset, true);
        }
    }
    let mptcp = u32::from(family == Family::Net && probe::has_mptcp());
    if family == Family::Net {
        loader.override_global("MPTCP", &mptcp, true);
    }
    let object = match family {
        Family::Lsm if plan.waits() => sleep::linked(objects::object(family)),
        Family::Net if !lines => log::silent(objects::object(family)),
        Family::Net | Family::Lsm | Family::Kprobe | Family::Trace | Family::Uprobe => {
            Cow::Borrowed(objects::object(family))
        }
    };
    loader.load(&object).map_err(|source| KernelError::Object {
        family: family.name(),
        source,
    })
}

fn attach(
    program: &mut aya::programs::Program,
    where_: &str,
    place: Place<'_>,
) -> Result<(), ProgramError> {
    use aya::programs::Program;
    // `Single` is what link_create takes; links coexist with other programs all the same.
    let mode = CgroupAttachMode::Single;
    match (program, place) {
        (Program::CgroupSockAddr(program), Place::Cgroup(cgroup)) => {
            CgroupSockAddr::attach(program, cgroup, mode).map(drop)
        }
        (Program::CgroupSock(program), Place::Cgroup(cgroup)) => {
            CgroupSock::attach(program, cgroup, mode).map(drop)
        }
        (Program::CgroupSkb(program), Place::Cgroup(cgroup)) => {
            CgroupSkb::attach(program, cgroup, CgroupSkbAttachType::Ingress, mode).map(drop)
        }
        (Program::Lsm(program), Place::Everywhere) => Lsm::attach(program).map(drop),
        (Program::FEntry(program), Place::Everywhere) => FEntry::attach(program).map(drop),
        (Program::KProbe(program), Place::Everywhere) => {
            KProbe::attach(program, where_, 0).map(drop)
        }
        (Program::RawTracePoint(program), Place::Everywhere) => {
            let (_, name) = where_.split_once('/').unwrap_or(("", where_));
            RawTracePoint::attach(program, name).map(drop)
        }
        (Program::SchedClassifier(program), Place::Interface { name }) => {
            // First in the chain: what another program redirects is lost to us.
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            program
                .attach_with_options(name, side(where_), order)
                .map(drop)
        }
        (Program::SchedClassifier(program), Place::Filter { name, priority }) => {
            let filter = TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: TcHandle::AUTO_ASSIGN,
                classid: None,
            });
            let id = program.attach_with_options(name, side(where_), filter)?;
            // The journal owns the filter: the link would remove it in whatever network
            // namespace it happens to be dropped in.
            std::mem::forget(program.take_link(id)?);
            Ok(())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The side of an interface that a classifier is for, by the name of its place.
fn side(place: &str) -> TcAttachType {
    match clsact::Side::of_place(place) {
        clsact::Side::Ingress => TcAttachType::Ingress,
        clsact::Side::Egress => TcAttachType::Egress,
    }
}

/// Names and ids of murphy's programs in the kernel, whoever loaded them; none where they cannot be listed.
pub fn programs_of_murphy() -> Vec<String> {
    aya::programs::loaded_programs()
        .map_while(Result::ok)
        .filter_map(|program| {
            let name = program.name_as_str()?;
            name.starts_with("murphy_")
                .then(|| format!("{name} ({})", program.id()))
        })
        .collect()
}

/// The file offset of an ELF program's entry point, for [`Hook::Entry`].
pub fn entry_point(program: &Path) -> std::io::Result<u64> {
    let invalid =
        || std::io::Error::new(std::io::ErrorKind::InvalidData, "not a 64-bit ELF program");
    let head = std::fs::read(program)?;
    let field = |at: usize, length: usize| -> std::io::Result<u64> {
        let bytes = head.get(at..at + length).ok_or_else(invalid)?;
        let mut value = [0; 8];
        value[..length].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    };
    // ELF-64 object file format: identification, then e_entry, e_phoff, …, e_phentsize, e_phnum.
    if head.get(..5) != Some(b"\x7fELF\x02") {
        return Err(invalid());
    }
    let (entry, table) = (field(24, 8)?, field(32, 8)?);
    let (size, count) = (field(54, 2)?, field(56, 2)?);
    for segment in 0..count {
        let at = usize::try_from(table + segment * size).map_err(|_| invalid())?;
        let (kind, offset, address) = (field(at, 4)?, field(at + 8, 8)?, field(at + 16, 8)?);
        let length = field(at + 32, 8)?;
        if kind == 1 && (address..address + length).contains(&entry) {
            return Ok(entry - address + offset);
        }
    }
    Err(invalid())
}
