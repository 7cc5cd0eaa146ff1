//! What other users put in murphy's way: their state folders, connections and names are hostile input.
//!
//! Commands of root run in a mount namespace in which `/run` is a folder of the test's, so that they see the
//! users of the test and no other injections.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit},
};
use serde_json::{Value, json};
use tests::{
    ChildGuard, Finished, Group, Outcome, Program, case, http, murphy, murphy_path, needs,
    net::Echo, program, victim, wait_until,
};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// Within what commands answer, whatever other users do.
const PROMPT: Duration = Duration::from_secs(2);

const REFUSED: &str = "connect:error=ECONNREFUSED";

/// A user that no machine has.
const STRANGER: u32 = 64_111;

/// Another one.
const OTHER: u32 = 64_112;

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics, Tool("unshare")];
    tests::group([
        case(
            "status, renew, stop answer, whatever stands in a user's folder",
            net(),
            folders,
        ),
        case("panic ends everything, whatever stands there", net(), panic),
        case("sockets that do not answer delay nobody", net(), sockets),
        case(
            "at another user's word nothing is killed",
            net(),
            kills_nothing,
        ),
        case(
            "an injector's control socket has places for its owner",
            net(),
            places,
        ),
        case(
            "panic and stop end everything where nothing can be written",
            net(),
            unwritable,
        ),
        case(
            "murphy removes only sockets that it made",
            net(),
            foreign_sockets,
        ),
        case(
            "records that cannot be read are reported by recover",
            net(),
            unreadable,
        ),
        case("a folder and a token of another user", net(), owners),
        case(
            "who can read root's folder cannot lock it",
            needs![
                Root,
                Cgroup2,
                Atomics,
                Tool("unshare"),
                Tool("setpriv"),
                Tool("flock")
            ],
            locked,
        ),
        case(
            "half-sent requests by the thousand end no injection",
            net(),
            half_sent,
        ),
        case(
            "escape sequences of others are shown as text",
            net(),
            escapes,
        ),
        case(
            "experiments make no file with a name that can be guessed",
            net(),
            no_names,
        ),
        case(
            "secrets are in no progress and no journal",
            needs![],
            secrets,
        ),
    ])
    // The checks of files and sockets are no kernel's business.
    .host_only()
}

/// A folder that root's commands have as `/run`.
struct Machine {
    run: tempfile::TempDir,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let run = tempfile::tempdir()?;
        fs::set_permissions(run.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(run.path().join("user"))?;
        Ok(Self { run })
    }

    /// The state folder of a user who is logged in.
    fn folder(&self, uid: u32) -> anyhow::Result<PathBuf> {
        let home = self.run.path().join(format!("user/{uid}"));
        let folder = home.join("murphy");
        fs::create_dir_all(&folder)?;
        for path in [&home, &folder] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            own(path, uid)?;
        }
        Ok(folder)
    }

    /// murphy of root, with this folder as `/run`.
    fn murphy(&self, args: &[&str]) -> Program {
        let script = "mount --bind \"$1\" /run && shift && exec \"$@\"";
        program("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .args([self.run.path()])
            .args([murphy_path()])
            .args(args)
    }

    fn done(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let done = self.murphy(args).run()?;
        ensure!(done.code == Some(0), "{done}");
        Ok(done)
    }

    /// Runs to a successful end within two seconds.
    fn prompt(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let done = self.done(args)?;
        ensure!(done.took < PROMPT, "{done}");
        Ok(done)
    }

    /// An injection of root's into a process.
    fn inject(&self, name: &str, pid: u32, more: &[&str]) -> Outcome {
        let pid = pid.to_string();
        let inject = [
            "inject", "--detach", "--name", name, "-e", REFUSED, "--pid", &pid, "--for", "2m",
        ];
        self.done(&[&inject[..], more].concat()).map(drop)
    }

    /// No record of root's is left.
    fn is_over(&self) -> Outcome {
        let files = || -> Vec<PathBuf> {
            let entries = fs::read_dir(self.run.path().join("murphy")).into_iter();
            let paths = entries.flatten().flatten().map(|entry| entry.path());
            // Kept between experiments.
            paths
                .filter(|path| !path.ends_with("experiment.lock"))
                .collect()
        };
        wait_until(PATIENCE, || files().is_empty()).with_context(|| format!("left: {:?}", files()))
    }
}

