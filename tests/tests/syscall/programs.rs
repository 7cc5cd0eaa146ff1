//! What real programs do. `docs/faults/syscall.md` says it in words.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::net::free_port;
use tests::postgres::Postgres;
use tests::report::count;
use tests::{Outcome, murphy, program, wait_until};

use super::{python, run, sh};

pub(super) fn sqlite() -> Outcome {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("db").to_string_lossy().into_owned();
    let made = program("sqlite3")
        .args([&database, "create table t(x); insert into t values (1);"])
        .run()?;
    ensure!(made.code == Some(0), "{made}");
    let fill = "begin; with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) \
                insert into t select randomblob(200) from n; commit;";
    for fault in [
        "pwrite64,write:error=ENOSPC:when=20+:on=file",
        "pwrite64:error=EIO:when=7:on=file",
        "fsync,fdatasync:error=EIO:when=1",
    ] {
        let command = ["sqlite3", &database, fill].map(str::to_owned);
        let (done, report) = run(&["-e", fault], &command)?;
        ensure!(count(&report, 0, "injected") > 0, "{fault}: {report}");
        ensure!(done.code != Some(0), "{fault}: it did not notice: {done}");
        let after = program("sqlite3")
            .args([&database, "pragma integrity_check; select count(*) from t;"])
            .run()?;
        ensure!(after.stdout == "ok\n1\n", "{fault}: {after}");
    }
    Ok(())
}

