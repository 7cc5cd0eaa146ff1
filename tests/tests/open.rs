//! `open`, `openat`, `openat2`, `creat` with an errno, by the LSM hook `file_open`.

use std::{fs, time::Duration};

use anyhow::ensure;
use tests::{Group, Hit, Outcome, case, murphy, needs, victim::seen, victim::victim};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case("denied, counted, and over when murphy is", lsm(), denied),
        case(
            "a neighbour on the same file sees nothing",
            lsm(),
            neighbour,
        ),
        case("execve's opening of its file is let be", lsm(), exec),
        case("on= tells files from directories", lsm(), kinds),
        case("a file on overlayfs is opened once", lsm(), overlay),
        case(
            "half of python's opens fail",
            needs![Root, Cgroup2, Atomics, BpfLsm, Tool("python3")],
            python,
        ),
    ])
}

fn denied() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    fs::write(&path, "x")?;
    let file = path.to_string_lossy();
    let hit = Hit::run(
        &["--skip-loader", "-e", "openat:error=EACCES:on=file"],
        &["open", &file, "6"],
    )?;
    ensure!(
        hit.seen("EACCES") == 6 && hit.count(0, "injected") >= 6,
        "{}",
        hit.victim
    );
    let again = victim(["open", &file, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

fn neighbour() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    fs::write(&path, "x")?;
    let file = path.to_string_lossy();
    let neighbour = victim(["open", &file, "100", "10"]).spawn()?;
    let hit = Hit::run(
        &["--skip-loader", "-e", "openat:error=EMFILE"],
        &["open", &file, "50", "5"],
    )?;
    ensure!(hit.seen("EMFILE") == 50, "{}", hit.victim);
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    Ok(())
}

/// The kernel opens a program's file by the same hook; that is no `openat`.
fn exec() -> Outcome {
    let faults = ["-e", "open,openat,openat2,creat:error=EACCES:on=file", "--"];
    let done = murphy(["run", "--json"])
        .args(faults)
        .args([tests::murphy_path()])
        .args(["--version"])
        .run()?;
    // Statically linked, murphy runs; dynamically, its loader (not execve) is denied its libraries.
    let ran = done.code == Some(0) || done.stderr.contains("shared librar");
    ensure!(ran && done.code != Some(126), "{done}");
    let done = murphy(["run", "-q", "--skip-loader"])
        .args(faults)
        .args(["sh", "-c", "/bin/true || exit 9"])
        .run()?;
    // The shell's execve of another program works; that program's loader may not.
    ensure!(
        matches!(done.code, Some(0 | 9 | 127)) && !done.stderr.contains("Permission denied\n"),
        "{done}"
    );
    Ok(())
}

fn kinds() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    fs::write(&path, "x")?;
    let (file, dir) = (path.to_string_lossy(), folder.path().to_string_lossy());
    let fault = ["--skip-loader", "-e", "openat:error=ELOOP:on=dir"];
    let hit = Hit::run(&fault, &["open", &file, "3"])?;
    ensure!(hit.seen("ok") == 3, "{}", hit.victim);
    let hit = Hit::run(&fault, &["open", &dir, "3"])?;
    ensure!(
        hit.seen("ELOOP") == 3 && hit.count(0, "injected") >= 3,
        "{}",
        hit.victim
    );
    Ok(())
}

/// The hook is called for the upper file and for the backing file: one system call is one decision.
fn overlay() -> Outcome {
    let of_root = rustix::fs::statfs("/")?.f_type;
    if of_root != 0x794c_7630 {
        return tests::skip("the root file system is no overlayfs");
    }
    let matched = |count: &str| {
        let hit = Hit::run(
            &[
                "--skip-loader",
                "-e",
                "openat:error=EACCES:when=100000:on=file",
            ],
            &["open", "/etc/passwd", count],
        )?;
        anyhow::Ok(hit.count(0, "matched"))
    };
    let (few, more) = (matched("0")?, matched("6")?);
    ensure!(
        more - few == 6,
        "{few} matches without, {more} with six opens"
    );
    Ok(())
}

fn python() -> Outcome {
    let script = "
import sys
failed = 0
for i in range(200):
    try:
        open('/etc/passwd').close()
    except PermissionError:
        failed += 1
print(failed)
";
    // Python opens its own modules first: after= spares them, however slow the machine is.
    let slow =
        "import time; time.sleep(max(0, 6 - time.clock_gettime(time.CLOCK_MONOTONIC) + START))";
    let start = "import time; START = time.clock_gettime(time.CLOCK_MONOTONIC)";
    let program = format!("{start}\n{slow}\n{script}");
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let done = murphy(["run", "--json", "-o"])
        .args([&output])
        .args([
            "-e",
            "openat:error=EACCES:p=50%:after=5s:on=file",
            "--",
            "python3",
            "-c",
            &program,
        ])
        .run()?;
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&output)?)?;
    let failed: u64 = done.stdout.trim().parse().unwrap_or(u64::MAX);
    ensure!((60..=140).contains(&failed), "{done}");
    ensure!(
        tests::report::count(&report, 0, "injected") == failed,
        "{report}\n{done}"
    );
    Ok(())
}
