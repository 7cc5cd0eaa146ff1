//! The process that a cell is about, and its neighbour: this test program in the role of an owner
//! of sockets. It does what its control connection says.

use std::{
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tests::{Outcome, victim::self_path};

use super::axes::{Cell, Origin, Side, Socket};
use super::sockets::{self, Server, TIMES, Tally, To};

/// How long a cell may take until it is hit.
pub(super) const LATER: Duration = Duration::from_secs(6);

/// `own-sockets CONTROL ID CELL ADDRESS PATH FDS`, as [`super::batch`] calls it.
pub(super) fn own(args: &[String]) -> Outcome {
    let [control, id, cell, address, path, fds] = args else {
        bail!("six arguments, not {args:?}");
    };
    let control = UnixStream::connect(control)?;
    sockets::write_line(&control, id, &[])?;
    let cell = Cell::parse(cell)?;
    let inherited = fds.split(',').filter(|fd| !fd.is_empty());
    let inherited: Vec<OwnedFd> = inherited
        .map(|fd| {
            let fd = fd.parse()?;
            // SAFETY: the process that started this one left it open for it, and names it once.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        })
        .collect::<Result<_>>()?;
    let to = match cell.socket {
        Socket::Unix => To::ConnectUnix(path.into()),
        Socket::Unconnected | Socket::Raw => To::Send(address.parse()?),
        _ => To::Connect(address.parse()?),
    };
    match cell.side {
        Side::Client => client(cell, &control, inherited, &to),
        Side::Server => server(cell, &control, inherited, address.parse()?),
    }
}

fn client(cell: Cell, control: &UnixStream, mut owned: Vec<OwnedFd>, to: &To) -> Outcome {
    let connects = cell.fault == super::axes::Fault::Connect;
    let mut to = to.clone();
    while let Some((line, passed)) = sockets::read_line(control)? {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["prepare"] => {
                if cell.origin == Origin::Before {
                    owned = twenty(cell)?;
                    if let (To::Connect(_), false) = (&to, connects) {
                        connect(cell, &owned, &to)?;
                        to = To::There;
                    }
                }
                sockets::write_line(control, "ready", &[])?;
            }
            ["go", window, expected] => {
                match cell.origin {
                    Origin::After => owned = twenty(cell)?,
                    Origin::Passed => owned = passed,
                    _ => {}
                }
                let connected = matches!(cell.origin, Origin::Passed | Origin::Inherited);
                if connected && !connects && matches!(to, To::Connect(_)) {
                    to = To::There;
                }
                ensure!(owned.len() == TIMES, "{} sockets", owned.len());
                let window = Duration::from_millis(window.parse()?);
                let tally = ask(cell, &owned, &to, window, expected)?;
                let said = format!("{} {}", tally.hit, tally.spared);
                sockets::write_line(control, &said, &[])?;
            }
            _ => bail!("what is {line:?}?"),
        }
    }
    Ok(())
}

/// Asks once; or, where the fault is expected later, until all are hit.
pub(super) fn ask(
    cell: Cell,
    owned: &[OwnedFd],
    to: &To,
    window: Duration,
    expected: &str,
) -> Result<Tally> {
    let begun = Instant::now();
    let mut to = to.clone();
    loop {
        let replies = sockets::ask(cell, owned, &to, window)?;
        let tally = Tally::of(cell, &replies);
        if tally.all_hit() || expected != "later" || begun.elapsed() > LATER {
            return Ok(tally);
        }
        if matches!(to, To::Connect(_)) {
            to = To::There;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn twenty(cell: Cell) -> Result<Vec<OwnedFd>> {
    let make = || sockets::make(cell, false).context("making a socket");
    (0..TIMES).map(|_| make()).collect()
}

/// Connects without a question.
pub(super) fn connect(cell: Cell, owned: &[OwnedFd], to: &To) -> Outcome {
    let connecting = Cell {
        fault: super::axes::Fault::Connect,
        ..cell
    };
    let replies = sockets::ask(connecting, owned, to, Duration::from_secs(30))?;
    let wrong = replies
        .iter()
        .find(|reply| **reply != sockets::Reply::Connected);
    ensure!(wrong.is_none(), "connecting: {wrong:?}");
    Ok(())
}

fn server(
    cell: Cell,
    control: &UnixStream,
    inherited: Vec<OwnedFd>,
    at: std::net::SocketAddr,
) -> Outcome {
    let is_stream = cell.is_stream();
    let mut server = None;
    let new = |listener| Server {
        listener,
        accepted: Vec::new(),
        is_stream,
        asks_address: cell.origin != Origin::AcceptedPlain,
    };
    let listen = || -> Result<OwnedFd> {
        let listener = sockets::make(cell, false)?;
        sockets::serve_at(&listener, at, is_stream)?;
        Ok(listener)
    };
    let mut inherited = inherited.into_iter();
    while let Some((line, passed)) = sockets::read_line(control)? {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["prepare"] => {
                server = match cell.origin {
                    Origin::Before | Origin::Accepted | Origin::AcceptedPlain | Origin::Changed => {
                        Some(new(listen()?))
                    }
                    Origin::Inherited | Origin::Activated => inherited.next().map(new),
                    Origin::After | Origin::Passed => None,
                };
                sockets::write_line(control, "ready", &[])?;
            }
            // The connections that wait.
            ["accept"] => {
                let server = server.as_mut().context("nothing to accept by")?;
                for _ in 0..TIMES {
                    server.accept()?;
                }
                sockets::write_line(control, "accepted", &[])?;
            }
            ["become", user] => {
                let user = user.parse()?;
                // SAFETY: the call takes integers only.
                ensure!(unsafe { libc::setresuid(user, user, user) } == 0);
                sockets::write_line(control, "become", &[])?;
            }
            ["join", group] => {
                std::fs::write(group, std::process::id().to_string())?;
                sockets::write_line(control, "joined", &[])?;
            }
            ["serve"] => {
                let server = match (server, passed.into_iter().next()) {
                    (Some(server), _) => server,
                    (None, Some(passed)) => new(passed),
                    (None, None) => new(listen()?),
                };
                sockets::write_line(control, "serving", &[])?;
                return server.serve(control.as_fd());
            }
            _ => bail!("what is {line:?}?"),
        }
    }
    Ok(())
}

/// `crowd OWNER…`, the command of `run`: starts an owner for each argument, which holds an owner's
/// arguments with blanks in between, and waits for all.
pub(super) fn crowd(args: &[String]) -> Outcome {
    let mut children = Vec::new();
    // None of them gets what is another's.
    for fd in args.iter().flat_map(|one| fds(one)) {
        // SAFETY: the call takes integers only.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    for one in args {
        let words: Vec<_> = one.split(' ').map(str::to_owned).collect();
        let mut command = Command::new(self_path());
        command.arg("own-sockets").args(&words);
        leave_open(&mut command, fds(one));
        children.push(command.spawn()?);
    }
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "an owner ended with {status}");
    }
    Ok(())
}

/// The descriptors that an owner inherits, by its arguments.
fn fds(arguments: &str) -> Vec<i32> {
    let last = arguments.rsplit(' ').next().unwrap_or_default();
    last.split(',').filter_map(|fd| fd.parse().ok()).collect()
}

/// Leaves these descriptors open in the child alone: others that start meanwhile do not get them.
pub(super) fn leave_open(command: &mut Command, fds: Vec<i32>) {
    // SAFETY: the closure makes a system call and nothing else.
    unsafe {
        command.pre_exec(move || {
            for &fd in &fds {
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
