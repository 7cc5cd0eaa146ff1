//! The shared maps as user space uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use chaos_common::counters::Counters;
use chaos_common::rule::{Rule, RuleState};
use chaos_common::target::{COMM, FileId, Named, Process};
use chaos_common::{control, dims};

use super::events::{Events, Listen};
use crate::plan::{Dense, Masks, Plan};

/// Names of the maps that all objects share.
pub(super) const SHARED: [&str; 20] = [
    "CONTROL", "OPS", "CALLS", "NAMES", "TREES", "RULES", "STATES", "COUNTERS", "PIDS", "CGROUPS",
    "UIDS", "COMMS", "EXES", "RPORTS", "LPORTS", "REMOTE4", "REMOTE6", "PROTOS", "FD_KINDS",
    "EVENTS",
];

/// What the maps of targets hold beside `PIDS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Rules that target every process.
    pub all: u64,
    /// Id of a cgroup → what it and all below it are named.
    pub cgroups: BTreeMap<u64, Named>,
    /// Depths at which these cgroups lie, a bit each.
    pub levels: u64,
    /// Real user id.
    pub uids: BTreeMap<u32, Named>,
    /// Name of a process, padded with zeros.
    pub comms: BTreeMap<[u8; COMM], Named>,
    /// Executed file.
    pub exes: BTreeMap<FileId, Named>,
}

/// Bytes of the buffer of events when somebody listens: some 10 000 events, a power of two.
const EVENTS_SIZE: u32 = 1 << 20;

