//! `path=` on LSM hooks: which files a pattern means.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use tests::{Group, Hit, Outcome, case, murphy, needs};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case("a file by its name, there or not", lsm(), named),
        case("a folder's tree, and what is mounted in it", lsm(), tree),
        case("names that begin alike", lsm(), beginning),
        case(
            "links, relative paths and bind mounts lead to the same file",
            lsm(),
            roads,
        ),
        case(
            "a renamed file goes by its new name, either name of a rename counts",
            lsm(),
            renamed,
        ),
        case(
            "of two rules each has its own files, and a neighbour none",
            lsm(),
            several,
        ),
        case(
            "what cannot be matched is refused, and nothing is attached",
            lsm(),
            refused,
        ),
    ])
}

/// Runs a shell script under faults, and gives its output.
fn shell(faults: &[&str], script: &str) -> anyhow::Result<(Vec<String>, Vec<u64>)> {
    let output = tempfile::NamedTempFile::new()?;
    let mut run = murphy(["run", "--json", "--skip-loader", "-o"]).args([output.path()]);
    for fault in faults {
        run = run.args(["-e", fault]);
    }
    let done = run.args(["--", "sh", "-c", script]).run()?;
    let report = serde_json::from_reader(output.reopen()?)
        .map_err(|error| anyhow::anyhow!("{error}: {done}"))?;
    let counts = (0..faults.len()).map(|fault| tests::report::count(&report, fault, "injected"));
    Ok((
        done.stdout.lines().map(str::to_owned).collect(),
        counts.collect(),
    ))
}

/// Shell words that say of a file whether it can be read, or written.
fn can_read(path: impl AsRef<Path>) -> String {
    format!(
        "(: < '{}') 2>/dev/null && echo yes || echo no\n",
        path.as_ref().display()
    )
}

fn can_write(path: impl AsRef<Path>) -> String {
    format!(
        "(: > '{}') 2>/dev/null && echo yes || echo no\n",
        path.as_ref().display()
    )
}

fn open(path: impl AsRef<Path>) -> String {
    format!("openat,open:error=EACCES:path={}", path.as_ref().display())
}

fn named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "")?;
    fs::write(at("ab"), "")?;
    let script = can_read(at("a")) + &can_read(at("ab")) + &can_write(at("new"));
    let (said, counts) = shell(&[&open(at("a"))], &script)?;
    ensure!(
        said == ["no", "yes", "yes"] && counts == [1],
        "{said:?} {counts:?}"
    );
    fs::remove_file(at("new"))?;
    let (said, counts) = shell(&[&open(at("new"))], &script)?;
    ensure!(
        said == ["yes", "yes", "no"] && counts == [1],
        "{said:?} {counts:?}"
    );
    // Another file of the same name is meant too.
    let again = format!(
        "rm -f '{0}'; echo x > '{0}.2'; mv '{0}.2' '{0}'\n",
        at("a").display()
    );
    let (said, _) = shell(&[&open(at("a"))], &(again + &can_read(at("a"))))?;
    ensure!(said == ["no"], "{said:?}");
    Ok(())
}

fn tree() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("t/deep/er"))?;
    fs::create_dir_all(at("t/mount"))?;
    fs::write(at("t/deep/er/f"), "")?;
    fs::write(at("beside"), "")?;
    let mounted = Mount::new(&["-t", "tmpfs", "none"], at("t/mount"))?;
    fs::write(at("t/mount/f"), "")?;
    let script = can_read(at("t/deep/er/f"))
        + &can_write(at("t/deep/new"))
        + &can_read(at("t/mount/f"))
        + &can_read(at("beside"));
    let (said, counts) = shell(&[&open(at("t/**"))], &script)?;
    ensure!(
        said == ["no", "no", "no", "yes"] && counts == [3],
        "{said:?} {counts:?}"
    );
    drop(mounted);
    Ok(())
}