fn own(path: &Path, uid: u32) -> Outcome {
    Ok(rustix::fs::chown(
        path,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(uid)),
    )?)
}

/// Puts a file there that belongs to a user.
fn put(folder: &Path, name: &str, text: &[u8], uid: u32) -> Outcome {
    let path = folder.join(name);
    fs::write(&path, text)?;
    own(&path, uid)
}

/// A record as murphy writes it, of a process.
fn record(id: &str, pid: u32) -> anyhow::Result<Value> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
    let start: u64 = rest.split(' ').nth(19).context("no start")?.parse()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    use std::os::unix::fs::MetadataExt as _;
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(json!({
        "version": 1, "id": id, "command": "run",
        "owner": {"pid": pid, "start": start, "boot": boot.trim(), "pid_namespace": namespace},
        "uid": 0, "argv": ["murphy"], "faults": ["write:error=EIO"], "targets": ["command x"],
        "seed": 1, "started": "2026-01-01T00:00:00Z", "started_boot_ns": 1, "lease_s": 2.0,
        "journal": [],
    }))
}

/// Listens as a user's injector would.
fn listener(folder: &Path, id: &str, uid: u32) -> anyhow::Result<UnixListener> {
    let path = folder.join(format!("{id}.sock"));
    let listener = UnixListener::bind(&path)?;
    own(&path, uid)?;
    Ok(listener)
}

fn connecting(echo: &Echo) -> anyhow::Result<ChildGuard> {
    victim::victim(["connect", &echo.address.to_string(), "6000", "10"]).spawn()
}

fn sees(victim: &ChildGuard, word: &str) -> Outcome {
    let last = || Some(victim.stdout().ok()?.lines().last()?.to_owned());
    wait_until(PATIENCE, || last().is_some_and(|line| line == word))
        .with_context(|| format!("the victim does not see {word}: {:?}", last()))
}

/// Everything that is no record, under the names of records; gives the names.
fn clutter(folder: &Path, uid: u32) -> anyhow::Result<Vec<&'static str>> {
    mknodat(
        CWD,
        folder.join("fifo.json"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?;
    own(&folder.join("fifo.json"), uid)?;
    symlink("/dev/zero", folder.join("zero.json"))?;
    symlink("/etc/shadow", folder.join("shadow.json"))?;
    fs::create_dir(folder.join("directory.json"))?;
    own(&folder.join("directory.json"), uid)?;
    put(folder, "text.json", b"not JSON", uid)?;
    put(
        folder,
        "roots.json",
        record("roots", 1)?.to_string().as_bytes(),
        0,
    )?;
    let huge = fs::File::create(folder.join("huge.json"))?;
    huge.set_len(1 << 40)?;
    own(&folder.join("huge.json"), uid)?;
    let deep = "[".repeat(60_000);
    let deep = format!("{{\"version\": 1, \"journal\": [{{\"undo\": {{\"kind\": {deep}");
    put(folder, "deep.json", deep.as_bytes(), uid)?;
    drop(listener(folder, "socket", uid)?);
    fs::rename(folder.join("socket.sock"), folder.join("socket.json"))?;
    put(
        folder,
        "other.json",
        record("another", 1)?.to_string().as_bytes(),
        uid,
    )?;
    Ok(vec![
        "fifo",
        "zero",
        "shadow",
        "directory",
        "text",
        "roots",
        "huge",
        "socket",
        "other",
        "deep",
    ])
}

fn folders() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let folder = machine.folder(STRANGER)?;
    let names = clutter(&folder, STRANGER)?;
    let many = machine.folder(OTHER)?;
    for number in 0..20_000 {
        fs::hard_link(
            folder.join("text.json"),
            many.join(format!("{number}.json")),
        )?;
    }
    let victim = connecting(&echo)?;
    machine.inject("mine", victim.pid(), &["--keepalive", "60s"])?;
    sees(&victim, "ECONNREFUSED")?;
    let seen = machine.prompt(&["status", "--json"])?;
    let seen: Value = serde_json::from_str(&seen.stdout)?;
    ensure!(seen["injections"][0]["id"] == "mine", "{seen}");
    let unread = seen["unread"].as_array().context("no list")?;
    for name in &names {
        let path = format!("/run/user/{STRANGER}/murphy/{name}.json");
        let it = unread.iter().find(|one| one["path"] == *path);
        let it = it.with_context(|| format!("no {path} in {seen}"))?;
        ensure!(it["uid"] == STRANGER && it["why"].is_string(), "{it}");
    }
    ensure!(unread.len() < 100, "20 000 files are listed");
    ensure!(
        unread.iter().any(|one| one["uid"] == OTHER),
        "nothing is said of the full folder"
    );
    let text = machine.prompt(&["status"])?;
    ensure!(
        text.stdout.contains("mine") && text.stderr.contains("fifo.json"),
        "{text}"
    );
    machine.prompt(&["status", "--id", "mine"])?;
    machine.prompt(&["renew", "mine"])?;
    // What is none is not taken for one, and says why.
    for name in names {
        let done = machine.murphy(&["stop", name]).run()?;
        ensure!(
            done.code == Some(1) && done.took < PROMPT && done.stderr.contains(name),
            "{done}"
        );
    }
    let stopped = machine.prompt(&["stop", "--all"])?;
    ensure!(stopped.stdout.contains("mine"), "{stopped}");
    sees(&victim, "ok")?;
    machine.is_over()
}

