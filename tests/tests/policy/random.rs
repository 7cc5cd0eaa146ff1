//! Random policies: murphy's verdicts beside those of the page, and what is allowed carried out.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use murphy_engine::policy::{Asked, Policies};
use murphy_fault::plan::{Options, Plan, Target};
use serde_json::Value;
use tests::{Outcome, net::Echo};

use super::evaluator::{allows, matches, pair_allowed, port_allowed};
use super::triple::{Fault, Place, Policy, Random};

/// The error that faults inject: nothing gives it by itself.
const ENOANO: i32 = 55;

/// Files, folders and links that policies and faults speak of.
fn furnish(folder: &Path, program: Option<&Path>) -> Outcome {
    for inner in ["open/inner", "secret", "bin"] {
        fs::create_dir_all(folder.join(inner))?;
    }
    for file in ["open/file", "open/inner/file", "secret/file"] {
        fs::write(folder.join(file), "some bytes")?;
    }
    for name in ["bin/postgres", "bin/worker"] {
        match program {
            Some(program) => drop(fs::copy(program, folder.join(name))?),
            None => fs::write(folder.join(name), name)?,
        }
    }
    for (to, link) in [
        ("secret", "link"),
        ("bin", "tools"),
        ("bin/postgres", "link-postgres"),
    ] {
        std::os::unix::fs::symlink(to, folder.join(link))?;
    }
    Ok(())
}

/// A thousand triples, one seed each.
pub(crate) fn agrees() -> Outcome {
    let folder = tempfile::tempdir()?;
    furnish(folder.path(), None)?;
    let file = folder.path().join("policy.toml");
    let place = Place {
        folder: folder.path(),
        ports: [6379, 22],
    };
    let (mut verdicts, mut seed) = ([0, 0], 0);
    while verdicts[0] + verdicts[1] < 1000 {
        seed += 1;
        ensure!(seed < 3000, "most faults cannot be planned: {verdicts:?}");
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let policy = place.policy(&mut random);
        let fault = place.fault(&mut random);
        let target = place.target(&mut random);
        let options = Options {
            limit: Some(Duration::from_secs(fault.seconds)),
            ..Options::default()
        };
        let text = fault.text();
        let parsed = text.parse().with_context(|| text.clone())?;
        let Ok(plan) = Plan::new(vec![parsed], Target::Running(target.who()), &options) else {
            continue;
        };
        fs::write(&file, policy.text())?;
        let policies = Policies::load(std::slice::from_ref(&file));
        let policies = policies.with_context(|| format!("seed {seed}: {}", policy.text()))?;
        let refusals = policies.refusals(&Asked {
            plan: &plan,
            command: None,
            survey: &target.survey(),
            reason: None,
        });
        let expected = allows(&policy, &fault, &target);
        ensure!(
            refusals.is_empty() == expected,
            "seed {seed}: the page {} what murphy refuses with {refusals:?}\n{}\n{text}\n{target:?}",
            if expected { "allows" } else { "refuses" },
            policy.text()
        );
        verdicts[usize::from(expected)] += 1;
    }
    ensure!(
        verdicts.iter().all(|count| *count > 100),
        "refused and allowed: {verdicts:?}"
    );
    Ok(())
}

/// A hundred allowed ones, carried out: each event, and what the victim saw.
pub(crate) fn injects() -> Outcome {
    let folder = tempfile::tempdir()?;
    furnish(folder.path(), Some(&std::env::current_exe()?))?;
    let (one, other) = (Echo::start()?, Echo::start()?);
    let place = Place {
        folder: folder.path(),
        ports: [one.port(), other.port()],
    };
    let (mut done, mut with_events, mut seed) = (0, 0, 0);
    while done < 100 {
        seed += 1;
        ensure!(seed < 5000, "only {done} are allowed");
        let mut random = Random(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(seed));
        let policy = place.policy(&mut random);
        let fault = place.fault(&mut random);
        let command = ["bin/worker", "bin/postgres", "link-postgres"][random.below(3)];
        let program = folder.path().join(command);
        let (_, name) = command.rsplit_once('/').unwrap_or(("", command));
        let mut target = place.target(&mut random);
        target.hit.clear();
        target.processes = vec![vec![
            ("comm", name.to_owned()),
            ("exe", program.display().to_string()),
            ("uid", "0".to_owned()),
        ]];
        // Other names of hosts and servers are not at hand here.
        let elsewhere = ["dns", "http"].iter().any(|op| fault.ops[0] == *op);
        if elsewhere || !allows(&policy, &fault, &target) {
            continue;
        }
        let context = || format!("seed {seed}: {}\n{}", fault.text(), policy.text());
        done += 1;
        if inject(&place, &policy, &fault, &program, name).with_context(context)? {
            with_events += 1;
        }
    }
    ensure!(with_events >= 30, "only {with_events} had an event");
    Ok(())
}

