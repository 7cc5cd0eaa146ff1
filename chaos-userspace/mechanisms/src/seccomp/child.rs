//! What the child does between fork and exec: it puts itself under the filter, and waits until others have the listener.
//!
//! All of it is system calls and atomics, as in any child that was forked. From the filter on each of its system calls may be one
//! that is handed over; it is answered as soon as supervisor or holder have the listener, which they fetch without any doing of the
//! child (`pidfd_getfd`, 5.6).

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use libc::{
    SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog,
};

use super::page::{HOLDER, Page, SUPERVISOR};
use super::step;

/// How long supervisor and holder may take to fetch the listener. They look every half a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts this process, forked by `parent`, under the filter.
///
/// # Errors
///
/// It could not; the page says why.
pub(super) fn enter(
    page: &Page,
    program: &[sock_filter],
    parent: libc::pid_t,
    supervisor: libc::pid_t,
) -> io::Result<()> {
    let fail = |step| {
        let error = io::Error::last_os_error();
        page.fail(step, error.raw_os_error().unwrap_or(libc::EIO));
        error
    };
    // Until the two have the listener there is nobody but murphy to end this process: it must not outlive it.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: no argument.
    if unsafe { libc::getppid() } != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // Where Yama guards against it, let the two fetch the listener. Elsewhere this is an error that means nothing.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
    let mut marker = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(marker.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(fail(step::MARKER));
    }
    // SAFETY: no argument.
    page.child
        .store(unsafe { libc::getpid() }, Ordering::Relaxed);
    page.marker.store(marker[0], Ordering::Relaxed);
    let listener = install(page, program);
    if listener < 0 {
        return Err(fail(step::FILTER));
    }
    page.listener.store(listener + 1, Ordering::Release);
    let both = SUPERVISOR | HOLDER;
    let until = Instant::now() + PATIENCE;
    // Whoever cannot fetch it kills us; whoever is dead does not.
    while page.taken.load(Ordering::Acquire) & both != both {
        if Instant::now() > until {
            page.fail(step::FETCH, libc::ETIMEDOUT);
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        let moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 200_000,
        };
        // SAFETY: reads a `timespec`; nothing is written.
        unsafe { libc::nanosleep(&raw const moment, std::ptr::null_mut()) };
    }
    // From here on the supervisor alone may look into us, and what we become need not end with murphy.
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PTRACER, supervisor);
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
    }
    Ok(())
}

/// Gives the listener, or -1.
fn install(page: &Page, program: &[sock_filter]) -> i32 {
    let program = sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_ptr().cast_mut(),
    };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the kernel copies the program, whose length is right, and gives a descriptor or -1.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        i32::try_from(result).unwrap_or(-1)
    };
    let errno = || io::Error::last_os_error().raw_os_error();
    let killable = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    page.killable.store(1, Ordering::Relaxed);
    let mut listener = install(killable);
    if listener < 0 && errno() == Some(libc::EACCES) {
        // Who has no CAP_SYS_ADMIN may filter itself as long as it cannot gain privileges thereby.
        // SAFETY: numbers only.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        listener = install(killable);
    }
    if listener < 0 && errno() == Some(libc::EINVAL) {
        // Before 5.19.
        page.killable.store(0, Ordering::Relaxed);
        listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER);
        if listener < 0 && errno() == Some(libc::EACCES) {
            // SAFETY: as above.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER);
        }
    }
    listener
}
