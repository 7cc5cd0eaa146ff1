//! `-u`: the command is that user and nothing more, and still under the faults.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, ensure};
use tests::{Case, Outcome, case, net::Echo, program, victim, victim::seen};

use super::{least, run};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("-u NAME: ids and groups are the user's", least(), by_name),
        case("-u NUMBER without an entry", least(), by_number),
        case("-u: no capabilities are left", least(), powerless),
        case("-u: the command is hit", least(), hit),
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
