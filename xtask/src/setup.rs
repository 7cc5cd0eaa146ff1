//! `cargo xtask setup`: what building the kernel programs and testing on real kernels need.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    apt, cache::Cache, chaos_toolkit, emulator, image, kernels, progress::Step, sh, tools,
};

/// Packages for booting kernels.
const VM_PACKAGES: [&str; 8] = [
    "busybox-static",
    "debian-archive-keyring",
    "kmod",
    "mmdebstrap",
    "squashfs-tools",
    "uidmap",
    "xz-utils",
    "zstd",
];

/// Packages for checking that user space compiles for aarch64: `ring` builds C and assembly.
const LINT_PACKAGES: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

/// Packages that tests on this machine call.
const TEST_PACKAGES: [&str; 17] = [
    "busybox-static",
    "curl",
    "dnsmasq-base",
    "dnsutils",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nginx",
    "procps",
    "prometheus",
    "python3",
    "python3-venv",
    "redis-server",
    "redis-tools",
    "sqlite3",
    "strace",
];

/// Those of them whose services, of the same names, Debian starts; tests start servers of their own.
const SERVERS: [&str; 2] = ["nginx", "redis-server"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The toolchain for the kernel programs
    Ebpf,
    /// QEMU, kernels and the guests' root image
    Vm,
    /// What tests on this machine call
    Tests,
    /// cargo-deny, and a C compiler for aarch64
    Lint,
}

/// Installs what building the kernel programs and the tests need; does nothing twice
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Say what would be installed, fetched or built, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Only this part (may be repeated)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Look for newer kernels even if there are some
    #[arg(long)]
    refresh: bool,
    /// Whether a test run calls this, rather than a person
    #[arg(skip)]
    for_tests: bool,
}

impl Args {
    /// What a test run cannot do without.
    pub(crate) fn for_tests() -> Self {
        Self {
            for_tests: true,
            ..Self::default()
        }
    }
}

/// Whether test runs build cargo-deny where it is missing. It takes minutes: CI uses one from its
/// cache, and skips the checks without it.
fn tests_build_cargo_deny() -> bool {
    !sh::in_ci()
}

struct Setup<'a> {
    args: &'a Args,
    cache: &'a Cache,
    /// Things that could not be had but that the rest does without.
    without: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cache = Cache::open()?;
    let mut setup = Setup {
        args,
        cache: &cache,
        without: Vec::new(),
    };
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    eprintln!("setup: cache in {}", cache.root().display());
    if wants(Part::Ebpf) {
        setup.ebpf()?;
    }
    if wants(Part::Lint) {
        if !args.for_tests || tests_build_cargo_deny() {
            setup.cargo_tool("cargo-deny", || tools::install_cargo_deny(&cache))?;
        }
        setup.packages("packages for the checks", &LINT_PACKAGES)?;
    }
    if wants(Part::Vm) {
        setup.packages("packages for the VMs", &VM_PACKAGES)?;
        setup.vm()?;
    }
    if wants(Part::Tests) {
        setup.packages("packages for the tests", &TEST_PACKAGES)?;
        setup.chaos_toolkit()?;
    }
    for line in &setup.without {
        eprintln!("setup: going on without {line}");
    }
    Ok(())
}

/// Whether the parts that `cargo xtask test` cannot do without are there. Cheap: no network.
pub(crate) fn is_complete(cache: &Cache) -> bool {
    let kernels = kernels::SUITES.iter().filter(|s| s.name != "bullseye");
    let toolchain = tools::rustup_nightly() || apt::missing(&tools::DEBIAN_TOOLCHAIN).is_empty();
    toolchain
        && tools::version(cache, "bpf-linker").is_some()
        && (!tests_build_cargo_deny() || tools::version(cache, "cargo-deny").is_some())
        && emulator::find(cache).is_ok()
        && image::find(cache).is_ok()
        && kernels
            .into_iter()
            .all(|s| kernels::cached(cache, s).is_some())
        && apt::missing(&LINT_PACKAGES).is_empty()
        && apt::missing(&VM_PACKAGES).is_empty()
        && apt::missing(&TEST_PACKAGES).is_empty()
        && chaos_toolkit::present(cache).is_some()
}

