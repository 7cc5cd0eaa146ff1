//! Rules replaced while they are in force: every operation is judged by one plan or the other, as a whole.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, UdpSocket},
    os::fd::AsRawFd as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use murphy_engine::{Session, Settings};
use murphy_fault::Fault;
use murphy_fault::plan::{Options, Plan, Selector, Target, Who};
use tests::{ChildGuard, Group, Outcome, case, needs, program, victim, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "64 rules under load, again and again",
            needs![Root, Cgroup2, Atomics],
            under_load,
        ),
        case(
            "a rule that stays remembers, one that comes begins",
            needs![Root, Cgroup2, Atomics],
            remembers,
        ),
        case(
            "a limit of connections counts its own",
            needs![Root, Cgroup2, Atomics, Tool("python3")],
            connections,
        ),
        case(
            "another hook and another target",
            needs![Root, Cgroup2, Atomics],
            another,
        ),
        case(
            "another interface",
            needs![Root, Cgroup2, Atomics],
            interfaces,
        ),
        case(
            "other folders, learnt again",
            needs![Root, Cgroup2, Atomics, BpfLsm],
            folders,
        ),
        case(
            "others of a command",
            needs![Root, Cgroup2, Atomics],
            of_a_command,
        ),
    ])
    // How rules are replaced is the same on every kernel: one of the newer ones has it.
    .in_kernels(&["sid"])
}

/// Users that nobody else is: this process's own children are its helpers and never hit
/// when looked for, but whoever has the user is.
const USER: u32 = 54_323;
const OTHER: u32 = 54_324;

fn plan(faults: &[String], user: u32) -> anyhow::Result<Plan> {
    let faults = faults
        .iter()
        .map(|text| text.parse::<Fault>())
        .collect::<Result<_, _>>()?;
    let who = Who {
        hit: vec![Selector::Uid(user)],
        ..Who::default()
    };
    Ok(Plan::new(
        faults,
        Target::Running(who),
        &Options::default(),
    )?)
}

fn settings() -> Settings {
    Settings {
        lease: Duration::from_secs(600),
        ..Settings::default()
    }
}

fn by<'a>(user: u32, steps: impl IntoIterator<Item = &'a str>) -> anyhow::Result<ChildGuard> {
    let mut victim = victim::victim(steps);
    victim.command().uid(user);
    victim.spawn()
}

/// Sends datagrams there until it is killed, a line for each.
fn sender(to: &UdpSocket) -> anyhow::Result<ChildGuard> {
    let address = to.local_addr()?.to_string();
    by(USER, ["udp", &address, "1000000000"])
}

fn sent(by: &ChildGuard) -> anyhow::Result<u64> {
    Ok(victim::seen(&by.stdout()?, "ok"))
}

