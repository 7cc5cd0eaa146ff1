//! Processes and threads, pinned by descriptors.
//!
//! A pid, a tid or a path below `/proc` names whatever has that number at the moment of use. A
//! check by number followed by a use by number can hit a stranger that was given the number in
//! between. The types here are opened once; afterwards every use goes through the descriptor and
//! either reaches the same process or fails.
//!
//! Architecture invariant: no other module calls `pidfd_open`, sends a signal to a number, or
//! builds a path below `/proc/PID`. A test over the sources (`tests/sources.rs`) enforces it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};

/// `PIDFD_THREAD` of `pidfd_open(2)`, Linux 6.9: the descriptor is of one thread.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// The most that is read of a file below `/proc/PID`. `maps` of a large process has some MiB.
const MOST: u64 = 64 << 20;

fn number(id: u32) -> io::Result<Pid> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// A process, pinned by a pidfd: the number can be given to another process, the handle cannot.
#[derive(Debug)]
pub struct Process {
    id: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens the process that has this number now.
    ///
    /// # Errors
    ///
    /// `ESRCH`: there is none. `EINVAL`: the number is a thread's.
    pub fn open(id: u32) -> io::Result<Self> {
        let pidfd = pidfd_open(number(id)?, PidfdFlags::empty())?;
        Ok(Self { id, pidfd })
    }

    /// This process.
    pub fn this() -> io::Result<Self> {
        Self::open(std::process::id())
    }

    /// A child that has not been waited for, so that its number is still its own.
    pub fn child(child: &Child) -> io::Result<Self> {
        Self::open(child.id())
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its pidfd. It becomes readable when the process ends.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// `ESRCH`: it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_pidfd(&self.pidfd, signal.as_raw())
    }

    /// Duplicates one of its descriptors into this process. Needs `CAP_SYS_PTRACE` for processes
    /// that this one may not trace; Linux 5.6.
    pub fn duplicate_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty())?)
    }

    /// One of its resource limits: the soft and the hard one.
    ///
    /// # Errors
    ///
    /// It has ended (`ESRCH`), or is another user's and this process has no `CAP_SYS_RESOURCE`
    /// (`EPERM`).
    pub fn limits(&self, resource: Resource) -> io::Result<(u64, u64)> {
        let limits = prlimit(self.id, resource, None)?;
        self.check_number()?;
        Ok((limits.rlim_cur, limits.rlim_max))
    }

    /// Changes a soft limit, if it is `from` now. Returns whether it was.
    ///
    /// # Errors
    ///
    /// As [`Self::limits`].
    pub fn replace_soft_limit(&self, resource: Resource, from: u64, to: u64) -> io::Result<bool> {
        let (soft, hard) = self.limits(resource)?;
        if soft != from {
            return Ok(false);
        }
        let new = libc::rlimit64 {
            rlim_cur: to.min(hard),
            rlim_max: hard,
        };
        let before = prlimit(self.id, resource, Some(new))?;
        let is_ours = self.check_number();
        if is_ours.is_ok() && before.rlim_cur == from && before.rlim_max == hard {
            return Ok(true);
        }
        // It changed the limit meanwhile, or ended and left its number to another process: what was
        // found is put back.
        let _ = prlimit(self.id, resource, Some(before));
        is_ours.map(|()| false)
    }

    /// Fails if the number may be another process's by now: the process has been waited for.
    fn check_number(&self) -> io::Result<()> {
        signal_pidfd(&self.pidfd, 0).or_else(|error| match error.raw_os_error() {
            // It exists, and may not be signalled by this user.
            Some(libc::EPERM) => Ok(()),
            _ => Err(error),
        })
    }

    /// Its folder in `/proc`.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn folder(&self) -> io::Result<ProcFolder> {
        let folder = ProcFolder::open(self.id)?;
        // As long as the process has not been waited for, its number is its own.
        self.check_number()?;
        Ok(folder)
    }
}

/// A resource that a process has a limit of (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Descriptors: the limit is one more than the highest number of a new one.
    NoFile,
}

