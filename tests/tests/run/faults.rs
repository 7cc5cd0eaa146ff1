//! Who is hit, when, and what is said of it.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    Case, Hit, Outcome, case, murphy, needs, net::Echo, report::count, victim, victim::seen,
};

use super::{REFUSED, least, run, script};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "descendants at any depth, nobody else",
            least(),
            descendants,
        ),
        case("the seed that is told repeats a run", least(), seed),
        case("--for: faults end, the command goes on", least(), limit),
        case(
            "several faults: the first that injects wins",
            least(),
            several,
        ),
        case("what matched nothing is pointed out", least(), unmatched),
        case(
            "armed after exec: the loader is hit, and --skip-loader spares it",
            needs![Root, Cgroup2, Atomics, BpfLsm, Tool("cat")],
            loader,
        ),
        case(
            "--skip-loader: the command is hit all the same",
            least(),
            skip_loader,
        ),
        case(
            "--skip-loader of a script is refused",
            least(),
            skip_loader_of_script,
        ),
    ]
}

fn descendants() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let neighbour = victim::victim(["connect", &address, "4000", "5"]).spawn()?;
    let connect = format!("\"$0\" victim connect {address} 3");
    // Itself, a grandchild, and one that has left session and parent behind.
    let done = script(
        &["--json"],
        &format!(
            "{connect}; sh -c 'sh -c '\\''{connect}'\\'' \"$0\"' \"$0\"; \
             (setsid \"$0\" victim connect {address} 3 & wait)"
        ),
    )
    .run()?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(seen(&done.stdout, "ECONNREFUSED") == 9, "{done}");
    let report: Value = serde_json::from_str(&done.stderr)?;
    ensure!(count(&report, 0, "injected") == 9, "{report}");
    // The neighbour was at it all the time.
    ensure!(seen(&neighbour.stdout()?, "ok") > 0);
    ensure!(seen(&neighbour.stdout()?, "ECONNREFUSED") == 0);
    Ok(())
}

fn seed() -> Outcome {
    let echo = Echo::start()?;
    let steps = ["connect", &echo.address.to_string(), "64"];
    let fault = ["-e", "connect:error=ECONNREFUSED:p=50%"];
    let first = Hit::run(&fault, &steps)?;
    let told = first.report["seed"]
        .as_u64()
        .context("no seed")?
        .to_string();
    let again = Hit::run(&[&fault[..], &["--seed", &told]].concat(), &steps)?;
    ensure!(
        first.victim.stdout == again.victim.stdout,
        "seed {told} decides differently: {} and {}",
        first.victim,
        again.victim
    );
    let refused = again.seen("ECONNREFUSED");
    ensure!(refused > 0 && refused < 64, "{}", again.victim);
    // 2^-64 for the same by chance.
    let other = Hit::run(&fault, &steps)?;
    ensure!(
        other.victim.stdout != first.victim.stdout,
        "every seed gives the same"
    );
    Ok(())
}

fn limit() -> Outcome {
    let echo = Echo::start()?;
    let hit = Hit::run(
        &["-e", REFUSED, "--for", "1s"],
        &["connect", &echo.address.to_string(), "150", "10"],
    )?;
    ensure!(hit.victim.code == Some(0), "{}", hit.victim);
    let (refused, ok) = (hit.seen("ECONNREFUSED"), hit.seen("ok"));
    ensure!(refused > 0 && ok > 0, "{refused} refused, {ok} not");
    // First the ones, then the others.
    let turn = usize::try_from(refused)?;
    let lines: Vec<_> = hit.victim.stdout.lines().collect();
    ensure!(
        lines[..turn].iter().all(|line| *line == "ECONNREFUSED"),
        "{}",
        hit.victim
    );
    ensure!(
        hit.count(0, "injected") == refused && hit.count(0, "expired") == ok,
        "{}",
        hit.report
    );
    Ok(())
}

fn several() -> Outcome {
    let echo = Echo::start()?;
    let port = format!("connect:error=ETIMEDOUT:port={}", echo.port());
    let hit = Hit::run(
        &[
            "-e",
            "connect:error=EPERM:when=1",
            "-e",
            &port,
            "-e",
            "connect:error=EACCES",
        ],
        &["connect", &echo.address.to_string(), "4"],
    )?;
    let got = hit.victim.stdout.lines().collect::<Vec<_>>().join(" ");
    ensure!(got == "EPERM ETIMEDOUT ETIMEDOUT ETIMEDOUT", "{got}");
    ensure!(
        hit.count(0, "matched") == 4 && hit.count(0, "injected") == 1 && hit.count(0, "when") == 3,
        "{}",
        hit.report
    );
    ensure!(
        hit.count(1, "matched") == 3 && hit.count(1, "injected") == 3,
        "{}",
        hit.report
    );
    // It was never asked, and is not said to have matched.
    ensure!(hit.count(2, "matched") == 0, "{}", hit.report);
    Ok(())
}

fn unmatched() -> Outcome {
    let echo = Echo::start()?;
    let other = "connect:error=EPERM:dst=192.0.2.1";
    let done = script(
        &["-e", other],
        &format!("\"$0\" victim connect {} 2", echo.address),
    )
    .run()?;
    let notices: Vec<_> = done
        .stderr
        .lines()
        .filter(|line| line.contains("matched nothing"))
        .collect();
    ensure!(
        notices.len() == 1 && notices[0].contains(other),
        "not {other} alone: {done}"
    );
    Ok(())
}

fn loader() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    fs::write(&path, "text\n")?;
    let path = path.display().to_string();
    let cat = |options: &[&str]| {
        murphy(["run", "--json", "-e", "openat:error=EACCES"])
            .args(options)
            .args(["--", "cat", &path])
            .run()
    };
    let unspared = cat(&[])?;
    // ld.so says so and exits with 127; cat itself was never reached.
    ensure!(
        unspared.code == Some(127) && unspared.stderr.contains("shared librar"),
        "the loader was spared: {unspared}"
    );
    let spared = cat(&["--skip-loader"])?;
    ensure!(
        spared.code == Some(1)
            && spared
                .stderr
                .contains(&format!("cat: {path}: Permission denied")),
        "not cat's own failure: {spared}"
    );
    let report: Value = serde_json::from_str(spared.stderr.lines().last().unwrap_or_default())?;
    ensure!(report["armed"] == true, "{report}");
    // Without any fault in the way it works, and exec itself is never hit.
    let later = murphy([
        "run",
        "-e",
        "openat:error=EACCES:when=1000",
        "--",
        "cat",
        &path,
    ])
    .limit(Duration::from_secs(60))
    .run()?;
    ensure!(later.stdout == "text\n", "{later}");
    Ok(())
}

fn skip_loader() -> Outcome {
    let echo = Echo::start()?;
    let hit = Hit::run(
        &["--skip-loader", "-e", REFUSED],
        &["connect", &echo.address.to_string(), "5"],
    )?;
    ensure!(hit.seen("ECONNREFUSED") == 5, "{}", hit.victim);
    ensure!(
        hit.report["armed"] == true && hit.count(0, "injected") == 5,
        "{}",
        hit.report
    );
    Ok(())
}

fn skip_loader_of_script() -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("script");
    fs::write(&path, "#!/bin/sh\necho ran\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let path = path.display().to_string();
    let done = run(&["--skip-loader"], &[&path]).run()?;
    ensure!(
        done.code == Some(125) && done.stdout.is_empty() && done.stderr.contains(&path),
        "{done}"
    );
    ensure!(done.stderr.contains("interpreter"), "no remedy: {done}");
    Ok(())
}
