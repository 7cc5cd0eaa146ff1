//! What a test may need of the machine, each found out by trying or looking, never by version.

use std::{fmt, fs, path::Path, process::Command};

use crate::bpf;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// User id 0.
    Root,
    /// A mounted cgroup2 hierarchy that can be written to.
    Cgroup2,
    /// Loading a BPF program at all.
    Bpf,
    /// Atomic operations that give a value, which murphy's gate counts matches with (5.12).
    Atomics,
    /// Loading a BPF program of type LSM, and an LSM list that lets it run.
    BpfLsm,
    /// The function by which a program finds another process (6.2): delays by kernel programs need it.
    TaskFromPid,
    /// Attaching a program to an interface by a tcx link.
    Tcx,
    /// The tracing file system, mounted or mountable.
    Tracefs,
    /// MPTCP, and the helper by which a program finds the connection of a subflow (5.19).
    Mptcp,
    /// `sch_netem`, `ifb` and `act_mirred`.
    Netem,
    /// VLAN devices (`8021q`).
    Vlan,
    /// `/dev/fuse`.
    Fuse,
    /// `bpf_override_return`: a kernel built with function error injection.
    ErrorInjection,
    /// Kprobes, and programs that loop (5.17).
    Spins,
    /// Uprobes whose programs may write registers, on `x86_64`.
    WritesRegisters,
    /// Chaos Toolkit, as `cargo xtask setup` installs it.
    ChaosToolkit,
    /// Prometheus and promtool. Guests have them not: they are as large as all the rest.
    Prometheus,
    /// `postgres`, the server, where Debian puts it. Guests have it; a host may.
    Postgres,
    /// The newest kernel that tests run on: for what takes long and is the same on all.
    Newest,
    /// A program on PATH.
    Tool(&'static str),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => write!(f, "the program {name}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Need {
    /// Whether it is met; if not, why.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Root => has(rustix::process::geteuid().is_root(), "not root"),
            Self::Cgroup2 => {
                let mount = cgroup2().ok_or("no cgroup2 hierarchy is mounted")?;
                let probe = Path::new(&mount).join(format!("probe-{}", std::process::id()));
                fs::create_dir(&probe)
                    .map_err(|e| format!("no cgroup can be made in {mount}: {e}"))?;
                fs::remove_dir(&probe).map_err(|e| e.to_string())
            }
            Self::Bpf => bpf::load_classifier()
                .map(drop)
                .map_err(|e| format!("no BPF program can be loaded: {e}")),
            Self::Atomics => bpf::load_atomics()
                .map(drop)
                .map_err(|e| format!("no BPF atomic operations that give a value: {e}")),
            Self::BpfLsm => bpf_lsm(),
            Self::TaskFromPid => has(
                fs::read_to_string("/proc/kallsyms")
                    .is_ok_and(|names| names.contains(" bpf_task_from_pid")),
                "the kernel has no bpf_task_from_pid",
            ),
            Self::Tcx => bpf::attach_tcx().map_err(|e| format!("no tcx: {e}")),
            Self::Tracefs => {
                let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
                has(
                    known.lines().any(|l| l.ends_with("\ttracefs")),
                    "the kernel has no tracefs",
                )
            }
            Self::Netem => {
                let script = "tc qdisc add dev lo root netem delay 1ms && ip link add murphyprobe type ifb && \
                              tc qdisc add dev lo clsact && tc filter add dev lo egress matchall \
                              action mirred egress redirect dev murphyprobe";
                in_own_network(script).map_err(|said| format!("no netem, ifb or mirred: {said}"))
            }
            Self::Mptcp => {
                let script =
                    "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)";
                let made = Command::new("python3").args(["-c", script]).output();
                let made = made.is_ok_and(|made| made.status.success());
                has(made, "the kernel has no MPTCP")?;
                has(
                    fs::read_to_string("/proc/kallsyms")
                        .is_ok_and(|names| names.contains(" bpf_skc_to_mptcp_sock\n")),
                    "the kernel has no bpf_skc_to_mptcp_sock",
                )
            }
            Self::Vlan => {
                let script = "ip link add murphyone type veth peer name murphytwo && \
                              ip link add link murphyone name murphyone.5 type vlan id 5";
                in_own_network(script).map_err(|said| format!("no VLANs: {said}"))
            }
            Self::Fuse => has(Path::new("/dev/fuse").exists(), "no /dev/fuse"),
            Self::ErrorInjection => has(
                Path::new("/sys/kernel/debug/error_injection/list").exists(),
                "the kernel has no function error injection",
            ),
            Self::Spins => {
                has(
                    Path::new("/sys/bus/event_source/devices/kprobe").exists(),
                    "the kernel has no kprobes",
                )?;
                has(
                    fs::read_to_string("/proc/kallsyms")
                        .is_ok_and(|names| names.contains(" bpf_loop\n")),
                    "the kernel has no bpf_loop",
                )
            }
            Self::WritesRegisters => {
                has(cfg!(target_arch = "x86_64"), "the code is not x86_64's")?;
                bpf::load_register()
                    .map(drop)
                    .map_err(|e| format!("uprobes may not write registers: {e}"))
            }
            Self::ChaosToolkit => has(
                chaos_toolkit().is_some(),
                "Chaos Toolkit is not installed: cargo xtask setup --only tests",
            ),
            Self::Prometheus => {
                Self::Tool("prometheus").check()?;
                Self::Tool("promtool").check()
            }
            Self::Postgres => has(
                crate::postgres::programs().is_some(),
                "PostgreSQL is not installed",
            ),
            Self::Newest => has(
                crate::expect::environment() == crate::expect::NEWEST,
                "it takes long, and one kernel is enough",
            ),
            Self::Tool(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path)
                    .chain(["/usr/sbin".into(), "/sbin".into()])
                    .any(|d| d.join(name).is_file());
                has(found, &format!("{name} is not installed"))
            }
        }
    }
}

/// Where `cargo xtask setup` has installed Chaos Toolkit: a Python environment.
pub fn chaos_toolkit() -> Option<std::path::PathBuf> {
    let variable = |name, below: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some(Path::new(&value).join(below).join("chaostoolkit"))
    };
    variable("MURPHY_CACHE", "")
        .or_else(|| variable("XDG_CACHE_HOME", "murphy"))
        .or_else(|| variable("HOME", ".cache/murphy"))
        .filter(|path| path.join("bin/chaos").is_file())
}

/// Runs a script in a network namespace of its own, which takes everything with it; what it said if it failed.
fn in_own_network(script: &str) -> Result<(), String> {
    let out = Command::new("unshare")
        .args(["-n", "sh", "-c", script])
        .output();
    let out = out.map_err(|e| format!("unshare: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    has(out.status.success(), said.trim())
}

fn has(condition: bool, reason: &str) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(reason.to_owned())
    }
}

fn bpf_lsm() -> Result<(), String> {
    bpf::load_lsm().map_err(|e| {
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        format!(
            "no BPF LSM program can be loaded: {e} (lockdown: {})",
            lockdown.trim()
        )
    })?;
    // Without its entry in the list, programs load, attach and never run.
    match fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(list) if !list.split(',').any(|l| l.trim() == "bpf") => {
            Err(format!("bpf is not among the LSMs: {list}"))
        }
        _ => Ok(()),
    }
}

/// Where cgroup2 is mounted.
pub(crate) fn cgroup2() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == "cgroup2")
            .then(|| left.split(' ').nth(4).map(str::to_owned))?
    })
}
