//! What a plan writes: two banks of the same maps, one of them in force.

use std::collections::BTreeMap;
use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use chaos_common::answer::Answer;
use chaos_common::connlimit::Open;
use chaos_common::counters::Counters;
use chaos_common::interface::{Interface, Naming};
use chaos_common::rule::{Rule, RuleState};
use chaos_common::{MAX_RULES, bank, control, dims, name, ops, target, url};

use super::raw::Raw;
use murphy_fault::Effect;
use murphy_fault::plan::{Backend, Dense, Masks, Plan, Prefix, answer};

/// The dimensions that are arrays: map, values of a bank, slot of the rules that do not care.
const DENSE: [(&str, u32, u32); 5] = [
    ("RPORTS", dims::PORTS, control::ANY_RPORT),
    ("LPORTS", dims::PORTS, control::ANY_LPORT),
    ("PROTOS", dims::PROTOCOLS, control::ANY_PROTO),
    ("FD_KINDS", dims::KINDS, control::ANY_FD_KIND),
    ("FDS", dims::FDS, control::ANY_FD),
];

/// What they hold, in the same order.
fn dense(masks: &Masks) -> [&Dense; 5] {
    [
        &masks.remote_ports,
        &masks.local_ports,
        &masks.protocols,
        &masks.fd_kinds,
        &masks.fds,
    ]
}

type Trie<const N: usize> = Option<LpmTrie<MapData, [u8; N], u64>>;

/// Handles of the maps that a plan is written into. One that no loaded program uses does
/// not exist.
pub(super) struct Banks {
    ops: Array<MapData, u64>,
    rules: Array<MapData, Raw<Rule>>,
    open: Option<Array<MapData, Raw<Open>>>,
    states: Array<MapData, Raw<RuleState>>,
    classes: Array<MapData, u64>,
    calls: Option<Array<MapData, u32>>,
    dense: [Option<Array<MapData, u64>>; 5],
    remote4: Trie<5>,
    remote6: Trie<17>,
    local4: Trie<5>,
    local6: Trie<17>,
    interfaces: Option<HashMap<MapData, Raw<Interface>, Raw<Naming>>>,
    names: Trie<{ name::SIZE }>,
    url_paths: Trie<{ url::KEY }>,
    answers: Option<Array<MapData, [u8; 16]>>,
    delays: Option<Array<MapData, u64>>,
    overrides: Option<Array<MapData, Raw<Answer>>>,
    /// What each bank holds.
    held: [Masks; bank::BANKS as usize],
}

impl Banks {
    /// Opens the pins.
    pub(super) fn open(pin: impl Fn(&str) -> Box<Path>) -> Result<Self, MapError> {
        let array = |name: &str| MapData::from_pin(pin(name)).map(Map::Array);
        let mut banks = Self {
            ops: array("OPS")?.try_into()?,
            rules: array("RULES")?.try_into()?,
            open: None,
            states: array("STATES")?.try_into()?,
            classes: array("CLASSES")?.try_into()?,
            calls: None,
            dense: [const { None }; 5],
            remote4: None,
            remote6: None,
            local4: None,
            local6: None,
            interfaces: None,
            names: None,
            url_paths: None,
            answers: None,
            delays: None,
            overrides: None,
            held: Default::default(),
        };
        banks.open_more(pin)?;
        Ok(banks)
    }

    /// Opens what did not exist before: no bank holds anything of it.
    pub(super) fn open_more(&mut self, pin: impl Fn(&str) -> Box<Path>) -> Result<(), MapError> {
        let open = |name: &str| MapData::from_pin(pin(name)).ok();
        let trie = |name: &str| open(name).map(Map::LpmTrie);
        for (place, (name, ..)) in self.dense.iter_mut().zip(DENSE) {
            *place = open(name)
                .map(|map| Map::Array(map).try_into())
                .transpose()?;
        }
        self.remote4 = trie("REMOTE4").map(TryInto::try_into).transpose()?;
        self.remote6 = trie("REMOTE6").map(TryInto::try_into).transpose()?;
        self.local4 = trie("LOCAL4").map(TryInto::try_into).transpose()?;
        self.local6 = trie("LOCAL6").map(TryInto::try_into).transpose()?;
        self.interfaces = open("INTERFACES")
            .map(|map| Map::HashMap(map).try_into())
            .transpose()?;
        self.names = trie("NAMES").map(TryInto::try_into).transpose()?;
        self.url_paths = trie("URL_PATHS").map(TryInto::try_into).transpose()?;
        self.calls = open("CALLS")
            .map(|map| Map::Array(map).try_into())
            .transpose()?;
        self.open = open("OPEN")
            .map(|map| Map::Array(map).try_into())
            .transpose()?;
        self.answers = open("ANSWERS")
            .map(|map| Map::Array(map).try_into())
            .transpose()?;
        self.delays = open("DELAYS")
            .map(|map| Map::Array(map).try_into())
            .transpose()?;
        self.overrides = open("OVERRIDES")
            .map(|map| Map::Array(map).try_into())
            .transpose()?;
        Ok(())
    }

