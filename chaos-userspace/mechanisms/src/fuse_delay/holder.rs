//! The process that has the file mapped. It does nothing with it: while a thread waits, its memory map is locked for others to change.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos_common::delay::PAGES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, getpid, getppid};

use super::page::Page;
use super::step;
use murphy_sys::clock::boot_ns;
use murphy_sys::process::Process;

/// How often it looks whether the server is alive.
const LOOK: Duration = Duration::from_millis(250);

/// A server that has done nothing for so long, or for the lease if that is longer, is stopped or stuck.
const STUCK: Duration = Duration::from_secs(3);

/// Maps the file of a mount and holds it until the server ends.
pub(super) fn hold(page: &Page, mount: OwnedFd, server: Pid, lease: Duration) {
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if getppid() != Some(server) {
        return;
    }
    let _ = rustix::thread::set_name(c"murphy-page");
    let base = match map(&mount) {
        Ok(base) => base,
        Err(error) => return page.fail(step::MAP, &error),
    };
    drop(mount);
    let Ok(parent) = Process::open(server.as_raw_nonzero().get().cast_unsigned()) else {
        return;
    };
    // It may have ended before it was opened: then this is a child of another process by now.
    if getppid() != Some(server) {
        return;
    }
    let me = getpid().as_raw_nonzero().get().unsigned_abs();
    page.holder.store(me, Ordering::Release);
    page.base.store(base, Ordering::Release);
    let stuck = u64::try_from(lease.max(STUCK).as_nanos()).unwrap_or(u64::MAX / 4);
    let look = Timespec::try_from(LOOK).unwrap_or_default();
    loop {
        let ended = poll(&mut [PollFd::new(&parent, PollFlags::IN)], Some(&look));
        if ended.is_ok_and(|ready| ready > 0) {
            return;
        }
        let alive = page.alive.load(Ordering::Acquire);
        if boot_ns() > alive.saturating_add(stuck) {
            // With its end the kernel lets all that wait go on.
            let _ = parent.signal(Signal::KILL);
        }
    }
}

/// Where the file was mapped.
fn map(mount: &OwnedFd) -> io::Result<u64> {
    let path = format!("/proc/self/fd/{}/pages", mount.as_raw_fd());
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = usize::try_from(PAGES)
        .unwrap_or(usize::MAX)
        .saturating_mul(super::page::size());
    // SAFETY: a new mapping touches no memory that is in use, and this process never reads it.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Else a page that is asked for brings its neighbours.
    // SAFETY: advice about the mapping just made.
    if unsafe { libc::madvise(address, length, libc::MADV_RANDOM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(address as u64)
}
