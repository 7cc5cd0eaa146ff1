//! Whatever happens to murphy, at whatever moment: it injects nothing more, leaves nothing, and disturbs nobody else.
//!
//! `cargo xtask test --safety` runs this group; with `--full`, ten times the rounds. What it
//! counted is printed.

use std::{
    collections::BTreeMap,
    env, fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use murphy_engine::boot_ns;
use murphy_kernel::programs_of_murphy;
use serde_json::Value;
use tests::{
    ChildGuard, Group, Hit, Outcome, Program, case, expect::environment, murphy, murphy_path,
    needs, net::Echo, note, program, victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// How late a decision to inject may be.
const LATE: Duration = Duration::from_millis(10);

const REFUSED: &str = "connect:error=ECONNREFUSED";

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics];
    tests::group([
        case("signals at random moments of run", net(), || {
            signals(Verb::Run)
        }),
        case("signals at random moments of inject", net(), || {
            signals(Verb::Inject)
        }),
        case(
            "the deadline holds while murphy is stopped",
            net(),
            deadline,
        ),
        case("the lease holds while murphy is stopped", net(), lease),
        case(
            "the disk fills while faults are in force",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            disk_fills,
        ),
        case(
            "nobody can read the id of what was detached",
            net(),
            id_lost,
        ),
        case("many datagrams, counted by both sides", net(), || {
            let server = UdpSocket::bind("127.0.0.1:0")?;
            let to = server.local_addr()?.to_string();
            // An emulated machine takes some 30 µs for each.
            let many = if environment() == "host" {
                1_000_000
            } else {
                100_000
            };
            agree(
                "egress:loss=100%:proto=udp:p=10%",
                &["tally:udp", &to],
                many,
                "ok",
            )
        }),
        case(
            "a million writes, counted by both sides",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            || {
                let write = ["tally:write", "/dev/null"];
                agree("write:error=EIO:on=chr:p=10%", &write, 1_000_000, "EIO")
            },
        ),
    ])
    // How murphy is attached, and what is left of it, differs between a kernel with links for
    // everything and those without: the oldest and the newest have that.
    .in_kernels(&["bookworm", "sid", "bullseye"])
    // Signals at random moments: one failure in a thousand counts.
    .once()
}

/// The kernel counts each operation once and misses none; what the victim saw of them is what was injected. True loss it does not see.
fn agree(fault: &str, step: &[&str], operations: u64, sees: &str) -> Outcome {
    let many = operations.to_string();
    let steps: Vec<_> = step.iter().copied().chain([&*many]).collect();
    let hit = Hit::run(&["-e", fault], &steps)?;
    let saw = |word: &str| -> u64 {
        let lines = hit.victim.stdout.lines();
        lines
            .filter_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok())
            .sum()
    };
    let [matched, injected, spared, failed] =
        ["matched", "injected", "probability", "failed"].map(|counter| hit.count(0, counter));
    ensure!(matched == operations && failed == 0, "{}", hit.report);
    ensure!(injected + spared == matched, "{}", hit.report);
    let expected = if sees == "ok" { operations } else { injected };
    ensure!(saw(sees) == expected, "{}", hit.victim);
    note(&format!(
        "{fault}: of {matched} operations {injected} injected, {spared} let through; the victim saw {sees} {}",
        saw(sees)
    ));
    Ok(())
}

/// How many rounds of signals: 20 unless the runner says otherwise.
fn rounds() -> u32 {
    env::var("MURPHY_SAFETY_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(20)
        / 2
}

/// splitmix64: enough to choose moments; the seed is told, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn within(&mut self, begin: Duration, end: Duration) -> Duration {
        let span = end.saturating_sub(begin).as_micros() as u64;
        begin + Duration::from_micros(self.below(span))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Run,
    Inject,
}

/// When things happen in a life that nobody disturbs, counted from murphy's start.
struct Life {
    /// How long `inject` has its faults in force.
    length: Duration,
    armed: Duration,
    reverting: Duration,
    over: Duration,
}