pub(super) fn redis() -> Outcome {
    let folder = tempfile::tempdir()?;
    let port = free_port()?.to_string();
    let place = folder.path().canonicalize()?;
    let log = format!(
        "fdatasync,fsync:error=EIO:path={}/*/*.incr.aof",
        place.display()
    );
    let mut server = murphy(["run", "-q", "-e", &log, "--"])
        .args([
            "redis-server",
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .args([folder.path()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .spawn()?;
    let mut set = 0;
    wait_until(Duration::from_secs(60), || {
        let value = format!("{set}");
        let done = program("redis-cli")
            .args(["-p", &port, "set", "key", &value])
            .run();
        set += u32::from(done.is_ok_and(|done| done.stdout.trim() == "OK"));
        !server.is_running().unwrap_or(false)
    })?;
    let done = server.finish(Duration::from_secs(5))?;
    ensure!(done.code == Some(1), "{done}");
    ensure!(
        done.stdout.contains("fsync") && done.stdout.contains("Exiting"),
        "{done}"
    );
    Ok(())
}

pub(super) fn postgres() -> Outcome {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let mut postgres = Postgres::start()?;
    let made = postgres.sql("create table t as select 7 as promised")?;
    ensure!(made.code == Some(0), "{made}");
    let log = postgres.data()?.join("pg_wal/*");
    let fault = format!("fsync,fdatasync:error=EIO:path={}", log.display());
    let report = output.to_string_lossy();
    postgres.restart_under(&["-q", "--json", "-o", &report, "-e", &fault])?;
    let there = postgres.sql("select promised from t")?;
    ensure!(there.stdout.trim() == "7", "{there}");
    let refused = postgres.sql("insert into t values (8)")?;
    ensure!(refused.code != Some(0), "a promise: {refused}");
    // It panics, begins to recover, cannot sync what it recovered either, and so on.
    let panics = || {
        let said = postgres.said().unwrap_or_default();
        said.matches("PANIC:  could not fdatasync file").count()
    };
    wait_until(Duration::from_secs(60), || panics() >= 2).with_context(|| {
        let said = postgres.said().unwrap_or_default();
        format!("it does not panic: {said}")
    })?;
    postgres.restart()?;
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&output)?)?;
    ensure!(
        count(&report, 0, "injected") > 0
            && count(&report, 0, "injected") == count(&report, 0, "matched"),
        "{report}"
    );
    let there = postgres.sql("select promised from t where promised = 7")?;
    ensure!(there.stdout.trim() == "7", "{there}");
    let more = postgres.sql("insert into t values (9) returning promised")?;
    ensure!(more.stdout.trim() == "9", "{more}");
    Ok(())
}

/// It calls the kernel without a loader and without a shared C library.
pub(super) fn busybox() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().canonicalize()?.join("f");
    fs::write(&path, "0123456789\n")?;
    let file = path.to_string_lossy().into_owned();
    let command = ["busybox", "cat", &file].map(str::to_owned);
    let fault = format!("openat,open:error=EACCES:path={file}");
    let (done, report) = run(&["-e", &fault], &command)?;
    ensure!(
        done.code != Some(0) && done.stderr.contains("Permission denied"),
        "{done}"
    );
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    // An interposed library would see nothing of this.
    let linked = program("sh")
        .args(["-c", "ldd $(command -v busybox) 2>&1"])
        .run()?;
    ensure!(
        linked.stdout.contains("not a dynamic executable")
            || linked.stdout.contains("statically linked"),
        "{linked}"
    );
    let fault = format!("read:short=4:corrupt=1:when=2:path={file}");
    let copy = folder.path().join("copy");
    let (from, to) = (format!("if={file}"), format!("of={}", copy.display()));
    let command = ["busybox", "dd", "bs=5", &from, &to].map(str::to_owned);
    let (done, report) = run(&["-e", &fault], &command)?;
    let copied = fs::read(&copy)?;
    let whole = b"0123456789\n";
    ensure!(copied.len() == whole.len(), "{done}");
    let others: Vec<_> = (0..whole.len())
        .filter(|&i| copied[i] != whole[i])
        .collect();
    ensure!(
        matches!(others[..], [5..=8]) && done.stderr.contains("1+2 records in"),
        "{others:?}: {done}"
    );
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    let after = program("busybox").args(["cat", &*file]).run()?;
    ensure!(after.stdout == "0123456789\n", "{after}");
    Ok(())
}

/// A write that is submitted to a ring is no system call; entering the ring is one.
pub(super) fn ring() -> Outcome {
    const PROGRAM: &str = "
import ctypes, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    done = libc.syscall(*[ctypes.c_long(word) for word in words])
    if done < 0:
        print(os.strerror(ctypes.get_errno()))
        sys.exit(3)
    return done
params = ctypes.create_string_buffer(120)
ring = call(425, 4, ctypes.addressof(params))
head, tail, mask, entries, flags, dropped, array = struct.unpack_from('7I', params, 40)
cq = struct.unpack_from('10I', params, 80)
sq = mmap.mmap(ring, array + 4 * 4)
done = mmap.mmap(ring, cq[5] + 16 * 8, offset=0x8000000)
submit = mmap.mmap(ring, 64 * 4, offset=0x10000000)
text = ctypes.create_string_buffer(b'by the ring')
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
struct.pack_into('BBHiQQII', submit, 0, 23, 0, 0, file, 0, ctypes.addressof(text), 11, 0)
struct.pack_into('I', sq, array, 0)
struct.pack_into('I', sq, tail, 1)
call(426, ring, 1, 1, 1, 0, 0)
print(struct.unpack_from('Qi', done, cq[5])[1])
";
    let folder = tempfile::tempdir()?;
    let path = folder.path().canonicalize()?.join("f");
    let file = path.to_string_lossy().into_owned();
    let mut command = python(PROGRAM);
    command.push(file.clone());
    let fault = format!("write,pwrite64,pwritev2:error=EIO:path={file}");
    let (done, report) = run(&["-e", &fault], &command)?;
    ensure!(done.stdout.trim() == "11", "{done}");
    ensure!(
        fs::read_to_string(&path)? == "by the ring" && count(&report, 0, "matched") == 0,
        "{report}"
    );
    let (done, report) = run(&["-e", "io_uring_enter:error=EBUSY"], &command)?;
    ensure!(
        done.code == Some(3) && done.stdout.contains("busy"),
        "{done}"
    );
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    let (done, _) = run(&["-e", "io_uring_setup:error=ENOSYS"], &command)?;
    ensure!(done.code == Some(3), "{done}");
    Ok(())
}

pub(super) fn git() -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = folder.path().to_string_lossy().into_owned();
    let git = "git -c user.name=a -c user.email=a@b -c core.fsync=all";
    let made = program("sh")
        .args([
            "-c",
            &format!(
                "cd {place} && git init -q . && echo one > f && git add f && {git} commit -qm one"
            ),
        ])
        .run()?;
    ensure!(made.code == Some(0), "{made}");
    let script = format!("cd {place} && echo two > f && git add f && {git} commit -qm two");
    let fault = format!("write:error=ENOSPC:path={place}/.git/**");
    let (done, report) = run(&["-e", &fault], &sh(&script))?;
    ensure!(
        done.code != Some(0) && count(&report, 0, "injected") > 0,
        "{done}\n{report}"
    );
    let after = program("sh")
        .args(["-c", &format!("cd {place} && git fsck && git log --format=%s && {git} commit -aqm two && git log --format=%s")])
        .run()?;
    ensure!(
        after.code == Some(0) && after.stdout == "one\ntwo\none\n",
        "{after}"
    );
    Ok(())
}

pub(super) fn tar() -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = folder.path().canonicalize()?;
    for file in ["a", "b", "c"] {
        fs::write(place.join(file), "x".repeat(5000))?;
    }
    let place = place.to_string_lossy().into_owned();
    let fault = format!("read:error=EIO:path={place}/b");
    let script = format!("tar cf {place}/all.tar -C {place} a b c");
    let (done, report) = run(&["-e", &fault], &sh(&script))?;
    ensure!(
        done.code == Some(2) && done.stderr.contains("b: Read error"),
        "{done}"
    );
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    let listed = program("tar")
        .args(["tf", &format!("{place}/all.tar")])
        .run()?;
    ensure!(listed.stdout == "a\nb\nc\n", "{listed}");
    Ok(())
}
