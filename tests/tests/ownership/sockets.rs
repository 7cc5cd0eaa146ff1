//! Sockets of every kind: making them, asking twenty questions at once, answering.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    ipproto, sockopt,
};

use super::axes::{Cell, Family, Fault, Socket};

/// Operations of a cell.
pub(super) const TIMES: usize = 20;

/// The name that queries by DNS ask for.
pub(super) const NAME: &str = "cell.murphy.test";

/// A socket of a cell; with `of_peer` the other end's.
pub(super) fn make(cell: Cell, of_peer: bool) -> io::Result<OwnedFd> {
    let family = match (cell.socket, cell.family) {
        (Socket::Unix, _) => AddressFamily::UNIX,
        (_, Family::V4) => AddressFamily::INET,
        (_, Family::Mapped) if of_peer => AddressFamily::INET,
        (_, Family::V6 | Family::Mapped) => AddressFamily::INET6,
    };
    let (kind, protocol): (_, Option<Protocol>) = match (cell.socket, cell.family) {
        (Socket::Mptcp, _) => (SocketType::STREAM, Some(ipproto::MPTCP)),
        (Socket::Fallback, _) if !of_peer => (SocketType::STREAM, Some(ipproto::MPTCP)),
        (Socket::Tcp | Socket::Fallback | Socket::Unix, _) => (SocketType::STREAM, None),
        (Socket::Udp | Socket::Unconnected, _) => (SocketType::DGRAM, None),
        (Socket::Raw, Family::V4) => (SocketType::RAW, Some(ipproto::ICMP)),
        (Socket::Raw, _) => (SocketType::RAW, Some(ipproto::ICMPV6)),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    if cell.socket == Socket::Raw {
        // It gets every ICMP packet of the machine.
        sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
    }
    Ok(socket)
}

/// An address as a socket of this family names it.
pub(super) fn address(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::LOCALHOST, port).into(),
        Family::V6 => (Ipv6Addr::LOCALHOST, port).into(),
        Family::Mapped => mapped(Ipv4Addr::LOCALHOST, port),
    }
}

pub(super) fn mapped(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddrV6::new(address.to_ipv6_mapped(), port, 0, 0).into()
}

/// Binds, and listens if it is a stream.
pub(super) fn serve_at(socket: &OwnedFd, at: SocketAddr, listens: bool) -> Result<u16> {
    sockopt::set_socket_reuseaddr(socket, true)?;
    rustix::net::bind(socket, &at).with_context(|| format!("binding to {at}"))?;
    if listens {
        rustix::net::listen(socket, 128)?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(bound.port())
}

/// Where questions go.
#[derive(Clone, Debug)]
pub(super) enum To {
    /// The socket is connected.
    There,
    /// The socket is to be connected first.
    Connect(SocketAddr),
    ConnectUnix(std::path::PathBuf),
    /// The socket stays unconnected.
    Send(SocketAddr),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// No question was to be asked.
    Connected,
    Bytes(Vec<u8>),
    Error(Errno),
    /// Nothing, in all the time.
    Nothing,
}

enum State {
    Connecting,
    Waiting,
    Over(Reply),
}

/// Asks a question by each socket, all at once.
pub(super) fn ask(
    cell: Cell,
    sockets: &[OwnedFd],
    to: &To,
    window: Duration,
) -> Result<Vec<Reply>> {
    let until = Instant::now() + window;
    let mut states = Vec::new();
    for (number, socket) in sockets.iter().enumerate() {
        rustix::io::ioctl_fionbio(socket, true)?;
        let connected = match to {
            To::There | To::Send(_) => Ok(()),
            To::Connect(address) => rustix::net::connect(socket, address),
            To::ConnectUnix(path) => rustix::net::connect(socket, &SocketAddrUnix::new(path)?),
        };
        states.push(match connected {
            Ok(()) => send(cell, socket.as_fd(), number, to),
            Err(Errno::INPROGRESS) => State::Connecting,
            Err(error) => State::Over(Reply::Error(error)),
        });
    }
    loop {
        let now = Instant::now();
        let open: Vec<_> = (0..states.len())
            .filter(|&at| !matches!(states[at], State::Over(_)))
            .collect();
        if open.is_empty() || now >= until {
            break;
        }
        let mut polled: Vec<_> = open
            .iter()
            .map(|&at| {
                let flags = match states[at] {
                    State::Connecting => PollFlags::OUT,
                    _ => PollFlags::IN,
                };
                PollFd::new(&sockets[at], flags)
            })
            .collect();
        poll(&mut polled, Some(&Timespec::try_from(until - now)?))?;
        let ready: Vec<_> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        for (&at, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
            let socket = sockets[at].as_fd();
            states[at] = match states[at] {
                State::Connecting => match sockopt::socket_error(socket)? {
                    Ok(()) => send(cell, socket, at, to),
                    Err(error) => State::Over(Reply::Error(error)),
                },
                _ => match receive(cell, socket, at) {
                    Some(reply) => State::Over(reply),
                    None => State::Waiting,
                },
            };
        }
    }
    let reply = |state| match state {
        State::Over(reply) => reply,
        State::Connecting | State::Waiting => Reply::Nothing,
    };
    Ok(states.into_iter().map(reply).collect())
}

fn send(cell: Cell, socket: BorrowedFd<'_>, number: usize, to: &To) -> State {
    if cell.fault == Fault::Connect {
        return State::Over(Reply::Connected);
    }
    let question = question(cell, number);
    let sent = match to {
        To::Send(address) => rustix::net::sendto(socket, &question, SendFlags::NOSIGNAL, address),
        _ => rustix::net::send(socket, &question, SendFlags::NOSIGNAL),
    };
    match sent {
        Ok(_) => State::Waiting,
        Err(error) => State::Over(Reply::Error(error)),
    }
}

fn receive(cell: Cell, socket: BorrowedFd<'_>, number: usize) -> Option<Reply> {
    let mut buffer = [0; 2048];
    match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
        Ok((_, 0)) => Some(Reply::Error(Errno::CONNRESET)),
        Ok((_, n)) if cell.socket != Socket::Raw || is_echo(cell, &buffer[..n], number) => {
            Some(Reply::Bytes(buffer[..n].to_vec()))
        }
        Ok(_) | Err(Errno::AGAIN) => None,
        Err(error) => Some(Reply::Error(error)),
    }
}

