//! Maps that all objects share. The loader gives each name one map.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use chaos_common::answer::Answer;
use chaos_common::connlimit::Open;
use chaos_common::counters::Counters;
use chaos_common::interface::{self, Interface, Naming};
use chaos_common::observe::Expected;
use chaos_common::rule::{Rule, RuleState};
use chaos_common::target::{FileId, Named, Process};
use chaos_common::{MAX_RULES, bank, control, dims, name, ops, target, url};

/// Slots of [`control`].
#[map]
pub static CONTROL: Array<u64> = Array::with_max_entries(bank::BANKS * control::SLOTS, 0);

/// Operation → rules that name it.
#[map]
pub static OPS: Array<u64> = Array::with_max_entries(bank::BANKS * ops::COUNT, 0);

/// The rules, by their bit.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// Class of targets → rules that target it.
#[map]
pub static CLASSES: Array<u64> = Array::with_max_entries(bank::BANKS * target::CLASSES, 0);

/// What the rules remember, by their slot: those of both banks have one each.
#[map]
pub static STATES: Array<RuleState> = Array::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// What became of the matches, by slot.
#[map]
pub static COUNTERS: PerCpuArray<Counters> =
    PerCpuArray::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// Thread group → what it is named. One entry unless in use.
#[map]
pub static PIDS: HashMap<u32, Process> = HashMap::with_max_entries(1, 0);

/// Thread → what it is named, until it ends.
#[map]
pub static TIDS: HashMap<u32, Named> = HashMap::with_max_entries(1024, 0);

/// Id of a cgroup → what it and all below it are named.
#[map]
pub static CGROUPS: HashMap<u64, Named> = HashMap::with_max_entries(1024, 0);

/// Real user id → what its processes are named.
#[map]
pub static UIDS: HashMap<u32, Named> = HashMap::with_max_entries(256, 0);

/// Name of a process, padded with zeros, in memory order → what it is named.
#[map]
pub static COMMS: HashMap<[u64; 2], Named> = HashMap::with_max_entries(256, 0);

/// Inode number of a network namespace → what the processes in it are named.
#[map]
pub static NETNS: HashMap<u32, Named> = HashMap::with_max_entries(256, 0);

/// File → what the processes that execute it are named.
#[map]
pub static EXES: HashMap<FileId, Named> = HashMap::with_max_entries(256, 0);

/// Port of the remote end → rules that name it. An entry a bank unless in use.
#[map]
pub static RPORTS: Array<u64> = Array::with_max_entries(1, 0);

/// Port of the local end → rules that name it. An entry a bank unless in use.
#[map]
pub static LPORTS: Array<u64> = Array::with_max_entries(1, 0);

/// IPv4 address of the remote end → rules that accept it. Each entry holds the
/// union of the prefixes that cover it; the empty prefix those that do not care. The
/// first byte is the bank.
#[map]
pub static REMOTE4: LpmTrie<[u8; 5], u64> = LpmTrie::with_max_entries(1024, 1);

/// The same for IPv6.
#[map]
pub static REMOTE6: LpmTrie<[u8; 17], u64> = LpmTrie::with_max_entries(1024, 1);

/// IPv4 address of the local end → rules that accept it, as in [`REMOTE4`].
#[map]
pub static LOCAL4: LpmTrie<[u8; 5], u64> = LpmTrie::with_max_entries(1024, 1);

/// The same for IPv6.
#[map]
pub static LOCAL6: LpmTrie<[u8; 17], u64> = LpmTrie::with_max_entries(1024, 1);

/// Interface → rules that name it. One that no rule names is not there.
#[map]
pub static INTERFACES: HashMap<Interface, Naming> =
    HashMap::with_max_entries(interface::ENTRIES, BPF_F_NO_PREALLOC);

/// Transport protocol → rules that name it.
#[map]
pub static PROTOS: Array<u64> = Array::with_max_entries(bank::BANKS * dims::PROTOCOLS, 0);

/// File type (`i_mode >> 12`) → rules that name it.
#[map]
pub static FD_KINDS: Array<u64> = Array::with_max_entries(bank::BANKS * dims::KINDS, 0);