fn panic() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let folder = machine.folder(STRANGER)?;
    clutter(&folder, STRANGER)?;
    let full = full_backlog(&folder, "full")?;
    let victim = connecting(&echo)?;
    machine.inject("mine", victim.pid(), &[])?;
    sees(&victim, "ECONNREFUSED")?;
    let done = machine.murphy(&["panic", "--json"]).run()?;
    let said: Value = serde_json::from_str(&done.stdout)?;
    ensure!(said["stopped"][0]["id"] == "mine", "{done}");
    ensure!(said["failed"] == json!([]), "{done}");
    // It looks at the whole kernel: another test's programs are waited for.
    let is_alone = said["programs_left"] == json!([]);
    ensure!(!is_alone || done.code == Some(0), "{done}");
    ensure!(!is_alone || done.took < PROMPT + FREED, "{done}");
    sees(&victim, "ok")?;
    drop(full);
    machine.prompt(&["resume"])?;
    machine.is_over()
}

/// How long panic may wait until the kernel has freed programs.
const FREED: Duration = Duration::from_secs(1);

/// A socket that accepts no connection, with as many waiting as there is room for.
fn full_backlog(folder: &Path, id: &str) -> anyhow::Result<(UnixListener, Vec<UnixStream>)> {
    let listening = listener(folder, id, STRANGER)?;
    rustix::net::listen(&listening, 1)?;
    let path = folder.join(format!("{id}.sock"));
    let mut waiting = Vec::new();
    loop {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )?;
        match rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(&path)?) {
            Ok(()) => waiting.push(UnixStream::from(socket)),
            Err(_) => break,
        }
    }
    let this = std::process::id();
    put(
        folder,
        &format!("{id}.json"),
        record(id, this)?.to_string().as_bytes(),
        STRANGER,
    )?;
    Ok((listening, waiting))
}

