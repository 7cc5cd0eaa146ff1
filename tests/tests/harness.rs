//! The harness itself: what it counts as passed, failed and skipped, and that it sees what is left behind.

mod leftovers;

use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::{Arguments, Conclusion};
use tests::{Case, Group, Need, Outcome, case, expect, needs};

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a pass, a failure and a panic are told apart",
            needs![],
            told_apart,
        ),
        case("a skip is counted and says why", needs![], skip_is_counted),
        case(
            "a need that must be met fails when it is not",
            needs![],
            must_have,
        ),
        case(
            "a leftover fails the test that left it",
            needs![Root, Cgroup2],
            leftover,
        ),
        case(
            "what another program of the machine makes is no leftover",
            needs![Root, Cgroup2, Tcx, Tool("ip"), Tool("tc"), Tool("mount")],
            || leftovers::apart(leftovers::neighbour),
        ),
        case(
            "what murphy can leave is found, one of each kind",
            needs![Root, Cgroup2, Tcx, Tool("ip"), Tool("tc"), Tool("mount")],
            || leftovers::apart(leftovers::each_kind),
        ),
        case(
            "a program over its time limit is killed",
            needs![],
            time_limit,
        ),
        case("an echo server echoes", needs![], echo),
        case(
            "redis answers",
            needs![Tool("redis-server"), Tool("redis-cli")],
            redis,
        ),
    ])
    // What the harness counts is no kernel's business.
    .host_only()
}

/// Runs cases as another program would, silently.
fn conclude(cases: impl IntoIterator<Item = Case>) -> Conclusion {
    tests::run_with(
        Arguments::from_iter(["inner", "--quiet", "--logfile", "/dev/null"]),
        cases,
    )
}

fn told_apart() -> Outcome {
    let got = conclude([
        case("passes", needs![], || Ok(())),
        case("fails", needs![], || anyhow::bail!("as it should")),
        case("panics", needs![], || panic!("as it should")),
    ]);
    ensure!(
        (got.num_passed, got.num_failed, got.num_ignored) == (1, 2, 0),
        "{got:?}"
    );
    Ok(())
}

fn skip_is_counted() -> Outcome {
    let got = conclude([case("skips", needs![], || tests::skip("because"))]);
    ensure!(
        (got.num_passed, got.num_failed, got.num_ignored) == (0, 0, 1),
        "{got:?}"
    );
    Ok(())
}

fn must_have() -> Outcome {
    ensure!(expect::must_have("trixie", &Need::Tcx));
    ensure!(!expect::must_have("bookworm", &Need::Tcx));
    let got = conclude([case("needs", needs![Tool("no-such-program")], || Ok(()))]);
    ensure!((got.num_failed, got.num_ignored) == (1, 0), "{got:?}");
    Ok(())
}

fn leftover() -> Outcome {
    // The mount point is asked of the kernel, as murphy does.
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mount = mounts
        .lines()
        .map(|l| l.split(' ').collect::<Vec<_>>())
        .find_map(|w| (w[2] == "cgroup2").then(|| w[1].to_owned()));
    let dir = format!(
        "{}/murphy-leftover-{}",
        mount.unwrap_or_default(),
        std::process::id()
    );
    let inner = dir.clone();
    let got = conclude([case("leaves a cgroup", needs![], move || {
        Ok(std::fs::create_dir(&inner)?)
    })]);
    std::fs::remove_dir(dir)?;
    ensure!(got.num_failed == 1, "{got:?}");
    Ok(())
}

fn time_limit() -> Outcome {
    let got = tests::program("sleep")
        .args(["30"])
        .limit(Duration::from_millis(200))
        .run();
    let text = got.map_or_else(|error| format!("{error:#}"), |done| done.to_string());
    ensure!(text.contains("not done after 200ms"), "{text}");
    Ok(())
}

fn echo() -> Outcome {
    use std::io::{Read as _, Write as _};
    let echo = tests::net::Echo::start()?;
    let mut stream = std::net::TcpStream::connect(echo.address)?;
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    ensure!(&back == b"hello");
    Ok(())
}

fn redis() -> Outcome {
    let redis = tests::redis::Redis::start([])?;
    let got = redis.cli(["set", "a", "b"])?;
    ensure!(got.stdout.trim() == "OK", "{got}");
    Ok(())
}