/// A place for a test's injections, and what they work on.
struct Scene {
    state: tempfile::TempDir,
    echo: Echo,
    /// Is hit by `inject`.
    target: ChildGuard,
    /// Is hit by nobody.
    neighbour: ChildGuard,
}

impl Scene {
    fn new() -> Result<Self> {
        let state = tempfile::tempdir()?;
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755))?;
        let echo = Echo::start()?;
        let address = echo.address.to_string();
        let load = || victim::victim(["connect", &address, "100000", "5"]).spawn();
        let (target, neighbour) = (load()?, load()?);
        Ok(Self {
            state,
            echo,
            target,
            neighbour,
        })
    }

    fn murphy(&self, args: &[&str]) -> Program {
        murphy(args).env("MURPHY_RUN_DIR", self.state.path())
    }

    /// Connections are refused for so long (by `run`, for some 200 ms), and half of the packets lost.
    fn start(&self, verb: Verb, length: Duration) -> Result<ChildGuard> {
        let faults = ["-e", REFUSED, "-e", "net:loss=50%:proto=udp"];
        match verb {
            Verb::Run => self
                .murphy(&["run", "-q"])
                .args(faults)
                .args(["--"])
                .args([victim::self_path()])
                .args(victim::words([
                    "connect",
                    &self.echo.address.to_string(),
                    "40",
                    "5",
                ]))
                .spawn(),
            Verb::Inject => self
                .murphy(&["inject", "--for", &format!("{}ms", length.as_millis())])
                .args(faults)
                .args(["--pid", &self.target.pid().to_string()])
                .spawn(),
        }
    }

    fn last_of_target(&self) -> Option<String> {
        Some(self.target.stdout().ok()?.lines().last()?.to_owned())
    }

    /// Lives one life undisturbed. On an emulated machine that is held up, it may be over before the target runs again: then
    /// a longer one.
    fn life(&self, verb: Verb) -> Result<Life> {
        let mut ends = Vec::new();
        for length in [400, 1600, 6400].map(Duration::from_millis) {
            match self.one_life(verb, length)? {
                Ok(life) => return Ok(life),
                Err(end) => ends.push(end),
            }
            self.is_quiet()?;
        }
        bail!("it never hits: {}", ends.join("\n"))
    }

    /// One life, or how it ended if it hit nobody.
    fn one_life(&self, verb: Verb, length: Duration) -> Result<Result<Life, String>> {
        let begun = Instant::now();
        let mut murphy = self.start(verb, length)?;
        let hit = |murphy: &ChildGuard| match verb {
            Verb::Run => murphy.stdout().is_ok_and(|text| !text.is_empty()),
            Verb::Inject => self
                .target
                .stdout()
                .is_ok_and(|text| text.contains("ECONNREFUSED")),
        };
        wait_until(PATIENCE, || {
            hit(&murphy) || !murphy.is_running().unwrap_or(false)
        })
        .context("it neither hits nor ends")?;
        if !hit(&murphy) {
            let done = murphy.finish(PATIENCE)?;
            ensure!(done.code == Some(0), "{done}");
            return Ok(Err(done.to_string()));
        }
        let armed = begun.elapsed();
        let reverts = |murphy: &mut ChildGuard| match verb {
            Verb::Run => murphy.stdout().is_ok_and(|text| text.lines().count() == 40),
            Verb::Inject => self.last_of_target().as_deref() == Some("ok"),
        };
        wait_until(PATIENCE, || {
            reverts(&mut murphy) || !murphy.is_running().unwrap_or(false)
        })?;
        let reverting = begun.elapsed();
        murphy.finish(PATIENCE)?;
        Ok(Ok(Life {
            length,
            armed,
            reverting,
            over: begun.elapsed(),
        }))
    }

    /// Nothing is left of any murphy, and who was hit is so no more.
    fn is_quiet(&self) -> Outcome {
        let files = || fs::read_dir(self.state.path()).map_or(0, Iterator::count);
        let quiet = || files() == 0 && programs_of_murphy().is_empty() && guardians() == 0;
        wait_until(PATIENCE, quiet).with_context(|| {
            format!(
                "{} files, programs {:?}, {} guardians",
                files(),
                programs_of_murphy(),
                guardians()
            )
        })?;
        wait_until(PATIENCE, || self.last_of_target().as_deref() == Some("ok"))
            .context("the target is hit for ever")
    }
}

