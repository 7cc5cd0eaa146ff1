//! The shared maps as user space uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use chaos_common::counters::Counters;
use chaos_common::interface::{Interface, Naming};
use chaos_common::rule::RuleState;
use chaos_common::target::{COMM, FileId, Named, Process};
use chaos_common::{Plain, bank, control, delay, dims, observe, ops};

use super::events::Events;
use crate::listen::Listen;
use rustix::thread::{MembarrierCommand, membarrier};

use super::banks::Banks;
use super::raw::Raw;
use murphy_fault::plan::Plan;

/// Names of the maps that all objects share.
pub(super) const SHARED: [&str; 34] = [
    "CONTROL",
    "OPS",
    "RULES",
    "CLASSES",
    "STATES",
    "COUNTERS",
    "PIDS",
    "CGROUPS",
    "UIDS",
    "COMMS",
    "NETNS",
    "TIDS",
    "EXES",
    "RPORTS",
    "LPORTS",
    "REMOTE4",
    "REMOTE6",
    "LOCAL4",
    "LOCAL6",
    "INTERFACES",
    "PROTOS",
    "FD_KINDS",
    "FDS",
    "EVENTS",
    "NAMES",
    "ANSWERS",
    "DELAYS",
    "OVERRIDES",
    "OPEN",
    "CALLS",
    "ENTRIES",
    "TREES",
    "URL_PATHS",
    "EXPECTED",
];

/// What the maps of targets hold beside `PIDS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Classes that every process is in.
    pub all: u64,
    /// Id of a cgroup → what it and all below it are named.
    pub cgroups: BTreeMap<u64, Named>,
    /// Depths at which these cgroups lie, a bit each.
    pub levels: u64,
    /// Real user id.
    pub uids: BTreeMap<u32, Named>,
    /// Name of a process, padded with zeros.
    pub comms: BTreeMap<[u8; COMM], Named>,
    /// Inode number of a network namespace.
    pub networks: BTreeMap<u32, Named>,
    /// Executed file.
    pub exes: BTreeMap<FileId, Named>,
}

/// Bytes of the buffer of events when somebody listens: some 10 000 events, a power of two.
const EVENTS_SIZE: u32 = 1 << 20;

/// Connections with requests by HTTP of which something is known; the one that was quiet for longest makes way. With a plan
/// that asks for it from the beginning, and without.
const EXCHANGES_IN_USE: u32 = 1 << 14;
const EXCHANGES: u32 = 1 << 10;

/// Threads that may wait at once.
const WAITERS: u32 = delay::WAITERS as u32;

/// Room for notes that nobody leaves.
const UNOBSERVED: u32 = 64;