/// A socket at which a thread answers as it likes.
fn answering(
    folder: &Path,
    id: &str,
    answer: impl Fn(UnixStream) + Send + Sync + Clone + 'static,
) -> Outcome {
    let listening = listener(folder, id, STRANGER)?;
    let this = std::process::id();
    put(
        folder,
        &format!("{id}.json"),
        record(id, this)?.to_string().as_bytes(),
        STRANGER,
    )?;
    thread::spawn(move || {
        for stream in listening.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

fn sockets() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let folder = machine.folder(STRANGER)?;
    let full = full_backlog(&folder, "full")?;
    answering(&folder, "silent", |stream| {
        thread::sleep(PATIENCE);
        drop(stream);
    })?;
    answering(&folder, "dripping", |mut stream| {
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    })?;
    answering(&folder, "endless", |mut stream| {
        while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
    })?;
    // Its socket is root's: root would ask its own injector in the other's name.
    let victim = connecting(&echo)?;
    machine.inject("mine", victim.pid(), &["--keepalive", "60s"])?;
    put(
        &folder,
        "link.json",
        record("link", std::process::id())?.to_string().as_bytes(),
        STRANGER,
    )?;
    symlink("/run/murphy/mine.sock", folder.join("link.sock"))?;
    sees(&victim, "ECONNREFUSED")?;
    for _ in 0..3 {
        let seen = machine.prompt(&["status", "--json"])?;
        let seen: Value = serde_json::from_str(&seen.stdout)?;
        let all = seen["injections"].as_array().context("no list")?;
        let one = |id: &str| all.iter().find(|one| one["id"] == id);
        ensure!(
            one("mine").is_some_and(|mine| mine["report"].is_object()),
            "{seen}"
        );
        for id in ["full", "silent", "dripping", "endless", "link"] {
            let one = one(id).with_context(|| format!("no {id} in {seen}"))?;
            ensure!(one["unknown"].is_string(), "{one}");
            // Whose it is, the kernel says.
            ensure!(one["uid"] == STRANGER, "{one}");
        }
    }
    machine.prompt(&["renew", "mine"])?;
    for id in ["full", "silent", "dripping", "endless", "link"] {
        let done = machine.murphy(&["stop", id]).run()?;
        ensure!(done.code == Some(1) && done.took < PROMPT, "{done}");
        let done = machine.murphy(&["renew", id]).run()?;
        ensure!(done.code == Some(1) && done.took < PROMPT, "{done}");
    }
    sees(&victim, "ECONNREFUSED")?;
    let stopped = machine.prompt(&["stop", "--all"])?;
    ensure!(
        stopped.stdout.contains("mine") && stopped.stderr.contains("silent"),
        "{stopped}"
    );
    sees(&victim, "ok")?;
    drop(full);
    machine.is_over()
}

fn kills_nothing() -> Outcome {
    let machine = Machine::new()?;
    let folder = machine.folder(STRANGER)?;
    let mut bystander = program("sleep").args(["600"]).spawn()?;
    let mut own = program("setpriv")
        .args([
            "--reuid",
            &STRANGER.to_string(),
            "--clear-groups",
            "sleep",
            "600",
        ])
        .spawn()?;
    let cgroup = tempfile::tempdir()?;
    for (id, pid) in [("roots", bystander.pid()), ("own", own.pid())] {
        let mut record = record(id, pid)?;
        record["journal"] = json!([
            {"undo": {"kind": "cgroup", "path": cgroup.path(), "back_to": "/sys/fs/cgroup"}}
        ]);
        put(
            &folder,
            &format!("{id}.json"),
            record.to_string().as_bytes(),
            STRANGER,
        )?;
    }
    for args in [
        &["stop", "roots"][..],
        &["stop", "own"],
        &["stop", "--all"],
        &["recover"],
    ] {
        let done = machine.murphy(args).run()?;
        ensure!(done.took < PROMPT, "{done}");
    }
    ensure!(bystander.is_running()? && own.is_running()?, "killed");
    ensure!(cgroup.path().is_dir(), "undone");
    machine.is_over()
}

fn places() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let victim = connecting(&echo)?;
    machine.inject("mine", victim.pid(), &["--keepalive", "5s"])?;
    sees(&victim, "ECONNREFUSED")?;
    let socket = machine.run.path().join("murphy/mine.sock");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stranger = thread::spawn(move || -> anyhow::Result<usize> {
        let uid = Uid::from_raw(STRANGER);
        // Of this thread alone.
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        let mut held = Vec::new();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            while held.len() < 400 {
                held.push(UnixStream::connect(&socket)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(held.len())
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        machine.prompt(&["renew", "mine"])?;
        thread::sleep(Duration::from_millis(500));
        ensure!(!stranger.is_finished(), "the stranger holds nothing");
    }
    sees(&victim, "ECONNREFUSED")?;
    machine.prompt(&["stop", "mine"])?;
    drop(stop);
    let held = stranger.join();
    ensure!(held.is_ok_and(|held| held.is_ok_and(|held| held == 400)));
    sees(&victim, "ok")?;
    machine.is_over()
}

fn unwritable() -> Outcome {
    let echo = Echo::start()?;
    let (one, two) = (connecting(&echo)?, connecting(&echo)?);
    let address = echo.address.to_string();
    let this = victim::self_path();
    let this = this.to_str().context("a strange path")?;
    let inodes = "mount -t tmpfs -o nr_inodes=20 none /run/murphy";
    let fill = "i=0; while touch /run/murphy/f$i 2>/dev/null; do i=$((i+1)); done";
    for (way, mount, spoil) in [
        (
            "read-only",
            "mount -t tmpfs none /run/murphy",
            "mount -o remount,ro /run/murphy",
        ),
        ("no inodes", inodes, fill),
    ] {
        let machine = Machine::new()?;
        fs::create_dir(machine.run.path().join("murphy"))?;
        let script = format!(
            "{mount} && chmod 755 /run/murphy
             \"$MURPHY\" inject --detach -e {REFUSED} --pid {} --for 2m || exit 90
             \"$MURPHY\" inject --detach -e {REFUSED} --pid {} --for 2m --name i || exit 90
             \"$MURPHY\" run -q -e {REFUSED} --name r -- {this} victim connect {address} 3000 10 >/dev/null & r=$!
             sleep 1
             {spoil}
             \"$MURPHY\" stop i; echo stop $?
             {spoil}
             \"$MURPHY\" panic; echo panic $?
             \"$MURPHY\" status --json
             mount -o remount,rw /run/murphy; kill $r; wait; rm -f /run/murphy/f*
             \"$MURPHY\" recover; \"$MURPHY\" resume; ls -A /run/murphy",
            one.pid(),
            two.pid()
        );
        let done = program("unshare")
            .args(["-m", "sh", "-c"])
            .args([format!(
                "mount --bind {} /run\n{script}",
                machine.run.path().display()
            )])
            .env("MURPHY", murphy_path())
            .run()?;
        for victim in [&one, &two] {
            sees(victim, "ok").with_context(|| format!("{way}: {done}"))?;
        }
        ensure!(done.stdout.contains("panic 1"), "{way}: {done}");
        // Its record stays where that cannot be removed.
        let stopped = if way == "read-only" {
            "stop 1"
        } else {
            "stop 0"
        };
        ensure!(done.stdout.contains(stopped), "{way}: {done}");
        ensure!(
            done.stderr.contains("could not be written") && done.stderr.contains("help: "),
            "{way}: {done}"
        );
    }
    let done = program("unshare")
        .args(["-m", "sh", "-c"])
        .args(["mount -t tmpfs none /run && mount -o remount,ro /run && exec \"$0\" panic"])
        .args([murphy_path()])
        .run()?;
    ensure!(
        done.code == Some(1)
            && done.stderr.contains("/run/murphy")
            && done.stderr.contains("help: "),
        "{done}"
    );
    Ok(())
}

fn foreign_sockets() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let socket = machine.run.path().join("murphy/my.sock");
    let daemon = machine
        .murphy(&["serve", "--socket", "/run/murphy/my.sock"])
        .spawn()?;
    let is_up = || http::ask(&socket, "GET", "/healthz", b"").is_ok_and(|a| a.status == 200);
    wait_until(PATIENCE, is_up).context("it does not serve")?;
    let victim = connecting(&echo)?;
    machine.inject("other", victim.pid(), &[])?;
    ensure!(is_up(), "the next injection removed the daemon's socket");
    // Nor one of its name, that then is refused.
    let pid = victim.pid().to_string();
    let refused = machine
        .murphy(&["inject", "--name", "my", "-e", REFUSED, "--pid", &pid])
        .run()?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("my.sock"),
        "{refused}"
    );
    ensure!(is_up(), "a refused injection removed the daemon's socket");
    machine.done(&["stop", "--all"])?;
    machine.done(&["recover"])?;
    ensure!(is_up(), "recover removed the daemon's socket");
    // A daemon that was killed leaves a socket that the next one replaces.
    daemon.signal(libc::SIGKILL)?;
    daemon.finish(PATIENCE)?;
    let daemon = machine
        .murphy(&["serve", "--socket", "/run/murphy/my.sock"])
        .spawn()?;
    wait_until(PATIENCE, is_up).context("the next one does not serve")?;
    daemon.signal(libc::SIGTERM)?;
    let done = daemon.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    machine.is_over()?;
    // A dead socket of another program, and any other file, stay.
    drop(UnixListener::bind(&socket)?);
    let other = machine.run.path().join("file");
    fs::write(&other, "precious")?;
    for path in ["/run/murphy/my.sock", "/run/file"] {
        let refused = machine.murphy(&["serve", "--socket", path]).run()?;
        ensure!(
            refused.code == Some(1) && refused.stderr.contains(path),
            "{refused}"
        );
    }
    ensure!(socket.exists() && fs::read_to_string(&other)? == "precious");
    fs::remove_file(socket)?;
    machine.is_over()
}

fn unreadable() -> Outcome {
    let machine = Machine::new()?;
    let folder = machine.run.path().join("murphy");
    fs::create_dir(&folder)?;
    fs::write(folder.join("broken.json"), "{")?;
    for args in [&["recover", "--dry-run"][..], &["recover"]] {
        let done = machine.murphy(args).run()?;
        ensure!(
            done.code == Some(1) && done.stderr.contains("broken.json"),
            "{done}"
        );
    }
    let done = machine.done(&["status"])?;
    ensure!(done.stderr.contains("broken.json"), "{done}");
    ensure!(folder.join("broken.json").exists(), "removed");
    Ok(())
}

fn owners() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
    own(folder.path(), STRANGER)?;
    let refused = murphy(["run", "-e", REFUSED, "--", "echo", "ran"])
        .env("MURPHY_RUN_DIR", folder.path())
        .run()?;
    ensure!(
        refused.code == Some(125)
            && refused.stdout.is_empty()
            && refused.stderr.contains(&STRANGER.to_string()),
        "{refused}"
    );
    let machine = Machine::new()?;
    let token = machine.run.path().join("token");
    fs::write(&token, "0123456789abcdef")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    own(&token, STRANGER)?;
    let serve = [
        "serve",
        "--tcp",
        "127.0.0.1:0",
        "--token-file",
        "/run/token",
    ];
    let refused = machine.murphy(&serve).run()?;
    ensure!(
        refused.code == Some(2) && refused.stderr.contains(&STRANGER.to_string()),
        "{refused}"
    );
    // Without TLS at an address that others reach: a warning.
    own(&token, 0)?;
    let open = ["serve", "--tcp", "0.0.0.0:0", "--token-file", "/run/token"];
    let daemon = machine.murphy(&open).spawn()?;
    let warned = || daemon.stderr().is_ok_and(|said| said.contains("no TLS"));
    wait_until(PATIENCE, warned)?;
    let serving = || {
        daemon
            .stderr()
            .is_ok_and(|said| said.contains("serving at"))
    };
    wait_until(PATIENCE, serving)?;
    daemon.signal(libc::SIGTERM)?;
    ensure!(daemon.finish(PATIENCE)?.code == Some(0));
    Ok(())
}

fn locked() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let folder = machine.run.path().join("murphy");
    fs::create_dir(&folder)?;
    let victim = connecting(&echo)?;
    let mut stranger = program("setpriv")
        .args([
            "--reuid",
            &STRANGER.to_string(),
            "--regid",
            &STRANGER.to_string(),
        ])
        .args(["--clear-groups", "flock"])
        .args([&folder])
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .spawn()?;
    wait_until(PATIENCE, || {
        stranger.stdout().is_ok_and(|said| said.contains("held"))
    })?;
    let begun = Instant::now();
    machine.inject("mine", victim.pid(), &[])?;
    machine.prompt(&["stop", "mine"])?;
    machine.prompt(&["recover"])?;
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "it waited for the lock"
    );
    ensure!(stranger.is_running()?);
    machine.is_over()
}

