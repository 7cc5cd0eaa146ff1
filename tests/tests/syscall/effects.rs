//! What happens to a call, as the caller saw it and as the supervisor counted it.

use std::fs;
use std::net::TcpListener;

use anyhow::ensure;
use tests::report::count;
use tests::victim::{seen, victim};
use tests::{Hit, Outcome, murphy};

use super::{python, run, sh};

fn words(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

pub(super) fn full() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let fault = "write:error=ENOSPC:on=file:when=3+2";
    let hit = Hit::run(
        &["--backend", "seccomp", "-e", fault],
        &["write", &file, "10"],
    )?;
    let wanted = "ok ok ENOSPC ok ENOSPC ok ENOSPC ok ENOSPC ok";
    ensure!(words(&hit.victim.stdout) == wanted, "{}", hit.victim);
    ensure!(
        hit.count(0, "matched") == 10 && hit.count(0, "injected") == 4 && hit.count(0, "when") == 6,
        "{}",
        hit.report
    );
    ensure!(
        hit.report["faults"][0]["backend"] == "seccomp",
        "{}",
        hit.report
    );
    // What failed was not written.
    ensure!(fs::metadata(&path)?.len() == 6);
    let again = victim(["write", &file, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

pub(super) fn no_hook() -> Outcome {
    let script = "
import os, tempfile
file = tempfile.TemporaryFile()
for i in range(5):
    try:
        os.fsync(file.fileno())
        print('ok')
    except OSError as error:
        print(error.errno)
";
    let (done, report) = run(&["-e", "fsync:error=EIO:times=2"], &python(script))?;
    ensure!(words(&done.stdout) == "5 5 ok ok ok", "{done}");
    ensure!(
        count(&report, 0, "injected") == 2 && count(&report, 0, "times") == 3,
        "{report}"
    );
    Ok(())
}

pub(super) fn value() -> Outcome {
    let script = "
import os, tempfile
print(os.getppid())
path = tempfile.mkdtemp()
os.rmdir(path)
print(os.path.exists(path))
os.rmdir(path)
";
    let faults = ["-e", "getppid:retval=0x2a", "-e", "rmdir:retval=0:when=1"];
    let (done, report) = run(&faults, &python(script))?;
    // The first rmdir did nothing and said that it did; the second took the folder away.
    ensure!(
        words(&done.stdout) == "42 True" && done.code == Some(0),
        "{done}"
    );
    ensure!(
        count(&report, 0, "injected") == 1 && count(&report, 1, "injected") == 1,
        "{report}"
    );
    Ok(())
}

pub(super) fn drawn() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, events) = (folder.path().join("f"), folder.path().join("events"));
    let (file, log) = (path.to_string_lossy(), events.to_string_lossy());
    let fault = "write:error=EIO,ENOSPC:on=file:p=50%:seed=3";
    let args = ["--backend", "seccomp", "--events", &log, "-e", fault];
    let hit = Hit::run(&args, &["write", &file, "60"])?;
    let (eio, full) = (hit.seen("EIO"), hit.seen("ENOSPC"));
    ensure!(eio > 5 && full > 5 && hit.seen("ok") > 10, "{}", hit.victim);
    ensure!(
        hit.count(0, "injected") == eio + full && hit.count(0, "matched") == 60,
        "{}",
        hit.report
    );
    let again = Hit::run(&args, &["write", &file, "60"])?;
    ensure!(
        again.victim.stdout == hit.victim.stdout,
        "the same seed: {}",
        again.victim
    );
    let replayed = murphy(["replay", &log]).run()?;
    ensure!(replayed.code == Some(0), "{replayed}");
    let line = fs::read_to_string(&events)?;
    ensure!(
        line.contains("\"op\":\"write\"") && line.contains("\"pid\":"),
        "{line}"
    );
    Ok(())
}

pub(super) fn signal() -> Outcome {
    let script = "
import os, signal, time
got = []
signal.signal(signal.SIGUSR1, lambda *a: got.append(print('signal')))
print(os.getppid() > 0)
# Before 5.19 it comes behind the answer.
until = time.monotonic() + 20
while not got and time.monotonic() < until: time.sleep(0.01)
";
    let (done, report) = run(&["-e", "getppid:signal=USR1"], &python(script))?;
    let lines: Vec<_> = done.stdout.lines().collect();
    ensure!(
        lines.contains(&"signal") && lines.contains(&"True"),
        "{done}"
    );
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    // One that it does not expect ends it, and murphy says with which.
    let (done, _) = run(
        &["-e", "getppid:signal=SIGSEGV"],
        &python("import os, time; os.getppid(); time.sleep(20)"),
    )?;
    ensure!(done.code == Some(139), "{done}");
    Ok(())
}

pub(super) fn delay() -> Outcome {
    // fsync is called without python's lock: all eight can be in it at once.
    let script = "
import os, tempfile, threading, time
file = tempfile.TemporaryFile()
took, busy = [], []
def one():
    at, cpu = time.monotonic(), time.thread_time()
    os.fsync(file.fileno())
    took.append(time.monotonic() - at)
    busy.append(time.thread_time() - cpu)
threads = [threading.Thread(target=one) for i in range(8)]
begun = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(min(took), time.monotonic() - begun, sum(took), sum(busy))
";
    let (done, report) = run(&["-e", "fsync:delay_enter=2s"], &python(script))?;
    let numbers: Vec<f64> = done
        .stdout
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let [least, elapsed, sum, busy] = numbers[..] else {
        anyhow::bail!("{done}")
    };
    ensure!(least >= 2.0, "{done}");
    ensure!(elapsed < 12.0, "one after the other: {done}");
    // Eight that spin on two processors have a quarter of the time each.
    ensure!(busy < sum / 10.0, "they do not sleep: {done}");
    ensure!(count(&report, 0, "injected") == 8, "{report}");
    Ok(())
}

pub(super) fn by_thread() -> Outcome {
    let script = "
import os, threading
seen = []
def one():
    for i in range(3):
        seen.append('x' if os.getppid() == 7 else '.')
for i in range(3):
    thread = threading.Thread(target=one)
    thread.start()
    thread.join()
print(''.join(seen))
";
    let (done, report) = run(
        &["-e", "getppid:retval=7:when=2:count=thread"],
        &python(script),
    )?;
    ensure!(done.stdout.trim() == ".x..x..x.", "{done}");
    ensure!(
        count(&report, 0, "injected") == 3 && count(&report, 0, "matched") == 9,
        "{report}"
    );
    Ok(())
}

pub(super) fn filters() -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = folder.path().canonicalize()?;
    fs::create_dir(place.join("in"))?;
    for file in ["in/a", "b"] {
        fs::write(place.join(file), "x")?;
    }
    std::os::unix::fs::symlink("../b", place.join("in/link"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let script = format!(
        "
import os, socket
os.chdir('{}')
def say(what, call):
    try:
        call()
        print(what, 'ok')
    except OSError as error:
        print(what, error.errno)
say('inside', lambda: open('in/a'))
say('outside', lambda: open('b'))
say('away', lambda: open('in/../b'))
say('linked', lambda: open('in/link'))
one, other = os.open('b', os.O_RDWR), os.open('b', os.O_RDWR)
os.dup2(other, 77)
say('fd', lambda: os.write(77, b'x'))
say('another', lambda: os.write(other, b'x'))
def connect(port):
    socket.create_connection(('127.0.0.1', port)).close()
say('port', lambda: connect({port}))
say('pipe', lambda: os.write(os.pipe()[1], b'x'))
say('file', lambda: os.fsync(one))
",
        place.display()
    );
    let pattern = format!("openat:error=EACCES:path={}/in/*", place.display());
    let to = format!("connect:error=ECONNREFUSED:port={port}");
    let faults = [
        "-e",
        &pattern,
        "-e",
        "write:error=EIO:fd=77",
        "-e",
        &to,
        "-e",
        "fsync,write:error=ENOSPC:on=pipe",
    ];
    let (done, report) = run(&faults, &python(&script))?;
    let wanted = "inside 13 outside ok away ok linked 13 fd 5 another ok port 111 pipe 28 file ok";
    ensure!(words(&done.stdout) == wanted, "{done}\n{report}");
    for (fault, expected) in [(0, 2), (1, 1), (2, 1), (3, 1)] {
        ensure!(count(&report, fault, "matched") == expected, "{report}");
    }
    Ok(())
}

pub(super) fn strace() -> Outcome {
    let file = "/etc/hostname";
    let cat = sh(&format!("cat {file} >/dev/null; echo $?"));
    for fault in [
        "inject=openat:error=EPERM:when=1..100",
        "fault=%file:error=ENOENT:when=4+",
        "inject=/^open(at)?$:retval=-1",
        "!exit_group,exit:error=EPERM:path=/etc/hostname",
    ] {
        if fault.starts_with('!') {
            // Many of these have no path.
            let done = murphy(["run", "-e", fault, "--", "true"]).run()?;
            ensure!(
                done.code == Some(125) && done.stderr.contains("no path"),
                "{done}"
            );
            continue;
        }
        let (done, report) = run(&["-e", fault], &cat)?;
        ensure!(done.stdout.trim() != "0", "{done}");
        ensure!(count(&report, 0, "injected") > 0, "{report}");
    }
    Ok(())
}

pub(super) fn both() -> Outcome {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let lost = format!("egress:loss=100%:proto=udp:port={}", address.port());
    // A delay is for the supervisor, whatever else the kernel has.
    let args = ["-e", "getppid:delay_enter=1us", "-e", &lost];
    let hit = Hit::run(&args, &["udp", &address.to_string(), "5"])?;
    let backend = |i: usize| &hit.report["faults"][i]["backend"];
    ensure!(
        backend(0) == "seccomp" && backend(1) == "bpf",
        "{}",
        hit.report
    );
    ensure!(
        hit.seen("ok") == 5 && hit.count(1, "injected") == 5,
        "{}\n{}",
        hit.report,
        hit.victim
    );
    Ok(())
}