impl Setup<'_> {
    /// One thing to have: `present` says why nothing is to be done, else `plan` is what `act` does.
    fn step(
        &self,
        name: &str,
        present: Option<String>,
        plan: &str,
        act: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        if let Some(remark) = present {
            Step::start(name).end("present", &remark);
            return Ok(());
        }
        if self.args.dry_run {
            println!("would {plan}");
            return Ok(());
        }
        let step = Step::start(name);
        match act() {
            Ok(remark) => {
                step.end("done", &remark);
                Ok(())
            }
            Err(error) => {
                step.end("FAILED", "");
                Err(error)
            }
        }
    }

    fn packages(&self, name: &str, packages: &[&str]) -> Result<()> {
        let missing = apt::missing(packages);
        let present = missing.is_empty().then(|| packages.join(" "));
        let mut plan = format!("apt-get install {}", missing.join(" "));
        let servers: Vec<_> = SERVERS
            .into_iter()
            .filter(|server| missing.contains(server))
            .collect();
        if !servers.is_empty() {
            plan += "; stopped and disabled again: ";
            plan += &servers.join(", ");
        }
        self.step(name, present, &plan, || {
            apt::install(&missing)?;
            for server in servers {
                silence(server);
            }
            Ok(String::new())
        })
    }

    fn ebpf(&self) -> Result<()> {
        if tools::rustup_nightly() {
            self.step(
                "toolchain for the kernel programs",
                Some("rustup nightly with rust-src".into()),
                "",
                || Ok(String::new()),
            )?;
        } else {
            self.packages(
                "toolchain for the kernel programs",
                &tools::DEBIAN_TOOLCHAIN,
            )?;
        }
        self.cargo_tool("bpf-linker", || tools::install_bpf_linker(self.cache))
    }

    fn cargo_tool(&self, name: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
        let plan = format!("cargo install {name} into {}", self.cache.tools().display());
        self.step(name, tools::version(self.cache, name), &plan, act)
    }

    fn chaos_toolkit(&self) -> Result<()> {
        let plan = format!(
            "install {} into {}",
            chaos_toolkit::PACKAGES.join(" "),
            self.cache.chaos_toolkit().display()
        );
        let present = chaos_toolkit::present(self.cache);
        self.step("Chaos Toolkit", present, &plan, || {
            chaos_toolkit::install(self.cache)
        })
    }

    fn vm(&mut self) -> Result<()> {
        let cache = self.cache;
        let present = emulator::find(cache).and_then(|q| q.version()).ok();
        let plan = "fetch qemu-system-x86 from the release's backports and unpack it into the cache (40 MB)";
        self.step("QEMU", present, plan, || emulator::fetch(cache))?;
        for suite in &kernels::SUITES {
            let present = kernels::cached(cache, suite).filter(|_| !self.args.refresh);
            let name = format!("kernel {} ({})", suite.name, suite.series);
            let plan = format!(
                "fetch Debian {}'s cloud kernel and unpack it into the cache (20-40 MB)",
                suite.name
            );
            let done = self.step(&name, present, &plan, || {
                kernels::fetch(cache, suite, self.args.refresh)
            });
            if let Err(error) = done {
                if sh::interrupted() {
                    bail!("interrupted");
                }
                let mut line = String::new();
                write!(line, "{name}: {error:#}")?;
                self.without.push(line);
            }
        }
        let present = image::find(cache).ok().map(|p| p.display().to_string());
        let plan = format!(
            "build a Debian root file system with {} into the cache",
            image::PACKAGES.join(" ")
        );
        self.step("root image of the guests", present, &plan, || {
            image::build(cache)
        })
    }
}

/// Debian starts and enables a service on installation.
fn silence(service: &str) {
    if std::path::Path::new("/run/systemd/system").exists()
        && let Ok(mut systemctl) = sh::tool("systemctl")
    {
        // A machine where this fails has no such service.
        let _ = sh::output(systemctl.args(["disable", "--now", service]));
    }
}
