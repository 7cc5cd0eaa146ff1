//! What counts as left behind: things of murphy's and of the test's, none of other programs.

use std::{
    ffi::CString, fs, os::fd::OwnedFd, path::PathBuf, process::Stdio, thread, time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tests::{
    ChildGuard, Outcome, bpf, leftovers::Snapshot, murphy, murphy_path, program, wait_until,
};

/// Runs a test in a thread with a network and a mount namespace of its own.
pub(super) fn apart(test: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let thread = thread::spawn(move || {
        // SAFETY: both calls touch only this thread's namespaces; the strings end with 0.
        let done = unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
            libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) == 0
                && libc::mount(none, root, none, private, none.cast()) == 0
        };
        ensure!(done, "unshare: {}", std::io::Error::last_os_error());
        test()
    });
    thread
        .join()
        .unwrap_or_else(|_| anyhow::bail!("the thread panicked"))
}

fn shell(script: &str) -> Result<()> {
    let done = program("sh").args(["-ec", script]).run()?;
    ensure!(done.code == Some(0), "{done}");
    Ok(())
}

/// Makes a cgroup below the root of the hierarchy, removed when this goes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find_map(|words| (words[2] == "cgroup2").then(|| words[1].to_owned()));
        let path = PathBuf::from(mount.context("no cgroup2")?).join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The test says what is wrong, if anything is.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A program and its link.
fn attached(name: &str) -> Result<(OwnedFd, OwnedFd)> {
    let program = bpf::load_classifier_named(name)?;
    let link = bpf::link_egress(&program)?;
    Ok((program, link))
}

/// A process of murphy that waits for its standard input.
fn waiting(program: tests::Program) -> Result<ChildGuard> {
    let mut program = program.args(["convert", "-"]);
    program.command().stdin(Stdio::piped());
    let child = program.spawn()?;
    let comm = format!("/proc/{}/comm", child.pid());
    wait_until(Duration::from_secs(10), || {
        fs::read_to_string(&comm).is_ok_and(|name| name.starts_with("murphy"))
    })?;
    Ok(child)
}

/// Unmounts what is in a folder, so that it can be removed.
struct Unmounted(Vec<PathBuf>);

impl Drop for Unmounted {
    fn drop(&mut self) {
        for point in &self.0 {
            // What stays goes with the namespace.
            let _ = program("umount").args(["-l"]).args([point]).run();
        }
    }
}

/// Another program of the machine: mounts, loads and attaches, makes cgroups, interfaces and
/// processes. All that it made goes with this and with the namespaces.
struct Neighbour {
    // Fields are dropped in this order.
    _mounts: Unmounted,
    _folder: TempDir,
    _program: (OwnedFd, OwnedFd),
    _cgroups: [Cgroup; 2],
    _processes: [ChildGuard; 2],
}

impl Neighbour {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("neighbour-").tempdir()?;
        let at = folder.path().display();
        shell(&format!(
            "cd {at} && mkdir base lower pins merged && mount -t tmpfs none base && \
             mkdir base/upper base/work && mount -t bpf none pins && \
             mount -t overlay overlay -o lowerdir=lower,upperdir=base/upper,workdir=base/work merged"
        ))?;
        let program = attached("strange")?;
        let pinned = format!("{at}/pins/strange");
        bpf::pin(&program.0, &CString::new(pinned.clone())?)?;
        let filter = format!("bpf direct-action object-pinned {pinned}");
        shell(&format!(
            "ip link add neighbour type veth peer name neighbour2 && \
             tc qdisc add dev neighbour root handle 7: pfifo && \
             tc qdisc add dev neighbour clsact && tc filter add dev neighbour ingress {filter} && \
             tc qdisc add dev lo clsact && tc filter add dev lo egress {filter}"
        ))?;
        // Another murphy of this machine, which another test program started.
        let copy = folder.path().join("murphy");
        fs::copy(murphy_path(), &copy)?;
        let other = waiting(tests::program(&copy).env("MURPHY_TEST_PROGRAM", "1"))?;
        let cgroups = [
            Cgroup::new(&format!("neighbour-{}", std::process::id()))?,
            Cgroup::new(&format!("murphy-{}", other.pid()))?,
        ];
        let mounts = ["merged", "base", "pins"].map(|name| folder.path().join(name));
        Ok(Self {
            _mounts: Unmounted(mounts.into()),
            _folder: folder,
            _program: program,
            _cgroups: cgroups,
            _processes: [tests::program("sleep").args(["60"]).spawn()?, other],
        })
    }
}

pub(super) fn neighbour() -> Outcome {
    let before = Snapshot::take();
    let neighbour = Neighbour::new()?;
    let news = before.news();
    ensure!(news.is_empty(), "blamed for {news:?}");
    // What was there goes: no news, either.
    let before = Snapshot::take();
    drop(neighbour);
    let news = before.news();
    ensure!(news.is_empty(), "blamed for {news:?}");
    Ok(())
}

pub(super) fn each_kind() -> Outcome {
    let folder = tempfile::tempdir()?;
    let before = Snapshot::take();
    let at = folder.path().display();
    let program = attached("murphy_left")?;
    let of_the_test = bpf::load_classifier()?;
    // A file system to pin the program in: tc takes programs by path.
    shell(&format!("mount -t bpf none {at}"))?;
    let _mount = Unmounted(vec![folder.path().to_owned()]);
    let pinned = format!("{at}/murphy_left");
    bpf::pin(&program.0, &CString::new(pinned.clone())?)?;
    shell(&format!(
        "tc qdisc add dev lo clsact && tc filter add dev lo egress bpf direct-action object-pinned {pinned} && \
         ip link add murphyleft type veth peer name murphyright && tc qdisc add dev murphyleft root handle 7: pfifo"
    ))?;
    let cgroup = Cgroup::new(&format!("murphy-left-{}", std::process::id()))?;
    let process = waiting(murphy([""; 0]))?;
    let file = PathBuf::from(format!("/run/murphy/left-{}.json", std::process::id()));
    let made = fs::create_dir("/run/murphy").is_ok();
    fs::write(&file, r#"{"owner":{"pid":0}}"#)?;

    let news = before.news();
    fs::remove_file(&file)?;
    if made {
        fs::remove_dir("/run/murphy")?;
    }
    let kinds = [
        "BPF program murphy_left (id ".to_owned(),
        "BPF program probe_".to_owned(),
        "BPF link ".to_owned(),
        "filter on lo egress ".to_owned(),
        "qdisc clsact ".to_owned(),
        "interface murphyleft".to_owned(),
        "qdisc pfifo 7: ".to_owned(),
        format!("mount of bpf none rw,mode=700 on {at}"),
        format!("cgroup {}", cgroup.0.display()),
        format!("process murphy ({})", process.pid()),
        format!("file {}", file.display()),
    ];
    for kind in &kinds {
        let kind = kind.split(" rw").next().unwrap_or_default();
        ensure!(
            news.iter().any(|line| line.starts_with(kind)),
            "{kind} is not in {news:#?}"
        );
    }
    drop((program, of_the_test));
    Ok(())
}
