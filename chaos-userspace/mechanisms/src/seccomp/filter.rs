//! The filter: a classic BPF program that hands some system calls to the listener and lets all others pass.
//!
//! Calls of another ABI (i386 and x32 on `x86_64`) have other numbers and pass.

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF, sock_filter,
};

/// `AUDIT_ARCH_…` (include/uapi/linux/audit.h) of the native ABI.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The program for these calls. A conditional jump reaches 255 instructions at most, fewer than a large set needs, so
/// the numbers are searched by halves, and a half is skipped with the unconditional jump, which has no such limit.
pub(super) fn program(calls: &[u32]) -> Vec<sock_filter> {
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, ARCHITECTURE),
        jump(BPF_JEQ, ARCH, 1, 0),
        statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        statement(BPF_LD | BPF_W | BPF_ABS, NUMBER),
    ];
    search(&intervals(calls), &mut program);
    program
}

/// Where the verdict changes: from each number on, whether calls are handed over. The first is 0.
fn intervals(calls: &[u32]) -> Vec<(u32, bool)> {
    let mut sorted = calls.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut intervals = vec![(0, false)];
    for call in sorted {
        match intervals.last_mut() {
            Some(last) if *last == (call, false) => last.1 = true,
            _ => intervals.push((call, true)),
        }
        intervals.push((call + 1, false));
    }
    intervals
}

fn search(intervals: &[(u32, bool)], program: &mut Vec<sock_filter>) {
    let (lower, upper) = intervals.split_at(intervals.len() / 2);
    let ([.., _], [(from, _), ..]) = (lower, upper) else {
        let verdict = match intervals {
            [(_, true)] => SECCOMP_RET_USER_NOTIF,
            _ => SECCOMP_RET_ALLOW,
        };
        program.push(statement(BPF_RET | BPF_K, verdict));
        return;
    };
    program.push(jump(BPF_JGE, *from, 0, 1));
    let skip = program.len();
    program.push(statement(BPF_JMP | BPF_JA, 0));
    search(lower, program);
    let distance = program.len() - skip - 1;
    program[skip].k = u32::try_from(distance).unwrap_or(u32::MAX);
    search(upper, program);
}

fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

fn jump(condition: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | condition | BPF_K, k, yes, no)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Every code of classic BPF fits in 16 bits.
    let code = u16::try_from(code).unwrap_or_default();
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel does with these few instructions.
    fn run(program: &[sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let either = |yes: bool| usize::from(if yes { jt } else { jf });
            match u32::from(code) {
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = if k == NUMBER { number } else { architecture };
                }
                c if c == BPF_JMP | BPF_JEQ | BPF_K => at += either(loaded == k),
                c if c == BPF_JMP | BPF_JGE | BPF_K => at += either(loaded >= k),
                c if c == BPF_JMP | BPF_JA => at += k as usize,
                c if c == BPF_RET | BPF_K => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    proptest! {
        #[test]
        fn hands_over_these_calls_and_no_other(
            calls in prop::collection::vec(0..600_u32, 0..400),
            number in prop_oneof![0..610_u32, any::<u32>()],
        ) {
            let program = program(&calls);
            prop_assert!(program.len() <= 4096);
            let handed = run(&program, ARCH, number) == SECCOMP_RET_USER_NOTIF;
            prop_assert_eq!(handed, calls.contains(&number));
            prop_assert_eq!(run(&program, 0x4000_0003, number), SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn the_worst_set_fits_and_is_searched_in_few_steps() {
        let calls: Vec<_> = (0..512).map(|n| 2 * n).collect();
        assert!(program(&calls).len() <= 4096);
    }
}