/// The identifier of our echo requests.
fn identifier() -> [u8; 2] {
    (std::process::id() as u16).to_be_bytes()
}

fn question(cell: Cell, number: usize) -> Vec<u8> {
    match (cell.socket, cell.fault) {
        (Socket::Raw, _) => {
            let [high, low] = identifier();
            let kind = if cell.family == Family::V4 { 8 } else { 128 };
            let mut bytes = vec![kind, 0, 0, 0, high, low, 0, number as u8];
            let words = bytes
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
            let sum: u32 = words.sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            // The kernel computes that of ICMPv6 itself.
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            bytes
        }
        (_, Fault::Http) => b"GET /cell HTTP/1.1\r\nHost: cell\r\n\r\n".to_vec(),
        (_, Fault::Dns) => {
            let mut query = vec![0, number as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in NAME.split('.') {
                query.push(label.len() as u8);
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, 1, 0, 1]);
            if cell.is_stream() {
                query.splice(0..0, (query.len() as u16).to_be_bytes());
            }
            query
        }
        _ => vec![b'x'],
    }
}

fn is_echo(cell: Cell, bytes: &[u8], number: usize) -> bool {
    let (kind, bytes) = match cell.family {
        Family::V4 => (0, bytes.get(20..).unwrap_or_default()),
        Family::V6 | Family::Mapped => (129, bytes),
    };
    let [high, low] = identifier();
    bytes.first() == Some(&kind) && bytes.get(4..8) == Some(&[high, low, 0, number as u8])
}

/// What twenty operations gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) hit: usize,
    pub(super) spared: usize,
}

impl Tally {
    pub(super) fn of(cell: Cell, replies: &[Reply]) -> Self {
        let hit = replies.iter().filter(|reply| is_hit(cell, reply)).count();
        let spared = replies
            .iter()
            .filter(|reply| is_spared(cell, reply))
            .count();
        Self { hit, spared }
    }

    pub(super) fn all_hit(self) -> bool {
        self.hit == TIMES && self.spared == 0
    }

    pub(super) fn none_hit(self) -> bool {
        self.hit == 0 && self.spared == TIMES
    }
}

/// The error of `connect` faults: nothing else here gives it.
const REFUSED: Errno = Errno::HOSTUNREACH;

fn is_hit(cell: Cell, reply: &Reply) -> bool {
    match (cell.fault, reply) {
        (Fault::Connect, reply) => *reply == Reply::Error(REFUSED),
        (Fault::Egress | Fault::Ingress, reply) => {
            matches!(reply, Reply::Nothing | Reply::Error(_))
        }
        (Fault::Dns, Reply::Bytes(bytes)) => {
            // The response code `REFUSED`.
            !cell.is_stream() && bytes.get(3).is_some_and(|byte| byte & 0xf == 5)
        }
        // A query by TCP resets the connection, of MPTCP the subflow.
        (Fault::Dns, reply) => cell.is_stream() && *reply != Reply::Connected,
        (Fault::Http, reply) => says(reply, b"HTTP/1.1 503 "),
    }
}

