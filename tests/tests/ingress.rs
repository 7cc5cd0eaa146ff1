//! `ingress:loss=…`: packets vanish before their socket sees them.

use std::time::Duration;

use anyhow::ensure;
use tests::{
    Group, Hit, Outcome, case, needs, net::Echo, net::grown, victim::seen, victim::victim,
};

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case("the peer sends again what was lost", net(), retransmits),
        case(
            "a neighbour on the same port loses nothing",
            net(),
            neighbour,
        ),
        case("port= is the remote end", net(), filters),
    ])
}

fn retransmits() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let resent = grown("Tcp", "RetransSegs", || {
        let hit = Hit::run(
            &["--seed", "3", "-e", "ingress:loss=20%"],
            &["echo", &address, "40"],
        )?;
        ensure!(hit.seen("ok") == 40, "{}", hit.victim);
        ensure!(hit.count(0, "injected") > 0, "{}", hit.report);
        Ok(())
    })?;
    ensure!(resent > 0, "nothing was sent again");
    Ok(())
}

fn neighbour() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let resent = grown("Tcp", "RetransSegs", || {
        let neighbour = victim(["echo", &address, "50", "5"]).spawn()?;
        // Armed, and matching nothing that leaves.
        let hit = Hit::run(
            &["-e", "ingress:loss=100%:proto=icmp"],
            &["echo", &address, "20", "5"],
        )?;
        ensure!(
            hit.seen("ok") == 20 && hit.count(0, "matched") == 0,
            "{}",
            hit.report
        );
        let neighbour = neighbour.finish(Duration::from_secs(60))?;
        ensure!(seen(&neighbour.stdout, "ok") == 50, "{neighbour}");
        Ok(())
    })?;
    ensure!(resent == 0, "{resent} segments sent again without a loss");
    Ok(())
}

fn filters() -> Outcome {
    let echo = Echo::start()?;
    let address = echo.address.to_string();
    let port = echo.port();
    let hit = Hit::run(
        &["-e", &format!("ingress:loss=1ppm:port={port}")],
        &["echo", &address, "5"],
    )?;
    ensure!(
        hit.seen("ok") == 5 && hit.count(0, "matched") >= 5,
        "{}",
        hit.report
    );
    let hit = Hit::run(
        &["-e", &format!("ingress:loss=100%:sport={port}")],
        &["echo", &address, "5"],
    )?;
    ensure!(
        hit.seen("ok") == 5 && hit.count(0, "matched") == 0,
        "{}",
        hit.report
    );
    // Both ends have an address of their own.
    let echo = Echo::at("127.0.0.2:0")?;
    let address = echo.address.to_string();
    let fault = |filter: &str| format!("ingress:loss=1ppm:{filter}");
    let both = fault("dst=127.0.0.2:src=127.0.0.1");
    let turned = fault("dst=127.0.0.1:src=127.0.0.2");
    let hit = Hit::run(&["-e", &both, "-e", &turned], &["echo", &address, "5"])?;
    ensure!(
        hit.count(0, "matched") >= 5 && hit.count(1, "matched") == 0,
        "{}",
        hit.report
    );
    Ok(())
}
