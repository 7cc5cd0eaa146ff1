//! Reads and writes of fewer bytes, and reads of others: what the caller saw, what is on the disk, what was counted.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::report::count;
use tests::{Outcome, murphy, program, wait_until};

use super::{python, run, sh};

const PATIENCE: Duration = Duration::from_secs(30);

fn words(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

/// Bytes of which no two neighbours are alike.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

pub(super) fn short() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().canonicalize()?.join("f");
    let file = path.to_string_lossy();
    let script = format!(
        "
import os, threading
fd = os.open('{file}', os.O_RDWR | os.O_CREAT)
print(os.write(fd, b'0123456789'), os.lseek(fd, 0, os.SEEK_CUR))
print(os.writev(fd, [b'34', b'5', b'', b'6789']), os.pwrite(fd, b'678abc', 6), os.pwritev(fd, [b'xyz', b'xyz'], 20))
print(os.pwritev(fd, [b'ab', b'cdef'], 11, os.RWF_DSYNC), os.lseek(fd, 0, os.SEEK_CUR))
os.lseek(fd, 0, os.SEEK_SET)
print(os.read(fd, 10), os.read(fd, 3), os.pread(fd, 9, 11))
one, other = bytearray(2), bytearray(8)
print(os.readv(fd, [one, other]), bytes(one + other[:1]))
print(os.preadv(fd, [one, other], 0), os.preadv(fd, [one, other], 1, os.RWF_HIPRI), bytes(one + other[:1]))
thread = threading.Thread(target=lambda: print(os.read(fd, 100)))
thread.start()
thread.join()
end = os.open('{file}', os.O_WRONLY | os.O_APPEND)
print(os.write(end, b'uvwxyz'), os.fstat(fd).st_size)
"
    );
    let reads = format!("read,pread64,readv,preadv,preadv2:short=3:path={file}");
    let writes = format!("write,pwrite64,writev,pwritev,pwritev2:short=3:path={file}");
    let (done, report) = run(&["-e", &reads, "-e", &writes], &python(&script))?;
    let wanted = "3 3 3 3 3 3 6 b'012' b'345' b'abc' 3 b'678' 3 3 b'123' b'\\x00\\x00a' 3 26";
    ensure!(words(&done.stdout) == wanted, "{done}\n{report}");
    // The read of three bytes was none to shorten.
    for (fault, calls) in [(0, 6), (1, 6)] {
        ensure!(
            count(&report, fault, "matched") == calls && count(&report, fault, "injected") == calls,
            "{report}"
        );
    }
    let written = fs::read(&path)?;
    ensure!(
        written == b"012345678\0\0abc\0\0\0\0\0\0xyzuvw",
        "{}",
        written.escape_ascii()
    );
    Ok(())
}

pub(super) fn copies() -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = folder.path().canonicalize()?;
    let (from, to) = (place.join("from"), place.join("to"));
    let whole = content(20_000);
    fs::write(&from, &whole)?;
    let copy = format!(
        "cat {} | cat > {}",
        from.to_string_lossy(),
        to.to_string_lossy()
    );
    let faults = ["-e", "read:short=900", "-e", "write:short=700:p=50%"];
    let (done, report) = run(&faults, &sh(&copy))?;
    ensure!(
        done.code == Some(0) && fs::read(&to)? == whole,
        "{done}\n{report}"
    );
    // 23 of the file alone.
    ensure!(
        count(&report, 0, "injected") >= 23 && count(&report, 1, "injected") > 5,
        "{report}"
    );
    let once = format!(
        "dd if={} of={} bs=4096 count=3",
        from.to_string_lossy(),
        to.to_string_lossy()
    );
    let fault = format!("read:short=100:when=2:path={}", from.to_string_lossy());
    let (done, report) = run(&["-e", &fault], &sh(&once))?;
    ensure!(
        done.code == Some(0) && done.stderr.contains("2+1 records in"),
        "{done}"
    );
    let copied = fs::read(&to)?;
    ensure!(copied == whole[..4096 + 100 + 4096], "{}", copied.len());
    ensure!(
        count(&report, 0, "matched") == 3
            && count(&report, 0, "injected") == 1
            && count(&report, 0, "when") == 2,
        "{report}"
    );
    let after = program("sh").args(["-c", &once]).run()?;
    ensure!(after.stderr.contains("3+0 records in"), "{after}");
    Ok(())
}