fn beginning() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("d"))?;
    for name in ["app.1", "app.2", "other", "d/app.3"] {
        fs::write(at(name), "")?;
    }
    let script: String = ["app.1", "app.2", "other", "d/app.3"]
        .map(|name| can_read(at(name)))
        .concat();
    let (said, _) = shell(&[&open(at("app*"))], &script)?;
    ensure!(said == ["no", "no", "yes", "yes"], "{said:?}");
    let (said, _) = shell(&[&open(at("*"))], &script)?;
    ensure!(said == ["no", "no", "no", "yes"], "{said:?}");
    Ok(())
}

fn roads() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("real"))?;
    fs::create_dir_all(at("bound"))?;
    fs::write(at("real/f"), "")?;
    symlink(at("real"), at("folderlink"))?;
    symlink("real/f", at("filelink"))?;
    let bound = Mount::new(&["--bind", &at("real").to_string_lossy()], at("bound"))?;
    let script = can_read(at("folderlink/f"))
        + &can_read(at("filelink"))
        + &can_read(at("bound/f"))
        + &format!("cd '{}'\n", folder.path().display())
        + &can_read("real/../real/f");
    for pattern in [
        "real/f",
        "folderlink/f",
        "filelink",
        "bound/f",
        "bound/**",
        "real/f*",
    ] {
        let (said, counts) = shell(&[&open(at(pattern))], &script)?;
        ensure!(
            said == ["no"; 4] && counts == [4],
            "{pattern}: {said:?} {counts:?}"
        );
    }
    drop(bound);
    Ok(())
}

fn renamed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "")?;
    let fault = format!("write:error=ENOSPC:path={}", at("b").display());
    let script = format!(
        "exec 3>>'{0}/a'; echo x >&3 && echo yes || echo no; mv '{0}/a' '{0}/b'; echo x >&3 2>/dev/null && echo yes || echo no",
        folder.path().display()
    );
    let (said, _) = shell(&[&fault], &script)?;
    ensure!(said == ["yes", "no"], "{said:?}");
    for pattern in ["from", "to"] {
        fs::write(at("from"), "")?;
        let fault = format!(
            "rename,renameat2:error=EXDEV:path={}",
            at(pattern).display()
        );
        let script = format!(
            "python3 -c \"import os; os.rename('{0}/from', '{0}/to')\" 2>/dev/null && echo yes || echo no",
            folder.path().display()
        );
        let (said, counts) = shell(&[&fault], &script)?;
        ensure!(
            said == ["no"] && counts == [1],
            "{pattern}: {said:?} {counts:?}"
        );
    }
    Ok(())
}

fn several() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b", "c"] {
        fs::write(at(name), "")?;
    }
    let faults = [open(at("a")), open(at("**")) + ":times=1", open(at("b*"))];
    let faults: Vec<_> = faults.iter().map(String::as_str).collect();
    let script = can_read(at("a")) + &can_read(at("c")) + &can_read(at("c")) + &can_read(at("b"));
    let (said, counts) = shell(&faults, &script)?;
    ensure!(
        said == ["no", "no", "yes", "no"] && counts == [1, 1, 1],
        "{said:?} {counts:?}"
    );
    let (path, rule) = (at("a"), open(at("b")));
    let hit = Hit::run(&["-e", &rule], &["open", &path.to_string_lossy(), "3"])?;
    ensure!(
        hit.seen("ok") == 3 && hit.count(0, "matched") == 0,
        "{}",
        hit.victim
    );
    Ok(())
}

fn refused() -> Outcome {
    for (pattern, reason) in [
        ("/tmp/*/x", "in the last name only"),
        ("/tmp/*.log", "at the end of the last name"),
        ("/no/such/folder/x", "/no/such/folder"),
    ] {
        let fault = format!("openat:error=EACCES:path={pattern}");
        let done = murphy(["run", "--backend", "bpf", "-e", &fault, "--", "true"]).run()?;
        ensure!(
            done.code == Some(125) && done.stderr.contains(reason),
            "{done}"
        );
    }
    Ok(())
}

/// Something mounted, until dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(what: &[&str], place: PathBuf) -> anyhow::Result<Self> {
        let done = Command::new("mount").args(what).arg(&place).output()?;
        ensure!(
            done.status.success(),
            "mount: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