impl Resource {
    /// Its name, as `prlimit(1)` and fault expressions have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFile => "nofile",
        }
    }

    const fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::NoFile => libc::RLIMIT_NOFILE,
        }
    }
}

/// Reads or changes a limit of the process that has this number now. Returns what it was before.
fn prlimit(id: u32, resource: Resource, new: Option<libc::rlimit64>) -> io::Result<libc::rlimit64> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let id = number(id)?.as_raw_nonzero().get();
    // SAFETY: the kernel reads one structure, or none, and writes the other.
    match unsafe { libc::prlimit64(id, resource.number(), new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Whether a pidfd's process has ended, or a pipe's other end is closed.
pub(crate) fn is_readable(fd: &impl AsFd) -> bool {
    let now = Timespec::default();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Sends a signal through a pidfd, to the thread if it is one of a thread. 0 sends none and only
/// checks.
pub fn signal_pidfd(pidfd: &impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: numbers, and a null pointer where a `siginfo_t` may be left out.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills a child that may have been waited for: then nothing is done.
pub fn kill_child(child: &mut Child) {
    // An error says that it has ended.
    let _ = child.kill();
}

/// Sends a signal to a child that has not been waited for: its number is its own until then.
pub fn signal_child(child: &Child, signal: i32) -> io::Result<()> {
    Process::child(child).and_then(|process| signal_pidfd(&process.pidfd, signal))
}

/// Kills a child process that was forked by this one and not waited for.
pub fn kill_unreaped(child: Pid) {
    // An error says that it has ended.
    let _ = rustix::process::kill_process(child, Signal::KILL);
}

/// A thread, pinned.
///
/// Linux 6.9 has pidfds of threads. On older kernels it is the thread's process that is pinned: a
/// signal is then directed at the process, and descriptors are taken from the process only if the
/// thread shares them.
#[derive(Debug)]
pub struct Thread {
    id: u32,
    pidfd: OwnedFd,
    /// The process's number where the pidfd is of the process.
    process: Option<u32>,
}

impl Thread {
    /// Opens the thread that has this number now.
    pub fn open(id: u32) -> io::Result<Self> {
        if let Ok(pidfd) = pidfd_open(number(id)?, PIDFD_THREAD) {
            return Ok(Self {
                id,
                pidfd,
                process: None,
            });
        }
        let folder = ProcFolder::open(id)?;
        let process = folder.status_number("Tgid:")?;
        let pidfd = pidfd_open(number(process)?, PidfdFlags::empty())?;
        // Still the same thread: a folder of one that has ended cannot be read.
        folder.status_number("Tgid:")?;
        Ok(Self {
            id,
            pidfd,
            process: Some(process),
        })
    }

    /// Sends a signal: to the thread, or before Linux 6.9 to its process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        signal_pidfd(&self.pidfd, signal)
    }

    /// Duplicates one of its descriptors into this process.
    ///
    /// # Errors
    ///
    /// `Unsupported`: before Linux 6.9, a thread that does not share its process's descriptors.
    pub fn duplicate_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if let Some(process) = self.process
            && process != self.id
            && !share_descriptors(number(self.id)?, number(process)?)
        {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty())?)
    }
}

/// Whether two threads share a table of descriptors (`kcmp(2)`).
fn share_descriptors(one: Pid, other: Pid) -> bool {
    const KCMP_FILES: i32 = 2;
    let [one, other] = [one, other].map(|pid| pid.as_raw_nonzero().get());
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) == 0 }
}

/// The folder `/proc/ID` of one process or thread, pinned: once that has been waited for, every
/// read fails, even if another process has the number by then.
#[derive(Debug)]
pub struct ProcFolder(OwnedFd);

impl ProcFolder {
    /// Opens the folder of the process or thread that has this number now.
    pub fn open(id: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{id}"), flags, Mode::empty())?;
        Ok(Self(folder))
    }

