//! Any system call, by seccomp user notification: on each kernel, whatever else it has, for root and for others.

mod bounds;
mod bytes;
mod effects;
mod identity;
mod programs;
mod who;

use anyhow::Context as _;
use serde_json::Value;
use tests::{Finished, Group, case, murphy, needs};

pub(crate) fn group() -> Group {
    let python = || needs![Root, Tool("python3")];
    tests::group([
        // What happens.
        case(
            "a full disk, counted, and over when murphy is",
            needs![Root],
            effects::full,
        ),
        case("a call that has no hook", python(), effects::no_hook),
        case("a made-up result", python(), effects::value),
        case(
            "errors are drawn, and drawn again by replay",
            needs![Root],
            effects::drawn,
        ),
        case("a signal, and the call goes on", python(), effects::signal),
        case("eight threads sleep at once", python(), effects::delay),
        case(
            "each thread counts for itself",
            python(),
            effects::by_thread,
        ),
        case(
            "path=, fd=, on= and port= narrow it down",
            python(),
            effects::filters,
        ),
        case("strace's own words", needs![Root], effects::strace),
        case(
            "packets by bpf and calls by seccomp in one run",
            needs![Root, Cgroup2, Atomics],
            effects::both,
        ),
        // Fewer bytes, and others.
        case(
            "short reads and writes of every kind, from where the last ended",
            python(),
            bytes::short,
        ),
        case(
            "programs that read on lose nothing, one that does not comes short",
            needs![Root],
            bytes::copies,
        ),
        case(
            "flipped bytes are the reader's alone, and the same for a seed",
            python(),
            bytes::flipped,
        ),
        case(
            "what would wait goes on whole, what has nothing to shorten is no match",
            python(),
            bytes::waits,
        ),
        case(
            "sockets give fewer bytes, and their errors themselves",
            python(),
            bytes::sockets,
        ),
        case(
            "a pipe's reader goes: SIGPIPE is the writer's",
            needs![Root, Tool("bash")],
            bytes::broken_pipe,
        ),
        // To whom.
        case(
            "a neighbour on the same file sees nothing",
            needs![Root],
            who::neighbour,
        ),
        case("children are hit too", needs![Root], who::children),
        case(
            "without root",
            needs![Root, Tool("setpriv")],
            who::unprivileged,
        ),
        case(
            "the command runs as another user",
            needs![Root, Tool("setpriv")],
            who::user,
        ),
        case("a static program", needs![Root], who::fixed),
        case(
            "armed by exec: the loader is hit",
            needs![Root],
            who::loader,
        ),
        case(
            "refused, with reason and remedy",
            needs![Root],
            who::refused,
        ),
        // Bounds.
        case(
            "SIGKILL of murphy: the command goes on at once",
            needs![Root],
            bounds::killed,
        ),
        case(
            "SIGSTOP of murphy: within the lease, and back",
            needs![Root],
            bounds::stopped,
        ),
        case(
            "SIGKILL of murphy while threads sleep: they wake",
            needs![Root],
            bounds::woken,
        ),
        case(
            "the supervisor is killed or stopped: the holder lets all go on",
            needs![Root],
            bounds::supervisor,
        ),
        case(
            "supervisor and holder are killed: the command is ended, and it is said",
            needs![Root],
            bounds::abandoned,
        ),
        case(
            "SIGKILL at any moment leaves nothing",
            needs![Root],
            bounds::any_moment,
        ),
        case(
            "what murphy itself needs can be faulted",
            needs![Root],
            bounds::own_calls,
        ),
        // Nobody else, and nothing after the end.
        case(
            "a process that has the number of a dead one is spared",
            python(),
            identity::number_reused,
        ),
        case(
            "what was pending at `stop` does not happen",
            python(),
            identity::pending_at_stop,
        ),
        case(
            "what was pending at the death of murphy does not happen",
            python(),
            identity::pending_at_death,
        ),
        case(
            "what is pending when a fault's time is over does not happen",
            python(),
            identity::pending_at_its_time,
        ),
        case(
            "a write in a thread's place has no more rights than the thread",
            python(),
            identity::no_more_rights,
        ),
        case("a close that fails has closed", python(), identity::closes),
        // Programs.
        case(
            "sqlite3 keeps its database",
            needs![Root, Tool("sqlite3")],
            programs::sqlite,
        ),
        case(
            "redis gives up when its log cannot be synced",
            needs![Root, Tool("redis-server"), Tool("redis-cli")],
            programs::redis,
        ),
        case(
            "PostgreSQL panics when its log cannot be synced, and recovers",
            needs![Root, Postgres, Newest],
            programs::postgres,
        ),
        case(
            "busybox, which has no loader, is hit",
            needs![Root, Tool("busybox")],
            programs::busybox,
        ),
        case(
            "io_uring: its calls are seen, what it does is not",
            needs![Root, Tool("python3")],
            programs::ring,
        ),
        case(
            "git loses nothing",
            needs![Root, Tool("git")],
            programs::git,
        ),
        case(
            "tar says what it could not read",
            needs![Root, Tool("tar")],
            programs::tar,
        ),
    ])
    // By seccomp, of which the oldest kernel has all that is used.
    .in_kernels(&["sid", "bullseye"])
}

/// The system's own python: one of a version manager is a shell script.
fn python(program: &str) -> Vec<String> {
    let path = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    vec![
        path.unwrap_or("python3").into(),
        "-c".into(),
        program.into(),
    ]
}

/// Runs a command under faults by seccomp; what it was, and murphy's report.
fn run(args: &[&str], command: &[String]) -> anyhow::Result<(Finished, Value)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = murphy(["run", "--backend", "seccomp", "--json", "-o"])
        .args([&output])
        .args(args)
        .args(["--"])
        .args(command)
        .run()?;
    let text = std::fs::read_to_string(&output).with_context(|| done.to_string())?;
    Ok((
        done,
        serde_json::from_str(&text).with_context(|| text.clone())?,
    ))
}

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}