fn guardians() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm == "murphy-guard\n")
        })
        .count()
}

fn signals(verb: Verb) -> Outcome {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut dice = Dice(seed);
    let scene = Scene::new()?;
    let life = scene.life(verb)?;
    scene.is_quiet()?;
    let mut tally: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..rounds() {
        let (phase, begin, end) = match dice.below(3) {
            0 => ("attach", Duration::ZERO, life.armed),
            1 => ("run", life.armed, life.reverting),
            _ => ("revert", life.reverting, life.over),
        };
        let moment = dice.within(begin, end);
        let (name, signal) = match dice.below(4) {
            0 => ("SIGKILL", libc::SIGKILL),
            1 => ("SIGSTOP", libc::SIGSTOP),
            2 => ("SIGTERM", libc::SIGTERM),
            _ => ("SIGINT", libc::SIGINT),
        };
        let after = dice.below(2);
        *tally.entry(phase).or_default() += 1;
        *tally.entry(name).or_default() += 1;
        let what = || format!("round {round}, seed {seed}: {name} after {moment:?} ({phase})");
        let start = || scene.start(verb, life.length);
        one(&scene, start, moment, signal, after == 0).with_context(what)?;
    }
    let text = scene.neighbour.stdout()?;
    let (seen, well) = (text.lines().count() as u64, victim::seen(&text, "ok"));
    ensure!(
        seen == well && seen > 0,
        "{} of {seen} of the neighbour's connections failed",
        seen - well
    );
    let counts: Vec<_> = tally
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    note(&format!(
        "{} rounds: {}; left behind: nothing; neighbour: {seen} connections, none failed",
        rounds(),
        counts.join(", ")
    ));
    Ok(())
}

fn one(
    scene: &Scene,
    start: impl FnOnce() -> Result<ChildGuard>,
    moment: Duration,
    signal: i32,
    killed_after: bool,
) -> Outcome {
    let begun = Instant::now();
    let murphy = start()?;
    thread::sleep(moment.saturating_sub(begun.elapsed()));
    // It may have ended by itself.
    let _ = murphy.signal(signal);
    if signal == libc::SIGSTOP {
        thread::sleep(Duration::from_millis(50));
        if killed_after {
            let _ = murphy.signal(libc::SIGKILL);
        } else {
            let _ = murphy.signal(libc::SIGCONT);
        }
    }
    murphy.finish(PATIENCE)?;
    scene.is_quiet()
}

/// The matches in an events file.
fn matches(path: &std::path::Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    Ok(lines
        .into_iter()
        .filter(|line| line["event"] == "match")
        .collect())
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

/// A murphy that is stopped as soon as its faults work, until they do no more.
struct Stopped {
    /// Matches, in the kernel's order.
    matches: Vec<Value>,
    /// Boot time in ns when it was stopped, and when it went on.
    from: u64,
    until: u64,
}

fn stopped(args: &[&str]) -> Result<Stopped> {
    let (folder, echo) = (tempfile::tempdir()?, Echo::start()?);
    let events = folder.path().join("events");
    let murphy = murphy(["run", "-q", "--events"])
        .args([&events])
        .args(args)
        .args(["--"])
        .args([victim::self_path()])
        .args(victim::words([
            "connect",
            &echo.address.to_string(),
            "600",
            "5",
        ]))
        .spawn()?;
    sees(&murphy, "ECONNREFUSED")?;
    murphy.signal(libc::SIGSTOP)?;
    let from = boot_ns();
    sees(&murphy, "ok")?;
    // Some more matches after that.
    let lines = murphy.stdout()?.lines().count();
    wait_until(PATIENCE, || {
        murphy
            .stdout()
            .is_ok_and(|text| text.lines().count() > lines + 20)
    })?;
    let until = boot_ns();
    murphy.signal(libc::SIGCONT)?;
    murphy.finish(PATIENCE)?;
    Ok(Stopped {
        matches: matches(&events)?,
        from,
        until,
    })
}

fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or(u64::MAX)
}