/// Of 64 rules one always loses the packets of one sender, each time another one; no rule
/// ever speaks of the other sender's.
fn under_load() -> Outcome {
    let hit = UdpSocket::bind("127.0.0.1:0")?;
    let spared = UdpSocket::bind("127.0.0.1:0")?;
    hit.set_nonblocking(true)?;
    let (port, other) = (hit.local_addr()?.port(), spared.local_addr()?.port());
    let rules = |turn: u64| {
        let decoy = |n: u64| {
            // A port of neither.
            let mut port = (1..).filter(|p| ![port, other].contains(p));
            port.nth((64 * (turn % 500) + n) as usize).unwrap_or(1)
        };
        (0..64)
            .map(|n| match n == turn % 64 {
                true => format!("egress:loss=100%:port={port}:seed={turn}"),
                false => format!("egress:loss=100%:port={}", decoy(n)),
            })
            .collect::<Vec<_>>()
    };
    let mut session = Session::for_running(plan(&rules(0), USER)?, settings(), None)?;
    let (first, second) = (sender(&hit)?, sender(&spared)?);
    wait_until(PATIENCE, || sent(&first).is_ok_and(|now| now > 100))?;
    // A thousand, or as many as there is time for: both senders are busy all along.
    let begun = Instant::now();
    let mut turns = 0;
    while turns < 1000 && (turns < 30 || begun.elapsed() < Duration::from_secs(10)) {
        turns += 1;
        session.replace(plan(&rules(turns), USER)?)?;
    }
    println!(
        "    {turns} plans of 64 rules, {:.1} ms each",
        begun.elapsed().as_secs_f64() * 1e3 / turns as f64
    );
    ensure!(
        hit.recv(&mut [0; 8]).is_err(),
        "a packet was judged by no plan"
    );
    let before = sent(&second)?;
    wait_until(PATIENCE, || {
        sent(&second).is_ok_and(|now| now > before + 100)
    })?;
    let left = session.take_left()?;
    let report = session.end()?;
    let matched: u64 = left
        .iter()
        .chain(&report.faults)
        .map(|fault| fault.matched)
        .sum();
    let injected: u64 = left
        .iter()
        .chain(&report.faults)
        .map(|fault| fault.injected)
        .sum();
    ensure!(
        matched == injected && injected > 0,
        "{matched} matched, {injected} injected"
    );
    // It was counted from a moment between the attachment and the first look at the sender.
    let all = sent(&first)?;
    ensure!(
        injected <= all + 1,
        "{injected} of {all} sent: somebody else was hit"
    );
    Ok(())
}

/// `times` goes on counting, and time begins anew for who comes later.
fn remembers() -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    let stays = format!("egress:loss=100%:port={port}:times=5");
    let text = |faults: &[&String]| {
        faults
            .iter()
            .map(|fault| (*fault).clone())
            .collect::<Vec<_>>()
    };
    let mut session = Session::for_running(plan(&text(&[&stays]), USER)?, settings(), None)?;
    let _sender = sender(&socket)?;
    let injected = |session: &mut Session, fault: usize| {
        session
            .report()
            .map_or(0, |report| report.faults[fault].injected)
    };
    wait_until(PATIENCE, || injected(&mut session, 0) == 5)?;
    let comes = "egress:loss=100%:for=1h:times=3".to_owned();
    session.replace(plan(&text(&[&comes, &stays]), USER)?)?;
    wait_until(PATIENCE, || injected(&mut session, 0) == 3)?;
    ensure!(injected(&mut session, 1) == 5, "it has begun anew");
    session.replace(plan(&text(&[&stays]), USER)?)?;
    let left = session.take_left()?;
    ensure!(left.len() == 1 && left[0].injected == 3, "{left:?}");
    let report = session.end()?;
    ensure!(report.faults[0].injected == 5, "{report:?}");
    Ok(())
}

/// A server that nobody accepts at: a thread would be in the guardian's way. As many can connect as will.
fn listening() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // SAFETY: a descriptor that is open; it listens already, and gets a longer queue (listen(2)).
    let longer = unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    ensure!(longer == 0, "listen: {}", std::io::Error::last_os_error());
    Ok(listener)
}

