//! Dimensions of the bit-vector classification.
//!
//! Each dimension is a look-up that gives the mask of the rules which name a
//! value; the rules that do not care are or'ed to it. A dimension that no rule
//! speaks of has its bit clear in [`crate::control::DIMS`] and is skipped.

/// Targets by thread group or by the file it executes: map `PIDS`.
pub const PIDS: u64 = 1 << 0;
/// The target is the cgroup of `run`.
pub const RUN_CGROUP: u64 = 1 << 1;
/// Port of the remote end: map `RPORTS`.
pub const RPORT: u64 = 1 << 2;
/// Port of the local end: map `LPORTS`.
pub const LPORT: u64 = 1 << 3;
/// Address of the remote end: maps `REMOTE4`, `REMOTE6`.
pub const REMOTE: u64 = 1 << 4;
/// Transport protocol: map `PROTOS`.
pub const PROTO: u64 = 1 << 5;
/// Kind of a descriptor: map `FD_KINDS`, indexed by the file type in `i_mode >> 12`.
pub const FD_KIND: u64 = 1 << 6;
/// Every process is a target: slot [`crate::control::ALL_MASK`].
pub const ALL: u64 = 1 << 7;
/// Targets by cgroup, with those below it: map `CGROUPS`.
pub const CGROUPS: u64 = 1 << 8;
/// Targets by real user id: map `UIDS`.
pub const UIDS: u64 = 1 << 9;
/// Targets by the name of the process: map `COMMS`.
pub const COMMS: u64 = 1 << 10;
/// `COMMS` names some that are spared, and is looked up for those who would be hit.
pub const SPARED_COMMS: u64 = 1 << 11;
/// `EXES` names files: what is executed is entered into `PIDS`.
pub const EXES: u64 = 1 << 12;
/// Targets by network namespace: map `NETNS`.
pub const NETNS: u64 = 1 << 13;
/// Targets by thread: map `TIDS`.
pub const TIDS: u64 = 1 << 14;
/// Name that a DNS query asks for: map `NAMES`.
pub const NAME: u64 = 1 << 20;
/// Where a file is: maps `ENTRIES` and, with [`TREES`], `TREES` of the LSM object.
pub const PATH: u64 = 1 << 21;
/// Some rule means everything below a folder.
pub const TREES: u64 = 1 << 22;
/// Path that a request by HTTP asks for: map `URL_PATHS`.
pub const URL_PATH: u64 = 1 << 23;
/// Address of the local end: maps `LOCAL4`, `LOCAL6`.
pub const LOCAL: u64 = 1 << 24;
/// How many connections are open: map `OPEN`, for the rules in slot [`crate::control::CONNLIMITS`].
pub const CONNLIMIT: u64 = 1 << 25;
/// Interface that a packet crosses: map `INTERFACES`.
pub const INTERFACE: u64 = 1 << 26;

/// Number of a descriptor: map `FDS`.
pub const FD: u64 = 1 << 27;

/// Dimensions that [`crate::target`] values say something of.
pub const TARGETS: u64 = PIDS | ALL | CGROUPS | UIDS | COMMS | NETNS | TIDS;

/// Dimensions that need a look into the packet.
pub const PACKET: u64 = RPORT | LPORT | REMOTE | LOCAL | PROTO;

/// Entries of `PIDS` when in use: a thread group beyond them is let be.
pub const PROCESSES: u32 = 1 << 15;
/// Entries of `RPORTS` and `LPORTS` when in use.
pub const PORTS: u32 = 1 << 16;
/// Entries of `PROTOS`.
pub const PROTOCOLS: u32 = 1 << 8;
/// Entries of `FDS` when in use: as many descriptors as a process has unless its limit was raised (`RLIMIT_NOFILE`).
pub const FDS: u32 = 1 << 10;
/// Entries of `FD_KINDS`.
pub const KINDS: u32 = 1 << 4;
