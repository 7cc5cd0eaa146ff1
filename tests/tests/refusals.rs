//! What cannot be done is refused before anything is attached: the word is named, what helps is said, and
//! the status tells scripts which kind of refusal it was.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, ensure};
use murphy_sys::{cgroup2::Cgroup2, host};
use tests::{Finished, Group, Outcome, case, murphy, murphy_path, needs, program};

/// `murphy run`: anything of its own.
const RUN: i32 = 125;
/// The others: a command line that was not understood.
const USAGE: i32 = 2;
/// The others: a privilege or a feature of the kernel is missing.
const MISSING: i32 = 77;

pub(crate) fn group() -> Group {
    tests::group([
        case("malformed faults", needs![], faults),
        case("malformed command lines", needs![], command_lines),
        case("not root", needs![Root, Tool("setpriv")], not_root),
        case(
            "not root: inject",
            needs![Root, Tool("setpriv")],
            not_root_inject,
        ),
        case(
            "no cgroup2 hierarchy",
            needs![Root, Cgroup2, Tool("unshare")],
            no_cgroup2,
        ),
        case("locked down", needs![Root, Cgroup2], locked_down),
        case("BPF is no active LSM", needs![Root, Cgroup2], no_bpf_lsm),
        case("more faults than rules", needs![], too_many),
    ])
}

/// The status is right, every word is there, nothing was begun, and nobody has to read a backtrace.
fn refused(done: &Finished, status: i32, words: &[&str]) -> Outcome {
    ensure!(done.code == Some(status), "not {status}: {done}");
    for word in words {
        ensure!(done.stderr.contains(word), "no `{word}` in {done}");
    }
    for word in ["panicked", "RUST_BACKTRACE", "MATCHED", "unwrap"] {
        ensure!(!done.stderr.contains(word), "`{word}` in {done}");
    }
    ensure!(done.stdout.is_empty(), "{done}");
    Ok(())
}

/// Each row: an expression; the word under the caret; and of what is said, something of the mistake and of
/// the remedy.
const FAULTS: [(&str, &str, &str, &str); 37] = [
    ("", "", "empty", "connect:error=ECONNREFUSED"),
    (
        "error=EIO",
        "error=EIO",
        "begins with an operation",
        "OPERATION:",
    ),
    ("wriet:error=EIO", "wriet", "no such operation", "write"),
    ("renmae:error=EIO", "renmae", "no such operation", "rename"),
    (
        "%files:error=EIO",
        "%files",
        "no system call is in",
        "%desc, %file",
    ),
    ("write", "", "effect is missing", "error="),
    ("write:p=5%", "", "effect is missing", "error="),
    (
        "write:error=ENOSPACE",
        "ENOSPACE",
        "no such error",
        "ENOSPC",
    ),
    ("write:error=enospc1", "enospc1", "no such error", "ENOSPC"),
    ("write:error=0", "0", "error number", "1 to 4095"),
    ("write:error=5000", "5000", "error number", "1 to 4095"),
    ("write:error=", "", "empty", ""),
    ("write:error", "error", "needs a value", "error="),
    ("write:error=EIO:p=120%", "120%", "at most 100", "5%"),
    ("write:error=EIO:p=0", "0", "more than 0", "5%"),
    ("write:error=EIO:p=-1", "-1", "not a probability", "5%"),
    (
        "write:error=EIO:p=often",
        "often",
        "not a probability",
        "5%",
    ),
    (
        "write:error=EIO:port=5432",
        "port",
        "socket address",
        "connect",
    ),
    ("connect:error=EPERM:port=70000", "70000", "port", "65535"),
    ("connect:error=EPERM:port=http", "http", "not a port", ""),
    ("connect:error=EPERM:port=9-1", "9-1", "ends before", ""),
    (
        "connect:error=EPERM:dst=example.com/24",
        "example.com/24",
        "has no prefix",
        "10.0.0.0/8",
    ),
    (
        "egress:loss=1%:src=example.com",
        "example.com",
        "host names",
        "10.0.0.0/8",
    ),
    (
        "connect:error=EPERM:src=10.0.0.1",
        "src",
        "`connect` has no src",
        "dst",
    ),
    (
        "connect:error=EPERM:dst=10.0.0.0/33",
        "10.0.0.0/33",
        "0 to 32",
        "",
    ),
    (
        "connect:error=EPERM:dst=10.0.0.1/8",
        "10.0.0.1/8",
        "beyond its prefix",
        "10.0.0.0/8",
    ),
    ("connect:error=EPERM:dst=::1", "", "", "brackets"),
    ("connect:loss=5%", "loss", "", "error"),
    ("egress:error=EIO", "error", "", "loss"),
    ("write:error=EIO:when=0", "0", "counts from 1", "3..9+2"),
    ("write:error=EIO:times=0", "0", "at least 1", ""),
    ("write:error=EIO:pulse=1s", "1s", "not a pulse", "ON/OFF"),
    (
        "write:error=EIO:rate_limit=5",
        "5",
        "not a rate limit",
        "5/s",
    ),
    (
        "write:error=EIO:times=1048576:rate_limit=5/s",
        "1048576",
        "at most 1048575",
        "",
    ),
    ("write:error=EIO:for=5", "5", "no unit", "5s"),
    ("write:error=EIO:fro=5s", "fro", "no such key", "for"),
    ("write:error=EIO:error=EPERM", "error", "", ""),
];