/// The third rule has the first one's place, and what the first one counted is no business of it.
fn connections() -> Outcome {
    const KEEPER: &str = "
import errno, os, socket, sys, time
kept = []
while True:
    one = socket.socket()
    try:
        one.connect(('127.0.0.1', int(sys.argv[1])))
        kept.append(one)
        print('ok', flush=True)
    except OSError as error:
        one.close()
        print(errno.errorcode[error.errno], flush=True)
    if os.path.exists(sys.argv[2]) and kept:
        for one in kept: one.close()
        kept = None
    time.sleep(0.03)
    if kept is None:
        # What comes now is kept again.
        kept, sys.argv[2] = [], '/nowhere'
";
    let listener = listening()?;
    let port = listener.local_addr()?.port();
    let limited = |error: &str, limit: u32| {
        let fault = format!("connect:error={error}:port={port}:connlimit={limit}");
        plan(&[fault], USER)
    };
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let close = folder.path().join("close");
    let mut session = Session::for_running(limited("EAGAIN", 2)?, settings(), None)?;
    let mut keeper = program("python3")
        .args(["-c", KEEPER, &port.to_string()])
        .args([&close]);
    keeper.command().uid(USER);
    let keeper = keeper.spawn()?;
    let sees = |error: &str, ok: u64| {
        let seen = |word: &str| {
            let text = keeper.stdout().unwrap_or_default();
            victim::seen(&text, word)
        };
        let before = seen(error);
        wait_until(PATIENCE, || seen(error) > before + 5)
            .with_context(|| format!("no {error}: {}", keeper.stderr().unwrap_or_default()))?;
        ensure!(
            seen("ok") == ok,
            "{error}: {} connections, not {ok}",
            seen("ok")
        );
        anyhow::Ok(())
    };
    sees("EAGAIN", 2)?;
    session.replace(limited("EPERM", 3)?)?;
    sees("EPERM", 5)?;
    session.replace(limited("EACCES", 2)?)?;
    sees("EACCES", 7)?;
    fs::write(&close, "")?;
    let again = || keeper.stdout().map_or(0, |text| victim::seen(&text, "ok"));
    wait_until(PATIENCE, || again() > 7)?;
    sees("EACCES", 9)?;
    session.end()?;
    wait_until(PATIENCE, || again() > 12)
}

/// A plan that needs a hook and names a process that the first did not.
fn another() -> Outcome {
    let listener = listening()?;
    let server = listener.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    let first = format!("egress:loss=100%:port={port}");
    let mut session = Session::for_running(plan(&[first], USER)?, settings(), None)?;
    let connecting = by(OTHER, ["connect", &server.to_string(), "1000", "50"])?;
    wait_until(PATIENCE, || {
        connecting
            .stdout()
            .is_ok_and(|text| victim::seen(&text, "ok") > 3)
    })?;
    let second = format!("connect:error=EPERM:port={}", server.port());
    ensure!(victim::seen(&connecting.stdout()?, "EPERM") == 0);
    session.replace(plan(&[second], OTHER)?)?;
    wait_until(PATIENCE, || {
        connecting
            .stdout()
            .is_ok_and(|text| victim::seen(&text, "EPERM") > 3)
    })
    .with_context(|| connecting.stderr().unwrap_or_default())?;
    let report = session.end()?;
    ensure!(report.faults[0].injected > 3, "{report:?}");
    Ok(())
}

/// Where no rule looks at an interface nothing is attached; a plan that does brings it along.
fn interfaces() -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let rule = |interface: &str| format!("egress:loss=100%{interface}");
    let plan = |interface: &str| plan(&[rule(interface)], USER);
    let mut session = Session::for_running(plan(":interface=nothing*")?, settings(), None)?;
    let _sender = sender(&socket)?;
    let arrives = || socket.recv(&mut [0; 8]).context("nothing arrives");
    arrives()?;
    for interface in [":interface=lo", ""] {
        session.replace(plan(interface)?)?;
        wait_until(PATIENCE, || {
            session.report().is_ok_and(|now| now.faults[0].injected > 3)
        })
        .with_context(|| format!("{} is not in force", rule(interface)))?;
    }
    // One that is refused leaves the one before in force.
    let refused = session.replace(plan(":interface=nowhere0")?);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("`nowhere0`")),
        "{refused:?}"
    );
    let before = session.report()?.faults[0].injected;
    wait_until(PATIENCE, || {
        session
            .report()
            .is_ok_and(|now| now.faults[0].injected > before)
    })?;
    session.replace(plan(":interface=nothing*")?)?;
    // What is on its way, and then more.
    for _ in 0..100 {
        arrives()?;
    }
    let report = session.end()?;
    ensure!(report.faults[0].matched == 0, "{report:?}");
    Ok(())
}

