//! Who is hit: the command and its descendants, whoever runs them, and nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::ensure;
use tests::report::count;
use tests::victim::{seen, victim};
use tests::{Hit, Outcome, murphy, murphy_path, program};

use super::{run, sh};

pub(super) fn neighbour() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f");
    let file = path.to_string_lossy();
    let neighbour = victim(["write", &file, "100", "10"]).spawn()?;
    let args = ["--backend", "seccomp", "-e", "write:error=EIO"];
    let hit = Hit::run(&args, &["write", &file, "50", "5"])?;
    ensure!(hit.seen("EIO") == 50, "{}", hit.victim);
    let neighbour = neighbour.finish(Duration::from_secs(60))?;
    ensure!(seen(&neighbour.stdout, "ok") == 100, "{neighbour}");
    Ok(())
}

pub(super) fn children() -> Outcome {
    let script = "for i in 1 2 3; do (cat /etc/hostname 2>&1 | cat) ; done >/dev/null; exit 7";
    let fault = "openat:error=EACCES:path=/etc/hostname";
    let (done, report) = run(&["-e", fault], &sh(script))?;
    ensure!(done.code == Some(7), "{done}");
    ensure!(count(&report, 0, "injected") == 3, "{report}");
    Ok(())
}

/// murphy where anybody may execute it.
fn for_all() -> anyhow::Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("murphy");
    fs::copy(murphy_path(), &copy)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok((folder, copy.to_string_lossy().into_owned()))
}

pub(super) fn unprivileged() -> Outcome {
    let (folder, copy) = for_all()?;
    let state = folder.path().join("state");
    fs::create_dir(&state)?;
    std::os::unix::fs::chown(&state, Some(65534), Some(65534))?;
    let fault = "openat:error=EIO:path=/etc/hostname";
    let done = program("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ])
        .args([copy.as_str(), "run", "-e", fault, "--", "sh", "-c"])
        .args(["id -u; cat /etc/hostname; cat /etc/passwd >/dev/null && echo well"])
        .env("XDG_RUNTIME_DIR", &state)
        .run()?;
    ensure!(done.stdout.lines().eq(["65534", "well"]), "{done}");
    ensure!(
        done.stderr.contains("Input/output error") && done.stderr.contains("seccomp"),
        "{done}"
    );
    Ok(())
}

/// Another user's command gains no privileges, unless that is asked for.
pub(super) fn user() -> Outcome {
    let script =
        "id -u; cat /etc/hostname; grep NoNewPrivs /proc/self/status; setpriv --reuid 65533 id -u";
    let fault = "openat:error=EIO:path=/etc/hostname";
    for (option, set) in [(None, 1), (Some("--allow-new-privileges"), 0)] {
        let mut args = vec!["-u", "65534", "-e", fault];
        args.extend(option);
        let (done, report) = run(&args, &sh(script))?;
        let lines: Vec<_> = done.stdout.lines().collect();
        let wanted = format!("NoNewPrivs:\t{set}");
        ensure!(lines.starts_with(&["65534", &wanted]), "{done}");
        ensure!(count(&report, 0, "injected") == 1, "{report}");
    }
    Ok(())
}

/// murphy is one where kernels are tested; no C library's wrappers are needed either way.
pub(super) fn fixed() -> Outcome {
    let command = [
        murphy_path().to_string_lossy().into_owned(),
        "--version".into(),
    ];
    let (done, report) = run(&["-e", "write:error=EIO"], &command)?;
    ensure!(
        done.stdout.is_empty() && count(&report, 0, "injected") > 0,
        "{done}\n{report}"
    );
    Ok(())
}

pub(super) fn loader() -> Outcome {
    let (done, report) = run(&["-e", "openat,open:error=EACCES"], &sh("echo ran"))?;
    ensure!(
        done.code != Some(0) && !done.stdout.contains("ran"),
        "{done}"
    );
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    Ok(())
}

pub(super) fn refused() -> Outcome {
    for (args, words) in [
        (
            &["run", "--backend", "bpf", "-e", "fsync:error=EIO"][..],
            "serves `fsync`",
        ),
        (
            &["run", "--backend", "seccomp", "-e", "egress:loss=1%"],
            "`egress` is no system call",
        ),
        (
            &["run", "-e", "fsync:delay_exit=1s"],
            "`delay_exit` needs `error`",
        ),
        (
            // Kernels with error injection do without seccomp where nothing is late.
            &["run", "--skip-loader", "-e", "fsync:delay_enter=1s"],
            "--skip-loader",
        ),
    ] {
        let done = murphy(args).args(["--", "echo", "ran"]).run()?;
        ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
        ensure!(done.stderr.contains(words), "{done}");
    }
    let done = murphy(["inject", "--all", "-e", "fsync:delay_enter=1s"]).run()?;
    ensure!(
        done.code == Some(2) && done.stderr.contains("command of `murphy run` only"),
        "{done}"
    );
    // A supervised command cannot be supervised again.
    let inner = murphy_path().to_string_lossy().into_owned();
    let (done, _) = run(
        &["-e", "swapoff:error=EIO"],
        &[
            inner,
            "run".into(),
            "--backend".into(),
            "seccomp".into(),
            "-e".into(),
            "fdatasync:error=EIO".into(),
            "--".into(),
            "true".into(),
        ],
    )?;
    ensure!(
        done.code == Some(125) && done.stderr.contains("do not nest"),
        "{done}"
    );
    Ok(())
}