pub(super) fn flipped() -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = folder.path().canonicalize()?;
    let path = place.join("f");
    let file = path.to_string_lossy();
    let whole = content(10_000);
    fs::write(&path, &whole)?;
    let script = format!(
        "
import os, sys, time
fd = os.open('{file}', os.O_RDONLY)
whole = bytes(i % 251 for i in range(10000))
for want in (os.read(fd, 20000), os.read(fd, 20000), os.pread(fd, 5, 100), os.pread(fd, 4000, 0)):
    print(len(want), ','.join(str(i) for i, byte in enumerate(want) if byte != whole[i + 100 * (len(want) == 5)]))
sys.stdout.flush()
while not os.path.exists('{file}.go'):
    time.sleep(0.01)
"
    );
    let sum = || program("sha256sum").args([&path]).run();
    let before = sum()?;
    let report = place.join("report");
    let fault = format!("read,pread64:corrupt=7:seed=5:path={file}");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let murphy = murphy([
            "run",
            "--backend",
            "seccomp",
            "-q",
            "--json",
            "-e",
            &fault,
            "-o",
        ])
        .args([&report])
        .args(["--"])
        .args(python(&script))
        .spawn()?;
        let four = || murphy.stdout().is_ok_and(|said| said.lines().count() == 4);
        wait_until(PATIENCE, four).with_context(|| murphy.stderr().unwrap_or_default())?;
        // A neighbour, while the fault is in force.
        let neighbour = sum()?;
        ensure!(neighbour.stdout == before.stdout, "{neighbour}");
        fs::write(place.join("f.go"), "")?;
        let done = murphy.finish(PATIENCE)?;
        fs::remove_file(place.join("f.go"))?;
        ensure!(done.code == Some(0), "{done}");
        let places = |line: &str| line.split(' ').nth(1).unwrap_or("").split(',').count();
        let lines: Vec<_> = done.stdout.lines().collect();
        ensure!(
            lines[0].starts_with("10000 ")
                && lines[1] == "0 "
                && lines[2] == "5 0,1,2,3,4"
                && lines[3].starts_with("4000 "),
            "{done}"
        );
        ensure!(places(lines[0]) == 7 && places(lines[3]) == 7, "{done}");
        let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
        // The end of the file is no match.
        ensure!(
            count(&report, 0, "matched") == 3 && count(&report, 0, "injected") == 3,
            "{report}"
        );
        seen.push(done.stdout);
    }
    ensure!(seen[0] == seen[1], "the same seed: {seen:?}");
    let both = format!("read:short=50:corrupt=2:times=1:path={file}");
    let (done, report) = run(&["-e", &both], &sh(&format!("head -c 60 {file} | wc -c")))?;
    ensure!(
        done.stdout.trim() == "60" && count(&report, 0, "injected") == 1,
        "{done}\n{report}"
    );
    let after = sum()?;
    ensure!(after.stdout == before.stdout, "{after}");
    Ok(())
}

pub(super) fn waits() -> Outcome {
    let script = "
import os, threading, time
mine, theirs = os.pipe()
def later():
    time.sleep(1)
    os.write(theirs, b'0123456789')
thread = threading.Thread(target=later)
thread.start()
print(os.read(mine, 100))
thread.join()
os.write(theirs, b'0123456789')
print(os.read(mine, 100), os.read(mine, 100))
os.set_blocking(mine, False)
try:
    os.read(mine, 100)
except BlockingIOError:
    print('not yet')
os.close(theirs)
print(os.read(mine, 100), os.read(mine, 100))
event = os.eventfd(7) if hasattr(os, 'eventfd') else None
print(event is None or os.read(event, 8) == b'\\7' + bytes(7))
try:
    os.read(77, 8)
except OSError as error:
    print(error.errno)
";
    let (done, report) = run(&["-e", "read:short=6:on=pipe,other"], &python(script))?;
    let said = words(&done.stdout);
    let wanted = "b'0123456789' b'012345' b'6789' not yet b'' b'' True 9";
    ensure!(said == wanted, "{done}\n{report}");
    // The pipe that was empty, and the eventfd where there is one.
    ensure!(
        count(&report, 0, "injected") == 2 && (1..=2).contains(&count(&report, 0, "failed")),
        "{report}"
    );
    // What is not readable as memory is the kernel's to refuse, and nothing is lost.
    let script = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
mine, theirs = os.pipe()
os.write(theirs, b'0123456789')
print(libc.read(mine, ctypes.c_void_p(8), ctypes.c_size_t(9)), ctypes.get_errno(), os.read(mine, 100))
";
    let (done, report) = run(&["-e", "read:corrupt=1:on=pipe:when=1"], &python(script))?;
    ensure!(done.stdout.trim() == "-1 14 b'0123456789'", "{done}");
    ensure!(count(&report, 0, "failed") == 1, "{report}");
    Ok(())
}

pub(super) fn sockets() -> Outcome {
    let script = "
import os, socket
one, other = socket.socketpair()
print(one.send(b'0123456789'), os.write(one.fileno(), b'456789'))
print(other.recv(100, socket.MSG_PEEK), other.recv(100), os.read(other.fileno(), 100))
try:
    other.recv(100, socket.MSG_DONTWAIT)
except BlockingIOError:
    print('nothing')
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
accepted, _ = server.accept()
accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')
client.send(b'x' * 9)
accepted.recv(100, socket.MSG_PEEK)
accepted.close()
try:
    client.recv(100)
except ConnectionResetError:
    print('reset')
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
print(one.send(b'0123456789'), other.recv(100))
";
    let fault = "recvfrom,sendto,read,write:short=4:on=socket";
    let (done, report) = run(&["-e", fault], &python(script))?;
    let said = words(&done.stdout);
    let wanted = "4 4 b'0123' b'0123' b'4567' nothing reset 10 b'0123456789'";
    ensure!(said == wanted, "{done}\n{report}");
    ensure!(count(&report, 0, "injected") >= 6, "{report}");
    Ok(())
}

pub(super) fn broken_pipe() -> Outcome {
    let script = "yes | head -n 1; echo ${PIPESTATUS[0]}";
    let command = ["bash", "-c", script].map(str::to_owned);
    let (done, report) = run(&["-e", "write:short=1000:on=pipe"], &command)?;
    ensure!(done.stdout == "y\n141\n", "{done}");
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    Ok(())
}
