//! Slots of the `CONTROL` array: single `u64`s that user space and the kernel
//! programs write independently of each other.
//!
//! Some belong to one bank of the plan, see [`crate::bank`]; the others stand in the first half only.

/// Boot time in ns after which nothing is injected unless user space renews it.
pub const LEASE_UNTIL: u32 = 0;
/// Boot time in ns since which rules are armed; 0: not armed, nothing matches.
pub const ARMED_AT: u32 = 1;
/// Dimensions that some rule speaks of, a set of [`crate::dims`] bits, and with them the
/// bank in force: a write of this slot puts another plan in force.
pub const DIMS: u32 = 2;
/// Id of the cgroup that `run` made for its command; 0: none.
pub const RUN_CGROUP: u32 = 3;
/// Depth of that cgroup below the root of the hierarchy. Found by the kernel
/// program that arms: inside a cgroup namespace user space cannot know it.
pub const RUN_CGROUP_LEVEL: u32 = 4;
/// The class of the command of `run`, as a mask.
pub const RUN_MASK: u32 = 5;
/// What arms the rules: one of [`ARM_BY_EXEC`], [`ARM_BY_ENTRY`]; 0: user space did.
pub const ARM_BY: u32 = 6;
/// Thread group that is never hit: the injector itself.
pub const EXEMPT_TGID: u32 = 7;
/// Rules that do not care about the remote port. By bank, as the next three.
pub const ANY_RPORT: u32 = 8;
/// Rules that do not care about the local port.
pub const ANY_LPORT: u32 = 9;
/// Rules that do not care about the protocol.
pub const ANY_PROTO: u32 = 10;
/// Rules that do not care about the kind of a descriptor.
pub const ANY_FD_KIND: u32 = 11;
/// Classes that every process is in.
pub const ALL_MASK: u32 = 12;
/// Depths below the root at which named cgroups lie: bit n stands for depth n.
pub const CGROUP_LEVELS: u32 = 13;
/// Another thread group that is never hit: the injector's guardian.
pub const EXEMPT_HELPER: u32 = 14;
/// Pages that were taken for threads to wait for. Changed atomically.
pub const PAGES_TAKEN: u32 = 15;
/// Events that found the buffer full. Changed atomically.
pub const EVENTS_LOST: u32 = 16;
/// By what packets of this injector are told that a hook has seen already: see [`crate::mark`].
pub const PACKET_TAG: u32 = 17;
/// Rules that do not care where a file is. By bank.
pub const ANY_PATH: u32 = 18;
/// User space sets this to [`LEARN`] and opens a directory; the kernel program puts the address of its inode here.
pub const LEARNED: u32 = 19;
/// Rules that have a limit of connections. By bank.
pub const CONNLIMITS: u32 = 20;
/// Rules that do not care about the interface. By bank.
pub const ANY_INTERFACE: u32 = 21;
/// Rules that do not care about the number of a descriptor. By bank.
pub const ANY_FD: u32 = 22;
/// Another thread group that is never hit: the server of what threads wait for, see [`crate::delay`].
pub const EXEMPT_SERVER: u32 = 23;
/// Another one: the process that has mapped it.
pub const DELAY_HOLDER: u32 = 24;
/// Where it is mapped there; 0: no thread waits.
pub const DELAY_BASE: u32 = 25;
/// Bytes of a page.
pub const DELAY_PAGE: u32 = 26;
/// Threads that wait. Changed atomically.
pub const WAITING: u32 = 27;
/// Number of slots of a bank.
pub const SLOTS: u32 = 28;

/// The slot of a bank.
#[inline(always)]
#[must_use]
pub const fn of_bank(slot: u32, bank: u32) -> u32 {
    slot + bank * SLOTS
}

/// Nobody listens: no event is written.
pub const LISTEN_NOTHING: u32 = 0;
/// Injections alone are written.
pub const LISTEN_INJECTIONS: u32 = 1;
/// Every match is written, whatever became of it.
pub const LISTEN_MATCHES: u32 = 2;

/// The first successful execve inside the run cgroup arms.
pub const ARM_BY_EXEC: u64 = 1;
/// The command's arrival at its ELF entry point arms: the dynamic loader is spared.
pub const ARM_BY_ENTRY: u64 = 2;

/// How deep below the root a run cgroup or a target may lie. Deeper ones are refused.
pub const MAX_CGROUP_LEVEL: u32 = 32;

/// The next directory that the injector opens is to be learnt.
pub const LEARN: u64 = 1;
