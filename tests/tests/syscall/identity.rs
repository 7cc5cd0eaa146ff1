//! Who gets what was decided: the thread that made the call, or none. A number that was given to
//! another process, and a fault that has ended, change that for nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tests::report::count;
use tests::{ChildGuard, Outcome, murphy, program, wait_until};

use super::{python, run, sh};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long the signal of [`number_reused`] is delayed: long enough to give its number away.
const DELAY: Duration = Duration::from_secs(3);

/// Starts processes until one has this number.
fn process_with_number(number: u32) -> anyhow::Result<ChildGuard> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string())?;
        let process = program("sleep").args(["600"]).spawn()?;
        if process.pid() == number {
            return Ok(process);
        }
    }
    anyhow::bail!("no process came to have the number {number}")
}

/// A delayed SIGKILL for a thread that has died goes to no process that has its number by then.
pub(super) fn number_reused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let end = folder.path().join("end");
    // The child is held in sched_yield(2); its parent reaps it, and stays until told to end.
    let script = format!(
        "import os, time\n\
         child = os.fork()\n\
         if child == 0:\n\
         \x20   print(os.getpid(), flush=True)\n\
         \x20   os.sched_yield()\n\
         \x20   os._exit(0)\n\
         os.waitpid(child, 0)\n\
         print('reaped', flush=True)\n\
         while not os.path.exists('{}'): time.sleep(0.05)\n",
        end.display()
    );
    let fault = format!("sched_yield:delay_enter={}s:signal=KILL", DELAY.as_secs());
    let murphy = murphy(["run", "--backend", "seccomp", "-e", &fault, "--"])
        .args(python(&script))
        .spawn()?;
    let number = || murphy.stdout().ok()?.lines().next()?.parse::<u32>().ok();
    wait_until(PATIENCE, || number().is_some()).context("the victim does not begin")?;
    let number = number().context("no number")?;
    let syscall = || fs::read_to_string(format!("/proc/{number}/syscall")).unwrap_or_default();
    let held = format!("{} ", libc::SYS_sched_yield);
    wait_until(PATIENCE, || syscall().starts_with(&held)).context("it is not held")?;
    let begun = Instant::now();
    // SAFETY: numbers only, of a process that was seen to be the victim.
    unsafe { libc::kill(number.cast_signed(), libc::SIGKILL) };
    wait_until(PATIENCE, || {
        murphy.stdout().is_ok_and(|said| said.contains("reaped"))
    })
    .context("the victim is not gone")?;
    let mut stranger = process_with_number(number)?;
    ensure!(begun.elapsed() < DELAY, "this machine is too slow");
    // It is over when nothing has happened for longer than the delay.
    let over = || begun.elapsed() > DELAY + Duration::from_secs(1);
    wait_until(PATIENCE, over)?;
    ensure!(
        stranger.is_running()?,
        "a stranger got the signal of a process that had its number"
    );
    fs::write(&end, "")?;
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// Two processes that are held for half an hour: one is to get an error then, one a signal.
fn held() -> anyhow::Result<(tempfile::TempDir, ChildGuard)> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json");
    let script = "import os, sys\n\
                  file = os.open(sys.executable, os.O_RDONLY)\n\
                  print('begin', flush=True)\n\
                  if os.fork():\n\
                  \x20   os.fsync(file)\n\
                  \x20   os.wait()\n\
                  \x20   print('synced', flush=True)\n\
                  else:\n\
                  \x20   os.sched_yield()\n\
                  \x20   print('alive', flush=True)\n";
    let faults = [
        "-e",
        "fsync:delay_enter=30m:error=EIO",
        "-e",
        "sched_yield:delay_enter=30m:signal=KILL",
    ];
    let murphy = murphy(["run", "--backend", "seccomp", "--json", "-o"])
        .args([&output])
        .args(["--name", "held"])
        .args(faults)
        .args(["--"])
        .args(python(script))
        .spawn()?;
    let calls = [libc::SYS_fsync, libc::SYS_sched_yield].map(|call| format!("{call} "));
    let both = || {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let calling: Vec<_> = processes
            .filter_map(|process| fs::read_to_string(process.path().join("syscall")).ok())
            .collect();
        let is_made = |call: &String| calling.iter().any(|one| one.starts_with(call));
        calls.iter().all(is_made)
    };
    wait_until(PATIENCE, both).with_context(|| format!("not held: {:?}", murphy.stderr()))?;
    Ok((folder, murphy))
}