/// How many entries the maps need whose size depends on the plan.
pub(super) fn sizes(plan: &Plan, listen: Listen) -> [(&'static str, u32); 9] {
    let masks = &plan.masks;
    let size = |dimension, size| {
        if masks.dimensions & dimension == 0 {
            bank::BANKS
        } else {
            size
        }
    };
    let exchanges = match masks.ops.contains_key(&ops::HTTP) {
        true => EXCHANGES_IN_USE,
        false => EXCHANGES,
    };
    let expected = match plan.observes() {
        true => observe::CALLS,
        false => UNOBSERVED,
    };
    // A delay joins no rules in force, so these need no room for later.
    let (held, orders) = match plan.waits() {
        true => (delay::SLOTS, 2 * WAITERS),
        false => (1, 1),
    };
    let events = match listen {
        // The loader makes a page of it, which is the least there is.
        Listen::Nothing => 1,
        Listen::Injections | Listen::Matches => EVENTS_SIZE,
    };
    [
        ("RPORTS", size(dims::RPORT, bank::BANKS * dims::PORTS)),
        ("LPORTS", size(dims::LPORT, bank::BANKS * dims::PORTS)),
        ("FDS", size(dims::FD, bank::BANKS * dims::FDS)),
        ("PIDS", size(dims::PIDS, dims::PROCESSES)),
        ("EVENTS", events),
        ("EXCHANGES", exchanges),
        ("EXPECTED", expected),
        ("HELD", held),
        ("ORDERS", orders),
    ]
}

/// What processes are named by, and the names.
type NameTable<K> = HashMap<MapData, Raw<K>, Raw<Named>>;

/// Handles of the shared maps. A map that no loaded program uses does not exist
/// and need not be written.
pub(super) struct Maps {
    banks: Banks,
    /// The bank in force.
    bank: u32,
    /// Waits until no program reads the other bank.
    grace: Option<JoinHandle<()>>,
    control: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Raw<Counters>>,
    pids: Option<HashMap<MapData, u32, Raw<Process>>>,
    tids: Option<HashMap<MapData, u32, Raw<Named>>>,
    cgroups: Option<NameTable<u64>>,
    uids: Option<NameTable<u32>>,
    comms: Option<NameTable<[u8; COMM]>>,
    networks: Option<NameTable<u32>>,
    exes: Option<NameTable<FileId>>,
    events: Option<Events>,
}

/// Waits until every program that runs now has ended: BPF programs are RCU readers, and
/// this is a grace period of RCU (`MEMBARRIER_CMD_GLOBAL`, 4.3). Some milliseconds.
fn grace_period() {
    if membarrier(MembarrierCommand::Global).is_err() {
        // Not on this kernel (nohz_full): no program runs as long as this.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// A map that no program uses does not exist.
fn hash<K: Pod, V: Pod>(map: Option<MapData>) -> Result<Option<HashMap<MapData, K, V>>, MapError> {
    map.map(|map| Map::HashMap(map).try_into()).transpose()
}

/// Makes a map hold these entries and no others. Who stays is never missing in between.
fn replace<K: Plain + Ord>(
    map: &mut Option<NameTable<K>>,
    entries: &BTreeMap<K, Named>,
) -> Result<(), MapError> {
    let Some(map) = map else { return Ok(()) };
    for (&key, &named) in entries {
        map.insert(Raw(key), Raw(named), 0)?;
    }
    let gone: Vec<Raw<K>> = map
        .keys()
        .flatten()
        .filter(|Raw(key)| !entries.contains_key(key))
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
        let mut maps = Self {
            banks: Banks::open(|name| pin(name).into())?,
            bank: 0,
            grace: None,
            control: array("CONTROL")?.try_into()?,
            counters: Map::PerCpuArray(MapData::from_pin(pin("COUNTERS"))?).try_into()?,
            pids: hash(open("PIDS"))?,
            tids: hash(open("TIDS"))?,
            cgroups: hash(open("CGROUPS"))?,
            uids: hash(open("UIDS"))?,
            comms: hash(open("COMMS"))?,
            networks: hash(open("NETNS"))?,
            exes: hash(open("EXES"))?,
            events: match listen {
                Listen::Nothing => None,
                Listen::Injections | Listen::Matches => {
                    Some(Events::new(MapData::from_pin(pin("EVENTS"))?)?)
                }
            },
        };
        maps.set(control::EXEMPT_TGID, u64::from(std::process::id()))?;
        maps.flip(plan, 0, &[])?;
        Ok(maps)
    }

    /// Puts another plan in force, in one write. Rules whose slot is `fresh` begin anew.
    /// Who is in its classes must be known by now.
    pub(super) fn replace(&mut self, plan: &Plan, fresh: &[u32]) -> Result<(), MapError> {
        self.settle();
        self.flip(plan, self.other_bank(), fresh)?;
        let waiting = std::thread::Builder::new().spawn(grace_period);
        if waiting.is_err() {
            grace_period();
        }
        self.grace = waiting.ok();
        Ok(())
    }

    /// The bank in force.
    pub(super) fn bank(&self) -> u32 {
        self.bank
    }

    /// The bank that the next plan is written into.
    pub(super) fn other_bank(&self) -> u32 {
        (self.bank + 1) % bank::BANKS
    }

    /// Waits until no program reads the bank that is not in force.
    pub(super) fn settle(&mut self) {
        if let Some(grace) = self.grace.take() {
            let _ = grace.join();
        }
    }

    /// Opens what did not exist before.
    pub(super) fn open_more(&mut self, pin: impl Fn(&str) -> PathBuf) -> Result<(), MapError> {
        let open = |name: &str| MapData::from_pin(pin(name)).ok();
        self.pids = hash(open("PIDS"))?;
        self.tids = hash(open("TIDS"))?;
        self.cgroups = hash(open("CGROUPS"))?;
        self.uids = hash(open("UIDS"))?;
        self.comms = hash(open("COMMS"))?;
        self.networks = hash(open("NETNS"))?;
        self.exes = hash(open("EXES"))?;
        self.banks.open_more(|name| pin(name).into())
    }

    fn flip(&mut self, plan: &Plan, bank: u32, fresh: &[u32]) -> Result<(), MapError> {
        self.banks
            .write(bank, plan, &mut self.control, fresh, &mut self.counters)?;
        self.set(control::DIMS, bank::with(plan.masks.dimensions, bank))?;
        self.bank = bank;
        Ok(())
    }

    /// Sets one control slot.
    pub(super) fn set(&mut self, slot: u32, value: u64) -> Result<(), MapError> {
        self.control.set(slot, value, 0)
    }

    /// Reads one control slot.
    pub(super) fn get(&self, slot: u32) -> Result<u64, MapError> {
        self.control.get(&slot, 0)
    }

    /// What became of the matches of the rule in a slot, over all CPUs.
    pub(super) fn counters(&self, slot: u32) -> Result<Counters, MapError> {
        let values = self.counters.get(&slot, 0)?;
        let all = values.iter().map(|Raw(counters)| counters);
        Ok(all.fold(Counters::default(), Counters::plus))
    }

    /// Says what became of matches before any program counted, of the rule in a slot.
    pub(super) fn begin_with(
        &mut self,
        slot: u32,
        counters: Counters,
        state: RuleState,
    ) -> Result<(), MapError> {
        self.banks.remember(slot, state)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        let mut all = vec![Raw(Counters::default()); cpus];
        // All of them are added up.
        if let Some(first) = all.first_mut() {
            *first = Raw(counters);
        }
        let all = PerCpuValues::try_from(all).map_err(MapError::IoError)?;
        self.counters.set(slot, all, 0)
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
        replace(&mut self.networks, &names.networks)?;
        replace(&mut self.exes, &names.exes)?;
        // Last: who is spared is known by now.
        self.set(control::ALL_MASK, names.all)
    }

    /// Says which interfaces the rules in force name from now on.
    pub(super) fn locate(
        &mut self,
        interfaces: &BTreeMap<Interface, Naming>,
    ) -> Result<(), MapError> {
        self.banks.locate(self.bank, interfaces)
    }

    /// Names a thread group.
    pub(super) fn target(&mut self, tgid: u32, process: Process) -> Result<(), MapError> {
        match &mut self.pids {
            Some(pids) => pids.insert(tgid, Raw(process), 0),
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
        let all = self.pids.iter().flat_map(HashMap::iter).flatten();
        all.map(|(tgid, Raw(process))| (tgid, process)).collect()
    }

    /// Names a thread.
    pub(super) fn target_thread(&mut self, tid: u32, named: Named) -> Result<(), MapError> {
        match &mut self.tids {
            Some(tids) => tids.insert(tid, Raw(named), 0),
            None => Ok(()),
        }
    }

    /// Takes a thread's name away; it may have ended and have none.
    pub(super) fn untarget_thread(&mut self, tid: u32) {
        if let Some(tids) = &mut self.tids {
            let _ = tids.remove(&tid);
        }
    }

    /// The threads that have a name now.
    pub(super) fn threads(&self) -> BTreeMap<u32, Named> {
        let all = self.tids.iter().flat_map(HashMap::iter).flatten();
        all.map(|(tid, Raw(named))| (tid, named)).collect()
    }
}
