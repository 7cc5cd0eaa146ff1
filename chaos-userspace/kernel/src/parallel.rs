//! Does the same to several items at once, as far as threads can be started.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Calls `work` for each item, in up to `threads` threads; the caller's is one of them.
///
/// Items are started by their `order`, and none is started after an error. So all items before the
/// first one that fails have been tried, and the error of that one is returned, whichever thread
/// was faster.
pub(crate) fn for_each<T: Send, E: Send>(
    mut items: Vec<T>,
    order: impl Fn(&T) -> usize,
    threads: usize,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    items.sort_by_key(order);
    let others = threads.min(items.len()).saturating_sub(1);
    let rest = Mutex::new(items.into_iter().enumerate());
    let failed = Mutex::new(BTreeMap::new());
    let worker = || {
        loop {
            // A statement of its own: the lock is free during the work.
            let next = unpoisoned(&rest).next();
            let Some((number, item)) = next else { return };
            if let Err(error) = work(item) {
                unpoisoned(&failed).insert(number, error);
                unpoisoned(&rest).by_ref().for_each(drop);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..others {
            // Where no thread can be started (pids.max of a cgroup), those that run do it all.
            let started = thread::Builder::new().spawn_scoped(scope, worker);
            if started.is_err() {
                break;
            }
        }
        worker();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.into_values().next().map_or(Ok(()), Err)
}

/// Locks what no panic leaves half changed.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    /// Does something in a thread that cannot start another one: clone(2) and clone3(2) fail with
    /// EAGAIN there, by a seccomp filter of that thread, as they do beyond a cgroup's pids.max.
    pub(crate) fn without_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let line = |code: u32, k: u32, jt: u8| libc::sock_filter {
            code: u16::try_from(code).unwrap(),
            jt,
            jf: 0,
            k,
        };
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let number = |call: libc::c_long| u32::try_from(call).unwrap();
        let again = libc::SECCOMP_RET_ERRNO | libc::EAGAIN.cast_unsigned();
        let filter = [
            line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            line(equal, number(libc::SYS_clone), 2),
            line(equal, number(libc::SYS_clone3), 1),
            line(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
            line(libc::BPF_RET | libc::BPF_K, again, 0),
        ];
        let work = move || {
            let mut filter = filter;
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap(),
                filter: filter.as_mut_ptr(),
            };
            let mode = libc::SECCOMP_MODE_FILTER;
            // SAFETY: as prctl(2) wants it; the kernel copies the filter, which is this thread's
            // only.
            let failed = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                    | libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program)
            };
            assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
            assert!(thread::Builder::new().spawn(|| ()).is_err());
            work()
        };
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    /// Twenty items, the first one last.
    fn reversed() -> Vec<usize> {
        (0..20).rev().collect()
    }

    #[test]
    fn the_first_error_is_returned_however_long_it_takes() {
        for _ in 0..100 {
            let tried = Mutex::new(BTreeSet::new());
            let failed = for_each(
                reversed(),
                |item| *item,
                4,
                |item| {
                    unpoisoned(&tried).insert(item);
                    // The first one that fails is the last to say so.
                    if item == 5 {
                        thread::sleep(Duration::from_millis(2));
                    }
                    if item >= 5 { Err(item) } else { Ok(()) }
                },
            );
            assert_eq!(failed, Err(5));
            assert!((0..=5).all(|item| unpoisoned(&tried).contains(&item)));
        }
    }

    #[test]
    fn nothing_is_started_after_an_error() {
        let tried = Mutex::new(0);
        let failed = for_each(
            reversed(),
            |item| *item,
            1,
            |item| {
                *unpoisoned(&tried) += 1;
                if item == 3 { Err(item) } else { Ok(()) }
            },
        );
        assert_eq!((failed, *unpoisoned(&tried)), (Err(3), 4));
    }

    #[test]
    fn without_threads_the_caller_does_it_all() {
        let done = Mutex::new(0);
        let outcome = without_threads(|| {
            for_each(
                reversed(),
                |item| *item,
                4,
                |_| {
                    *unpoisoned(&done) += 1;
                    Ok::<_, ()>(())
                },
            )
        });
        assert_eq!((outcome, *unpoisoned(&done)), (Ok(()), 20));
    }
}
