//! Cells of one fault and one way, all in one injection: each has a rule, a target and a neighbour
//! of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{ChildGuard, Outcome, expect, murphy, program, report, victim::self_path, wait_until};

use super::axes::{Behaviour, Cell, Family, Fault, Origin, Side, Socket, Way};
use super::owner::{self, LATER};
use super::sockets::{self, NAME, Server, TIMES, Tally, To};

/// How long answers may take that are awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user id that nothing else on the machine has.
const USER: u32 = 64_987;

/// A process that does what it is told.
struct Owner {
    control: UnixStream,
    id: String,
}

impl Owner {
    fn tell(&self, line: &str, sockets: &[OwnedFd]) -> Outcome {
        sockets::write_line(&self.control, line, sockets)
    }

    fn hear(&self) -> Result<String> {
        let heard = sockets::read_line(&self.control)?;
        let id = &self.id;
        Ok(heard.with_context(|| format!("{id} has ended"))?.0)
    }

    fn do_it(&self, line: &str, done: &str) -> Outcome {
        self.tell(line, &[])?;
        let heard = self.hear()?;
        ensure!(heard == done, "{}: {heard}, not {done}", self.id);
        Ok(())
    }
}

/// One of both processes of a cell.
struct Actor {
    id: String,
    /// As its process sees it: a neighbour that serves does so by IPv4.
    cell: Cell,
    is_target: bool,
    /// The server's address, as the client names it.
    address: SocketAddr,
    /// Sockets that another process makes for it.
    made: Vec<OwnedFd>,
    /// The client's ends of the connections to it.
    ends: Vec<OwnedFd>,
    are_connected: bool,
}

struct Stage {
    cell: Cell,
    rule: String,
    actors: [Actor; 2],
    unix: PathBuf,
    /// Ends the server of the clients.
    _peer: Option<UnixStream>,
}

/// Puts these cells, of one fault and one way, under one injection. Returns what is wrong with any.
pub(super) fn run(cells: &[Cell]) -> Result<Vec<(Cell, String)>> {
    let way = cells.first().context("no cells")?.way;
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let listener = UnixListener::bind(&control)?;
    let mut stages = Vec::new();
    for (number, &cell) in cells.iter().enumerate() {
        let stage = Stage::new(number, cell, folder.path());
        stages.push(stage.with_context(|| cell.to_string())?);
    }
    // Its processes end before it does.
    let group = Group::new(&stages)?;
    let mut children = Vec::new();
    let mut owners = BTreeMap::new();
    for stage in &mut stages {
        for actor in &mut stage.actors {
            if way == Way::Run && actor.is_target {
                continue;
            }
            let words = actor.words(&control, &stage.unix);
            let mut starts = program(self_path()).args(["own-sockets"]).args(&words);
            owner::leave_open(starts.command(), actor.fds());
            let child = starts.spawn()?;
            let owner = hello(&listener, &child)?;
            actor.let_go();
            owners.insert(actor.id.clone(), (owner, child.pid()));
            children.push(child);
        }
    }
    for stage in &mut stages {
        for actor in &mut stage.actors {
            if let Some((owner, _)) = owners.get(&actor.id) {
                actor.prepare(owner).with_context(|| actor.id.clone())?;
            }
        }
    }
    let (murphy, output) = start(way, &mut stages, &owners, &control, folder.path(), &group)?;
    if way == Way::Run {
        for _ in &stages {
            let owner = hello(&listener, &murphy)?;
            owners.insert(owner.id.clone(), (owner, 0));
        }
        for stage in &mut stages {
            let actor = &mut stage.actors[0];
            actor.let_go();
            let (owner, _) = owners.get(&actor.id).context("a target is missing")?;
            actor.prepare(owner).with_context(|| actor.id.clone())?;
        }
    }
    let tallies: Vec<_> = thread::scope(|scope| {
        let owners = &owners;
        let group = &group;
        let threads: Vec<_> = stages
            .iter_mut()
            .map(|stage| scope.spawn(move || stage.go(owners, group)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let done = thread.join();
            done.unwrap_or_else(|_| bail!("its thread panicked"))
        });
        joined.collect()
    });
    for stage in &stages {
        if let Behaviour::Warned(words) = stage.cell.behaviour() {
            // That it is missing is told with the cell.
            let warned = || murphy.stderr().is_ok_and(|said| said.contains(words));
            let _ = wait_until(LATER, warned);
        }
    }
    let said = murphy.stderr()?;
    // Targets of `run` end when they are no longer told anything.
    owners.retain(|_, (_, pid)| *pid != 0);
    if way == Way::Inject {
        murphy.signal(libc::SIGINT)?;
    }
    let done = murphy.finish(PATIENCE)?;
    ensure!(done.code == Some(0), "{done}");
    let report = match &output {
        Some(path) => fs::read_to_string(path)?,
        None => done.stderr.lines().last().unwrap_or_default().to_owned(),
    };
    let report: Value = serde_json::from_str(&report).with_context(|| done.to_string())?;
    let mut wrong = Vec::new();
    for (number, (stage, tallies)) in stages.iter().zip(tallies).enumerate() {
        let judged = tallies.and_then(|tallies| stage.judge(tallies, &report, number, &said));
        if let Err(error) = judged {
            wrong.push((stage.cell, format!("{error:#}")));
        }
    }
    Ok(wrong)
}