/// Each plan means files of its own, and one whose folder is not there leaves the plan before in force.
fn folders() -> Outcome {
    let root = tempfile::tempdir()?;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
    let at = |name: &str| root.path().join(name).to_string_lossy().into_owned();
    for folder in ["a", "b"] {
        fs::create_dir(at(folder))?;
        fs::write(at(folder) + "/f", "")?;
    }
    let means = |pattern: &str| {
        let fault = format!("open,openat:error=EACCES:path={}", at(pattern));
        plan(&[fault], USER)
    };
    let mut session = Session::for_running(means("a/**")?, settings(), None)?;
    let a = by(USER, ["open", &at("a/f"), "1000000", "10"])?;
    let b = by(USER, ["open", &at("b/f"), "1000000", "10"])?;
    let seen =
        |by: &ChildGuard, what: &str| by.stdout().map_or(0, |text| victim::seen(&text, what));
    let more = |by: &ChildGuard, what: &str| {
        let before = seen(by, what);
        wait_until(PATIENCE, || seen(by, what) > before + 3)
    };
    more(&a, "EACCES")?;
    more(&b, "ok")?;
    ensure!(seen(&b, "EACCES") == 0, "a neighbour's file was meant");
    session.replace(means("b/f")?)?;
    more(&b, "EACCES")?;
    let before = seen(&a, "EACCES");
    more(&a, "ok")?;
    ensure!(
        seen(&a, "EACCES") == before,
        "a folder that has left is meant still"
    );
    ensure!(session.replace(means("none/f")?).is_err());
    more(&b, "EACCES")?;
    session.replace(means("a/f*")?)?;
    more(&a, "EACCES")?;
    more(&b, "ok")?;
    session.end()?;
    Ok(())
}

/// A command is narrowed down to a user that it has not, then to its own.
fn of_a_command() -> Outcome {
    let listener = listening()?;
    let server = listener.local_addr()?;
    let of = |user: u32| -> anyhow::Result<Plan> {
        let fault = format!("connect:error=EPERM:port={}:uid={user}", server.port());
        Ok(Plan::new(
            vec![fault.parse()?],
            Target::Command,
            &Options::default(),
        )?)
    };
    let mut session = Session::for_command(of(OTHER)?, &victim::self_path(), settings(), None)?;
    let folder = tempfile::tempdir()?;
    let go = folder.path().join("go");
    // It waits until it is in the cgroup; what it executes there arms the faults.
    let script = "while [ ! -e \"$0\" ]; do sleep 0.05; done; exec \"$@\"";
    let command = program("sh")
        .args(["-c", script])
        .args([&go, &victim::self_path()])
        .args(victim::words([
            "connect",
            &server.to_string(),
            "1000",
            "50",
        ]))
        .spawn()?;
    let mut procs = session.entrance()?.procs.context("no cgroup")?;
    write!(procs, "{}", command.pid())?;
    fs::write(&go, "")?;
    let sees = |word: &str| {
        let before = victim::seen(&command.stdout()?, word);
        wait_until(PATIENCE, || {
            let seen = |text: String| victim::seen(&text, word) > before + 2;
            command.stdout().is_ok_and(seen)
        })
        .with_context(|| format!("{word}: {}", command.stderr().unwrap_or_default()))
    };
    sees("ok")?;
    ensure!(victim::seen(&command.stdout()?, "EPERM") == 0);
    session.replace(of(0)?)?;
    sees("EPERM")?;
    // Somebody of that user who is not of the command.
    let outside = victim::victim(["connect", &server.to_string(), "3"]).run()?;
    ensure!(victim::seen(&outside.stdout, "ok") == 3, "{outside}");
    session.replace(of(OTHER)?)?;
    sees("ok")?;
    drop(command);
    let left = session.take_left()?;
    let injected: Vec<_> = left.iter().map(|fault| fault.injected).collect();
    ensure!(
        injected.len() == 2 && injected[0] == 0 && injected[1] > 2,
        "{left:?}"
    );
    let report = session.end()?;
    ensure!(report.faults[0].injected == 0, "{report:?}");
    Ok(())
}