fn faults() -> Outcome {
    // All that is wrong with the table is shown at once.
    let wrong: Vec<_> = FAULTS
        .iter()
        .filter_map(|row| fault(row).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

fn fault(&(fault, word, mistake, remedy): &(&str, &str, &str, &str)) -> Outcome {
    let option = format!("--fault={fault}");
    // A fault that is right stands before it, so that half of the plan could be carried out.
    let begin = ["run", "-e", "connect:error=EPERM", &option];
    let done = murphy(begin).args(["--", "echo", "ran"]).run()?;
    refused(&done, RUN, &[fault, mistake, remedy])?;
    underlined(&done, fault, word)?;
    let done = murphy(["inject", &option, "--pid", "1"]).run()?;
    refused(&done, USAGE, &[fault, mistake, remedy])
}

/// The carets stand under the word.
fn underlined(done: &Finished, fault: &str, word: &str) -> Outcome {
    let lines: Vec<_> = done.stderr.lines().collect();
    let marks = |line: &str| line.contains('^') && line.trim_matches([' ', '|', '^']).is_empty();
    let at = lines.iter().position(|line| marks(line));
    let at = at.with_context(|| format!("no caret: {done}"))?;
    let (shown, carets) = (lines[at - 1], lines[at]);
    ensure!(
        shown.trim_end() == format!(" | {fault}").trim_end(),
        "the expression is not shown: {done}"
    );
    let begin = carets
        .find('^')
        .with_context(|| format!("no caret: {done}"))?;
    let end = carets.rfind('^').unwrap_or(begin) + 1;
    if !word.is_empty() {
        ensure!(shown.get(begin..end) == Some(word), "not `{word}`: {done}");
    }
    Ok(())
}

const FAULT: &str = "connect:error=EPERM";

fn command_lines() -> Outcome {
    for (line, words) in [
        (&["-e", FAULT][..], &["CMD"][..]),
        (&["-e", FAULT, "--"], &["CMD"]),
        (&["--", "true"], &["--fault"]),
        (&["-e"], &["--fault"]),
        (&["-e", FAULT, "--for", "5", "--", "true"], &["--for", "5s"]),
        (
            &["-e", FAULT, "--for", "soon", "--", "true"],
            &["--for", "soon"],
        ),
        (
            &["-e", FAULT, "--for", "0s", "--", "true"],
            &["--for", "0s"],
        ),
        (&["-e", FAULT, "--lease=-1s", "--", "true"], &["--lease"]),
        (
            &["-e", FAULT, "--seed", "x", "--", "true"],
            &["--seed", "x"],
        ),
        (&["-e", FAULT, "--seed=-1", "--", "true"], &["--seed"]),
        (
            &["-e", FAULT, "--orphans", "eat", "--", "true"],
            &["eat", "release", "wait", "kill"],
        ),
        (
            &["-e", FAULT, "-q", "-v", "--", "true"],
            &["--quiet", "--verbose"],
        ),
        (
            &["-e", FAULT, "--sed", "1", "--", "true"],
            &["--sed", "--seed"],
        ),
        (
            &["-e", FAULT, "-u", "murphy-test-nonesuch", "--", "true"],
            &["murphy-test-nonesuch", "getent"],
        ),
    ] {
        let done = murphy(["run"]).args(line).run()?;
        refused(&done, RUN, words)?;
    }
    for (line, words) in [
        (&["inject", "-e", FAULT][..], &["--pid"][..]),
        (&["inject", "--pid", "1"], &["--fault"]),
        (&["inject", "-e", FAULT, "--pid", "x"], &["--pid", "x"]),
        (&["inject", "-e", FAULT, "--pid=-1"], &["--pid", "-1"]),
        (
            &["inject", "-e", FAULT, "--pid", "1", "--for", "5"],
            &["--for", "5s"],
        ),
        (&["inject", "-e", FAULT, "--pid", "1", "true"], &["true"]),
        (&["injetc"], &["injetc", "inject"]),
        (&[], &["Usage"]),
        (
            &["doctor", "-e", "write:error=ENOSPACE"],
            &["ENOSPACE", "ENOSPC"],
        ),
    ] {
        let done = murphy(line).run()?;
        refused(&done, USAGE, words)?;
    }
    Ok(())
}

fn too_many() -> Outcome {
    let many = ["-e", FAULT].repeat(65);
    let done = murphy(["run"]).args(&many).args(["--", "true"]).run()?;
    refused(&done, RUN, &["65 faults", "64"])?;
    let done = murphy(["inject", "--pid", "1"]).args(&many).run()?;
    refused(&done, USAGE, &["65 faults", "64"])
}

/// A copy of murphy: where cargo keeps the binary is not always open to everybody.
fn open_to_all() -> anyhow::Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("murphy");
    fs::copy(murphy_path(), &copy)?;
    let copy = copy.to_str().context("a strange folder")?.to_owned();
    Ok((folder, copy))
}

fn as_nobody(murphy: &str, args: &[&str]) -> anyhow::Result<Finished> {
    let drop = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    program("setpriv")
        .args(drop)
        .args([murphy])
        .args(args)
        .run()
}

fn not_root() -> Outcome {
    let (_folder, copy) = open_to_all()?;
    // What murphy can do without is done without: `syscall.rs`.
    let packets = "egress:loss=1%";
    let done = as_nobody(&copy, &["run", "-e", packets, "--", "echo", "ran"])?;
    refused(&done, RUN, &["CAP_", "help: ", "root"])?;
    // One capability of two is not enough, and only the other is asked for.
    let done = program("setpriv")
        .args(["--bounding-set", "-net_admin"])
        .args([copy.as_str(), "run", "-e", packets, "--", "echo", "ran"])
        .run()?;
    refused(&done, RUN, &["CAP_NET_ADMIN", "help: "])?;
    ensure!(!done.stderr.contains("CAP_SYS_ADMIN"), "{done}");
    Ok(())
}

/// Whose process it is makes no difference to what is missing.
fn not_root_inject() -> Outcome {
    let (_folder, copy) = open_to_all()?;
    let neighbour = program("sleep").args(["60"]).spawn()?;
    let pid = neighbour.pid().to_string();
    let done = as_nobody(&copy, &["inject", "-e", FAULT, "--pid", &pid])?;
    refused(&done, MISSING, &["CAP_", "help: ", "root"])
}

fn no_cgroup2() -> Outcome {
    let mount = Cgroup2::find()?.context("no cgroup2")?.mount;
    let without = |args: &[&str]| {
        program("unshare")
            .args(["-m", "sh", "-c", "umount -l \"$0\" && exec \"$@\""])
            .args([&mount, &murphy_path()])
            .args(args)
            .run()
    };
    let words = ["cgroup2", "help: ", "mount -t cgroup2"];
    let bpf = ["run", "--backend", "bpf", "-e", FAULT, "--", "echo", "ran"];
    let done = without(&bpf)?;
    refused(&done, RUN, &words)?;
    let neighbour = program("sleep").args(["60"]).spawn()?;
    let pid = neighbour.pid().to_string();
    let done = without(&["inject", "-e", FAULT, "--pid", &pid])?;
    refused(&done, MISSING, &words)
}

/// A fault that LSM programs serve, after one that needs none: never half a plan.
fn lsm_fault(words: &[&str]) -> Outcome {
    let faults = ["-e", FAULT, "-e", "write:error=ENOSPC:on=file"];
    let done = murphy(["run", "--backend", "bpf"])
        .args(faults)
        .args(["--", "echo", "ran"])
        .run()?;
    refused(&done, RUN, words)?;
    let neighbour = program("sleep").args(["60"]).spawn()?;
    let pid = neighbour.pid().to_string();
    let done = murphy(["inject"])
        .args(faults)
        .args(["--pid", &pid])
        .run()?;
    refused(&done, MISSING, words)
}

fn locked_down() -> Outcome {
    match host::lockdown() {
        Some(state) if state != "none" => lsm_fault(&["help: ", "locked down", &state]),
        state => tests::skip(format!("the kernel's lockdown state is {state:?}")),
    }
}

fn no_bpf_lsm() -> Outcome {
    if host::lockdown().is_some_and(|state| state != "none") {
        return tests::skip("the kernel is locked down, which is told first");
    }
    match host::security_modules() {
        Some(list) if !list.split(',').any(|module| module == "bpf") => {
            lsm_fault(&["help: ", &list, "lsm="])
        }
        _ => tests::skip("bpf is among the active security modules"),
    }
}
