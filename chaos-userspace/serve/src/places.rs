//! How many may talk to the daemon over TCP, and for how long before they have shown the token.
//!
//! Anybody on the network can open connections. Without limits they would use up the descriptors that the
//! daemon needs to renew the leases of its injections. These types count connections, close those that are
//! too many, and end those that have not sent a request with the token in time. They know nothing of HTTP.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// How long a client may take to send the head of a request with the token. A head is one packet; what takes
/// longer than a few retransmissions is no client.
const HEAD: Duration = Duration::from_secs(5);

/// How many connections there can be: far more than scrapers and controllers open, and a quarter of the 1024
/// descriptors that a process usually has.
const CONNECTIONS: usize = 256;

/// One in so many descriptors is for connections. The others are kept for the Unix socket, for renewals, and for
/// what each injection holds.
const PART: usize = 4;

/// One in so many connections may be without the token yet.
const STRANGERS: usize = 4;

/// One in so many of those may be of one address.
const OF_ONE: usize = 4;

/// A connection.
#[derive(Debug)]
struct Place {
    /// Whether it has shown the token.
    is_known: bool,
    /// Whether it was closed for a newer one, and will be gone soon.
    is_evicted: bool,
    since: Instant,
    /// The socket, open as long as the place is taken.
    socket: RawFd,
}

/// How long to wait after accepting failed: descriptors may come back.
const AGAIN: Duration = Duration::from_millis(100);

/// The open connections.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<HashMap<SocketAddr, Place>>,
    connections: usize,
}

impl Places {
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let part = usize::try_from(descriptors).unwrap_or(usize::MAX) / PART;
        Self {
            taken: Mutex::default(),
            connections: part.min(CONNECTIONS),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Place>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one. Where strangers have all of theirs, the oldest of them goes:
    /// a client with the token shows it at once, so that the oldest is hardly one.
    fn take(&self, from: SocketAddr, socket: RawFd) -> bool {
        let mut taken = self.lock();
        if taken.len() >= self.connections.max(1) {
            return false;
        }
        let most = (self.connections / STRANGERS).max(1);
        let is_stranger = |place: &Place| !place.is_known && !place.is_evicted;
        let strangers = || taken.iter().filter(|(_, place)| is_stranger(place));
        let of_one = || strangers().filter(|(other, _)| other.ip() == from.ip());
        let is_full = strangers().count() >= most;
        let oldest = if of_one().count() >= (most / OF_ONE).max(1) {
            of_one().min_by_key(|(_, place)| place.since)
        } else {
            let any = strangers().min_by_key(|(_, place)| place.since);
            any.filter(|_| is_full)
        };
        if let Some(oldest) = oldest.map(|(address, _)| *address)
            && let Some(place) = taken.get_mut(&oldest)
        {
            place.is_evicted = true;
            close(place.socket);
        }
        let place = Place {
            is_known: false,
            is_evicted: false,
            since: Instant::now(),
            socket,
        };
        taken.insert(from, place);
        true
    }

    /// A client has shown the token: it may stay.
    pub(super) fn know(&self, client: &SocketAddr) {
        if let Some(place) = self.lock().get_mut(client) {
            place.is_known = true;
        }
    }

    fn knows(&self, client: &SocketAddr) -> bool {
        self.lock().get(client).is_some_and(|place| place.is_known)
    }

    fn leave(&self, client: &SocketAddr) {
        self.lock().remove(client);
    }
}

/// Ends a connection whose place is taken, so that its task sees the end and lets it go.
fn close(socket: RawFd) {
    // SAFETY: a connection gives its place back before it closes its socket, and the caller holds
    // the lock of all places.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Accepts connections for which there is a place.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    places: Arc<Places>,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, places: Arc<Places>) -> Self {
        Self { listener, places }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    if self.places.take(from, stream.as_raw_fd()) {
                        let connection = Connection {
                            stream,
                            from,
                            places: Arc::clone(&self.places),
                            head: Some(Box::pin(sleep(HEAD))),
                        };
                        return (connection, from);
                    }
                    // Closed at once: it holds no descriptor.
                    drop(stream);
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends unless the token is shown in time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    from: SocketAddr,
    places: Arc<Places>,
    /// `None` once the token was shown.
    head: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Fails when the time for the token is over. Wakes the task then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(head) = &mut self.head else {
            return Ok(());
        };
        if self.places.knows(&self.from) {
            self.head = None;
            return Ok(());
        }
        match head.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.places.leave(&self.from);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: u8, port: u16) -> SocketAddr {
        ([127, 0, 0, ip], port).into()
    }

    #[test]
    fn strangers_leave_room() {
        let places = Places {
            taken: Mutex::default(),
            connections: 64,
        };
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let take = |ip, port| places.take(address(ip, port), socket.as_raw_fd());
        let is_evicted = |ip, port| places.lock()[&address(ip, port)].is_evicted;
        // The fifth of one address ends the first.
        assert!((1..=4).all(|port| take(1, port)) && !is_evicted(1, 1));
        assert!(take(1, 5) && is_evicted(1, 1) && !is_evicted(1, 2));
        // A client that has shown the token stays, and takes none of their places.
        places.know(&address(1, 2));
        assert!(take(1, 6) && !is_evicted(1, 2) && !is_evicted(1, 3));
        // With 16 strangers the oldest of all goes.
        assert!((2..=13).all(|ip| take(ip, 1)) && !is_evicted(1, 3));
        assert!(take(14, 1) && is_evicted(1, 3) && !is_evicted(1, 4));
        // There is an end to all of them, until some have left.
        let more = (15..120).filter(|ip| take(*ip, 1)).count();
        assert_eq!(places.lock().len(), 64);
        assert!(more > 0 && !take(200, 1));
        places.leave(&address(1, 1));
        assert!(take(200, 1));
    }
}
