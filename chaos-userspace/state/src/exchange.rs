//! Asks several injectors one question each at once, over their control sockets.
//!
//! The other end may be hostile: it may not accept, not answer, answer a byte at a time or without end. So one
//! deadline holds for everything together, an answer has a limit, and no call waits for one socket alone.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::StateDir;
use super::control::{Reply, Request};

/// The longest answer of an injector of this user's or root's; it repeats the record.
const LONGEST: usize = 32 * 1024 * 1024;

/// The longest answer of another user's injector.
const LONGEST_FOREIGN: usize = 1024 * 1024;

/// How many are asked at once: each takes a descriptor, of which a process may have 1024.
const AT_ONCE: usize = 128;

/// How soon a socket is tried again that has no room for another connection.
const AGAIN: Duration = Duration::from_millis(5);

/// One conversation.
struct Exchange<'a> {
    dir: &'a StateDir,
    id: &'a str,
    socket: Option<OwnedFd>,
    sent: usize,
    heard: Vec<u8>,
    done: Option<io::Result<Reply>>,
}

/// Asks each injector the same; the answers are in the order of the injectors. `TimedOut` is the error of those
/// that have not answered by the deadline.
pub(super) fn ask(
    injectors: &[(&StateDir, &str)],
    request: &Request,
    deadline: Instant,
) -> Vec<io::Result<Reply>> {
    let mut line = match serde_json::to_vec(request) {
        Ok(line) => line,
        Err(error) => {
            let failed = |_| Err(io::Error::other(error.to_string()));
            return injectors.iter().map(failed).collect();
        }
    };
    line.push(b'\n');
    let mut answers = Vec::with_capacity(injectors.len());
    for some in injectors.chunks(AT_ONCE) {
        let mut exchanges: Vec<_> = some
            .iter()
            .map(|(dir, id)| Exchange::new(dir, id))
            .collect();
        converse(&mut exchanges, &line, deadline);
        let late = || Err(io::ErrorKind::TimedOut.into());
        answers.extend(
            exchanges
                .into_iter()
                .map(|one| one.done.unwrap_or_else(late)),
        );
    }
    answers
}

/// Goes on until all have answered, or it is too late.
fn converse(exchanges: &mut [Exchange<'_>], line: &[u8], deadline: Instant) {
    loop {
        for one in exchanges.iter_mut().filter(|one| one.done.is_none()) {
            one.step(line);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let open = || exchanges.iter().filter(|one| one.done.is_none());
        if left.is_zero() || open().next().is_none() {
            return;
        }
        let is_waiting = open().any(|one| one.socket.is_none());
        let patience = if is_waiting { left.min(AGAIN) } else { left };
        let mut sockets: Vec<_> = open()
            .filter_map(|one| Some(PollFd::new(one.socket.as_ref()?, one.waits_for(line))))
            .collect();
        let timeout = Timespec::try_from(patience).ok();
        match poll(&mut sockets, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                drop(sockets);
                for one in exchanges.iter_mut().filter(|one| one.done.is_none()) {
                    one.done = Some(Err(error.into()));
                }
                return;
            }
        }
    }
}

impl<'a> Exchange<'a> {
    fn new(dir: &'a StateDir, id: &'a str) -> Self {
        Self {
            dir,
            id,
            socket: None,
            sent: 0,
            heard: Vec::new(),
            done: None,
        }
    }

    fn waits_for(&self, line: &[u8]) -> PollFlags {
        if self.sent < line.len() {
            PollFlags::OUT
        } else {
            PollFlags::IN
        }
    }

    /// Does what can be done without waiting.
    fn step(&mut self, line: &[u8]) {
        match self.advance(line) {
            Ok(Some(reply)) => self.done = Some(Ok(reply)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.done = Some(Err(error)),
        }
        if self.done.is_some() {
            self.socket = None;
        }
    }

    fn advance(&mut self, line: &[u8]) -> io::Result<Option<Reply>> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(self.dir.connect(self.id)?),
        };
        while let Some(rest) = line.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                // It has closed already, perhaps after it said why.
                Err(Errno::PIPE | Errno::CONNRESET) => self.sent = line.len(),
                Err(error) => return Err(error.into()),
            }
        }
        let longest = if self.dir.is_foreign() {
            LONGEST_FOREIGN
        } else {
            LONGEST
        };
        // One read at a time: a socket that always has more does not keep the others waiting.
        let mut buffer = [0; 16 * 1024];
        let (count, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
        let new = buffer.get(..count).unwrap_or_default();
        self.heard.extend_from_slice(new);
        if count == 0 || new.contains(&b'\n') {
            let line = self.heard.split(|byte| *byte == b'\n').next();
            return Ok(Some(serde_json::from_slice(line.unwrap_or_default())?));
        }
        if self.heard.len() > longest {
            return Err(io::Error::other(format!(
                "its answer is longer than {longest} bytes"
            )));
        }
        Ok(None)
    }
}