/// Runs the victim under a fault that is allowed; whether anything matched.
fn inject(
    place: &Place<'_>,
    policy: &Policy,
    fault: &Fault,
    program: &Path,
    name: &str,
) -> anyhow::Result<bool> {
    let (file, events) = (
        place.folder.join("policy.toml"),
        place.folder.join("events.jsonl"),
    );
    fs::write(&file, policy.text())?;
    for name in ["open/doomed", "secret/doomed"] {
        fs::write(place.folder.join(name), "")?;
    }
    let done = tests::murphy(["run", "-q", "-e", &fault.text(), "--policy"])
        .args([&file])
        .args(["--for", &format!("{}s", fault.seconds), "--events"])
        .args([&events])
        .args(["--".as_ref(), program.as_os_str()])
        .args(["policy-victim".as_ref(), place.folder.as_os_str()])
        .args(place.ports.map(|port| port.to_string()))
        .run()?;
    ensure!(done.code != Some(125), "{done}");
    // What it says of what it saw.
    for line in done.stdout.lines() {
        let Some((what, "hit")) = line.rsplit_once(' ') else {
            continue;
        };
        let what = what.rsplit_once(' ').map_or(what, |(_, what)| what);
        let allowed = match what.parse() {
            Ok(port) => port_allowed(policy, port),
            Err(_) => {
                let path = fs::canonicalize(what).unwrap_or_else(|_| what.into());
                let real = |restricted: &String| fs::canonicalize(restricted);
                let reached = |restricted| real(restricted).is_ok_and(|no| path.starts_with(no));
                !policy.restricted.iter().any(reached)
            }
        };
        ensure!(allowed, "the victim saw `{line}`");
    }
    let mut any = false;
    for line in fs::read_to_string(&events)?.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] != "match" {
            continue;
        }
        any = true;
        let op = event["op"].as_str().context("no operation")?;
        let is_said = fault.ops.iter().any(|said| said == op);
        let pairs = |effect: &String| pair_allowed(policy, op, effect);
        ensure!(is_said && fault.effects.iter().all(pairs), "{line}");
        if let Some(port) = event["port"].as_u64() {
            ensure!(port_allowed(policy, u16::try_from(port)?), "{line}");
        }
        if let Some(on) = event["on"].as_str() {
            let named = fault.on.is_empty() || fault.on.iter().any(|kind| kind == on);
            let indirect = ["sendfile", "splice"].contains(&op);
            ensure!(named || indirect, "{line}");
        }
        // A process that has ended meanwhile has no name any more.
        if let Some(comm) = event["comm"].as_str().filter(|comm| !comm.is_empty()) {
            let fact = ("comm", comm.to_owned());
            ensure!(comm == name, "{line}");
            let forbidden = policy.targets.1.iter().any(|rule| matches(rule, &fact));
            ensure!(!forbidden, "{line}");
        }
    }
    Ok(any)
}

/// What faults hit: calls on files and connections, each of which is said with whether it was hit.
pub(crate) fn victim(args: &[String]) -> Outcome {
    let [folder, ports @ ..] = args else {
        anyhow::bail!("policy-victim FOLDER PORT…");
    };
    let folder = Path::new(folder);
    for port in ports {
        let address = format!("127.0.0.1:{port}");
        let stream = TcpStream::connect(&address);
        say("connect", port, stream.as_ref().err())?;
        if let Ok(stream) = stream {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = (&stream).write(b"x");
        }
        let sent = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", &address));
        say("sendto", port, sent.err().as_ref())?;
    }
    for name in ["open/file", "open/inner/file", "secret/file", "link/file"] {
        let path = folder.join(name);
        let path = path.to_str().context("a strange path")?;
        let file = File::open(path);
        say("open", path, file.as_ref().err())?;
        if let Ok(mut file) = file {
            let mut bytes = [0; 10];
            match file.read(&mut bytes) {
                Ok(10) => say("read", path, None)?,
                // As many bytes are there: its writer cut it short.
                Ok(_) => say("read", path, Some(&io::Error::from_raw_os_error(ENOANO)))?,
                Err(error) => say("read", path, Some(&error))?,
            }
        }
        let written = fs::OpenOptions::new().append(true).open(path);
        if let Ok(mut file) = written {
            let wrote = file.write(b"x");
            say("write", path, wrote.err().as_ref())?;
            say("fsync", path, file.sync_all().err().as_ref())?;
        }
    }
    for name in ["open/doomed", "secret/doomed"] {
        let path = folder.join(name);
        let removed = rustix::fs::unlinkat(rustix::fs::CWD, &path, rustix::fs::AtFlags::empty());
        let error = removed.err().map(io::Error::from);
        say("unlink", &path.to_string_lossy(), error.as_ref())?;
    }
    let _ = std::process::id();
    Ok(())
}

/// By a call that no fault of these tests is on.
fn say(call: &str, what: &str, error: Option<&io::Error>) -> Outcome {
    let word = match error.and_then(io::Error::raw_os_error) {
        Some(ENOANO) => "hit",
        Some(_) => "failed",
        None => "ok",
    };
    let line = format!("{call} {what} {word}\n");
    let flags = rustix::io::ReadWriteFlags::empty();
    let said = rustix::io::pwritev2(
        io::stdout(),
        &[IoSlice::new(line.as_bytes())],
        u64::MAX,
        flags,
    )?;
    if said != line.len() {
        bail!("a short line");
    }
    Ok(())
}