fn both_go_on(murphy: &ChildGuard) -> Outcome {
    let said = || murphy.stdout().unwrap_or_default();
    let unharmed = || said().contains("synced") && said().contains("alive");
    wait_until(PATIENCE, unharmed).with_context(|| format!("{:?} {:?}", said(), murphy.stderr()))
}

/// What was pending when the fault ended does not happen, and is not counted as if it had.
pub(super) fn pending_at_stop() -> Outcome {
    let (folder, victim) = held()?;
    let stopped = murphy(["stop", "held"]).run()?;
    ensure!(stopped.code == Some(0), "{stopped}");
    both_go_on(&victim)?;
    let done = victim.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let report = fs::read_to_string(folder.path().join("report.json"))?;
    let report = serde_json::from_str(&report)?;
    for fault in [0, 1] {
        let counted = ["injected", "expired"].map(|name| count(&report, fault, name));
        ensure!(counted == [0, 1], "{report}");
    }
    Ok(())
}

/// The same when murphy is killed.
pub(super) fn pending_at_death() -> Outcome {
    let (_folder, victim) = held()?;
    victim.signal(libc::SIGKILL)?;
    both_go_on(&victim)
}

/// The time of a fault ends what is pending, too.
pub(super) fn pending_at_its_time() -> Outcome {
    let script = "import os, sys, time\n\
                  file = os.open(sys.executable, os.O_RDONLY)\n\
                  os.fsync(file)\n\
                  print('synced')\n";
    for args in [
        &["--for", "1s", "-e", "fsync:delay_enter=30m:error=EIO"][..],
        &["-e", "fsync:delay_enter=30m:signal=KILL:for=1s"],
        &["-e", "fsync:delay_exit=30m:error=EIO:for=1s"],
    ] {
        let (done, report) = run(args, &python(script))?;
        ensure!(done.code == Some(0) && done.stdout == "synced\n", "{done}");
        let counted = ["injected", "expired"].map(|name| count(&report, 0, name));
        ensure!(counted == [0, 1], "{report}");
    }
    Ok(())
}

/// What is written in a thread's place is written with no more rights than the thread has: the
/// kernel takes a file's set-user-ID bit away.
pub(super) fn no_more_rights() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let file = folder.path().join("f");
    fs::write(&file, "some text that is longer")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6777))?;
    let script = format!(
        "import os\n\
         file = os.open('{}', os.O_WRONLY)\n\
         print(os.write(file, b'abcdefgh'))\n",
        file.display()
    );
    let (done, report) = run(
        &["-u", "65534", "-e", "write:short=4:on=file"],
        &python(&script),
    )?;
    ensure!(count(&report, 0, "injected") >= 1, "{report}");
    ensure!(done.stdout.starts_with('4'), "{done}");
    let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o777, "mode {mode:o}");
    Ok(())
}

/// close(2) frees the descriptor whatever it returns: the pipe's other end sees the end.
pub(super) fn closes() -> Outcome {
    let script = "import os\n\
                  r, w = os.pipe()\n\
                  try: os.close(w)\n\
                  except OSError as error: print(error.errno)\n\
                  print(os.read(r, 1), os.read(w, 1))\n\
                  try: os.write(w, b'x')\n\
                  except OSError as error: print(error.errno)\n\
                  print(os.fstat(w).st_mode >> 12)\n\
                  try: os.close(99)\n\
                  except OSError as error: print(error.errno)\n\
                  print(os.path.exists('/proc/self/fd/99'))\n";
    let pipe = ["-e", "close:error=EIO:on=pipe:times=1"];
    let nothing = ["-e", "close:error=ENOSPC:fd=99"];
    let args = [pipe, nothing].concat();
    let (done, report) = run(&args, &python(script))?;
    let wanted = "5\nb'' b''\n9\n1\n9\nFalse\n";
    ensure!(done.stdout == wanted, "{done}");
    ensure!(count(&report, 0, "injected") == 1, "{report}");
    ensure!(count(&report, 1, "matched") == 0, "{report}");
    // Both programs of a pipeline see their ends, so that it comes to its own.
    let folder = tempfile::tempdir()?;
    let [from, to] = ["a", "b"].map(|name| folder.path().join(name));
    fs::write(&from, "text")?;
    let script = format!("cat {} | tee {} >&2", from.display(), to.display());
    let (done, report) = run(&["-e", "close:error=EIO:on=pipe"], &sh(&script))?;
    ensure!(fs::read_to_string(&to)? == "text", "{done}");
    ensure!(count(&report, 0, "injected") > 0, "{report}");
    Ok(())
}
