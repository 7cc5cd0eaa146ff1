//! The memory that murphy, the server and the holder share.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use murphy_sys::shared::Shareable;

/// What is shared. All zero at first.
#[repr(C)]
pub(super) struct Page {
    /// Boot time in ns after which nobody waits unless murphy renews it.
    pub(super) lease_until: AtomicU64,
    /// When the server was last seen alive, as boot time in ns.
    pub(super) alive: AtomicU64,
    /// Where the file is mapped in the holder; 0: not yet.
    pub(super) base: AtomicU64,
    /// The holder's process id.
    pub(super) holder: AtomicU32,
    /// 0, [`WAKE`] or [`END`].
    pub(super) over: AtomicU32,
    /// Why it could not be set up, as an errno; 0: it could.
    pub(super) errno: AtomicI32,
    /// Which step that was: an index into [`super::STEPS`].
    pub(super) step: AtomicU32,
}

/// In [`Page::over`]: nobody waits any more.
pub(super) const WAKE: u32 = 1;
/// And the server ends.
pub(super) const END: u32 = 2;

impl Page {
    /// Notes why it could not be set up.
    pub(super) fn fail(&self, step: u32, error: &io::Error) {
        self.step.store(step, Ordering::Release);
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.errno.store(errno.max(1), Ordering::Release);
    }
}

/// The mapping of both processes.
pub(super) type Shared = murphy_sys::shared::Shared<Page>;

// SAFETY: atomics alone, of which zeros are values.
unsafe impl Shareable for Page {}

/// Bytes of a page of memory.
pub(super) fn size() -> usize {
    // SAFETY: a number in, a number out.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
