//! Who would be hit: looked at without touching anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::session::{Session, find_cgroup2};
use super::targets::{Class, Targets, cgroup_of, container_of};
use super::{EngineError, interfaces, processes};
use murphy_fault::plan::Plan;
use murphy_kernel::KernelError;
use murphy_mechanisms as mechanisms;
use murphy_sys::process::Identity;

/// The processes that a target means at the moment, among all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Those that are hit. None for `run`, whose command is still to come.
    pub hit: Vec<Process>,
    /// How many processes there are, without kernel threads.
    pub all: usize,
    /// Network interfaces that are up.
    pub interfaces: Vec<String>,
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The file it executes.
    pub exe: Option<PathBuf>,
    /// Device and inode of that file, by which it is known under any name.
    #[serde(skip)]
    pub exe_id: Option<(u64, u64)>,
    /// Its real user id.
    pub uid: Option<u32>,
    /// The path of its cgroup.
    pub cgroup: Option<String>,
    /// The systemd units it is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// The id of the container it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str(&self.comm),
            pid => write!(f, "{} ({pid})", self.comm),
        }
    }
}

impl Survey {
    /// Looks at the machine, for a plan.
    ///
    /// # Errors
    ///
    /// A target means nothing, or what is never hit; an interface that a fault names is not there.
    pub fn of(plan: &Plan) -> Result<Self, EngineError> {
        let all = processes::all();
        let classes = Class::of(plan.running());
        let hit = if classes.is_empty() {
            interfaces::locate(plan.clone(), [None])?;
            Vec::new()
        } else {
            let targets = targets(classes, plan)?;
            if plan.names_interfaces() {
                let netns = Session::namespaces(&targets, &[])?;
                interfaces::locate(plan.clone(), netns.iter().map(Option::as_ref))?;
            }
            targets
                .members()
                .map(|member| process(member, &all))
                .collect()
        };
        let users = |stat: &&processes::Stat| stat.flags & chaos_common::target::KERNEL_THREAD == 0;
        Ok(Self {
            hit,
            all: all.values().filter(users).count(),
            interfaces: interfaces::up()
                .unwrap_or_default()
                .into_iter()
                .map(|interface| interface.name)
                .collect(),
        })
    }

    /// Which part of all processes is hit, in parts of a hundred.
    pub fn share(&self) -> f64 {
        match self.all {
            0 => 0.0,
            all => 100.0 * self.hit.len() as f64 / all as f64,
        }
    }
}

/// Looks whether a plan could be carried out against the processes that it means now. Nothing is
/// changed.
///
/// # Errors
///
/// It could not: those that arming would have, as far as looking tells.
pub fn rehearse(plan: &Plan) -> Result<(), EngineError> {
    let classes = Class::of(plan.running());
    let members = match classes.is_empty() {
        true => Vec::new(),
        false => targets(classes, plan)?.classes_of_members().collect(),
    };
    Ok(mechanisms::rehearse(plan, &members)?)
}

fn targets(classes: Vec<Class>, plan: &Plan) -> Result<Targets, EngineError> {
    let cgroup2 = find_cgroup2()?;
    if plan.uses_programs() && cgroup2.is_none() {
        return Err(EngineError::Kernel(KernelError::NoCgroup2));
    }
    Targets::resolve(classes, cgroup2)
}

fn process(member: Identity, all: &BTreeMap<u32, processes::Stat>) -> Process {
    let pid = member.id;
    // All that is said of it is read through one folder: of one process, or of none.
    let folder = member.folder().ok();
    let folder = folder.as_ref();
    let cgroup = folder
        .and_then(|folder| folder.read_text("cgroup").ok())
        .and_then(|text| cgroup_of(&text));
    let units = cgroup
        .iter()
        .flat_map(|path| path.split('/'))
        .filter(|part| {
            [".service", ".scope", ".slice", ".socket"]
                .iter()
                .any(|suffix| part.ends_with(suffix))
        })
        .map(str::to_owned)
        .collect();
    Process {
        pid,
        comm: all
            .get(&pid)
            .map(|stat| stat.name.clone())
            .unwrap_or_default(),
        exe: folder.and_then(|folder| folder.read_link("exe").ok()),
        exe_id: folder
            .and_then(|folder| folder.stat("exe").ok())
            .map(|file| (file.st_dev, file.st_ino)),
        uid: folder.and_then(|folder| folder.status_number("Uid:").ok()),
        container: cgroup.as_deref().and_then(container_of),
        units,
        cgroup,
    }
}
