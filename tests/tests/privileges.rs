//! Not all of root is needed: what a plan takes is enough, what is missing is named, and what is not needed any more is given up.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, ensure};
use tests::{
    Finished, Group, Outcome, case, murphy, murphy_path, needs, net::Echo, program, victim,
    wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

const REFUSED: &str = "connect:error=ECONNREFUSED";

/// A fault that nothing but BPF can do: a refused connection falls back to seccomp.
const LOST: &str = "net:loss=100%";

/// Numbers of include/uapi/linux/capability.h.
const NET_ADMIN: u64 = 1 << 12;
const SYS_MODULE: u64 = 1 << 16;
const SYS_ADMIN: u64 = 1 << 21;
const SETUID: u64 = 1 << 7;

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics, Tool("setpriv")];
    tests::group([
        case("network faults by two capabilities", net(), network),
        case(
            "faults on files by one",
            needs![Root, Cgroup2, Atomics, BpfLsm, Tool("setpriv")],
            files,
        ),
        case(
            "a supervisor without CAP_SYS_PTRACE",
            needs![Root, Tool("setpriv")],
            supervised,
        ),
        case("inject by three", net(), inject),
        case("what is missing is named", net(), missing),
        case(
            "what is not needed any more is given up",
            needs![Root, Cgroup2, Atomics],
            given_up,
        ),
    ])
    // What a plan needs is murphy's own side: one of the newer kernels has it.
    .in_kernels(&["sid"])
}

/// murphy with these capabilities and no others. Where the cgroup it makes its own in is not root's, as inside a container, it takes
/// `DAC_OVERRIDE` to write there.
fn with(capabilities: &str, args: &[&str]) -> anyhow::Result<Finished> {
    program("setpriv")
        .args(["--bounding-set", &format!("-all,{capabilities}")])
        .args([murphy_path()])
        .args(args)
        .run()
}

fn network() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let this = victim::self_path();
    let this = this.to_str().context("a strange path")?;
    let run = [
        "run",
        "-q",
        "-e",
        REFUSED,
        "-e",
        "net:loss=1%",
        "--",
        this,
        "victim",
        "connect",
        &address,
        "5",
    ];
    let done = with("+sys_admin,+net_admin,+dac_override", &run)?;
    ensure!(
        done.code == Some(0) && victim::seen(&done.stdout, "ECONNREFUSED") == 5,
        "{done}"
    );
    Ok(())
}

fn files() -> Outcome {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a strange path")?;
    let this = victim::self_path();
    let this = this.to_str().context("a strange path")?;
    let run = [
        "run",
        "-q",
        "-e",
        "write:error=ENOSPC:on=file",
        "--",
        this,
        "victim",
        "write",
        path,
        "5",
    ];
    let done = with("+sys_admin,+dac_override", &run)?;
    ensure!(
        done.code == Some(0) && victim::seen(&done.stdout, "ENOSPC") == 5,
        "{done}"
    );
    Ok(())
}

/// It may look into threads that have no capability which it lacks, and writes in their place with no
/// more rights than they have: the kernel takes a file's set-user-ID bit away.
fn supervised() -> Outcome {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a strange path")?;
    let own = "+sys_admin,+dac_override,+fsetid";
    let write = format!("printf abcdefgh 1<> {path}");
    for (fault, command) in [
        ("write:error=ENOSPC:on=file", &["sh", "-c", &write][..]),
        (
            "write:short=4:on=file",
            &["setpriv", "--bounding-set=-fsetid", "sh", "-c", &write],
        ),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o6777))?;
        let mut args = vec!["run", "--json", "--backend", "seccomp", "-e", fault, "--"];
        args.extend(command);
        let done = with(own, &args)?;
        let report: serde_json::Value =
            serde_json::from_str(&done.stderr).with_context(|| done.to_string())?;
        let counts = &report["faults"][0];
        ensure!(
            counts["injected"].as_u64() > Some(0) && counts["failed"] == 0,
            "{report}"
        );
    }
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o777, "mode {mode:o}");
    Ok(())
}

fn inject() -> Outcome {
    let echo = Echo::start()?;
    let victim = victim::victim(["connect", &echo.address.to_string(), "100000", "5"]).spawn()?;
    let pid = victim.pid().to_string();
    let inject = [
        "inject",
        "-e",
        REFUSED,
        "-e",
        "net:loss=1%",
        "--for",
        "500ms",
        "--pid",
        &pid,
    ];
    let done = with("+sys_admin,+net_admin,+sys_ptrace", &inject)?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(
        victim::seen(&victim.stdout()?, "ECONNREFUSED") > 0,
        "nothing was hit: {done}"
    );
    Ok(())
}

fn missing() -> Outcome {
    let sleep = program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let run = ["run", "-e", LOST, "--", "echo", "ran"];
    let inject = ["inject", "-e", LOST, "--pid", &pid];
    for (capabilities, args, status, lacks) in [
        ("+net_admin", &run[..], 125, "CAP_SYS_ADMIN"),
        ("+sys_admin", &run, 125, "CAP_NET_ADMIN"),
        ("+sys_admin,+net_admin", &inject, 77, "CAP_SYS_PTRACE"),
    ] {
        let done = with(capabilities, args)?;
        ensure!(
            done.code == Some(status) && done.stdout.is_empty(),
            "{done}"
        );
        ensure!(
            done.stderr.contains(lacks) && done.stderr.contains("help: "),
            "no {lacks} in {done}"
        );
        let others = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"];
        for other in others.iter().filter(|other| **other != lacks) {
            ensure!(
                !done.stderr.contains(other),
                "{other} is not missing: {done}"
            );
        }
    }
    Ok(())
}

/// The permitted and effective capabilities of a process.
fn has(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.context("no such line")?.trim(), 16).context("no number")
    };
    Ok((set("CapPrm:")?, set("CapEff:")?))
}

fn given_up() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let own = has(std::process::id())?;
    let run = murphy(["run", "-e", REFUSED, "--"])
        .args([victim::self_path()])
        .args(victim::words(["connect", &address, "300", "10"]))
        .spawn()?;
    wait_until(PATIENCE, || run.stdout().is_ok_and(|text| !text.is_empty()))?;
    let (permitted, effective) = has(run.pid())?;
    for (name, bit) in [
        ("SYS_ADMIN", SYS_ADMIN),
        ("SYS_MODULE", SYS_MODULE),
        ("SETUID", SETUID),
    ] {
        ensure!(
            (permitted | effective) & bit == 0,
            "murphy keeps {name}: {permitted:x}"
        );
    }
    ensure!(effective & NET_ADMIN != 0, "{effective:x}");
    // The command has what its user has.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid()))?;
    let of_command = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm != "murphy-guard\n")
        })
        .map(has)
        .next()
        .context("no command")??;
    ensure!(
        of_command == own,
        "the command has {of_command:x?}, not {own:x?}"
    );
    // It still renews, counts and undoes.
    let done = run.finish(PATIENCE)?;
    ensure!(
        done.code == Some(0) && victim::seen(&done.stdout, "ECONNREFUSED") == 300,
        "{done}"
    );
    Ok(())
}