    /// Sets what the rule of a slot remembers.
    pub(super) fn remember(&mut self, slot: u32, state: RuleState) -> Result<(), MapError> {
        self.states.set(slot, Raw(state), 0)
    }

    /// Writes a plan into a bank that no program reads. Rules of slots in `fresh` begin anew.
    pub(super) fn write(
        &mut self,
        bank: u32,
        plan: &Plan,
        control: &mut Array<MapData, u64>,
        fresh: &[u32],
        counters: &mut PerCpuArray<MapData, Raw<Counters>>,
    ) -> Result<(), MapError> {
        let masks = &plan.masks;
        let at = |size: u32, value: u32| bank::index(bank::with(0, bank), size, value);
        let old = std::mem::take(&mut self.held[bank as usize]);
        for (operation, mask) in changes(&old.ops, &masks.ops) {
            self.ops.set(at(ops::COUNT, operation), mask, 0)?;
        }
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        for &slot in fresh {
            let zero = PerCpuValues::try_from(vec![Raw(Counters::default()); cpus]);
            counters.set(slot, zero.map_err(MapError::IoError)?, 0)?;
            self.states.set(slot, Raw(RuleState::default()), 0)?;
        }
        for rule in plan.rules.iter().filter(|r| fresh.contains(&r.wire.slot)) {
            let none = Open {
                sockets: 0,
                since_ns: rule.wire.since_ns,
            };
            if let Some(open) = &mut self.open {
                open.set(rule.wire.slot, Raw(none), 0)?;
            }
        }
        for (index, rule) in (0..).zip(&plan.rules) {
            self.rules.set(at(MAX_RULES, index), Raw(rule.wire), 0)?;
        }
        for class in 0..old.classes.len().max(masks.classes.len()) {
            let rules = masks.classes.get(class).copied().unwrap_or(0);
            self.classes
                .set(at(target::CLASSES, class as u32), rules, 0)?;
        }
        let values = dense(&old).into_iter().zip(dense(masks));
        for ((map, (_, size, any)), (old, new)) in self.dense.iter_mut().zip(DENSE).zip(values) {
            control.set(control::of_bank(any, bank), new.any, 0)?;
            let Some(map) = map else { continue };
            for (value, mask) in changes(&old.named, &new.named) {
                map.set(at(size, value), mask, 0)?;
            }
        }
        control.set(control::of_bank(control::ANY_PATH, bank), masks.any_path, 0)?;
        let any_interface = control::of_bank(control::ANY_INTERFACE, bank);
        control.set(any_interface, masks.any_interface, 0)?;
        named(
            &mut self.interfaces,
            bank,
            &old.interfaces,
            &masks.interfaces,
        )?;
        let connlimits = control::of_bank(control::CONNLIMITS, bank);
        control.set(connlimits, masks.connlimits, 0)?;
        // The same in both banks, since it is the same in every plan.
        if let Some(calls) = &mut self.calls {
            for (&call, &entry) in &masks.calls {
                calls.set(call, entry, 0)?;
            }
        }
        prefixes(&mut self.remote4, bank, &old.remote4, &masks.remote4)?;
        prefixes(&mut self.remote6, bank, &old.remote6, &masks.remote6)?;
        prefixes(&mut self.local4, bank, &old.local4, &masks.local4)?;
        prefixes(&mut self.local6, bank, &old.local6, &masks.local6)?;
        texts(&mut self.names, bank, &old.names, &masks.names)?;
        texts(&mut self.url_paths, bank, &old.url_paths, &masks.url_paths)?;
        for rule in &plan.rules {
            if let Some(answers) = &mut self.answers
                && let Effect::Wire(wire) = &rule.fault.effect
                && let Some(address) = wire.address()
            {
                answers.set(rule.wire.slot, address, 0)?;
            }
            if let Some(delays) = &mut self.delays
                && let Effect::Netem(netem) = &rule.fault.effect
                && let Some(delay) = netem.only_delay()
            {
                delays.set(rule.wire.slot, delay.0, 0)?;
            }
            if let Some(overrides) = &mut self.overrides
                && matches!(rule.backend, Backend::Override | Backend::Uprobe)
            {
                overrides.set(rule.wire.slot, Raw(answer(&rule.fault.effect)), 0)?;
            }
        }
        self.held[bank as usize] = masks.clone();
        Ok(())
    }