/// The next owner that calls.
fn hello(listener: &UnixListener, of: &ChildGuard) -> Result<Owner> {
    listener.set_nonblocking(true)?;
    let mut control = None;
    let came = wait_until(PATIENCE, || {
        control = listener.accept().ok();
        control.is_some()
    });
    came.with_context(|| of.stderr().unwrap_or_default())?;
    let (control, _) = control.context("no connection")?;
    control.set_nonblocking(false)?;
    control.set_read_timeout(Some(PATIENCE))?;
    let heard = sockets::read_line(&control)?;
    let (id, _) = heard.with_context(|| of.stderr().unwrap_or_default())?;
    Ok(Owner { control, id })
}

impl Stage {
    fn new(number: usize, cell: Cell, folder: &Path) -> Result<Self> {
        let unix = folder.join(format!("socket-{number}"));
        let (mut peer, mut made) = (None, [Vec::new(), Vec::new()]);
        let mut of_neighbour = cell;
        let addresses = match cell.side {
            Side::Client => {
                let family = match cell.family {
                    Family::Mapped => Family::V4,
                    family => family,
                };
                let at = sockets::address(family, free_port()?);
                let port = match cell.socket {
                    Socket::Raw => 0,
                    Socket::Unix => {
                        let (one, other) = UnixStream::pair()?;
                        let listener = UnixListener::bind(&unix)?;
                        thread::spawn(move || serve(listener.into(), true, &other));
                        peer = Some(one);
                        1
                    }
                    _ => {
                        let listener = sockets::make(cell, true)?;
                        let is_stream = cell.is_stream();
                        let port = sockets::serve_at(&listener, at, is_stream)?;
                        let (one, other) = UnixStream::pair()?;
                        thread::spawn(move || serve(listener, is_stream, &other));
                        peer = Some(one);
                        port
                    }
                };
                let mut address = sockets::address(cell.family, port);
                if let (Socket::Raw, SocketAddr::V4(v4)) = (cell.socket, &mut address) {
                    // Its rule has no port to name it by.
                    v4.set_ip(Ipv4Addr::new(127, 0, 9, number as u8 + 1));
                }
                if matches!(cell.origin, Origin::Inherited | Origin::Passed) {
                    for made in &mut made {
                        *made = owner::twenty(cell)?;
                        let connects = cell.is_stream() || cell.socket == Socket::Udp;
                        if connects && cell.fault != Fault::Connect {
                            owner::connect(cell, made, &To::Connect(address))?;
                        }
                    }
                }
                [address, address]
            }
            Side::Server => {
                of_neighbour.family = Family::V4;
                let port = free_port()?;
                let at = sockets::address(cell.family, port);
                let beside = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
                use Origin::{Activated, Inherited, Passed};
                if matches!(cell.origin, Inherited | Passed | Activated) {
                    let cells = [(cell, at), (of_neighbour, beside)];
                    for (made, (cell, at)) in made.iter_mut().zip(cells) {
                        let listener = sockets::make(cell, false)?;
                        sockets::serve_at(&listener, at, cell.is_stream())?;
                        made.push(listener);
                    }
                }
                [at, beside]
            }
        };
        let rule = rule(cell, addresses[0], number);
        let [made, made_beside] = made;
        let actor = |id: String, cell, is_target, address, made| Actor {
            id,
            cell,
            is_target,
            address,
            made,
            ends: Vec::new(),
            are_connected: false,
        };
        let [at, beside] = addresses;
        let mut actors = [
            actor(format!("target-{number}"), cell, true, at, made),
            actor(
                format!("beside-{number}"),
                of_neighbour,
                false,
                beside,
                made_beside,
            ),
        ];
        if cell.way == Way::Run && cell.origin == Origin::Activated {
            for actor in &mut actors {
                actor.connect()?;
            }
        }
        Ok(Self {
            cell,
            rule,
            actors,
            unix,
            _peer: peer,
        })
    }

