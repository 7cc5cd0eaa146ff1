//! A loader without the kernel's type information.
//!
//! Workaround for aya 0.14: `EbpfLoader::new` parses all of the kernel's BTF, some
//! 40 ms, before it can be told not to, once for every object. Our objects have
//! no relocations that would need it. Where the file is not found it is not
//! parsed, so the loader is made by a thread that sees an empty root directory.

use aya::EbpfLoader;
use rustix::process::chroot;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Makes a loader, quickly if this process may change a root directory.
pub(super) fn new() -> EbpfLoader<'static> {
    let mut loader = blind(EbpfLoader::new).unwrap_or_default();
    loader.btf(None);
    loader
}

/// Does something in a thread that sees an empty root directory; `None` if this
/// process may not change one, or may not start a thread.
pub(super) fn blind<T: Send + 'static>(work: fn() -> T) -> Option<T> {
    let started = std::thread::Builder::new().spawn(move || {
        // SAFETY: only this thread's file system context becomes its own, and the
        // thread ends here.
        unsafe { unshare_unsafe(UnshareFlags::FS) }.ok()?;
        chroot("/proc/self/fdinfo").ok()?;
        Some(work())
    });
    started.ok()?.join().ok().flatten()
}

#[cfg(test)]
mod tests {
    use crate::parallel::tests::without_threads;

    #[test]
    fn a_loader_is_made_without_a_thread() {
        without_threads(|| {
            assert_eq!(super::blind(|| 1), None);
            drop(super::new());
        });
    }
}