fn is_spared(cell: Cell, reply: &Reply) -> bool {
    match cell.fault {
        Fault::Connect => *reply == Reply::Connected,
        Fault::Egress | Fault::Ingress => matches!(reply, Reply::Bytes(_)),
        Fault::Dns => matches!(reply, Reply::Bytes(_)) && !is_hit(cell, reply),
        Fault::Http => says(reply, b"HTTP/1.1 200 "),
    }
}

fn says(reply: &Reply, what: &[u8]) -> bool {
    matches!(reply, Reply::Bytes(bytes) if bytes.starts_with(what))
}

/// A server in one thread: accepts, answers whatever is asked, until its control connection ends.
pub(super) struct Server {
    pub(super) listener: OwnedFd,
    pub(super) accepted: Vec<OwnedFd>,
    pub(super) is_stream: bool,
    /// Whether `accept` asks for the other end's address.
    pub(super) asks_address: bool,
}

impl Server {
    pub(super) fn accept(&mut self) -> Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let new = match self.asks_address {
            true => rustix::net::acceptfrom_with(&self.listener, flags)?.0,
            false => rustix::net::accept_with(&self.listener, flags)?,
        };
        self.accepted.push(new);
        Ok(())
    }

    /// Serves until the other end of `control` is closed.
    pub(super) fn serve(mut self, control: BorrowedFd<'_>) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let sockets = std::iter::once(&self.listener).chain(&self.accepted);
            let mut polled: Vec<_> =
                std::iter::once(PollFd::from_borrowed_fd(control, PollFlags::IN))
                    .chain(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)))
                    .collect();
            poll(&mut polled, None)?;
            let ready: Vec<_> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            if ready[0] {
                return Ok(());
            }
            let mut over = Vec::new();
            for (at, _) in ready[2..].iter().enumerate().filter(|(_, ready)| **ready) {
                let socket = &self.accepted[at];
                match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((_, 0)) => over.push(at),
                    Ok((_, n)) => {
                        let reply = answer(&buffer[..n]);
                        let _ = rustix::net::send(socket, &reply, SendFlags::NOSIGNAL);
                    }
                    Err(Errno::AGAIN) => {}
                    Err(_) => over.push(at),
                }
            }
            for at in over.into_iter().rev() {
                self.accepted.swap_remove(at);
            }
            if ready[1] && self.is_stream {
                // It may be over by now.
                let _ = self.accept();
            } else if ready[1] {
                let mut room = [MaybeUninit::<u8>::uninit(); 2048];
                let got = rustix::net::recvfrom(&self.listener, &mut room[..], RecvFlags::DONTWAIT);
                if let Ok(((question, _), _, Some(from))) = got {
                    let reply = answer(question);
                    let _ = rustix::net::sendto(&self.listener, &reply, SendFlags::NOSIGNAL, &from);
                }
            }
        }
    }
}

fn answer(question: &[u8]) -> Vec<u8> {
    if question.starts_with(b"GET ") {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
    } else {
        question.to_vec()
    }
}

/// Reads a line, and the descriptors that came with it.
pub(super) fn read_line(control: &UnixStream) -> Result<Option<(String, Vec<OwnedFd>)>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, recvmsg};
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TIMES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut buffers = [io::IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(control, &mut buffers, &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        if byte[0] == b'\n' {
            return Ok(Some((String::from_utf8(line)?, descriptors)));
        }
        line.push(byte[0]);
    }
}

/// Sends a line, and descriptors with it.
pub(super) fn write_line(control: &UnixStream, line: &str, sockets: &[OwnedFd]) -> Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    let line = format!("{line}\n");
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TIMES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ensure!(
            ancillary.push(SendAncillaryMessage::ScmRights(&fds)),
            "too many descriptors"
        );
    }
    let buffers = [io::IoSlice::new(line.as_bytes())];
    let sent = sendmsg(control, &buffers, &mut ancillary, SendFlags::NOSIGNAL)?;
    ensure!(
        sent == line.len(),
        "only {sent} bytes of {line:?} were sent"
    );
    Ok(())
}

/// Whether the loopback interface has an IPv6 address.
pub(super) fn has_ipv6() -> bool {
    std::net::TcpListener::bind((IpAddr::from(Ipv6Addr::LOCALHOST), 0)).is_ok()
}