/// How many entries the maps need whose size depends on the plan.
pub(super) fn sizes(masks: &Masks, listen: Listen) -> [(&'static str, u32); 5] {
    let size = |dimension, size| {
        if masks.dimensions & dimension == 0 {
            1
        } else {
            size
        }
    };
    let events = match listen {
        // The loader makes a page of it, which is the least there is.
        Listen::Nothing => 1,
        Listen::Injections | Listen::Matches => EVENTS_SIZE,
    };
    [
        ("RPORTS", size(dims::RPORT, dims::PORTS)),
        ("LPORTS", size(dims::LPORT, dims::PORTS)),
        ("PIDS", size(dims::PIDS, dims::PROCESSES)),
        ("EVENTS", events),
        ("DECIDED", size(dims::REPEATED, dims::THREADS)),
    ]
}

/// The dimensions that are arrays: map, content, slot of the rules that do not care.
fn dense(masks: &Masks) -> [(&'static str, &Dense, u32); 4] {
    [
        ("RPORTS", &masks.remote_ports, control::ANY_RPORT),
        ("LPORTS", &masks.local_ports, control::ANY_LPORT),
        ("PROTOS", &masks.protocols, control::ANY_PROTO),
        ("FD_KINDS", &masks.fd_kinds, control::ANY_FD_KIND),
    ]
}

/// Handles of the shared maps. A map that no loaded program uses does not exist
/// and need not be written.
pub(super) struct Maps {
    control: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    pids: Option<HashMap<MapData, u32, Process>>,
    cgroups: Option<HashMap<MapData, u64, Named>>,
    uids: Option<HashMap<MapData, u32, Named>>,
    comms: Option<HashMap<MapData, [u8; COMM], Named>>,
    exes: Option<HashMap<MapData, FileId, Named>>,
    events: Option<Events>,
}

/// A map that no program uses does not exist.
fn hash<K: Pod, V: Pod>(map: Option<MapData>) -> Result<Option<HashMap<MapData, K, V>>, MapError> {
    map.map(|map| Map::HashMap(map).try_into()).transpose()
}

/// Makes a map hold these entries and no others. Who stays is never missing in between.
fn replace<K: Pod + Ord, V: Pod>(
    map: &mut Option<HashMap<MapData, K, V>>,
    entries: &BTreeMap<K, V>,
) -> Result<(), MapError> {
    let Some(map) = map else { return Ok(()) };
    for (key, value) in entries {
        map.insert(key, value, 0)?;
    }
    let gone: Vec<K> = map
        .keys()
        .flatten()
        .filter(|key| !entries.contains_key(key))
        .collect();
    for key in gone {
        map.remove(&key)?;
    }
    Ok(())
}

impl Maps {
    /// Opens the pins and writes a plan into them. Nothing is armed yet.
    pub(super) fn fill(
        pin: impl Fn(&str) -> PathBuf,
        plan: &Plan,
        listen: Listen,
    ) -> Result<Self, MapError> {
        let open = |name: &str| MapData::from_pin(pin(name)).ok();
        let array = |name: &str| MapData::from_pin(pin(name)).map(Map::Array);
        let mut ops: Array<_, u64> = array("OPS")?.try_into()?;
        let mut rules: Array<_, Rule> = array("RULES")?.try_into()?;
        let mut states: Array<_, RuleState> = array("STATES")?.try_into()?;
        for (&operation, &mask) in &plan.masks.ops {
            ops.set(operation, mask, 0)?;
        }
        if let Some(map) = open("CALLS") {
            let mut calls: Array<_, u32> = Map::Array(map).try_into()?;
            for (&call, &entry) in &plan.masks.calls {
                calls.set(call, entry, 0)?;
            }
        }
        for (index, rule) in (0..).zip(&plan.rules) {
            rules.set(index, rule.wire, 0)?;
            states.set(index, RuleState::default(), 0)?;
        }
        for (name, dense, _) in dense(&plan.masks) {
            let Some(map) = open(name) else { continue };
            let mut map: Array<_, u64> = Map::Array(map).try_into()?;
            for (&value, &mask) in &dense.named {
                map.set(value, mask, 0)?;
            }
        }
        if let Some(map) = open("REMOTE4") {
            let mut map: LpmTrie<_, [u8; 4], u64> = Map::LpmTrie(map).try_into()?;
            for (net, mask) in &plan.masks.remote4 {
                map.insert(&Key::new(u32::from(net.prefix), net.address), mask, 0)?;
            }
        }
        if let Some(map) = open("REMOTE6") {
            let mut map: LpmTrie<_, [u8; 16], u64> = Map::LpmTrie(map).try_into()?;
            for (net, mask) in &plan.masks.remote6 {
                map.insert(&Key::new(u32::from(net.prefix), net.address), mask, 0)?;
            }
        }
        let mut maps = Self {
            control: array("CONTROL")?.try_into()?,
            counters: Map::PerCpuArray(MapData::from_pin(pin("COUNTERS"))?).try_into()?,
            pids: hash(open("PIDS"))?,
            cgroups: hash(open("CGROUPS"))?,
            uids: hash(open("UIDS"))?,
            comms: hash(open("COMMS"))?,
            exes: hash(open("EXES"))?,
            events: match listen {
                Listen::Nothing => None,
                _ => Some(Events::new(MapData::from_pin(pin("EVENTS"))?)?),
            },
        };
        for (_, dense, slot) in dense(&plan.masks) {
            maps.set(slot, dense.any)?;
        }
        maps.set(control::ANY_PATH, plan.masks.any_path)?;
        maps.set(control::LISTEN, listen.wire())?;
        maps.set(control::DIMS, plan.masks.dimensions)?;
        maps.set(control::EXEMPT_TGID, u64::from(std::process::id()))?;
        Ok(maps)
    }

    /// Sets one control slot.
    pub(super) fn set(&mut self, slot: u32, value: u64) -> Result<(), MapError> {
        self.control.set(slot, value, 0)
    }

    /// Reads one control slot.
    pub(super) fn get(&self, slot: u32) -> Result<u64, MapError> {
        self.control.get(&slot, 0)
    }

    /// What became of a rule's matches, over all CPUs.
    pub(super) fn counters(&self, rule: u32) -> Result<Counters, MapError> {
        let values = self.counters.get(&rule, 0)?;
        Ok(values.iter().fold(Counters::default(), Counters::plus))
    }

    /// The buffer of events; it can be taken once, where somebody is to listen.
    pub(super) fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Says whom the rules are for, beside thread groups.
    pub(super) fn name(&mut self, names: &Names) -> Result<(), MapError> {
        self.set(control::CGROUP_LEVELS, names.levels)?;
        replace(&mut self.cgroups, &names.cgroups)?;
        replace(&mut self.uids, &names.uids)?;
        replace(&mut self.comms, &names.comms)?;
        replace(&mut self.exes, &names.exes)?;
        // Last: who is spared is known by now.
        self.set(control::ALL_MASK, names.all)
    }

    /// Names a thread group.
    pub(super) fn target(&mut self, tgid: u32, process: Process) -> Result<(), MapError> {
        match &mut self.pids {
            Some(pids) => pids.insert(tgid, process, 0),
            None => Ok(()),
        }
    }

    /// Takes a thread group's name away; it may have ended and have none.
    pub(super) fn untarget(&mut self, tgid: u32) {
        if let Some(pids) = &mut self.pids {
            let _ = pids.remove(&tgid);
        }
    }

    /// The thread groups that have a name now.
    pub(super) fn targets(&self) -> BTreeMap<u32, Process> {
        self.pids.iter().flat_map(HashMap::iter).flatten().collect()
    }
}