    /// What the target and its neighbour saw.
    fn go(&mut self, owners: &BTreeMap<String, (Owner, u32)>, group: &Group) -> Result<[Tally; 2]> {
        let behaviour = self.cell.behaviour();
        let [target, neighbour] = &mut self.actors;
        let of = |actor: &Actor| owners.get(&actor.id).map(|(owner, _)| owner);
        let (one, other) = (of(target), of(neighbour));
        let (one, other) = (one.context("no target")?, other.context("no neighbour")?);
        let spared = neighbour.go(other, None, group).context("the neighbour")?;
        let hit = target
            .go(one, Some(behaviour), group)
            .context("the target")?;
        Ok([hit, spared])
    }

    fn judge(&self, tallies: [Tally; 2], report: &Value, number: usize, said: &str) -> Outcome {
        let [target, neighbour] = tallies;
        ensure!(neighbour.none_hit(), "its neighbour: {neighbour:?}");
        let count = |name| report::count(report, number, name);
        let injected = count("injected");
        match self.cell.behaviour() {
            Behaviour::Hit | Behaviour::Later => {
                ensure!(target.all_hit(), "{target:?}, {injected} by the kernel");
                let shares_rule = self.cell.socket == Socket::Raw;
                let is_exact = self.cell.fault == Fault::Connect;
                ensure!(
                    shares_rule || injected == TIMES as u64 || injected > TIMES as u64 && !is_exact,
                    "{TIMES} hit, and {injected} by the kernel"
                );
            }
            // A raw socket of another cell may get packets that are meant for this one's.
            Behaviour::Exempt => ensure!(
                target.none_hit() && (injected == 0 || self.cell.socket == Socket::Raw),
                "{target:?}, {injected} by the kernel"
            ),
            Behaviour::Warned(words) => {
                ensure!(target.none_hit(), "{target:?}");
                ensure!(said.contains(words), "no warning {words:?} in {said:?}");
            }
        }
        Ok(())
    }
}

/// A port below those that the kernel hands out: no connection takes it meanwhile.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_000, "no port is free");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
}

fn serve(listener: OwnedFd, is_stream: bool, control: &UnixStream) -> Outcome {
    use std::os::fd::AsFd as _;
    let server = Server {
        listener,
        accepted: Vec::new(),
        is_stream,
        asks_address: false,
    };
    server.serve(control.as_fd())
}

/// The fault of a cell, which no other cell of the batch passes.
fn rule(cell: Cell, address: SocketAddr, number: usize) -> String {
    let port = address.port();
    let end = match cell.side {
        Side::Client => "port",
        Side::Server => "sport",
    };
    let network = match cell.family {
        Family::V6 => "[::1]",
        Family::V4 | Family::Mapped => "127.0.0.0/8",
    };
    match cell.fault {
        Fault::Connect => format!("connect:error=EHOSTUNREACH:port={port}:dst={network}"),
        Fault::Egress | Fault::Ingress if cell.socket == Socket::Raw => {
            let of = cell.fault.name();
            match cell.family {
                Family::V4 => format!("{of}:blackhole:proto=icmp:dst=127.0.9.{}", number + 1),
                _ => format!("{of}:blackhole:proto=icmp6:dst=[::1]"),
            }
        }
        Fault::Egress | Fault::Ingress => format!("{}:blackhole:{end}={port}", cell.fault.name()),
        Fault::Dns => format!("dns:rcode=REFUSED:port={port}:name={NAME}"),
        Fault::Http => format!("http:status=503:{end}={port}"),
    }
}

