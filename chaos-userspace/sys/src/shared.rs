//! Memory that a process shares with those that it forks.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

/// What may be in shared memory.
///
/// # Safety
///
/// Zeros are a value of the type, and all that changes in it is atomic: other processes use it at
/// the same time.
pub unsafe trait Shareable: Sync + 'static {}

/// A mapping with a value in it, zeros at first. Processes forked after it was made share it.
pub struct Shared<T: Shareable>(NonNull<T>);

impl<T: Shareable> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0).finish()
    }
}

impl<T: Shareable> Shared<T> {
    /// Maps memory for a value.
    ///
    /// # Errors
    ///
    /// The kernel's answer to mmap(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no memory that is in use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<T>(),
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

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping has the type's size and the alignment of a page. Zeros are a value of
        // it (`Shareable`), and it is unmapped only in `drop`.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: the value is `Sync`, and the mapping belongs to no thread.
unsafe impl<T: Shareable> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for Shared<T> {}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: made by `new` with that length, and no reference outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Number {
        value: AtomicU32,
    }

    // SAFETY: an atomic.
    unsafe impl Shareable for Number {}

    #[test]
    fn a_forked_process_writes_what_is_read_here() {
        let shared = Shared::<Number>::new().unwrap();
        assert_eq!(shared.value.load(Ordering::Relaxed), 0);
        // SAFETY: the child only stores and ends.
        match unsafe { libc::fork() } {
            0 => {
                shared.value.store(7, Ordering::Relaxed);
                // SAFETY: `_exit` has no precondition.
                unsafe { libc::_exit(0) }
            }
            child => {
                // SAFETY: a child of ours.
                let ended = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                assert_eq!(ended, child);
                assert_eq!(shared.value.load(Ordering::Relaxed), 7);
            }
        }
    }
}
