//! What the service manager is told (`sd_notify(3)`): a datagram to the socket it names.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Serving.
pub(super) const READY: &str = "READY=1";
/// About to end.
pub(super) const STOPPING: &str = "STOPPING=1";
/// Alive.
pub(super) const WATCHDOG: &str = "WATCHDOG=1";

/// Tells the service manager, if there is one that wants to know.
pub(super) fn tell(state: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// How often to say [`WATCHDOG`]: twice in the time after which the service manager would act.
pub(super) fn watchdog() -> Option<Duration> {
    let for_us = env::var("WATCHDOG_PID")
        .ok()
        .is_none_or(|pid| pid == std::process::id().to_string());
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (for_us && micros > 0).then(|| Duration::from_micros(micros / 2))
}
