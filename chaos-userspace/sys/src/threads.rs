//! Whether a fork copies all there is of this process.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a thread that was joined may be in the kernel's list still: whoever joins is woken before it has gone.
const LINGERING: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(100);

/// Whether there is no other thread, of whose locks and half-changed memory a fork would make copies that nobody releases.
pub fn is_only_one() -> bool {
    let until = Instant::now() + LINGERING;
    while fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        if Instant::now() > until {
            return false;
        }
        sleep(LOOK);
    }
    true
}
