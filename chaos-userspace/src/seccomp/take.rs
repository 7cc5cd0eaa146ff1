//! Fetching the listener from the child, by supervisor and holder alike.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};

use super::notify::Listener;
use super::page::Page;
use super::process::has_ended;
use super::step;

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
    let child = Pid::from_raw(page.child.load(Ordering::Relaxed))?;
    let marker = page.marker.load(Ordering::Relaxed);
    match fetch(child, listener, marker) {
        Ok((listener, marker)) => {
            page.taken.fetch_or(who, Ordering::AcqRel);
            Some((Listener::new(listener), marker))
        }
        Err(error) => {
            page.fail(step::FETCH, error.raw_os_error().unwrap_or(libc::EIO));
            let _ = kill_process(child, Signal::KILL);
            None
        }
    }
}

fn fetch(child: Pid, listener: i32, marker: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let child = pidfd_open(child, PidfdFlags::empty())?;
    let listener = pidfd_getfd(&child, listener, PidfdGetfdFlags::empty())?;
    let marker = pidfd_getfd(&child, marker, PidfdGetfdFlags::empty())?;
    Ok((listener, marker))
}