impl Actor {
    fn words(&self, control: &Path, unix: &Path) -> Vec<String> {
        let fds: Vec<_> = self.fds().iter().map(ToString::to_string).collect();
        vec![
            control.display().to_string(),
            self.id.clone(),
            self.cell.to_string(),
            self.address.to_string(),
            unix.display().to_string(),
            format!("{},", fds.join(",")),
        ]
    }

    /// The descriptors that its process inherits.
    fn fds(&self) -> Vec<i32> {
        match self.cell.origin {
            Origin::Passed => Vec::new(),
            _ => self.made.iter().map(AsRawFd::as_raw_fd).collect(),
        }
    }

    /// Its process has them now.
    fn let_go(&mut self) {
        if self.cell.origin != Origin::Passed {
            self.made.clear();
        }
    }

    /// Connects to the target.
    fn connect(&mut self) -> Outcome {
        let cell = self.cell;
        self.ends = (0..TIMES)
            .map(|_| sockets::make(cell, true))
            .collect::<std::io::Result<_>>()?;
        self.are_connected = true;
        owner::connect(cell, &self.ends, &To::Connect(self.dialled()))
    }

    /// The server's address as a client with plain IPv4 or IPv6 names it.
    fn dialled(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip().to_canonical(), self.address.port())
    }

    /// What comes before arming; for `run`, after it.
    fn prepare(&mut self, owner: &Owner) -> Outcome {
        owner.do_it("prepare", "ready")?;
        let cell = self.cell;
        let is_server = cell.side == Side::Server && cell.is_stream();
        if !is_server || cell.way == Way::Run {
            return Ok(());
        }
        use Origin::{Accepted, AcceptedPlain, Before};
        if matches!(cell.origin, Before | Accepted | AcceptedPlain) {
            self.connect()?;
        }
        if cell.origin == Before {
            owner.do_it("accept", "accepted")?;
        }
        Ok(())
    }

    /// Twenty operations; of the target with what is expected.
    fn go(&mut self, owner: &Owner, expected: Option<Behaviour>, group: &Group) -> Result<Tally> {
        let window = window(self.cell, expected);
        let word = match expected {
            Some(Behaviour::Later) => "later",
            _ => "now",
        };
        let passed = match self.cell.origin {
            Origin::Passed => std::mem::take(&mut self.made),
            _ => Vec::new(),
        };
        if self.cell.side == Side::Client {
            owner.tell(&format!("go {} {word}", window.as_millis()), &passed)?;
            let heard = owner.hear()?;
            let (hit, spared) = heard.split_once(' ').context("two numbers")?;
            let (hit, spared) = (hit.parse()?, spared.parse()?);
            return Ok(Tally { hit, spared });
        }
        let cell = self.cell;
        // Before anything is asked: what arrives before the connection is accepted is no target's
        // yet.
        let waits = cell.way == Way::Inject || cell.origin == Origin::Activated;
        if cell.is_queued() && waits && cell.is_stream() {
            if !self.are_connected {
                self.connect()?;
            }
            self.become_target(owner, group)?;
            owner.do_it("accept", "accepted")?;
        } else {
            self.become_target(owner, group)?;
        }
        owner.tell("serve", &passed)?;
        let heard = owner.hear()?;
        ensure!(heard == "serving", "{heard}");
        let to = match (self.are_connected, cell.is_stream()) {
            (true, _) => To::There,
            (false, true) => To::Connect(self.dialled()),
            (false, false) => To::Send(self.dialled()),
        };
        if !self.are_connected {
            self.ends = (0..TIMES)
                .map(|_| sockets::make(cell, true))
                .collect::<std::io::Result<_>>()?;
        }
        owner::ask(cell, &self.ends, &to, window, word)
    }
}

