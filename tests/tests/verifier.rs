//! What the verifier has to walk through, guarded against growth: it is most of murphy's start, and a limit of the kernel.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use murphy_fault::plan::{Attach, Hook};
use murphy_kernel::inspect::loaded_programs;
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
    ])
    // Every kernel's verifier walks differently.
    .in_kernels(&["bullseye", "bookworm", "trixie", "sid", "override"])
}

fn network() -> Outcome {
    let faults = [
        "--observe",
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
    let mut programs = programs(&[Attach::Cgroup, Attach::Interfaces]);
    programs.extend(["murphy_exec", "murphy_observe", "murphy_anew"]);
    walked(&faults, &programs)
}

/// The programs of every hook that is attached so: a new one is walked here or fails this test.
fn programs(attached: &[Attach]) -> Vec<&'static str> {
    let hooks = Hook::all().filter(|hook| attached.contains(&hook.spec().attach));
    let programs = hooks.flat_map(|hook| hook.programs().iter().copied());
    programs.map(|(program, _)| program).collect()
}

fn netem() -> Outcome {
    let faults = [
        "-e",
        "net:delay=1ms:port=1:sport=1:dst=[2001:db8::]/32:src=[2001:db8::]/32:proto=17",
    ];
    walked(&faults, &programs(&[Attach::Netem]))
}

fn lsm() -> Outcome {
    let faults = [
        "--observe",
        "-e",
        "read,write:error=EIO:on=blk",
        "-e",
        "openat,access:error=EIO:on=blk",
        "-e",
        "kill:error=EIO:p=1ppm",
        "-e",
        "openat,rename:error=EIO:path=/proc/sys/**",
    ];
    walked(
        &faults,
        &[
            "murphy_open",
            "murphy_rw",
            "murphy_rename",
            "murphy_access",
            "murphy_kill",
            "murphy_b_kill",
        ],
    )
}

fn delays() -> Outcome {
    let faults = [
        "--backend",
        "bpf",
        "-e",
        "openat:delay_enter=1ms:jitter=1ms:error=EIO:on=blk:path=/proc/sys/**",
        "-e",
        "connect:delay_enter=1ms:port=1:dst=[2001:db8::]/32",
    ];
    walked(
        &faults,
        &[
            "murphy_open",
            "murphy_z_open",
            "murphy_conlsm",
            "murphy_z_connec",
        ],
    )
}

fn overriding() -> Outcome {
    let faults = [
        "--observe",
        "-e",
        "fsync,fdatasync:error=EIO,ENOSPC:p=1ppm",
        "-e",
        "getppid:signal=USR1:retval=1:comm=nobody",
    ];
    walked(&faults, &["murphy_override"])
}

fn spinning() -> Outcome {
    let faults = [
        "--backend",
        "spin",
        "-e",
        "fsync,unlink:delay_enter=1ms:jitter=1ms:comm=nobody",
        "-e",
        "read:delay_enter=1ms:p=1ppm:fd=3:on=file",
    ];
    walked(&faults, &["murphy_spin"])
}

fn in_code() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let steps = ["sync", &path.to_string_lossy(), "1000", "20"];
    let own = victim::victim(steps).spawn()?;
    let pid = own.pid().to_string();
    let faults = ["-e", "fsync,fdatasync:error=EIO,ENOSPC:p=1ppm"];
    let others = ["-e", "getppid:signal=USR1:retval=1:comm=!nobody"];
    let murphy = murphy(["inject", "--pid", &pid])
        .args(faults)
        .args(others)
        .spawn()?;
    let armed = || murphy.stderr().is_ok_and(|said| said.contains("armed"));
    wait_until(Duration::from_secs(60), armed).context("it is not armed")?;
    counted(murphy, &["murphy_answer"])
}

/// What `murphy run` loads for some faults.
fn walked(faults: &[&str], programs: &[&str]) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let murphy = murphy(["run", "-q"])
        .args(faults)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words([
            "write",
            &path.to_string_lossy(),
            "1000",
            "20",
        ]))
        .spawn()?;
    wait_until(Duration::from_secs(60), || {
        murphy.stdout().is_ok_and(|said| said.contains("ok"))
    })
    .context("the victim does not run")?;
    counted(murphy, programs)
}

/// Reads what the kernel notes of each program (5.16) while murphy runs.
fn counted(murphy: ChildGuard, programs: &[&str]) -> Outcome {
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
