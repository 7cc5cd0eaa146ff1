//! Fetching the listener from the child, by supervisor and holder alike.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::notify::Listener;
use super::page::Page;
use super::step;
use murphy_sys::helper::has_ended;
use murphy_sys::process::Process;

/// How often the page is looked at. The child makes the listener some milliseconds after the helpers have started.
const LOOK: Duration = Duration::from_micros(500);

/// Waits for the child's listener and copies it, with the pipe that its exec closes. `None`: there will be none.
///
/// A child whose listener cannot be fetched is killed: nobody would answer its system calls.
pub(super) fn take(page: &Page, murphy: &OwnedFd, who: u32) -> Option<(Listener, OwnedFd)> {
    let listener = loop {
        match page.listener.load(Ordering::Acquire) {
            0 => {}
            plus_one => break plus_one - 1,
        }
        let over = page.disarmed.load(Ordering::Acquire) != 0;
        if over || has_ended(murphy) {
            return None;
        }
        sleep(LOOK);
    };
    // The child waits until its listener is fetched, and its parent does not wait for it before
    // its exec: the number is still its own.
    let child = Process::open(page.child.load(Ordering::Relaxed).cast_unsigned()).ok()?;
    let marker = page.marker.load(Ordering::Relaxed);
    match fetch(&child, listener, marker) {
        Ok((listener, marker)) => {
            page.taken.fetch_or(who, Ordering::AcqRel);
            Some((Listener::new(listener), marker))
        }
        Err(error) => {
            page.fail(step::FETCH, error.raw_os_error().unwrap_or(libc::EIO));
            let _ = child.signal(Signal::KILL);
            None
        }
    }
}

fn fetch(child: &Process, listener: i32, marker: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((child.duplicate_fd(listener)?, child.duplicate_fd(marker)?))
}
