//! Experiments of the library, played by murphy's own runner against real services: what each injects, what its probe
//! says, that its rollback ends it.

mod dns;
mod nginx;
mod postgres;
mod redis;
mod scene;
mod storage;

use tests::{Case, Group, Need, Outcome, case, needs};

pub(crate) fn group() -> Group {
    let redis = |name: &str, more: &[Need], test: fn() -> Outcome| {
        let mut needs = needs![Root, Cgroup2, Bpf, Atomics, Tool("redis-server")];
        needs.extend(more);
        case(format!("redis/{name}"), needs, test)
    };
    tests::group([
        redis("connection-refused", &[], redis::refused),
        redis("partition", &[], redis::partition),
        redis("connection-timeout", &[], redis::timeout),
        redis("packet-loss", &[], redis::loss),
        redis("latency-500ms", &[Need::Netem], redis::latency),
        redis("bandwidth-100kb", &[Need::Netem], redis::bandwidth),
        once("postgres/connection-failure", &POSTGRES, postgres::refused),
        once("postgres/partition", &POSTGRES, postgres::partition),
        once("postgres/pool-exhaustion", &POSTGRES, postgres::pool),
        once("postgres/slow-query", &POSTGRES, postgres::slow_query),
        once(
            "storage/disk-full under PostgreSQL",
            &POSTGRES,
            postgres::disk,
        ),
        once("network/latency-500ms", &NGINX, nginx::latency),
        once("network/bandwidth-100kb", &NGINX, nginx::bandwidth),
        once("network/packet-loss-20", &NGINX, nginx::lossy),
        once("network/reset, service/unavailable", &NGINX, nginx::gone),
        once("service/api-failure", &NGINX, nginx::errors),
        once("storage/disk-full", &[Need::Tool("sqlite3")], storage::full),
        once("storage/permission-denied", &[], storage::denied),
        once("storage/io-error", &[], storage::broken),
        case(
            "storage/fsync-error",
            needs![Root, Cgroup2, Bpf, Atomics, ErrorInjection],
            storage::unsynced,
        ),
        once(
            "dns/nxdomain",
            &[Need::Tool("dnsmasq"), Need::Tool("dig")],
            dns::nxdomain,
        ),
    ])
    // How experiments are played is the same on every kernel: one of the newer ones has it.
    .in_kernels(&["sid"])
}

const POSTGRES: [Need; 1] = [Need::Postgres];
const NGINX: [Need; 2] = [Need::Tool("nginx"), Need::Tool("curl")];

/// Services take long to start under emulation, and each hook has its own test on each kernel: one kernel is enough.
fn once(name: &str, more: &[Need], test: fn() -> Outcome) -> Case {
    let mut needs = needs![Newest, Root, Cgroup2, Bpf, Atomics, BpfLsm, Netem];
    needs.extend(more);
    case(name, needs, test)
}