impl Actor {
    /// Now it is one, if it was none yet.
    fn become_target(&self, owner: &Owner, group: &Group) -> Outcome {
        match self.cell.origin {
            _ if !self.is_target || self.cell.way == Way::Run => Ok(()),
            Origin::Activated => {
                owner.do_it(&format!("join {}", group.procs().display()), "joined")
            }
            Origin::Changed => owner.do_it(&format!("become {USER}"), "become"),
            _ => Ok(()),
        }
    }
}

/// How long answers are awaited: where none is expected, this is what a cell takes.
fn window(cell: Cell, expected: Option<Behaviour>) -> Duration {
    let is_silence = matches!(cell.fault, Fault::Egress | Fault::Ingress)
        || cell.fault == Fault::Dns && cell.is_stream();
    match expected {
        Some(Behaviour::Hit | Behaviour::Later) if is_silence => {
            // An emulated machine answers some twenty times later.
            let host = Duration::from_millis(300);
            if expect::environment() == "host" {
                host
            } else {
                host * 10
            }
        }
        Some(_) => LATER,
        None => PATIENCE,
    }
}

/// The cgroup that targets join, if any does.
struct Group(Option<PathBuf>);

impl Group {
    fn new(stages: &[Stage]) -> Result<Self> {
        let joins =
            |stage: &Stage| stage.cell.origin == Origin::Activated && stage.cell.way == Way::Inject;
        if !stages.iter().any(joins) {
            return Ok(Self(None));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = line.and_then(|line| line.split(' ').nth(4));
        let name = format!("murphy-test-ownership-{}", std::process::id());
        let path = Path::new(mount.context("no cgroup2")?).join(name);
        fs::create_dir(&path)?;
        Ok(Self(Some(path)))
    }

    fn procs(&self) -> PathBuf {
        self.0
            .as_ref()
            .map(|path| path.join("cgroup.procs"))
            .unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Its last process may be ending.
            let gone = || fs::remove_dir(path).is_ok() || !path.exists();
            let _ = wait_until(Duration::from_secs(10), gone);
        }
    }
}

/// Starts murphy, armed; of `run` with the file of its report.
fn start(
    way: Way,
    stages: &mut [Stage],
    owners: &BTreeMap<String, (Owner, u32)>,
    control: &Path,
    folder: &Path,
    group: &Group,
) -> Result<(ChildGuard, Option<PathBuf>)> {
    let rules: Vec<_> = stages
        .iter()
        .flat_map(|stage| ["-e".to_owned(), stage.rule.clone()])
        .collect();
    if way == Way::Run {
        let output = folder.join("report.json");
        let mut command = murphy(["run", "--json", "-o"])
            .args([&output])
            .args(&rules)
            .args(["--"])
            .args([self_path()])
            .args(["own-sockets-all"]);
        let mut fds = Vec::new();
        for stage in stages {
            let target = &stage.actors[0];
            fds.extend(target.fds());
            command = command.args([target.words(control, &stage.unix).join(" ")]);
        }
        owner::leave_open(command.command(), fds);
        return Ok((command.spawn()?, Some(output)));
    }
    let mut words = Vec::new();
    for stage in stages {
        let target = &stage.actors[0];
        let (_, pid) = owners.get(&target.id).context("no target")?;
        words.extend(match stage.cell.origin {
            Origin::Activated => continue,
            Origin::Changed => ["--uid".to_owned(), USER.to_string()],
            _ => ["--pid".to_owned(), pid.to_string()],
        });
    }
    if let Some(path) = &group.0 {
        words.extend(["--cgroup".to_owned(), path.display().to_string()]);
    }
    let murphy = murphy(["inject", "--json"])
        .args(&rules)
        .args(&words)
        .spawn()?;
    let begun = Instant::now();
    let armed = || murphy.stderr().is_ok_and(|text| text.contains("armed"));
    wait_until(PATIENCE, armed).with_context(|| {
        let said = murphy.stderr().unwrap_or_default();
        format!("not armed after {:?}: {said}", begun.elapsed())
    })?;
    Ok((murphy, None))
}
