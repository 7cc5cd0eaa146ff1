//! A small program to be hit: this test program itself, called with `victim STEP…`.
//!
//! It does one operation many times and prints what each call gave, `ok` or the name of the error, a
//! line each: what the victim saw, to be held against what the kernel counted.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{Program, program};

/// The first argument of this program as the victim.
pub(crate) const WORD: &str = "victim";

/// The victim as a program: `victim(["connect", "127.0.0.1:80", "10"])`. Each step takes what it works on,
/// how often, and at last, if given, the pause between two calls in ms.
///
/// - `connect ADDRESS N`: TCP connections, closed at once
/// - `udp ADDRESS N`: datagrams of one byte, sent on an unconnected socket
/// - `ask ADDRESS N`: datagrams of one byte on a connected socket, each answered within two seconds
/// - `echo ADDRESS N`: one byte there and back on one TCP connection, N times
/// - `open PATH N`: opens for reading
/// - `write PATH N`, `read PATH N`: one byte at a time, on one descriptor
/// - `threads PATH N`: `write`, by two threads called `a` and `b`, each until `PATH.stop-…` of its name is there, with
///   its name before each line
/// - `both PATH N`: a write to a file, then one to a pipe
/// - `tally:STEP …`: the same, but how often each outcome was seen is printed at the end, a line each: `ok 99`
/// - `sync PATH N`: `fsync(2)`, on one descriptor
/// - `calls:NAME,… FOLDER N`: system calls by name ([`crate::calls`]), `done` after each round
/// - `values:NAME,… FOLDER N`: the same, but of a call that succeeds what it gave is printed
pub fn victim<'a>(steps: impl IntoIterator<Item = &'a str>) -> Program {
    program(self_path()).args(words(steps))
}

/// The words that run the victim under something else, for example `murphy run … --`.
pub fn words<'a>(steps: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(WORD)
        .chain(steps)
        .map(str::to_owned)
        .collect()
}

/// This test program.
pub fn self_path() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// Runs as the victim if called so.
pub(crate) fn run_if_asked() -> Option<std::process::ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(WORD) {
        return None;
    }
    let args: Vec<_> = args.collect();
    Some(match steps(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("victim: {error:#}");
            std::process::ExitCode::FAILURE
        }
    })
}

fn steps(args: &[String]) -> Result<()> {
    let [step, what, count, pause @ ..] = args else {
        bail!("a step, what it works on, and how often");
    };
    let count: u32 = count.parse()?;
    let pause = match pause.first() {
        Some(pause) => Duration::from_millis(pause.parse()?),
        None => Duration::ZERO,
    };
    for (prefix, values) in [("calls:", false), ("values:", true)] {
        if let Some(names) = step.strip_prefix(prefix) {
            return make_calls(names, what, count, pause, values);
        }
    }
    if let Some(step) = step.strip_prefix("tally:") {
        return tally(step_by_name(step, what)?, count);
    }
    if step == "threads" {
        return threads(what, count, pause);
    }
    let mut work = step_by_name(step, what)?;
    for _ in 0..count {
        let line = match work() {
            Ok(()) => "ok".to_owned(),
            Err(error) => name(&error),
        };
        say(&line)?;
        thread::sleep(pause);
    }
    Ok(())
}

