//! Which environment must have what: there, a skip is a failure.

use std::{env, fs};

use crate::need::Need;

/// Each row: an environment, and the needs that it must meet. Tools are expected everywhere
/// (`cargo xtask setup` installs them), and the host is judged by [`host_must_have`].
const TABLE: [(&str, &[Need]); 5] = [
    (
        "bookworm",
        &[
            Need::Root,
            Need::Cgroup2,
            Need::Bpf,
            Need::Atomics,
            Need::Spins,
            Need::BpfLsm,
            Need::Tracefs,
            Need::Netem,
            Need::Vlan,
            Need::Fuse,
        ],
    ),
    (
        "trixie",
        &[
            Need::Root,
            Need::Cgroup2,
            Need::Bpf,
            Need::Atomics,
            Need::Spins,
            Need::BpfLsm,
            Need::TaskFromPid,
            Need::Tcx,
            Need::Tracefs,
            Need::Netem,
            Need::Vlan,
            Need::Fuse,
        ],
    ),
    (
        "sid",
        &[
            Need::Root,
            Need::Cgroup2,
            Need::Bpf,
            Need::Atomics,
            Need::Spins,
            Need::BpfLsm,
            Need::TaskFromPid,
            Need::Tcx,
            Need::Tracefs,
            Need::Netem,
            Need::Vlan,
            Need::Fuse,
            Need::WritesRegisters,
            Need::Postgres,
            Need::Newest,
        ],
    ),
    // 5.10: best effort, but these it has.
    (
        "bullseye",
        &[Need::Root, Need::Cgroup2, Need::Bpf, Need::Tracefs],
    ),
    (
        "override",
        &[
            Need::Root,
            Need::Cgroup2,
            Need::Bpf,
            Need::Atomics,
            Need::Spins,
            Need::BpfLsm,
            Need::Tcx,
            Need::Tracefs,
            Need::ErrorInjection,
        ],
    ),
];

/// The environment with the newest kernel that has all.
pub const NEWEST: &str = "sid";

/// The environment that is no kernel of ours.
pub const HOST: &str = "host";

/// The kernel with error injection. It is otherwise as trixie's, so that a whole run has only cases
/// in it that name it.
pub const ON_REQUEST: &str = "override";

/// Where we run: `host`, or the name of the kernel that `cargo xtask vm` booted.
pub fn environment() -> String {
    env::var("MURPHY_VM_KERNEL").unwrap_or_else(|_| HOST.to_owned())
}

/// Whether tests know a kernel of this name.
pub(crate) fn is_kernel(name: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == name)
}

/// Whether an environment is expected to meet a need.
pub fn must_have(environment: &str, need: &Need) -> bool {
    if matches!(need, Need::Tool(_)) {
        return true;
    }
    if environment == HOST {
        return host_must_have(need);
    }
    TABLE
        .iter()
        .any(|(name, needs)| *name == environment && needs.contains(need))
}

/// The host may be any machine: what it must have follows from what it says of itself.
fn host_must_have(need: &Need) -> bool {
    let root = Need::Root.check().is_ok();
    let said = |path: &str, word: &str| fs::read_to_string(path).is_ok_and(|t| t.contains(word));
    match need {
        Need::Cgroup2 | Need::Bpf | Need::Atomics => root,
        // Setup installs it; guests need it not.
        Need::ChaosToolkit | Need::Prometheus => true,
        Need::BpfLsm => {
            root && said("/sys/kernel/security/lsm", "bpf")
                && said("/sys/kernel/security/lockdown", "[none]")
        }
        _ => false,
    }
}
