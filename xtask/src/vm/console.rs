//! What the kernel's console tells after the fact: a panic, an Oops, a lockup, or mere warnings.

/// Lines that say that the kernel is no more. All of them end in a panic by our command line.
const FATAL: [&str; 7] = [
    "Kernel panic - not syncing",
    "Oops:",
    "BUG: ",
    "general protection fault",
    "watchdog: BUG: soft lockup",
    "INFO: task",
    "rcu: INFO: rcu_",
];

/// The part of a console log that tells of the kernel's end, if it tells of one.
pub(crate) fn verdict(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let first = lines
        .iter()
        .position(|l| FATAL.iter().any(|f| l.contains(f)))?;
    // A panic says why in its own line; before it may stand the Oops that led there.
    const SHOWN: usize = 40;
    let last = lines.len().min(first + SHOWN);
    Some(lines[first..last].join("\n"))
}

/// The one line that names what happened.
pub(crate) fn headline(verdict: &str) -> &str {
    let line = verdict
        .lines()
        .find(|l| l.contains("Kernel panic"))
        .or_else(|| verdict.lines().next())
        .unwrap_or(verdict);
    // `[    3.14] `
    line.split_once("] ").map_or(line, |(_, rest)| rest).trim()
}

/// Warnings of a kernel that lived on.
pub(crate) fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|l| l.contains("WARNING: ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_panic_from_chatter() {
        assert_eq!(
            verdict("[    0.1] Linux version\n[    0.2] all is well"),
            None
        );
        let log = "x\n[    3.1] sysrq: Trigger a crash\n[    3.14] Kernel panic - not syncing: sysrq triggered crash\n[ 3.2] CPU: 0";
        let got = verdict(log).unwrap();
        assert!(got.starts_with("[    3.14] Kernel panic"));
        assert_eq!(
            headline(&got),
            "Kernel panic - not syncing: sysrq triggered crash"
        );
    }
}
