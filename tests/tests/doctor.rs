//! `murphy doctor`: what it says can be believed, and it leaves no trace.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use murphy_mechanisms::matrix;
use serde_json::Value;
use tests::{Group, Outcome, case, murphy, needs};

pub(crate) fn group() -> Group {
    tests::group([
        case("JSON says what was found", needs![Root], json),
        case(
            "a fault that it calls served can be run, and no other",
            needs![Root, Cgroup2, Bpf],
            agrees,
        ),
        case(
            "connect is served, by a program that was seen to work",
            needs![Root, Cgroup2, Atomics],
            connect,
        ),
        case(
            "open is served where LSM programs run",
            needs![Root, Cgroup2, BpfLsm, Atomics],
            open,
        ),
        case(
            "docs/kernels.md has what is found here",
            needs![Root, Cgroup2, Bpf],
            documented,
        ),
        case("a fault asked about tries its own hooks", needs![Root], own),
        case(
            "without root it says what it can",
            needs![Root],
            unprivileged,
        ),
        case("a malformed fault is refused", needs![], malformed),
        case(
            "killed at any moment it leaves nothing",
            needs![Root, Cgroup2],
            killed,
        ),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"])
}

fn doctor(args: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
    let got = murphy(["doctor", "--json"]).args(args).run()?;
    let found = serde_json::from_str(&got.stdout).with_context(|| got.to_string())?;
    Ok((got.code, found))
}

/// What it says without arguments, looked at by several tests: it tries every hook, which takes its time in an emulated machine.
fn everything() -> anyhow::Result<(Option<i32>, Value)> {
    static SAID: OnceLock<(Option<i32>, Value)> = OnceLock::new();
    if let Some(said) = SAID.get() {
        return Ok(said.clone());
    }
    let said = doctor(&[])?;
    Ok(SAID.get_or_init(|| said).clone())
}

fn served(found: &Value, fault: &str) -> bool {
    list(found, "faults")
        .iter()
        .any(|row| row["fault"] == fault && row["served"] == true)
}

fn list<'a>(found: &'a Value, key: &str) -> &'a [Value] {
    found[key].as_array().map_or(&[], Vec::as_slice)
}

fn json() -> Outcome {
    let (code, found) = everything()?;
    ensure!(found["machine"]["kernel"].is_string(), "{found}");
    let hooks = list(&found, "hooks");
    // Of the LSM hooks those that stand for their like.
    ensure!(hooks.len() > 12, "{found}");
    for hook in hooks {
        let state = hook["state"].as_str().unwrap_or_default();
        let works = ["ran", "attached"].contains(&state);
        ensure!(works == hook["reason"].is_null(), "{hook}");
        ensure!(hook["needs"][0]["since"].is_string(), "{hook}");
    }
    let faults = list(&found, "faults");
    // netem and delays of calls have no row of their own.
    ensure!(faults.len() == murphy_fault::FAULTS.len() + 2, "{found}");
    for fault in faults {
        let served = fault["served"] == true;
        ensure!(served == fault["backend"].is_string(), "{fault}");
        ensure!(served != fault["try"].is_string(), "{fault}");
    }
    let any = faults.iter().any(|fault| fault["served"] == true);
    ensure!(code == Some(if any { 0 } else { 77 }), "{code:?} {found}");
    Ok(())
}

fn agrees() -> Outcome {
    for fault in [
        "connect:error=ECONNREFUSED",
        "egress:loss=1%",
        "ingress:loss=1%",
        "net:delay=1ms",
        "openat:error=EACCES:when=1000000",
        "openat:delay_enter=1ms:when=1000000",
        "write:error=EIO:when=1000000",
    ] {
        let (code, found) = doctor(&["-e", fault])?;
        let said = list(&found, "faults")[0]["served"] == true;
        ensure!(code == Some(if said { 0 } else { 77 }), "{code:?} {found}");
        let run = murphy(["run", "-e", fault, "--", "true"]).run()?;
        ensure!(said == (run.code == Some(0)), "{found}\n{run}");
    }
    Ok(())
}

