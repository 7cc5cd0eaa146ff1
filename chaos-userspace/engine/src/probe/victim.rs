//! Children of ours in the scratch cgroup, which let a fault happen to them: that a program is attached does not mean that
//! it runs, and that it runs does not mean that anybody feels it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "no hooks here, but statuses of nix"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// The error that the rules inject, `EXFULL`: one that none of the victim's calls gives by itself.
const ERRNO: i32 = libc::EXFULL;

/// How long a victim may take before it is killed, in seconds.
const TIME: u32 = 5;

const CONNECT: u8 = 1;
const OPEN: u8 = 2;
const READ: u8 = 4;
const SYNC: u8 = 8;
const SYNC_IN_CODE: u8 = 16;
/// It could not be put into its cgroup.
const ASTRAY: u8 = 64;

/// Which of its calls failed as they should.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Felt {
    pub(super) connect: bool,
    pub(super) open: bool,
    pub(super) read: bool,
    pub(super) sync: bool,
    pub(super) sync_in_code: bool,
}

/// Forks a victim that sends itself packets, connects, opens, reads and syncs.
pub(super) fn forked(procs: &File) -> io::Result<Felt> {
    let null = File::open("/dev/null")?;
    // SAFETY: other threads may exist, so the child calls nothing but system calls, and leaves by _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let felt = suffer(procs.as_raw_fd(), null.as_raw_fd());
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit(i32::from(felt)) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, code) => {
                let felt = u8::try_from(code).unwrap_or(ASTRAY);
                if felt & ASTRAY != 0 {
                    return Err(io::Error::other(
                        "a child could not move itself into the scratch cgroup",
                    ));
                }
                Ok(Felt {
                    connect: felt & CONNECT != 0,
                    open: felt & OPEN != 0,
                    read: felt & READ != 0,
                    sync: felt & SYNC != 0,
                    sync_in_code: felt & SYNC_IN_CODE != 0,
                })
            }
            status => Err(io::Error::other(format!(
                "a child of ours ended: {status:?}"
            ))),
        },
    }
}

/// The child. Nothing here allocates or takes a lock.
fn suffer(procs: i32, null: i32) -> u8 {
    let mut felt = 0;
    let mut feel = |result: i64, bit: u8| {
        if result < 0 && nix::errno::Errno::last_raw() == ERRNO {
            felt |= bit;
        }
    };
    // SAFETY: system calls on descriptors that the parent keeps open until this process has ended, with pointers to values
    // that live in this function and the lengths of those values.
    unsafe {
        libc::alarm(TIME);
        if libc::write(procs, c"0".as_ptr().cast(), 1) != 1 {
            return ASTRAY;
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        libc::bind(socket, (&raw const address).cast(), length);
        libc::getsockname(socket, (&raw mut address).cast(), &raw mut length);
        // One for each rule about packets: that of egress takes the first only, those of netem their second.
        for _ in 0..4 {
            let (address, flags) = ((&raw const address).cast(), libc::MSG_DONTWAIT);
            libc::sendto(socket, c"x".as_ptr().cast(), 1, flags, address, length);
        }
        let connected = libc::connect(socket, (&raw const address).cast(), length);
        feel(i64::from(connected), CONNECT);
        // Not by libc's open, which may make another call of it.
        let path = c"/dev/null".as_ptr();
        let opened = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY);
        feel(opened, OPEN);
        let mut byte = 0_u8;
        let read = libc::syscall(libc::SYS_read, null, &raw mut byte, 1);
        feel(read, READ);
        let synced = libc::syscall(libc::SYS_fsync, null);
        feel(synced, SYNC);
        let synced = libc::syscall(libc::SYS_fdatasync, null);
        feel(synced, SYNC_IN_CODE);
    }
    felt
}

/// Lets a victim execute this very program, which then ends at once.
pub(super) fn executed(procs: &File) -> io::Result<()> {
    let procs = procs.as_raw_fd();
    let join = move || {
        // SAFETY: system calls only; the caller keeps the descriptor open until this process has ended.
        let written = unsafe {
            libc::alarm(TIME);
            libc::write(procs, c"0".as_ptr().cast(), 1)
        };
        if written == 1 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(join) };
    command.status().map(drop)
}
