//! A network namespace of our own, where classifiers can be tried without touching anybody's packets.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use murphy_mechanisms::LOOPBACK;

/// Does something in a thread inside a fresh network namespace whose loopback is up. The namespace goes with the thread,
/// qdiscs and filters with the namespace. `work` is told why if there is none; it is then still done, outside.
pub(super) fn inside<T: Send>(work: impl FnOnce(io::Result<()>) -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || work(enter()))?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread that probed the kernel panicked"))
    })
}

fn enter() -> io::Result<()> {
    // SAFETY: only this thread changes its namespace, and it ends when its work is done.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    // Down as it is made; with it up the kernel gives it 127.0.0.1.
    // SAFETY: the call takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh from socket(2) and ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: a structure of integers and a union of such, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(LOOPBACK.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole ifreq with a terminated name, as SIOCSIFFLAGS wants it (netdevice(7)).
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
