//! The clock of leases and deadlines.

use rustix::time::{ClockId, clock_gettime};

/// Boot time in ns, which goes on during suspend; the kernel programs compare with the same.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