/// Number of a descriptor → rules that name it. An entry a bank unless in use.
#[map]
pub static FDS: Array<u64> = Array::with_max_entries(1, 0);

/// Name of a DNS query, as [`chaos_common::name`] spells it → rules that accept it. Each entry
/// holds the union of those it continues; the empty one those that do not care. The first byte is the bank.
#[map]
pub static NAMES: LpmTrie<[u8; name::SIZE], u64> = LpmTrie::with_max_entries(1024, 1);

/// Path that a request by HTTP asks for, as [`chaos_common::url`] spells it → rules that accept it. Each entry
/// holds the union of those it continues; the empty one those that do not care. The first byte is the bank.
#[map]
pub static URL_PATHS: LpmTrie<[u8; url::KEY], u64> = LpmTrie::with_max_entries(1024, 1);

/// Slot of a rule → connections that are open of those it looks at.
#[map]
pub static OPEN: Array<Open> = Array::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// Slot of a rule → the address it answers with, in network byte order.
#[map]
pub static ANSWERS: Array<[u8; 16]> = Array::with_max_entries(MAX_RULES, 0);

/// Slot of a rule → by how many ns its packets are late, if that is all it does.
#[map]
pub static DELAYS: Array<u64> = Array::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// Slot of a rule → what it makes of a call that is answered in the kernel's place.
#[map]
pub static OVERRIDES: Array<Answer> = Array::with_max_entries(bank::BANKS * MAX_RULES, 0);

/// Thread, as `bpf_get_current_pid_tgid` names it → what the call that it is in was made to give. A few entries unless
/// somebody observes.
#[map]
pub static EXPECTED: LruHashMap<u64, Expected> = LruHashMap::with_max_entries(64, 0);

/// Decisions, for whoever listens. One page unless somebody does.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// One slot of [`CONTROL`].
#[inline(always)]
pub fn control(slot: u32) -> u64 {
    CONTROL.get(slot).copied().unwrap_or(0)
}

/// Sets one slot of [`CONTROL`].
#[inline(always)]
pub fn set_control(slot: u32, value: u64) {
    if let Some(place) = CONTROL.get_ptr_mut(slot) {
        // SAFETY: the pointer is to a live array element; the store is one u64.
        unsafe { place.write_volatile(value) }
    }
}

/// One slot of [`CONTROL`] that belongs to the bank in force.
#[inline(always)]
pub fn banked(dimensions: u64, slot: u32) -> u64 {
    control(control::of_bank(slot, bank::of(dimensions)))
}

/// Rules that accept an IPv4 remote address.
#[inline(always)]
pub fn accept_remote4(dimensions: u64, address: [u8; 4]) -> u64 {
    accept4(&REMOTE4, dimensions, address)
}

/// Rules that accept an IPv6 remote address.
#[inline(always)]
pub fn accept_remote6(dimensions: u64, address: &[u8; 16]) -> u64 {
    accept6(&REMOTE6, dimensions, address)
}

/// Rules that accept an IPv4 local address.
#[inline(always)]
pub fn accept_local4(dimensions: u64, address: [u8; 4]) -> u64 {
    accept4(&LOCAL4, dimensions, address)
}

/// Rules that accept an IPv6 local address.
#[inline(always)]
pub fn accept_local6(dimensions: u64, address: &[u8; 16]) -> u64 {
    accept6(&LOCAL6, dimensions, address)
}

#[inline(always)]
fn accept4(map: &LpmTrie<[u8; 5], u64>, dimensions: u64, address: [u8; 4]) -> u64 {
    let mut key = [bank::of(dimensions) as u8; 5];
    for (i, byte) in address.iter().enumerate() {
        key[1 + i] = *byte;
    }
    map.get(Key::new(8 + 32, key)).copied().unwrap_or(0)
}

#[inline(always)]
fn accept6(map: &LpmTrie<[u8; 17], u64>, dimensions: u64, address: &[u8; 16]) -> u64 {
    // Filled where it is: an address that is copied about takes much of a stack.
    let mut key = Key::new(8 + 128, [bank::of(dimensions) as u8; 17]);
    for (i, byte) in address.iter().enumerate() {
        key.data[1 + i] = *byte;
    }
    map.get(&key).copied().unwrap_or(0)
}