/// The matrix says of each hook what trying it says.
fn documented() -> Outcome {
    let environment = tests::expect::environment();
    let mut kernels = matrix::KERNELS.iter();
    let Some(kernel) = kernels.find(|kernel| kernel.name == environment) else {
        return tests::skip(format!("the matrix has no column for {environment}"));
    };
    let (_, found) = everything()?;
    // The host's column is of one kernel, and hosts may have any.
    let release = found["machine"]["kernel"].as_str().unwrap_or_default();
    let lockdown = found["machine"]["lockdown"].as_str().unwrap_or("none");
    if environment == tests::expect::HOST && !(release.starts_with("6.18.") && lockdown != "none") {
        return tests::skip(format!("the matrix has no column for {release}"));
    }
    let reports = list(&found, "hooks");
    let mut compared = 0;
    for row in matrix::rows() {
        let missing = kernel.missing(row);
        let names = row.hooks.iter().map(serde_json::to_value);
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let tried: Vec<_> = reports
            .iter()
            .filter(|report| names.contains(&report["hook"]))
            .collect();
        let works = tried.iter().all(|report| report["reason"].is_null());
        compared += tried.len();
        // What a row needs beside its hooks, trying these does not tell.
        let is_told = works == missing.is_empty() || works && !row.needs.is_empty();
        ensure!(
            is_told || tried.is_empty(),
            "{}: {missing:?}, but {tried:?}",
            row.what
        );
    }
    ensure!(compared > 12, "{compared}");
    Ok(())
}

fn connect() -> Outcome {
    let (_, found) = everything()?;
    let hook = list(&found, "hooks")
        .iter()
        .find(|h| h["hook"] == "connect");
    let hook = hook.context("no hook")?;
    // Before 5.18 the helper is not there, which the report must then say.
    let helper = list(hook, "needs")
        .iter()
        .find(|n| n["interface"] == "bpf_set_retval");
    let here = helper.context("no helper")?["here"] == true;
    ensure!(here == (hook["state"] == "ran"), "{hook}");
    let row = list(&found, "faults")
        .iter()
        .find(|row| row["fault"] == "connect");
    let commands = &row.context("no connect")?["commands"];
    let injects = commands
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one == "inject"));
    ensure!(here == injects, "{found}");
    Ok(())
}

fn open() -> Outcome {
    let (_, found) = everything()?;
    ensure!(
        served(&found, "open") && served(&found, "read_write"),
        "{found}"
    );
    Ok(())
}

fn own() -> Outcome {
    let (_, found) = doctor(&["-e", "connect:error=EPERM"])?;
    let names: Vec<_> = list(&found, "hooks").iter().map(|h| &h["hook"]).collect();
    ensure!(names == ["connect", "exec", "follow"], "{found}");
    ensure!(list(&found, "faults").len() == 1, "{found}");
    Ok(())
}

fn unprivileged() -> Outcome {
    // The directory of the binary may be closed to others: run it by an open descriptor's path.
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("murphy");
    std::fs::copy(tests::murphy_path(), &copy)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open)?;
    let got = tests::program("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "--"])
        .args([copy.as_os_str()])
        .args(["doctor"])
        .run()?;
    // System calls are served by seccomp, for anybody.
    ensure!(got.code == Some(0), "{got}");
    ensure!(got.stdout.contains("seccomp user notification"), "{got}");
    ensure!(got.stdout.contains("sudo murphy doctor"), "{got}");
    ensure!(got.stdout.is_ascii(), "{got}");
    Ok(())
}

fn malformed() -> Outcome {
    let got = murphy(["doctor", "-e", "connect:error=ENOSUCH"]).run()?;
    ensure!(got.code == Some(2), "{got}");
    ensure!(
        got.stderr.contains("ENOSUCH") && got.stdout.is_empty(),
        "{got}"
    );
    Ok(())
}

/// The harness looks for what is left once this is done.
fn killed() -> Outcome {
    for milliseconds in [5, 20, 40, 80, 160] {
        let mut doctor = murphy(["doctor"]).spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        if doctor.is_running()? {
            doctor.signal(libc::SIGKILL)?;
        }
        doctor.finish(Duration::from_secs(30))?;
    }
    Ok(())
}
