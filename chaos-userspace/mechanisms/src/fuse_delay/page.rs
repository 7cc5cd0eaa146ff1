//! The memory that murphy, the server and the holder share.

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

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

/// The mapping. Processes forked after it was made share it.
#[derive(Debug)]
pub(super) struct Shared(NonNull<Page>);

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no memory that is in use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(io::Error::last_os_error)
    }
}

impl Deref for Shared {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: the mapping is as large as a page of ours, zero at first, which is a valid value of each atomic, and
        // unmapped only in `drop`.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: all of it is atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: made by `new` with that length, and no reference outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Page>()) };
    }
}

/// Bytes of a page of memory.
pub(super) fn size() -> usize {
    // SAFETY: a number in, a number out.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
