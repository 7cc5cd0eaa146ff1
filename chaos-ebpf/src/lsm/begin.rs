//! System calls about which a hook may be called several times begin.
//!
//! Kernel interface: fentry (5.5) on the system call's function. There is nothing in a thread by which a hook could tell
//! one `sendfile` from the next, so what was decided about the last one is forgotten here. Everybody who makes such a
//! call pays for it; it is attached for faults on the call only.

/// Declares programs that do the same.
macro_rules! begins {
    ($($program:ident)+) => {
        $(
            #[aya_ebpf::macros::fentry]
            pub(crate) fn $program(_: aya_ebpf::programs::FEntryContext) -> i32 {
                crate::syscall::begin()
            }
        )+
    };
}

begins! {
    murphy_b_sendf
    murphy_b_splic
    murphy_b_copyfr
    murphy_b_statfs
    murphy_b_fstatf
    murphy_b_access
    murphy_b_facces
    murphy_b_facce2
    murphy_b_mprot
    murphy_b_pkmprt
    murphy_b_kill
    murphy_b_setpri
    murphy_b_ioprio
    murphy_b_sendmm
    murphy_b_msgsnd
}
