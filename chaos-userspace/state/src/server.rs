//! An injector's end of its control socket.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::control::{Asked, By, Reply, Request, say};

/// The longest request there is.
const LINE: u64 = 64 * 1024;

/// How long somebody who connects may take to ask.
const ASKING: Duration = Duration::from_secs(2);

/// How many of those who may ask can be connected at once; more wait in the socket's queue. Strangers take no place.
const CLIENTS: usize = 16;

/// Reads requests and keeps them until they are asked for.
#[derive(Debug)]
pub struct Server {
    requests: mpsc::Receiver<Asked>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves a socket, inside a tokio runtime. `users` may ask, beside root.
    ///
    /// # Errors
    ///
    /// The runtime does not take the socket.
    pub fn start(listener: UnixListener, users: Vec<u32>) -> io::Result<Self> {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (sender, requests) = mpsc::channel(CLIENTS);
        let accepting = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(CLIENTS));
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors: they may come back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                // By the kernel's word, before anything of theirs is read or kept.
                let by = match stream.peer_cred() {
                    Ok(peer) => By { uid: peer.uid() },
                    Err(_) => continue,
                };
                if by.uid != 0 && !users.contains(&by.uid) {
                    refuse(&stream, by);
                    continue;
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let sender = sender.clone();
                tokio::spawn(async move {
                    match timeout(ASKING, hear(stream, by)).await {
                        Ok(Ok(asked)) => drop(sender.send(asked).await),
                        Ok(Err(Some((stream, error)))) => {
                            drop(say(stream, &Reply::Error(error)).await);
                        }
                        // It went away, or never said anything.
                        Ok(Err(None)) | Err(_) => {}
                    }
                    drop(place);
                });
            }
        });
        Ok(Self {
            requests,
            accepting,
        })
    }

    /// Waits for the next request; nothing is lost if it is not waited for to the end.
    pub async fn next(&mut self) -> Asked {
        match self.requests.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Tells a stranger so, if that takes no waiting, and lets go of it.
fn refuse(stream: &UnixStream, by: By) {
    let error = format!("user {} may not: it belongs to somebody else", by.uid);
    if let Ok(mut line) = serde_json::to_vec(&Reply::Error(error)) {
        line.push(b'\n');
        // The queue of a new connection is empty: there is room.
        let _ = rustix::net::send(stream, &line, rustix::net::SendFlags::NOSIGNAL);
    }
}

/// Reads one request. The error is what to tell the client, if it is still there.
async fn hear(mut stream: UnixStream, by: By) -> Result<Asked, Option<(UnixStream, String)>> {
    let mut line = Vec::new();
    let read = BufReader::new((&mut stream).take(LINE))
        .read_until(b'\n', &mut line)
        .await;
    if read.is_err() || line.is_empty() {
        return Err(None);
    }
    match serde_json::from_slice::<Request>(&line) {
        Ok(request) => Ok(Asked::new(request, by, stream)),
        Err(error) => Err(Some((stream, format!("not understood: {error}")))),
    }
}
