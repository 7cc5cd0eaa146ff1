//! System calls that have an LSM hook.

#![no_std]
#![no_main]

/// Declares programs: each asks about the system call that the thread is in, at the
/// place where its hook sits. `File(0)` says that the hook's first argument is a file.
macro_rules! hooks {
    ($($(#[$doc:meta])* $program:ident at $hook:tt = $place:ident, $shape:ident $(($first:literal $(, $second:literal)?))?;)+) => {
        $(
            $(#[$doc])*
            #[aya_ebpf::macros::lsm(hook = $hook)]
            pub(crate) fn $program(ctx: aya_ebpf::programs::LsmContext) -> i32 {
                let arguments = [$($first, $($second)?)?];
                crate::syscall::ask(
                    &ctx,
                    chaos_common::lsm::Place::$place,
                    crate::subject::Shape::$shape,
                    arguments.first().copied().unwrap_or(0),
                    arguments.get(1).copied(),
                )
            }
        )+
    };
}

mod begin;
mod delay;
mod file;
mod ipc;
mod memory;
mod metadata;
mod names;
mod open;
mod path;
mod process;
mod read_write;
mod socket;
mod subject;
mod syscall;
mod system;

chaos_ebpf::provenance!();
