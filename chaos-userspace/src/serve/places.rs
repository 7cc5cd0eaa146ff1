//! How many may talk to the daemon over TCP, and for how long before they have shown the token.
//!
//! Anybody on the network can open connections. Without limits they would use up the descriptors that the
//! daemon needs to renew the leases of its injections. These types count connections, close those that are
//! too many, and end those that have not sent a request with the token in time. They know nothing of HTTP.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

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

/// How long to wait after accepting failed: descriptors may come back.
const AGAIN: Duration = Duration::from_millis(100);

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Places {
    /// Whether each has shown the token.
    taken: Mutex<HashMap<SocketAddr, bool>>,
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

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one.
    fn take(&self, from: SocketAddr) -> bool {
        let mut taken = self.lock();
        let strangers = || taken.iter().filter(|(_, is_known)| !**is_known);
        let of_one = strangers().filter(|(other, _)| other.ip() == from.ip());
        let most = (self.connections / STRANGERS).max(1);
        let is_full = taken.len() >= self.connections.max(1)
            || strangers().count() >= most
            || of_one.count() >= (most / OF_ONE).max(1);
        if !is_full {
            taken.insert(from, false);
        }
        !is_full
    }

    /// A client has shown the token: it may stay.
    pub(super) fn know(&self, client: &SocketAddr) {
        if let Some(is_known) = self.lock().get_mut(client) {
            *is_known = true;
        }
    }

    fn knows(&self, client: &SocketAddr) -> bool {
        self.lock().get(client).copied().unwrap_or(false)
    }

    fn leave(&self, client: &SocketAddr) {
        self.lock().remove(client);
    }
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
                    if self.places.take(from) {
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
        let of_one = (1..100)
            .filter(|port| places.take(address(1, *port)))
            .count();
        assert_eq!(of_one, 4);
        let of_all = (2..100).filter(|ip| places.take(address(*ip, 1))).count();
        assert_eq!(of_one + of_all, 16);
        // Who has shown the token takes none of their places.
        places.know(&address(1, 1));
        assert!(places.take(address(1, 200)) && !places.take(address(1, 201)));
        places.leave(&address(2, 1));
        assert!(places.take(address(3, 2)));
    }
}
