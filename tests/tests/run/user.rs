//! `-u`: the command is that user and nothing more, and still under the faults.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, ensure};
use tests::{Case, Outcome, case, needs, net::Echo, program, victim, victim::seen};

use super::{least, run};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("-u NAME: ids and groups are the user's", least(), by_name),
        case("-u NUMBER without an entry", least(), by_number),
        case("-u: no capabilities are left", least(), powerless),
        case("-u: the command is hit", least(), hit),
        case(
            "-u: a set-user-ID program gains nothing",
            least(),
            set_user_id,
        ),
        case(
            "-u: no terminal to type into",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            no_terminal,
        ),
        case(
            "-u: signals for murphy reach the command",
            least(),
            signalled,
        ),
        case(
            "-u: a command that the user may not execute",
            least(),
            denied,
        ),
        case("-u: nobody of that name", least(), unknown),
    ]
}

const IDS: [&str; 3] = ["sh", "-c", "id -u; id -g; id -G"];

fn by_name() -> Outcome {
    let mut wanted = String::new();
    for what in ["-u", "-g", "-G"] {
        wanted.push_str(&program("id").args([what, "nobody"]).run()?.stdout);
    }
    ensure!(wanted.lines().count() == 3, "no user nobody: {wanted}");
    for user in ["nobody", wanted.lines().next().unwrap_or_default()] {
        let done = run(&["-q", "-u", user], &IDS).run()?;
        ensure!(done.code == Some(0) && done.stdout == wanted, "{done}");
    }
    Ok(())
}

fn by_number() -> Outcome {
    let done = run(&["-q", "-u", "54321"], &IDS).run()?;
    ensure!(done.stdout == "54321\n54321\n54321\n", "{done}");
    Ok(())
}

fn powerless() -> Outcome {
    let script = "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; cat /proc/1/environ";
    let done = run(&["-q", "-u", "nobody"], &["sh", "-c", script]).run()?;
    let sets: Vec<_> = done
        .stdout
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    ensure!(
        sets.len() == 3
            && sets
                .iter()
                .all(|(_, set)| set.trim_start_matches('0').is_empty()),
        "{done}"
    );
    ensure!(done.stderr.contains("Permission denied"), "{done}");
    Ok(())
}

fn hit() -> Outcome {
    let echo = Echo::start()?;
    // Where cargo keeps this program is not always open to everybody.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("victim");
    fs::copy(victim::self_path(), &copy)?;
    let copy = copy.to_str().context("a strange folder")?;
    let address = echo.address.to_string();
    let done = run(
        &["-q", "-u", "nobody"],
        &[copy, "victim", "connect", &address, "5"],
    )
    .run()?;
    ensure!(seen(&done.stdout, "ECONNREFUSED") == 5, "{done}");
    Ok(())
}

/// A program that is root's when it is executed, in a folder of everybody's; whether that counts
/// where it lies.
fn set_user_id_program() -> anyhow::Result<(tempfile::TempDir, String, bool)> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("id");
    let id = program("sh").args(["-c", "command -v id"]).run()?;
    fs::copy(id.stdout.trim(), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755))?;
    let mount = rustix::fs::statvfs(folder.path())?;
    let counts = !mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID);
    let copy = copy.to_str().context("a strange folder")?.to_owned();
    Ok((folder, copy, counts))
}

fn set_user_id() -> Outcome {
    let (_folder, id, counts) = set_user_id_program()?;
    let done = run(&["-q", "-u", "nobody"], &[&id, "-un"]).run()?;
    ensure!(done.stdout == "nobody\n", "{done}");
    let freely = ["-q", "-u", "nobody", "--allow-new-privileges"];
    let done = run(&freely, &[&id, "-un"]).run()?;
    let wanted = if counts { "root\n" } else { "nobody\n" };
    ensure!(done.stdout == wanted, "{done}");
    ensure!(
        done.stderr.contains("warning: the command may gain"),
        "{done}"
    );
    let done = run(&["--allow-new-privileges"], &["true"]).run()?;
    ensure!(
        done.code == Some(125) && done.stderr.contains("--user"),
        "{done}"
    );
    Ok(())
}

/// In a terminal of the test's own: whether the command has it, and whether it can type into it.
const IN_TERMINAL: &str = r#"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
try:
    while piece := os.read(terminal, 4096):
        said += piece
except OSError:
    pass  # The other side is closed.
os.waitpid(child, 0)
sys.stdout.write(said.decode().replace("\r", ""))
"#;

const TYPES: &str = r#"
import fcntl, os, termios
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    print("has a terminal")
except OSError as error:
    print("no terminal")
try:
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
    print("typed")
except OSError as error:
    print("cannot type")
"#;

fn no_terminal() -> Outcome {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .context("no python3")?;
    let in_terminal = |options: &[&str]| {
        let murphy = tests::murphy_path();
        let run = program(python)
            .args(["-c", IN_TERMINAL])
            .args([murphy])
            .args(["run", "-q", "-e", super::REFUSED, "-u", "nobody"])
            .args(options)
            .args(["--", python, "-c", TYPES]);
        run.run()
    };
    let done = in_terminal(&[])?;
    ensure!(done.stdout == "no terminal\ncannot type\n", "{done}");
    let done = in_terminal(&["--allow-new-privileges"])?;
    // A warning comes first, as this is a terminal.
    ensure!(done.stdout.contains("has a terminal\n"), "{done}");
    Ok(())
}

/// It is in no process group of murphy's, so that murphy hands everything on.
fn signalled() -> Outcome {
    let script = "trap 'echo hung up; exit 3' HUP; echo ready; while :; do sleep 0.05; done";
    let murphy = run(&["-q", "-u", "nobody"], &["sh", "-c", script]).spawn()?;
    let patience = std::time::Duration::from_secs(60);
    tests::wait_until(patience, || {
        murphy.stdout().is_ok_and(|said| said.contains("ready"))
    })?;
    murphy.signal(libc::SIGHUP)?;
    let done = murphy.finish(patience)?;
    ensure!(done.code == Some(3), "{done}");
    ensure!(done.stdout == "ready\nhung up\n", "{done}");
    Ok(())
}

fn denied() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("roots");
    fs::write(&path, "#!/bin/sh\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    let path = path.display().to_string();
    let done = run(&["-u", "nobody"], &[&path]).run()?;
    ensure!(
        done.code == Some(126) && done.stderr.contains(&path),
        "{done}"
    );
    ensure!(!done.stderr.contains("MATCHED"), "{done}");
    Ok(())
}

fn unknown() -> Outcome {
    for user in [
        "murphy-test-nonesuch",
        "",
        "-1",
        "4294967295",
        "99999999999",
    ] {
        let user_option = format!("--user={user}");
        let done = run(&[&user_option], &["true"]).run()?;
        ensure!(
            done.code == Some(125) && done.stderr.contains(user),
            "{user}: {done}"
        );
        ensure!(done.stderr.contains("help: "), "no remedy: {done}");
    }
    Ok(())
}