/// How many requests are begun, and never ended: more than the daemon may have descriptors.
const HALF_SENT: usize = 1500;

fn half_sent() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let token = machine.run.path().join("token");
    fs::write(&token, "0123456789abcdef")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let limits = getrlimit(Resource::Nofile);
    let most = limits.maximum.unwrap_or(u64::MAX).min(4096);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: limits.maximum,
        },
    )?;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?.port()
    };
    let tcp = format!("127.0.0.1:{port}");
    let script = "ulimit -n 1024 && mount --bind \"$1\" /run && shift && exec \"$@\"";
    let daemon = program("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([machine.run.path()])
        .args([murphy_path()])
        .args(["serve", "--tcp", &tcp, "--token-file", "/run/token"])
        .spawn()?;
    let socket = machine.run.path().join("murphy/api.socket");
    let is_up = || http::ask(&socket, "GET", "/healthz", b"").is_ok_and(|a| a.status == 200);
    wait_until(PATIENCE, is_up).context("it does not serve")?;
    let victim = connecting(&echo)?;
    let body = json!({
        "faults": [REFUSED], "target": {"pid": victim.pid()}, "for": "2m", "lease": "0", "name": "kept",
    });
    let made = http::ask(&socket, "POST", "/v1/faults", body.to_string().as_bytes())?;
    ensure!(made.status == 201, "{made:?}");
    sees(&victim, "ECONNREFUSED")?;
    let mut held: Vec<TcpStream> = Vec::new();
    let begun = Instant::now();
    // Longer than the lease that the daemon renews.
    while begun.elapsed() < Duration::from_secs(16) {
        while held.len() < HALF_SENT {
            let mut stream = TcpStream::connect(&tcp)?;
            // It may have been closed already.
            let _ = stream.write_all(b"GET /v1/faults HTTP/1.1\r\nHost: ");
            held.push(stream);
        }
        let asked = Instant::now();
        ensure!(
            is_up() && asked.elapsed() < PROMPT,
            "the Unix socket is stalled"
        );
        // Those that were closed are opened again.
        held.retain_mut(|stream| {
            stream.set_nonblocking(true).is_ok()
                && matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        thread::sleep(Duration::from_millis(100));
    }
    let one = http::ask(&socket, "GET", "/v1/faults/kept", b"")?;
    ensure!(one.status == 200, "it has ended: {one:?}");
    sees(&victim, "ECONNREFUSED")?;
    drop(held);
    // Who has the token is served again at once, or when the last half of a request has timed out.
    let header = "Authorization: Bearer 0123456789abcdef\r\n";
    let served = || http::ask_tcp(&tcp, "GET", "/healthz", header).is_ok_and(|a| a.status == 200);
    wait_until(PATIENCE, served)?;
    daemon.signal(libc::SIGTERM)?;
    let done = daemon.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    sees(&victim, "ok")?;
    setrlimit(Resource::Nofile, limits)?;
    machine.is_over()
}

/// Sets a terminal's title, colours, moves up, and turns the direction of text round.
const EVIL: &str = "a\u{1b}]0;evil\u{7}\u{1b}[2J\u{9b}31m\u{202e}b\n| forged";

/// Whether it would act on a terminal.
fn acts(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}'))
}

fn escapes() -> Outcome {
    let machine = Machine::new()?;
    let folder = machine.folder(STRANGER)?;
    let mut record = record("evil", std::process::id())?;
    for field in ["command", "reason", "started"] {
        record[field] = EVIL.into();
    }
    record["faults"] = json!([EVIL]);
    record["targets"] = json!([EVIL]);
    put(
        &folder,
        "evil.json",
        record.to_string().as_bytes(),
        STRANGER,
    )?;
    put(&folder, "\u{1b}[2J.json", b"{}", STRANGER)?;
    let text = record
        .to_string()
        .replace("\"started\"", &format!("{:?}", "\u{9b}"));
    put(&folder, "field.json", text.as_bytes(), STRANGER)?;
    answering(&folder, "answer", |mut stream| {
        let reply = json!({ "error": EVIL });
        let _ = stream.write_all(format!("{reply}\n").as_bytes());
        let _ = stream.read(&mut [0; 100]);
    })?;
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["stop", "answer"],
        &["stop", "--all"],
    ] {
        let done = machine.murphy(args).run()?;
        ensure!(!acts(&done.stdout) && !acts(&done.stderr), "{done:?}");
        ensure!(
            !done.stdout.contains("\n| forged") && !done.stderr.contains("\n| forged"),
            "{done:?}"
        );
    }
    // Journals, and the files of other tools.
    let files = tempfile::tempdir()?;
    let file = |name: &str| files.path().join(name);
    let journal = json!({
        "experiment": {"title": EVIL, "method": []}, "status": "completed", "deviated": false,
        "node": EVIL, "start": EVIL, "end": EVIL, "duration": 1.0,
        "run": [{"activity": {"name": EVIL, "type": "action", "provider": {"type": "process"}},
                 "status": "failed", "output": EVIL, "exception": [EVIL], "duration": 1.0}],
    });
    fs::write(file("journal.json"), journal.to_string())?;
    let toxics = json!([{"name": EVIL, "listen": "127.0.0.1:1", "upstream": "127.0.0.1:6379", "enabled": false}]);
    fs::write(file("toxiproxy.json"), toxics.to_string())?;
    let path = |name: &str| file(name).into_os_string();
    let word = |word: &str| OsString::from(word);
    for args in [
        vec![
            word("report"),
            path("journal.json"),
            word("--format"),
            word("md"),
        ],
        vec![
            word("report"),
            path("journal.json"),
            word("--format"),
            word("junit"),
        ],
        vec![
            word("report"),
            path("journal.json"),
            word("--format"),
            word("json"),
        ],
        vec![word("convert"), path("toxiproxy.json")],
        vec![word("convert"), word("--json"), path("toxiproxy.json")],
    ] {
        let done = murphy(&args).run()?;
        ensure!(done.code == Some(0), "{done:?}");
        ensure!(!acts(&done.stdout) && !acts(&done.stderr), "{done:?}");
        // A description in XML has lines.
        let text = done.stdout.replace("b\n| forged</error>", "");
        ensure!(!text.contains("\n| forged"), "{done:?}");
    }
    Ok(())
}

