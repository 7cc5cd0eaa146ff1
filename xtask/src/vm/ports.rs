//! The guest's streams: Unix sockets that QEMU connects to, each read by a thread.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Child,
    sync::mpsc::Sender,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::qemu::Streams;
use crate::{cost, sh};

/// The names of the ports, ours and the guest's (`murphy.NAME`).
pub(super) const PORTS: [&str; 4] = ["control", "stdout", "stderr", "events"];

/// What the threads tell.
pub(super) enum Event {
    /// A line of the guest's second stage: `started`, `exit N`.
    Control(String),
    /// A stream of the guest has been read to its end.
    Closed,
}

/// Sockets waiting for QEMU.
pub(super) struct Listeners {
    ports: Vec<UnixListener>,
    terminal: Option<UnixListener>,
}

impl Listeners {
    pub(super) fn open(dir: &Path, terminal: bool) -> Result<Self> {
        let open = |name: &str| {
            let listener = UnixListener::bind(dir.join(name))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        Ok(Self {
            ports: PORTS.into_iter().map(open).collect::<Result<_, _>>()?,
            terminal: terminal.then(|| open("terminal")).transpose()?,
        })
    }

    /// Waits for QEMU to connect and starts a thread for each stream.
    pub(super) fn serve(
        self,
        qemu: &mut Child,
        streams: Streams,
        events: &Sender<Event>,
        terminal: Option<fn(UnixStream) -> Result<()>>,
    ) -> Result<()> {
        let [control, stdout, stderr, lines] = {
            let mut accepted = Vec::new();
            for listener in &self.ports {
                match accept(listener, qemu)? {
                    Some(stream) => accepted.push(stream),
                    // It ended: whoever waits for it will find out why.
                    None => return Ok(()),
                }
            }
            <[UnixStream; 4]>::try_from(accepted).map_err(|_| anyhow::anyhow!("four ports"))?
        };
        let sender = events.clone();
        thread::spawn(move || {
            for line in BufReader::new(control).lines().map_while(Result::ok) {
                if sender.send(Event::Control(line)).is_err() {
                    break;
                }
            }
        });
        for (from, to) in [(stdout, streams.stdout), (stderr, streams.stderr)] {
            let sender = events.clone();
            thread::spawn(move || {
                copy(from, to);
                // Nobody listens any more when the boot has ended.
                let _ = sender.send(Event::Closed);
            });
        }
        let mut on_line = streams.events;
        let sender = events.clone();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                on_line(&line);
            }
            let _ = sender.send(Event::Closed);
        });
        if let (Some(listener), Some(run)) = (&self.terminal, terminal)
            && let Some(stream) = accept(listener, qemu)?
        {
            thread::spawn(move || run(stream));
        }
        Ok(())
    }
}

/// Waits until QEMU connects; nothing if it ends instead.
fn accept(listener: &UnixListener, qemu: &mut Child) -> Result<Option<UnixStream>> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if cost::try_wait(qemu)?.is_some() || sh::interrupted() {
            return Ok(None);
        }
        if Instant::now() > until {
            bail!("QEMU did not open its ports within 30 s");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn copy(mut from: UnixStream, mut to: Box<dyn Write + Send>) {
    let mut buffer = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        // Our own reader may have gone (`| head`): the command runs on, unheard.
        let _ = to.write_all(&buffer[..n]).and_then(|()| to.flush());
    }
    let _ = to.flush();
}
