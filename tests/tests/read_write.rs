//! `read` and `write` families with an errno, by the LSM hook `file_permission`.

use std::{fs, time::Duration};

use anyhow::ensure;
use tests::{Group, Hit, Outcome, case, murphy, needs, victim::seen, victim::victim};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case("a full disk, counted, and over when murphy is", lsm(), full),
        case(
            "a neighbour on the same file sees nothing",
            lsm(),
            neighbour,
        ),
        case("on= tells files from pipes", lsm(), kinds),
        case("reads fail, writes do not", lsm(), reads),
        case(
            "of several faults the first that injects wins",
            lsm(),
            first_wins,
        ),
        case("sixty-four faults at once", lsm(), many),
        case("a shell cannot save, and says why", lsm(), shell),
    ])
}

fn words(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

fn full() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let hit = Hit::run(
        &["-e", "write:error=ENOSPC:on=file:when=3+2"],
        &["write", &file, "10"],
    )?;
    let wanted = "ok ok ENOSPC ok ENOSPC ok ENOSPC ok ENOSPC ok";
    ensure!(words(&hit.victim.stdout) == wanted, "{}", hit.victim);
    ensure!(
        hit.count(0, "matched") == 10 && hit.count(0, "injected") == 4 && hit.count(0, "when") == 6,
        "{}",
        hit.report
    );
    // What failed was not written.
    ensure!(fs::metadata(&path)?.len() == 6);
    let again = victim(["write", &file, "3"]).run()?;
    ensure!(seen(&again.stdout, "ok") == 3, "{again}");
    Ok(())
}

fn neighbour() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let neighbour = victim(["write", &file, "100", "10"]).spawn()?;
    let hit = Hit::run(&["-e", "write:error=EIO"], &["write", &file, "50", "5"])?;
    ensure!(
        hit.seen("EIO") == 50 && hit.count(0, "injected") == 50,
        "{}",
        hit.victim
    );
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    ensure!(fs::metadata(&path)?.len() == 100);
    Ok(())
}

fn kinds() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    // Each step writes to a file, then to a pipe.
    let hit = Hit::run(&["-e", "write:error=EIO:on=pipe"], &["both", &file, "4"])?;
    ensure!(
        hit.seen("EIO") == 4 && hit.count(0, "matched") == 4,
        "{}",
        hit.victim
    );
    ensure!(fs::metadata(&path)?.len() == 4);
    let hit = Hit::run(
        &["-e", "write:error=EIO:on=file,socket"],
        &["both", &file, "4"],
    )?;
    ensure!(
        hit.seen("EIO") == 4 && hit.count(0, "matched") == 4,
        "{}",
        hit.victim
    );
    Ok(())
}

fn reads() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    fs::write(&path, "0123456789")?;
    let file = path.to_string_lossy();
    // The loader reads libraries before the victim reads anything; times=0 of them is not to be had.
    let hit = Hit::run(
        &["--skip-loader", "-e", "read:error=EIO:on=file:p=100%"],
        &["write", &file, "5"],
    )?;
    ensure!(hit.seen("ok") == 5, "{}", hit.victim);
    let hit = Hit::run(&["-e", "pwrite64,pread64:error=EIO"], &["read", &file, "5"])?;
    ensure!(hit.seen("ok") == 5, "{}", hit.victim);
    let hit = Hit::run(
        &["--skip-loader", "-e", "read:error=EIO:on=file"],
        &["read", &file, "5"],
    )?;
    ensure!(
        hit.seen("EIO") == 5 && hit.count(0, "injected") >= 5,
        "{}",
        hit.victim
    );
    Ok(())
}

fn first_wins() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let faults = [
        "-e",
        "write:error=EIO:on=file:when=2",
        "-e",
        "write:error=ENOSPC:on=file:when=2+",
    ];
    let hit = Hit::run(&faults, &["write", &file, "4"])?;
    // The second fault is not asked about the write that the first one took.
    let wanted = "ok EIO ENOSPC ENOSPC";
    ensure!(words(&hit.victim.stdout) == wanted, "{}", hit.victim);
    ensure!(
        hit.count(0, "matched") == 4 && hit.count(1, "matched") == 3,
        "{}",
        hit.report
    );
    Ok(())
}

fn many() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let texts: Vec<_> = (1..=64)
        .map(|n| format!("write:error={n}:on=file:when=1"))
        .collect();
    let faults: Vec<_> = texts.iter().flat_map(|text| ["-e", text]).collect();
    let hit = Hit::run(&faults, &["write", &file, "3"])?;
    // Each fault injects at the first write that no fault before it has taken.
    let lines: Vec<_> = hit.victim.stdout.lines().collect();
    ensure!(lines == ["EPERM", "ENOENT", "ESRCH"], "{}", hit.victim);
    ensure!(
        (0..5)
            .map(|fault| hit.count(fault, "matched"))
            .eq([3, 2, 1, 0, 0]),
        "{}",
        hit.report
    );
    Ok(())
}

fn shell() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("x");
    let script = format!("echo hello > {}", file.display());
    let done = murphy([
        "run",
        "-e",
        "write:error=ENOSPC:on=file",
        "--",
        "sh",
        "-c",
        &script,
    ])
    .limit(Duration::from_secs(30))
    .run()?;
    ensure!(done.code != Some(0), "{done}");
    ensure!(fs::metadata(&file)?.len() == 0, "{done}");
    Ok(())
}
