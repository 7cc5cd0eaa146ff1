//! What real programs do. `docs/faults/syscall.md` says it in words.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use tests::net::free_port;
use tests::report::count;
use tests::{Outcome, murphy, program, wait_until};

use super::{run, sh};

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