    /// Opens one of its files, which may be a link that only the kernel can follow.
    pub fn open_file(&self, name: impl AsRef<Path>, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::openat(&self.0, name.as_ref(), flags, Mode::empty())?;
        Ok(file.into())
    }

    /// Reads one of its files.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_file(name, OFlags::RDONLY)?;
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one of its files as text. Bytes that are not UTF-8 are replaced.
    pub fn read_text(&self, name: &str) -> io::Result<String> {
        let bytes = self.read(name)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Where one of its links leads, as the kernel prints it.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::new())?;
        let target = target.into_bytes();
        Ok(PathBuf::from(
            <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(target),
        ))
    }

    /// What one of its files is, or what its link leads to.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::empty())?)
    }

    /// The names in one of its folders.
    pub fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = rustix::fs::Dir::new(OwnedFd::from(self.open_file(name, flags)?))?;
        let names = folder.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            (name != "." && name != "..").then_some(name)
        });
        Ok(names.collect())
    }

    /// The first number of a line of `status`.
    pub fn status_number(&self, line: &str) -> io::Result<u32> {
        let status = self.read_text("status")?;
        status_number(&status, line).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// When it began, in clock ticks since boot.
    fn start(&self) -> io::Result<u64> {
        start_in(&self.read("stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Opens a path as the process would, below its root, without following the last link if
    /// `itself`. The descriptor is an `O_PATH` one: nothing is done to what it leads to.
    pub fn open_in_root(&self, path: &Path, itself: bool) -> io::Result<OwnedFd> {
        let root = self.open_file("root", OFlags::PATH | OFlags::DIRECTORY)?;
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, itself);
        let how = ResolveFlags::IN_ROOT;
        Ok(rustix::fs::openat2(&root, path, flags, Mode::empty(), how)?)
    }

    /// Opens the memory of the process, as it is now: a later execve(2) does not change what the
    /// handle reads and writes. Needs the right to trace it.
    pub fn memory(&self) -> io::Result<Memory> {
        let file = self
            .open_file("mem", OFlags::RDWR)
            .or_else(|_| self.open_file("mem", OFlags::RDONLY))?;
        let maps = self.open_file("maps", OFlags::RDONLY)?;
        Ok(Memory { file, maps })
    }
}

/// A process or thread that is remembered without an open descriptor: its number, and when it
/// began. It is pinned again by [`Identity::folder`], which compares both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Its number.
    pub id: u32,
    /// When it began, in clock ticks since boot.
    pub start: u64,
}

impl Identity {
    /// Of what has this number now.
    pub fn of(id: u32) -> io::Result<Self> {
        let start = ProcFolder::open(id)?.start()?;
        Ok(Self { id, start })
    }

    /// Whether some thread of the process lives. Its first thread may have ended before the others.
    pub fn lives(self) -> bool {
        self.process().is_ok_and(|process| !is_readable(&process))
    }

    /// Its folder, pinned; an error if it has ended, whatever has its number by now.
    pub fn folder(self) -> io::Result<ProcFolder> {
        let folder = ProcFolder::open(self.id)?;
        match folder.start()? == self.start {
            true => Ok(folder),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// The process, pinned likewise.
    pub fn process(self) -> io::Result<Process> {
        let process = Process::open(self.id)?;
        match process.folder()?.start()? == self.start {
            true => Ok(process),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}

/// When a process began, in clock ticks since boot: field 22 of the text of `/proc/ID/stat`
/// (`proc_pid_stat(5)`). The name before it may hold anything, so fields are counted from its end.
pub(crate) fn start_in(stat: &[u8]) -> Option<u64> {
    let end = stat.windows(2).rposition(|two| two == b") ")?;
    let fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    // The first after the name is the third.
    fields.split(' ').nth(22 - 3)?.parse().ok()
}

/// The first number of a line in the text of `/proc/ID/status`.
pub fn status_number(status: &str, line: &str) -> Option<u32> {
    let rest = status.lines().find_map(|one| one.strip_prefix(line))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The memory that a process had when it was opened.
///
/// The handle stays with that memory when the process executes another program, so that bytes
/// meant for the one can never reach the other.
#[derive(Debug)]
pub struct Memory {
    file: File,
    maps: File,
}

impl Memory {
    /// Reads at an address; at least one byte if any is wanted.
    pub fn read(&self, address: u64, to: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(to, address)? {
            0 if !to.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Reads exactly as much as there is room for.
    pub fn read_exact(&self, address: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, address)
    }

    /// Writes all of it. The kernel lets a tracer write where the process itself must not: see
    /// [`Memory::writable`].
    pub fn write_all(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, address)
    }

    /// The ranges that the process itself may write to, in the order of their addresses, those
    /// that touch as one.
    pub fn writable(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut text = String::new();
        let mut maps = &self.maps;
        io::Seek::rewind(&mut maps)?;
        maps.take(MOST).read_to_string(&mut text)?;
        Ok(writable(&text))
    }
}

/// The writable ranges in the text of `/proc/ID/maps`.
fn writable(maps: &str) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        let parse = |text| u64::from_str_radix(text, 16);
        let (Ok(from), Ok(to)) = (parse(from), parse(to)) else {
            continue;
        };
        if rights.as_bytes().get(1) != Some(&b'w') {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => ranges.push((from, to)),
        }
    }
    ranges
}

/// The numbers of all processes.
pub(crate) fn all_ids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.collect()
}

/// The path of this process's own folder, by its number.
pub fn folder_of_this() -> String {
    format!("/proc/{}", std::process::id())
}

/// A path by which other processes reach an open file of this one, as long as it is open here.
pub fn path_of_own_fd(fd: &impl AsFd) -> PathBuf {
    let fd = fd.as_fd().as_raw_fd();
    format!("{}/fd/{fd}", folder_of_this()).into()
}

/// A path by which this process reaches one of its own open files.
pub fn path_of_fd_here(fd: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_folder_stays_with_its_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::child(&child).unwrap();
        let folder = process.folder().unwrap();
        // The kernel lets the parent go on shortly before the child has its new name.
        while folder.read("comm").unwrap() != b"sleep\n" {
            std::thread::yield_now();
        }
        assert_eq!(folder.status_number("Tgid:").unwrap(), child.id());
        assert!(!is_readable(&process));
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.folder().is_ok() && identity.process().is_ok());
        let earlier = Identity {
            start: identity.start - 1,
            ..identity
        };
        assert!(earlier.folder().is_err() && earlier.process().is_err());
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(is_readable(&process) && identity.folder().is_err());
        assert!(process.signal(Signal::KILL).is_err());
        assert!(folder.read("comm").is_err());
        assert!(process.folder().is_err());
    }

    #[test]
    fn memory_stays_with_the_program_that_had_it() {
        // It reads a line before it becomes another program.
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::child(&child).unwrap();
        let folder = process.folder().unwrap();
        while folder.read("comm").unwrap() != b"sh\n" {
            std::thread::yield_now();
        }
        let memory = folder.memory().unwrap();
        let (from, _) = memory.writable().unwrap()[0];
        let mut byte = [0];
        memory.read_exact(from, &mut byte).unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
        while folder.read("comm").unwrap() != b"sleep\n" {
            std::thread::yield_now();
        }
        // The old memory is gone with its last user, and the new is not what the handle reaches.
        assert!(memory.read(from, &mut byte).is_err());
        assert!(memory.write_all(from, &byte).is_err());
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let maps = "1000-2000 r--p 0 0:0 0\n2000-3000 rw-p 0 0:0 0\n3000-4000 -w-s 0 0:0 0 /x y\n\
                    5000-6000 rw-p 0 0:0 0\nnonsense\n";
        assert_eq!(writable(maps), [(0x2000, 0x4000), (0x5000, 0x6000)]);
    }

    #[test]
    fn a_number_of_nothing() {
        assert!(Process::open(0).is_err());
        assert!(Process::open(u32::MAX).is_err());
        assert!(Thread::open(u32::MAX).is_err());
        assert!(ProcFolder::open(u32::MAX).is_err());
    }
}
