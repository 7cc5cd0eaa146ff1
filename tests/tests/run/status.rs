//! What murphy exits with, and that nothing is begun for a command that cannot be.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::ensure;
use tests::{Case, Finished, Outcome, case};

use super::{least, run};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("the exit status is the command's", least(), passed_through),
        case("a command that is not there: 127", least(), not_found),
        case(
            "a command that cannot be executed: 126",
            least(),
            not_executable,
        ),
        case("a very long list of arguments", least(), arguments),
    ]
}

fn passed_through() -> Outcome {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        // Statuses that murphy and shells give a meaning are CMD's own as well.
        ("exit 125", 125),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + libc::SIGTERM),
        ("kill -KILL $$", 128 + libc::SIGKILL),
    ] {
        let done = run(&["-q"], &["sh", "-c", script]).run()?;
        ensure!(done.code == Some(status), "{script}: {done}");
        ensure!(done.stderr.is_empty(), "{script}: {done}");
    }
    Ok(())
}

/// The word is named, the status is right, and no result is told of what never was.
fn refused(done: &Finished, status: i32, words: &[&str]) -> Outcome {
    ensure!(done.code == Some(status), "not {status}: {done}");
    for word in words {
        ensure!(done.stderr.contains(word), "no {word} in {done}");
    }
    ensure!(
        !done.stderr.contains("MATCHED") && done.stdout.is_empty(),
        "{done}"
    );
    Ok(())
}

fn not_found() -> Outcome {
    for command in [
        "",
        "murphy-test-nonesuch",
        "./murphy-test-nonesuch",
        "/etc/passwd/nonesuch",
    ] {
        let done = run(&[], &[command, "argument"]).run()?;
        refused(&done, 127, &[command, "help: "])?;
    }
    // A folder on PATH is no command.
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("murphy-test-folder"))?;
    let done = run(&[], &["murphy-test-folder"])
        .env("PATH", folder.path())
        .run()?;
    refused(&done, 127, &["murphy-test-folder"])?;
    // The file is there and its interpreter is not, which only the kernel finds out.
    let script = file(folder.path(), "lost", "#!/nonesuch\n", 0o755)?;
    refused(&run(&[], &[&script]).run()?, 127, &[&script])
}

fn not_executable() -> Outcome {
    let folder = tempfile::tempdir()?;
    let folder_path = folder.path().display().to_string();
    refused(
        &run(&[], &[&folder_path]).run()?,
        126,
        &[&folder_path, "directory"],
    )?;
    let plain = file(folder.path(), "plain", "#!/bin/sh\n", 0o644)?;
    refused(&run(&[], &[&plain]).run()?, 126, &[&plain, "help: "])?;
    // Only the kernel finds that out, when everything is attached.
    let lost = file(folder.path(), "lost", &format!("#!{plain}\n"), 0o755)?;
    refused(&run(&[], &[&lost]).run()?, 126, &[&lost])?;
    // As execvp(3) has it, a text is a shell's script.
    let text = file(folder.path(), "text", "echo $0; exit 5\n", 0o755)?;
    let done = run(&[], &[&text]).run()?;
    ensure!(done.code == Some(5) && done.stdout.trim() == text, "{done}");
    Ok(())
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> anyhow::Result<String> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path.display().to_string())
}

fn arguments() -> Outcome {
    // About half of what the kernel takes, and one argument of nearly the greatest length.
    let many: Vec<_> = (0..20_000).map(|n| format!("argument-{n}")).collect();
    let long = "x".repeat(120_000);
    let done = run(
        &["-q"],
        &["sh", "-c", "echo $# ${#1} \"$2\"", "sh", &long, "--json"],
    )
    .args(&many)
    .run()?;
    ensure!(done.code == Some(0), "{:?} {}", done.code, done.stderr);
    ensure!(done.stdout == "20002 120000 --json\n", "{}", done.stdout);
    Ok(())
}
