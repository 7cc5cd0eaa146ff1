//! `murphy serve`: faults over HTTP, for hosts and sidecars.
//!
//! Each injection is an injector process of its own ([`crate::injector`]), which ends unless it is renewed: by its client,
//! or by the daemon while that lives. So the daemon's death leaves nothing behind, and no fault can hurt another.

mod api;
mod injections;
mod metrics;
mod notify;
mod peer;
mod places;
mod problem;
mod request;

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, chown};
use rustix::process::geteuid;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use injections::Injections;
use metrics::Metrics;
use peer::{Access, Peer, Token};
use places::{Listener, Places};

use murphy_state::{StateDir, StateError};

/// Where to listen, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Its group, whose members may ask.
    pub group: Option<u32>,
    /// A TCP address too, for those who know the token in this file.
    pub tcp: Option<(SocketAddr, PathBuf)>,
    /// murphy's own program, which injects.
    pub program: PathBuf,
}

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody serves there already.
    #[error("a daemon listens at {0} already")]
    Busy(PathBuf),
    /// Something else has the socket's name.
    #[error("{0} is there already, and is no socket that a daemon left")]
    InTheWay(PathBuf),
    /// Where sockets are noted cannot be written.
    #[error("{0}")]
    State(#[from] StateError),
    /// The socket could not be made.
    #[error("listening at {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// The token's file is not what it should be.
    #[error("the token in {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// Serving ended by itself.
    #[error("serving: {0}")]
    Io(#[from] io::Error),
    /// The metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The socket's file, removed with the value, and the note that it is murphy's.
struct SocketFile {
    path: PathBuf,
    made: fs::Metadata,
    notes: StateDir,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A later daemon may have made its own.
        let is_ours =
            |file: fs::Metadata| (file.dev(), file.ino()) == (self.made.dev(), self.made.ino());
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
        self.notes.forget_socket(&self.made);
    }
}

/// Serves until `stop`, then reverts everything. `ready` is called once requests are answered.
///
/// # Errors
///
/// It cannot listen. Faults in force when serving fails are reverted.
pub async fn serve(
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let token = match &settings.tcp {
        Some((_, path)) => Some(Token::read(path).map_err(|source| ServeError::Token {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let (listener, file) = listen(&settings.socket, settings.group).await?;
    let access = Arc::new(Access {
        uid: geteuid().as_raw(),
        gid: fs::metadata(&settings.socket)?.gid(),
        token,
        places: Arc::new(Places::new()),
    });
    let tcp = match settings.tcp {
        Some((address, _)) => {
            Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| ServeError::Listen {
                        at: address.to_string(),
                        source,
                    })?,
            )
        }
        None => None,
    };
    let daemon = Arc::new(Injections::new(settings.program, Metrics::new()?));
    let service = api::router(Arc::clone(&daemon), Arc::clone(&access))
        .into_make_service_with_connect_info::<Peer>();
    let (ending, ends) = tokio::sync::watch::channel(false);
    let end = move || {
        let mut ends = ends.clone();
        async move {
            // An error means that the other end is gone: that is an end too.
            let _ = ends.wait_for(|ends| *ends).await;
        }
    };
    let local = axum::serve(listener, service.clone()).with_graceful_shutdown(end());
    let local = tokio::spawn(local.into_future());
    let remote = tcp.map(|listener| {
        let listener = Listener::new(listener, Arc::clone(&access.places));
        tokio::spawn(
            axum::serve(listener, service)
                .with_graceful_shutdown(end())
                .into_future(),
        )
    });
    ready();
    let _ = notify::tell(notify::READY);
    tokio::select! {
        () = stop => {}
        () = watchdog() => {}
    }
    let _ = notify::tell(notify::STOPPING);
    // First nobody can start anything any more; then everything is reverted.
    drop(file);
    let _ = ending.send(true);
    for problem in daemon.stop_all().await {
        complain(format!("murphy: {}", problem.detail()));
    }
    daemon.hush();
    for task in [Some(local), remote].into_iter().flatten() {
        // A client that keeps its connection open does not keep the daemon.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), task).await;
    }
    // Whoever was let in while everything was being reverted.
    for problem in daemon.stop_all().await {
        complain(format!("murphy: {}", problem.detail()));
    }
    Ok(())
}

/// Tells the service manager that the daemon lives; for ever.
async fn watchdog() {
    let Some(every) = notify::watchdog() else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every).await;
        let _ = notify::tell(notify::WATCHDOG);
    }
}

async fn listen(path: &Path, group: Option<u32>) -> Result<(UnixListener, SocketFile), ServeError> {
    let failed = |source| ServeError::Listen {
        at: path.display().to_string(),
        source,
    };
    let notes = StateDir::own()?;
    // No injector takes the same name meanwhile.
    let lock = notes.lock()?;
    if let Ok(file) = fs::symlink_metadata(path) {
        if !file.file_type().is_socket() {
            return Err(ServeError::InTheWay(path.to_owned()));
        }
        match UnixStream::connect(path).await {
            // Of a daemon that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            // Also if too many wait to be accepted.
            _ => return Err(ServeError::Busy(path.to_owned())),
        }
        if !notes.made_socket(&file) {
            return Err(ServeError::InTheWay(path.to_owned()));
        }
        fs::remove_file(path).map_err(failed)?;
        notes.forget_socket(&file);
    }
    // Nobody connects before the mode and the group are right.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    let made = fs::symlink_metadata(path).map_err(failed)?;
    let noted = notes.note_socket(&made);
    let file = SocketFile {
        path: path.to_owned(),
        made,
        notes,
    };
    noted?;
    drop(lock);
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group))).map_err(|error| failed(error.into()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok((listener, file))
}

/// Says something on standard error, from a thread of its own: a reader that does not read must hold
/// up neither renewals nor the end. While one line waits for its reader, others are left out.
fn complain(text: String) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    static BUSY: AtomicBool = AtomicBool::new(false);
    if BUSY.swap(true, Ordering::AcqRel) {
        return;
    }
    let started = std::thread::Builder::new().spawn(move || {
        // A standard error that is closed is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
        BUSY.store(false, Ordering::Release);
    });
    // Without a thread the line is left out.
    if started.is_err() {
        BUSY.store(false, Ordering::Release);
    }
}