fn no_names() -> Outcome {
    let (machine, echo) = (Machine::new()?, Echo::start()?);
    let victim = connecting(&echo)?;
    let folder = tempfile::tempdir()?;
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary)?;
    let experiment = json!({
        "title": "t", "description": "d",
        "method": [{"type": "action", "name": "hit", "provider": {
            "type": "murphy", "faults": [REFUSED], "target": {"pid": victim.pid()}, "for": "1s"},
            "pauses": {"after": 3}}],
    });
    fs::write(folder.path().join("e.json"), experiment.to_string())?;
    let journal = folder.path().join("journal.json");
    let mut run = machine
        .murphy(&["experiment", "run", "--journal-path"])
        .args([&journal])
        .args([folder.path().join("e.json")])
        .env("TMPDIR", &temporary)
        .spawn()?;
    let mut names = Vec::new();
    while run.is_running()? {
        for entry in fs::read_dir(&temporary)?.flatten() {
            names.push(entry.file_name());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let done = run.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    ensure!(names.is_empty(), "files were made: {names:?}");
    // What the injector said when its time was over has come all the same.
    let said: Value = serde_json::from_str(&fs::read_to_string(&journal)?)?;
    let text = said.to_string();
    ensure!(
        text.contains("the time is over") && text.contains("\"injected\""),
        "{text}"
    );
    machine.is_over()
}

fn secrets() -> Outcome {
    let folder = tempfile::tempdir()?;
    let secret = "hunter\"22é";
    let json_of_it =
        r#"printf '{"a": "%s", "b": 987654}' "$(printf %s "$SECRET" | sed 's/"/\\"/g')""#;
    let experiment = json!({
        "title": "t", "description": "d",
        "secrets": {"db": {"password": {"type": "env", "key": "SECRET"}, "pin": 987_654}},
        "method": [
            {"type": "probe", "name": "say", "provider": {"type": "process", "path": "/bin/sh",
             "secrets": ["db"], "arguments": ["-c", json_of_it]}},
            {"type": "action", "name": "fail ${password} ${pin}",
             "provider": {"type": "http", "url": "http://127.0.0.1:1/${pin}?${password}"}},
            {"type": "probe", "name": "no file ${password} ${pin}",
             "provider": {"type": "process", "path": "/bin/sh", "timeout": 5, "arguments": ["-c", "cat /${pin}"]}},
        ],
    });
    let file = folder.path().join("e.json");
    fs::write(&file, experiment.to_string())?;
    let journal = folder.path().join("journal.json");
    let done = murphy(["experiment", "run", "--json", "--journal-path"])
        .args([&journal])
        .args([&file])
        .env("SECRET", secret)
        .env("MURPHY_RUN_DIR", folder.path())
        .run()?;
    let text = fs::read_to_string(&journal).with_context(|| done.to_string())?;
    for (what, said) in [
        ("the journal", &text),
        ("the progress", &done.stderr),
        ("the result", &done.stdout),
    ] {
        for part in ["hunter", "987654"] {
            ensure!(!said.contains(part), "{part} is in {what}: {said}");
        }
    }
    ensure!(text.contains("[redacted]"), "{text}");
    let mode = fs::metadata(&journal)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}
