//! Faults from a test's own code: the guard reverts whatever happens, and hits nobody else.

#[path = "../../chaos-userspace/examples/guard.rs"]
mod example;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use murphy::{Guard, Injection};
use tests::{ChildGuard, Group, Outcome, case, murphy_path, needs, net::Echo, victim, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case("the example of the documentation", net(), || {
            example::main().map_err(|error| anyhow!("{error}"))
        }),
        case(
            "a child is hit, a neighbour is not, a drop reverts",
            net(),
            child,
        ),
        case("a panic reverts", net(), panic),
        case("a refusal is murphy's own words", net(), refusal),
    ])
    // The library's interface is no kernel's business.
    .host_only()
}

fn refusing(server: &Echo, pid: u32) -> anyhow::Result<Guard> {
    let fault = format!("connect:error=ECONNREFUSED:port={}", server.port());
    let injection = Injection::new([fault]).program(murphy_path()).process(pid);
    Ok(injection.start()?)
}

fn connecting(server: &Echo) -> anyhow::Result<ChildGuard> {
    victim::victim(["connect", &server.address.to_string(), "6000", "10"]).spawn()
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

fn child() -> Outcome {
    let server = Echo::start()?;
    let (hit, spared) = (connecting(&server)?, connecting(&server)?);
    sees(&hit, "ok")?;
    let guard = refusing(&server, hit.pid())?;
    sees(&hit, "ECONNREFUSED")?;
    ensure!(guard.report()?.faults[0].injected > 0);
    drop(guard);
    sees(&hit, "ok")?;
    let lost = victim::seen(&spared.stdout()?, "ECONNREFUSED");
    ensure!(lost == 0, "a neighbour was hit {lost} times");
    Ok(())
}

fn panic() -> Outcome {
    let server = Echo::start()?;
    let hit = connecting(&server)?;
    sees(&hit, "ok")?;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let guard = refusing(&server, hit.pid());
        let _seen = sees(&hit, "ECONNREFUSED");
        // What a failed assertion does, without its words among those of the test.
        std::panic::resume_unwind(Box::new(guard.is_ok()));
    }));
    let started = ended.err().and_then(|panic| panic.downcast::<bool>().ok());
    ensure!(
        started.is_some_and(|started| *started),
        "nothing was injected"
    );
    ensure!(
        victim::seen(&hit.stdout()?, "ECONNREFUSED") > 0,
        "it was not hit"
    );
    sees(&hit, "ok")
}

fn refusal() -> Outcome {
    let injection = Injection::new(["connect:error=ENOTANERRNO"]).program(murphy_path());
    let refused = injection.this_process().start().err();
    let words = refused.context("it was taken")?.to_string();
    ensure!(words.contains("ENOTANERRNO"), "{words}");
    Ok(())
}
