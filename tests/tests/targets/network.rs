//! By network namespace: those that are in it and those that enter it, nobody outside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tests::{
    ChildGuard, Outcome, Program, program,
    report::count,
    victim::{self, seen},
};

use super::{inject, refused, sees, stop};

/// Nobody listens there; what has no fault is refused by the kernel itself.
const NOWHERE: &str = "127.0.0.1:1";
const FAULT: &str = "connect:error=EHOSTUNREACH:port=1";

/// A name of a namespace, as `ip netns` gives it.
struct Name(PathBuf);

impl Name {
    fn of(process: &ChildGuard) -> anyhow::Result<Self> {
        fs::create_dir_all("/run/netns")?;
        let name = Self("/run/netns/murphy-test".into());
        fs::write(&name.0, "")?;
        let namespace = format!("/proc/{}/ns/net", process.pid());
        let done = program("mount")
            .args(["--bind", &namespace])
            .args([&name.0])
            .run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = program("umount").args([&self.0]).run();
        let _ = fs::remove_file(&self.0);
    }
}

fn connecting() -> Vec<String> {
    victim::words(["connect", NOWHERE, "12000", "5"])
}

/// A victim in a network namespace of its own.
fn alone() -> anyhow::Result<ChildGuard> {
    program("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .args([victim::self_path()])
        .args(connecting())
        .spawn()
}

/// A victim that enters the network namespace of another.
fn beside(other: &ChildGuard, words: &[String]) -> Program {
    program("nsenter")
        .args(["-t", &other.pid().to_string(), "-n"])
        .args([victim::self_path()])
        .args(words)
}

pub(super) fn namespace() -> Outcome {
    let target = alone()?;
    let elsewhere = alone()?;
    let neighbour = program(victim::self_path()).args(connecting()).spawn()?;
    let all = [&target, &elsewhere, &neighbour];
    for one in all {
        sees(one, "ECONNREFUSED").with_context(|| one.stderr().unwrap_or_default())?;
    }
    let name = Name::of(&target)?;
    let path = name.0.to_str().context("UTF-8")?;
    for word in [&target.pid().to_string(), path] {
        let before = seen(&target.stdout()?, "EHOSTUNREACH");
        let murphy = inject(&["-e", FAULT, "--netns", word])?;
        let later = beside(&target, &connecting()).spawn()?;
        for one in [&target, &later] {
            sees(one, "EHOSTUNREACH").context(word.to_owned())?;
        }
        for one in [&elsewhere, &neighbour] {
            sees(one, "ECONNREFUSED").context(word.to_owned())?;
        }
        let report = stop(murphy)?;
        for one in [&target, &later] {
            sees(one, "ECONNREFUSED")?;
        }
        let hit = seen(&target.stdout()?, "EHOSTUNREACH") - before
            + seen(&later.stdout()?, "EHOSTUNREACH");
        ensure!(count(&report, 0, "injected") == hit, "{hit}: {report}");
    }
    packets(&target, &elsewhere)?;
    for one in [&elsewhere, &neighbour] {
        let hit = seen(&one.stdout()?, "EHOSTUNREACH");
        ensure!(hit == 0, "a neighbour was hit");
    }
    spared(&target, &neighbour)
}

/// The interfaces are those of the namespace, in which nobody else may be yet.
fn packets(target: &ChildGuard, elsewhere: &ChildGuard) -> Outcome {
    let fault = "egress:loss=100%:port=9:proto=udp";
    let murphy = inject(&["-e", fault, "--netns", "murphy-test"])?;
    for (other, times) in [(target, "5"), (elsewhere, "3")] {
        let done = beside(other, &victim::words(["udp", "127.0.0.1:9", times])).run()?;
        ensure!(done.code == Some(0), "{done}");
    }
    let report = stop(murphy)?;
    ensure!(count(&report, 0, "injected") == 5, "{report}");
    Ok(())
}

fn spared(target: &ChildGuard, neighbour: &ChildGuard) -> Outcome {
    let own = victim::self_path();
    let own = own.to_str().context("UTF-8")?;
    let fault = format!("{FAULT}:exe={own}:netns=!murphy-test");
    let murphy = inject(&["-e", &fault])?;
    sees(neighbour, "EHOSTUNREACH")?;
    sees(target, "ECONNREFUSED")?;
    stop(murphy)?;
    sees(neighbour, "ECONNREFUSED")
}

pub(super) fn refusals() -> Outcome {
    ensure!(!Path::new("/run/netns/no-such").exists());
    refused(&["--netns", "no-such"], &["no-such", "ip netns list"])?;
    refused(&["--netns", "4194305"], &["4194305", "help: "])?;
    refused(&["--netns", "/proc/self/ns/uts"], &["uts", "help: "])?;
    refused(&["--netns", "a/b"], &["`a/b`", "absolute path"])
}
