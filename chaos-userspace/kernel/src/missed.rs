//! Runs of programs that the kernel skipped.
//!
//! It does so with programs of tracepoints, kprobes and fentry where one is under way on the same CPU, interrupted or preempted. It says
//! how often beside a program's descriptor: `recursion_misses` in its `fdinfo` (5.12).

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How many runs the kernel skipped; `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Of programs that inject, arm and follow.
    pub asked: Option<u64>,
    /// Of programs that observe.
    pub observing: Option<u64>,
}

/// How many runs of this program were skipped; `None` if the kernel does not tell.
pub(super) fn of(program: BorrowedFd<'_>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()));
    recursion_misses(&text.ok()?)
}

fn recursion_misses(fdinfo: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix("recursion_misses:")?.trim().parse().ok();
    fdinfo.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_by_its_name() {
        // bpf_prog_show_fdinfo of Linux 6.1, and of 5.10.
        let new = "pos:\t0\nflags:\t02000000\nprog_type:\t17\nprog_jited:\t1\nprog_tag:\ta04f5eef06a7f555\nmemlock:\t4096\nprog_id:\t7\nrun_time_ns:\t0\nrun_cnt:\t3\nrecursion_misses:\t12\nverified_insns:\t23\n";
        assert_eq!(recursion_misses(new), Some(12));
        let old = "pos:\t0\nprog_type:\t17\nrun_time_ns:\t0\nrun_cnt:\t3\n";
        assert_eq!(recursion_misses(old), None);
    }
}