fn threads(path: &str, count: u32, pause: Duration) -> Result<()> {
    let write = |thread: &str| -> Result<()> {
        let stop = format!("{path}.stop-{thread}");
        let mut work = step_by_name("write", &format!("{path}.{thread}"))?;
        for _ in 0..count {
            if std::path::Path::new(&stop).exists() {
                break;
            }
            let saw = work().map_or_else(|error| name(&error), |()| "ok".to_owned());
            say(&format!("{thread} {saw}"))?;
            thread::sleep(pause);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let start = |thread: &'static str| {
            let builder = thread::Builder::new().name(thread.to_owned());
            builder.spawn_scoped(scope, move || write(thread))
        };
        for thread in [start("a")?, start("b")?] {
            let done = thread.join();
            done.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

/// Prints the name of each call and what it gave, and waits after each round.
fn make_calls(names: &str, folder: &str, rounds: u32, wait: Duration, values: bool) -> Result<()> {
    let names: Vec<_> = names.split(',').collect();
    for _ in 0..rounds {
        for (call, gave) in crate::calls::make(std::path::Path::new(folder), &names)? {
            let gave = match gave {
                Ok(value) if values => value.to_string(),
                Ok(_) => "ok".to_owned(),
                Err(error) => name(&error),
            };
            say(&format!("{call} {gave}"))?;
        }
        say("done")?;
        thread::sleep(wait);
    }
    Ok(())
}

fn tally(mut work: Step, count: u32) -> Result<()> {
    let mut seen = BTreeMap::<String, u64>::new();
    let mut succeeded = 0_u64;
    for _ in 0..count {
        match work() {
            Ok(()) => succeeded += 1,
            Err(error) => *seen.entry(name(&error)).or_default() += 1,
        }
    }
    seen.insert("ok".to_owned(), succeeded);
    for (outcome, times) in seen {
        say(&format!("{outcome} {times}"))?;
    }
    Ok(())
}

/// Prints a line by `pwritev2(2)`, which no test puts a fault on: a fault on `write` shall hit what the
/// victim does, not what it says of it.
fn say(line: &str) -> Result<()> {
    let line = format!("{line}\n");
    let here = u64::MAX; // at the file's own position
    let flags = rustix::io::ReadWriteFlags::empty();
    let printed = rustix::io::pwritev2(
        io::stdout(),
        &[io::IoSlice::new(line.as_bytes())],
        here,
        flags,
    );
    anyhow::ensure!(printed.context("printing what was seen")? == line.len());
    Ok(())
}

type Step = Box<dyn FnMut() -> io::Result<()>>;

fn step_by_name(step: &str, what: &str) -> Result<Step> {
    let what = what.to_owned();
    Ok(match step {
        "connect" => {
            let address: SocketAddr = what.parse()?;
            Box::new(move || TcpStream::connect(address).map(drop))
        }
        "udp" => {
            let address: SocketAddr = what.parse()?;
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            Box::new(move || socket.send_to(b"x", address).map(drop))
        }
        "ask" => {
            let address: SocketAddr = what.parse()?;
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            Box::new(move || {
                socket.send(b"x")?;
                socket.recv(&mut [0]).map(drop)
            })
        }
        "echo" => {
            let mut stream = TcpStream::connect(what.parse::<SocketAddr>()?)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            Box::new(move || {
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0])
            })
        }
        "open" => Box::new(move || File::open(&what).map(drop)),
        "read" => {
            let mut file = File::open(&what)?;
            Box::new(move || file.read(&mut [0]).map(drop))
        }
        "write" => {
            let mut file = OpenOptions::new().append(true).create(true).open(&what)?;
            Box::new(move || one_byte(&mut file))
        }
        "sync" => {
            let file = OpenOptions::new().append(true).create(true).open(&what)?;
            Box::new(move || file.sync_all())
        }
        "both" => {
            let mut file = OpenOptions::new().append(true).create(true).open(&what)?;
            let (reader, mut pipe) = io::pipe()?;
            Box::new(move || {
                // Without a reader the pipe itself would give EPIPE.
                let _ = &reader;
                let to_file = one_byte(&mut file);
                one_byte(&mut pipe)?;
                to_file
            })
        }
        _ => bail!("no step {step}"),
    })
}

/// `write_all` would try again after an error that means so.
fn one_byte(to: &mut impl io::Write) -> io::Result<()> {
    match to.write(b"x")? {
        1 => Ok(()),
        n => Err(io::Error::other(format!("wrote {n}"))),
    }
}

/// The error's symbolic name, as murphy knows it.
fn name(error: &io::Error) -> String {
    error
        .raw_os_error()
        .and_then(|number| murphy_fault::Errno::new(u16::try_from(number).ok()?))
        .and_then(murphy_fault::Errno::name)
        .map_or_else(|| error.to_string(), str::to_owned)
}

/// How many lines of what a victim saw are this word.
pub fn seen(stdout: &str, word: &str) -> u64 {
    stdout.lines().filter(|line| *line == word).count() as u64
}