fn deadline() -> Outcome {
    let length = Duration::from_millis(800);
    let fault = format!("{REFUSED}:for=800ms");
    let done = stopped(&["--lease", "60s", "-e", &fault])?;
    let with = |verdict: &'static str| {
        done.matches
            .iter()
            .filter(move |event| event["verdict"] == verdict)
    };
    let last = with("injected")
        .map(|event| number(event, "elapsed_ns"))
        .max()
        .context("nothing injected")?;
    let expired = with("expired").count();
    ensure!(
        Duration::from_nanos(last) <= length + LATE,
        "an injection {:?} after arming, which was for {length:?}",
        Duration::from_nanos(last)
    );
    ensure!(expired > 0, "nothing came after the deadline");
    note(&format!(
        "deadline {length:?} with the loader stopped: the last of {} injections at {:.1?}; {expired} matches after it, all let through",
        with("injected").count(),
        Duration::from_nanos(last)
    ));
    Ok(())
}

fn lease() -> Outcome {
    let length = Duration::from_millis(700);
    let done = stopped(&["--lease", "700ms", "-e", REFUSED])?;
    let late = done
        .matches
        .iter()
        .filter(|event| event["verdict"] == "injected")
        .map(|event| number(event, "time_ns"))
        .filter(|time| *time < done.until)
        .max()
        .context("nothing injected")?
        .saturating_sub(done.from);
    ensure!(
        Duration::from_nanos(late) <= length + LATE,
        "an injection {:?} after the stop, with a lease of {length:?}",
        Duration::from_nanos(late)
    );
    let lapsed = done
        .matches
        .iter()
        .filter(|event| event["verdict"] == "lease")
        .count();
    ensure!(lapsed > 0, "nothing came after the lease");
    note(&format!(
        "lease {length:?} with the loader stopped: the last injection {:.1?} after the stop; {lapsed} matches after it, all let through",
        Duration::from_nanos(late)
    ));
    Ok(())
}

/// The record is in the way of nothing: what was noted is undone, with not a byte to be had.
fn disk_fills() -> Outcome {
    let state = tempfile::tempdir()?;
    let script = "mount -t tmpfs -o size=16k none \"$MURPHY_RUN_DIR\" && chmod 755 \"$MURPHY_RUN_DIR\" && \
                  \"$@\"; code=$?; rm \"$MURPHY_RUN_DIR/filler\"; ls -A \"$MURPHY_RUN_DIR\"; exit $code";
    let command = "head -c 100000 /dev/zero > \"$MURPHY_RUN_DIR/filler\" 2>/dev/null; exit 5";
    let done = program("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([murphy_path()])
        .args(["run", "-q", "-e", REFUSED, "--", "sh", "-c", command])
        .env("MURPHY_RUN_DIR", state.path())
        .run()?;
    ensure!(
        done.code == Some(5) && done.stdout.is_empty() && done.stderr.is_empty(),
        "{done}"
    );
    Ok(())
}

/// Whoever cannot be told the id cannot stop it: then it must not go on.
fn id_lost() -> Outcome {
    let scene = Scene::new()?;
    let line =
        "exec \"$0\" inject --detach -q -e connect:error=ECONNREFUSED --pid \"$1\" > /dev/full";
    let done = program("sh")
        .args(["-c", line])
        .args([murphy_path()])
        .args([scene.target.pid().to_string()])
        .env("MURPHY_RUN_DIR", scene.state.path())
        .run()?;
    ensure!(
        done.code == Some(1) && done.stderr.contains("No space left"),
        "{done}"
    );
    scene.is_quiet()
}
