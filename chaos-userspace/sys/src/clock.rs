//! The clock of leases and deadlines.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// Boot time in ns, which goes on during suspend; the kernel programs compare with the same.
///
/// A time namespace shifts what user space reads, and not what kernel programs read
/// (`time_namespaces(7)`): the shift is taken out.
pub fn boot_ns() -> u64 {
    static SHIFT: OnceLock<i128> = OnceLock::new();
    let now = clock_gettime(ClockId::Boottime);
    let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    let shift = SHIFT.get_or_init(|| {
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets");
        shift_in(&offsets.unwrap_or_default())
    });
    u64::try_from(now - shift).unwrap_or(0)
}

/// By how many ns boot time is shifted, in the text of `/proc/self/timens_offsets`. Kernels without
/// time namespaces (before 5.6) have no such file.
fn shift_in(offsets: &str) -> i128 {
    let boot = offsets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        // The clock's number in the first kernels that had the file, then its name.
        let is_boot = matches!(words.next(), Some("boottime" | "7"));
        let seconds: i128 = words.next()?.parse().ok()?;
        let nanoseconds: i128 = words.next()?.parse().ok()?;
        is_boot.then_some(seconds * 1_000_000_000 + nanoseconds)
    });
    boot.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_read() {
        let text = "monotonic           5         6\nboottime      -1000000         7\n";
        assert_eq!(shift_in(text), -1_000_000_000_000_000 + 7);
        assert_eq!(shift_in("1 0 0\n7 3 0\n"), 3_000_000_000);
        assert_eq!(shift_in(""), 0);
    }

    #[test]
    fn time_goes_on() {
        let before = boot_ns();
        assert!(before > 0 && boot_ns() >= before);
    }
}