    /// Writes which interfaces the rules of a bank name from now on.
    pub(super) fn locate(
        &mut self,
        bank: u32,
        interfaces: &BTreeMap<Interface, Naming>,
    ) -> Result<(), MapError> {
        let held = &mut self.held[bank as usize].interfaces;
        named(&mut self.interfaces, bank, held, interfaces)?;
        held.clone_from(interfaces);
        Ok(())
    }
}

/// Writes what differs between two tables of interfaces. Who stays is never missing in between.
fn named(
    map: &mut Option<HashMap<MapData, Raw<Interface>, Raw<Naming>>>,
    bank: u32,
    old: &BTreeMap<Interface, Naming>,
    new: &BTreeMap<Interface, Naming>,
) -> Result<(), MapError> {
    let Some(map) = map else { return Ok(()) };
    let key = |interface: &Interface| Raw(Interface { bank, ..*interface });
    // First, so that there is room for the others.
    for interface in old.keys().filter(|known| !new.contains_key(known)) {
        map.remove(&key(interface))?;
    }
    for (interface, naming) in new {
        if old.get(interface) != Some(naming) {
            map.insert(key(interface), Raw(*naming), 0)?;
        }
    }
    Ok(())
}

/// What has to be written so that one table becomes another: 0 where nothing is to be.
fn changes<'a>(
    old: &'a BTreeMap<u32, u64>,
    new: &'a BTreeMap<u32, u64>,
) -> impl Iterator<Item = (u32, u64)> + 'a {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let other = new.iter().filter(|(key, mask)| old.get(key) != Some(mask));
    gone.map(|&key| (key, 0))
        .chain(other.map(|(&key, &mask)| (key, mask)))
}

/// The same for prefixes; the key begins with the bank.
fn prefixes<const N: usize, const M: usize>(
    trie: &mut Option<LpmTrie<MapData, [u8; M], u64>>,
    bank: u32,
    old: &BTreeMap<Prefix<N>, u64>,
    new: &BTreeMap<Prefix<N>, u64>,
) -> Result<(), MapError>
where
    [u8; M]: Pod,
{
    let Some(trie) = trie else { return Ok(()) };
    let key = |net: &Prefix<N>| {
        let mut bytes = [bank as u8; M];
        bytes[M - N..].copy_from_slice(&net.address);
        Key::new(8 + u32::from(net.prefix), bytes)
    };
    for net in old.keys().filter(|net| !new.contains_key(net)) {
        trie.remove(&key(net))?;
    }
    for (net, mask) in new.iter().filter(|(net, mask)| old.get(net) != Some(mask)) {
        trie.insert(&key(net), mask, 0)?;
    }
    Ok(())
}

/// The same for names and paths, as [`chaos_common::name`] and [`chaos_common::url`] spell them.
fn texts<const N: usize>(
    trie: &mut Trie<N>,
    bank: u32,
    old: &BTreeMap<Vec<u8>, u64>,
    new: &BTreeMap<Vec<u8>, u64>,
) -> Result<(), MapError>
where
    [u8; N]: Pod,
{
    let Some(trie) = trie else { return Ok(()) };
    let key = |text: &Vec<u8>| {
        let mut bytes = [0; N];
        bytes[0] = bank as u8;
        bytes[1..=text.len()].copy_from_slice(text);
        Key::new((1 + text.len() as u32) * u8::BITS, bytes)
    };
    for text in old.keys().filter(|text| !new.contains_key(*text)) {
        trie.remove(&key(text))?;
    }
    for (text, mask) in new
        .iter()
        .filter(|(text, mask)| old.get(*text) != Some(mask))
    {
        trie.insert(&key(text), mask, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let old = BTreeMap::from([(1, 1), (2, 2), (3, 3)]);
        let new = BTreeMap::from([(2, 2), (3, 4), (5, 5)]);
        let written: Vec<_> = changes(&old, &new).collect();
        assert_eq!(written, [(1, 0), (3, 4), (5, 5)]);
    }
}
