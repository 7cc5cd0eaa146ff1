//! What the verifier has to walk through, guarded against growth: it is most of murphy's start, and a limit of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use murphy_kernel::inspect::loaded_programs;
use murphy_mechanisms::{Command, Declaration, Exercise, declarations};
use tests::{ChildGuard, Group, Outcome, case, murphy, needs, victim, wait_until};

/// Instructions, per program. A million is the limit of the kernel.
const BUDGET: u32 = 80_000;

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "of the network programs",
            needs![Root, Cgroup2, Atomics],
            network,
        ),
        case(
            "of the netem programs",
            needs![Root, Cgroup2, Atomics, Netem],
            netem,
        ),
        case(
            "of the LSM programs",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            lsm,
        ),
        case(
            "of the programs that let threads wait",
            needs![Root, Cgroup2, Atomics, BpfLsm, TaskFromPid, Fuse],
            delays,
        ),
        case(
            "of the program that answers in the kernel's place",
            needs![Root, Cgroup2, Atomics, ErrorInjection],
            overriding,
        ),
        case(
            "of the program that holds threads up",
            needs![Root, Cgroup2, Atomics, Spins],
            spinning,
        ),
        case(
            "of the program that answers in the caller's code",
            needs![Root, Cgroup2, Atomics, WritesRegisters],
            in_code,
        ),
        case("of every mechanism", needs![], all_are_here),
    ])
    // Every kernel's verifier walks differently.
    .in_kernels(&["bullseye", "bookworm", "trixie", "sid", "override"])
}

/// The programs that mechanisms declare for these needs.
fn network() -> Outcome {
    walk("hooks", |exercise| !is_lsm(exercise))
}

fn lsm() -> Outcome {
    walk("hooks", is_lsm)
}

fn netem() -> Outcome {
    walk("netem", |_| true)
}

fn delays() -> Outcome {
    walk("fuse_delay", |_| true)
}

fn overriding() -> Outcome {
    walk("override_return", |_| true)
}

fn spinning() -> Outcome {
    walk("spin", |_| true)
}

fn in_code() -> Outcome {
    walk("uprobe", |_| true)
}

/// A mechanism that declares exercises has a case here.
fn all_are_here() -> Outcome {
    const HERE: [&str; 6] = [
        "hooks",
        "netem",
        "fuse_delay",
        "override_return",
        "spin",
        "uprobe",
    ];
    for of in declarations() {
        let is_here = HERE.contains(&of.name);
        ensure!(
            is_here != of.exercises.is_empty(),
            "{}: no case for it",
            of.name
        );
    }
    Ok(())
}

fn is_lsm(exercise: &Exercise) -> bool {
    let programs = exercise.programs().unwrap_or_default();
    programs.contains("murphy_open")
}

/// Has the verifier walk what a mechanism declares, as far as `chosen`.
fn walk(mechanism: &str, chosen: impl Fn(&Exercise) -> bool) -> Outcome {
    let mut declared = declarations().into_iter();
    let of: &Declaration = declared
        .find(|of| of.name == mechanism)
        .context("no such mechanism")?;
    let mut count = 0;
    for exercise in of.exercises.iter().filter(|one| chosen(one)) {
        walked(exercise)?;
        count += 1;
    }
    ensure!(count > 0, "{mechanism} declares nothing to be walked");
    Ok(())
}

/// What murphy loads for some faults.
fn walked(exercise: &Exercise) -> Outcome {
    let programs = exercise.programs().map_err(anyhow::Error::msg)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let path = path.to_string_lossy();
    let mut faults = vec!["--backend", exercise.backend.name()];
    for fault in exercise.faults {
        faults.extend(["-e", fault]);
    }
    if exercise.observe {
        faults.push("--observe");
    }
    // Kept until the programs are counted.
    let _target;
    let murphy = match exercise.command {
        Command::Run => {
            let murphy = murphy(["run", "-q"])
                .args(faults)
                .args(["--"])
                .args([victim::self_path()])
                .args(victim::words(["write", &path, "1000", "20"]))
                .spawn()?;
            wait_until(Duration::from_secs(60), || {
                murphy.stdout().is_ok_and(|said| said.contains("ok"))
            })
            .context("the victim does not run")?;
            murphy
        }
        Command::Inject => {
            let own = victim::victim(["sync", &path, "1000", "20"]).spawn()?;
            let pid = own.pid().to_string();
            _target = own;
            let murphy = murphy(["inject", "--pid", &pid]).args(faults).spawn()?;
            let armed = || murphy.stderr().is_ok_and(|said| said.contains("armed"));
            wait_until(Duration::from_secs(60), armed).context("it is not armed")?;
            murphy
        }
    };
    counted(murphy, &programs)
}

/// Reads what the kernel notes of each program (5.16) while murphy runs.
fn counted(murphy: ChildGuard, programs: &BTreeSet<&'static str>) -> Outcome {
    let mut counts = BTreeMap::new();
    for program in loaded_programs().flatten() {
        if let (Some(name), Some(count)) =
            (program.name_as_str(), program.verified_instruction_count())
        {
            counts.insert(name.to_owned(), count);
        }
    }
    murphy.signal(libc::SIGTERM)?;
    murphy.finish(Duration::from_secs(20))?;
    for name in programs {
        let count = *counts
            .get(*name)
            .with_context(|| format!("{name} is not loaded: {counts:?}"))?;
        println!("    {name}: {count} instructions walked");
        ensure!(
            count <= BUDGET,
            "{name}: the verifier walks {count} instructions, budget {BUDGET}"
        );
    }
    Ok(())
}
