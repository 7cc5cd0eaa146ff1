//! What the verifier has to walk through, guarded against growth: it is most of murphy's start, and a limit of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use murphy_kernel::inspect::{MapInfo, loaded_programs};
use murphy_mechanisms::{Command, Declaration, Exercise, declarations};
use object::{Object as _, ObjectSymbol as _};
use tests::bpf::{MapUse, map_uses};
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
            "without -vvv no network program has an instruction for lines",
            needs![Root, Cgroup2, Atomics],
            lines,
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

/// Faults on connects and packets, which need all programs of these but netem's.
const NETWORK: [&str; 12] = [
    "-e",
    "connect:error=EPERM:port=1:dst=192.0.2.0/24:connlimit=3",
    "-e",
    "net:loss=1%:port=1:sport=1:dst=[2001:db8::]/32:src=[2001:db8::]/32:proto=17",
    "-e",
    "dns:rcode=REFUSED:name=*.example.com:port=1",
    "-e",
    "http:status=500:path=/api/*:port=1:dst=[2001:db8::]/32",
    "-e",
    "egress:reset:port=1",
    "-e",
    "egress:unreachable=net:port=1",
];

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

/// The ids of the programs that a process has loaded.
fn programs_of(pid: u32) -> anyhow::Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

/// The maps that only lines need.
const OF_LINES: [&str; 3] = ["AYA_LOGS", "LOG_COUNTS", "LOG_TIMES"];

/// Of the lines of `-vvv` nothing is left in programs that write none: no instruction loads the
/// level, nor uses a map of lines. What the level forbids is removed by the verifier, the look at
/// the level by the loader.
fn lines() -> Outcome {
    let writers = [
        "murphy_connect4",
        "murphy_connect6",
        "murphy_egress",
        "murphy_ingress",
    ];
    let object = object::File::parse(murphy_objects::NET)?;
    let level = object.symbol_by_name("AYA_LOG_LEVEL");
    let level = Some(u32::try_from(level.context("no level")?.address())?);
    // How often a program loads the level, and a map that only lines need.
    let of_lines = |uses: &[MapUse]| {
        let (mut levels, mut maps) = (0, 0);
        for used in uses {
            let map = MapInfo::from_id(used.map).ok();
            match map.as_ref().and_then(MapInfo::name_as_str) {
                Some(".rodata") if used.offset == level => levels += 1,
                Some(name) if OF_LINES.contains(&name) => maps += 1,
                _ => {}
            }
        }
        (levels, maps)
    };
    let look = |verbose: &str| -> anyhow::Result<_> {
        let murphy = started(&[&[verbose], &NETWORK[..4]].concat())?;
        let mut found = BTreeMap::new();
        let ids = programs_of(murphy.pid())?;
        for program in loaded_programs().flatten() {
            if !ids.contains(&program.id()) {
                continue;
            }
            let (uses, length) = map_uses(program.fd()?.as_fd())?;
            let name = program.name_as_str().unwrap_or_default().to_owned();
            found.insert(name, (of_lines(&uses), length));
        }
        stop(murphy)?;
        Ok(found)
    };
    let (off, on) = (look("-q")?, look("-vvv")?);
    for (name, (uses, length)) in &off {
        ensure!(*uses == (0, 0), "{name} uses level and maps: {uses:?}");
        let ((levels, maps), longer) = on.get(name).copied().unwrap_or_default();
        println!("    {name}: {length} instructions, with -vvv {longer}");
        let writes = writers.contains(&name.as_str());
        ensure!(
            writes == (levels > 0) && writes == (maps > 0) && writes == (longer > *length),
            "{name} with -vvv uses level and maps: {levels}, {maps}; {longer} instructions"
        );
    }
    for name in writers {
        ensure!(off.contains_key(name), "{name} is not loaded: {off:?}");
    }
    Ok(())
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

/// `murphy run` with some arguments, and a command that runs for a while.
fn started(args: &[&str]) -> anyhow::Result<ChildGuard> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let murphy = murphy(["run"])
        .args(args)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words([
            "write",
            &path.to_string_lossy(),
            "1000",
            "20",
        ]))
        .spawn()?;
    // With -vvv the verifier has some times more to do.
    wait_until(Duration::from_secs(180), || {
        murphy.stdout().is_ok_and(|said| said.contains("ok"))
    })
    .context("the victim does not run")?;
    Ok(murphy)
}

fn stop(murphy: ChildGuard) -> Outcome {
    murphy.signal(libc::SIGTERM)?;
    murphy.finish(Duration::from_secs(20))?;
    Ok(())
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
    stop(murphy)?;
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
