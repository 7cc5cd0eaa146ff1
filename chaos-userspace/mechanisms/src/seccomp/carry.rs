//! Doing a read or a write in a thread's place, since an answer cannot change a call's arguments: fewer bytes, or others.
//!
//! The supervisor works on the thread's own open file, whose position moves as if the thread had done it. It never waits for
//! somebody else's doing: what is not ready, and what may wait by its nature, goes on as it was called. So do errors whose signals
//! are the thread's (`SIGPIPE`, `SIGXFSZ`).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::privileges::write_as_thread;
use super::transfer::{Position, Transfer};
use super::victim::Victim;
use murphy_fault::CallEffect;
pub(super) use murphy_fault::syscall::Moves;
use murphy_sys::process::{Memory, path_of_fd_here};

/// The most that is held in memory for a thread.
const LARGEST: usize = 64 << 20;

/// File systems whose files neither wait for anybody but a disk nor mean something else to another process, as `statfs(2)` and
/// linux/magic.h number them.
const PLAIN: [u32; 17] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x0000_4d44, // vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x0000_9660, // isofs
    0x1501_3346, // udf
    0x3153_464a, // jfs
];

/// What is open behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file or a block device: it has a position.
    Seekable,
    /// `/dev/zero` and its like.
    Device,
    Pipe,
    Socket,
}

/// A read or a write that can be done in a thread's place.
#[derive(Debug)]
pub(super) struct Job {
    /// The thread's memory, opened before the check that it still waits: what it becomes later, by
    /// execve(2) for example, cannot be reached through it.
    memory: Rc<Memory>,
    transfer: Transfer,
    file: OwnedFd,
    kind: Kind,
    appends: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// For the thread: how many bytes, or a negative errno.
    pub(super) result: i64,
    /// The file, if its position has to go back when the thread does not get the result.
    moved: Option<OwnedFd>,
}

impl Done {
    /// The thread did not get the result, and will call again.
    pub(super) fn undo(self) {
        if let Some(file) = self.moved {
            let _ = rustix::fs::seek(file, SeekFrom::Current(-self.result));
        }
    }
}

/// Gets ready for what an effect wants of a call. `None`: there is nothing to shorten or to corrupt, the end of a file for example.
/// An error: it cannot be done in the thread's place.
pub(super) fn prepare(victim: &Victim, effect: &CallEffect) -> io::Result<Option<Job>> {
    let mut transfer = Transfer::of(victim)?;
    if let Some(short) = effect.short {
        let short = usize::try_from(short.get()).unwrap_or(usize::MAX);
        if transfer.length() <= short {
            return Ok(None);
        }
        transfer.shorten(short);
    }
    match transfer.length() {
        0 => return Ok(None),
        length if length > LARGEST => return Err(ErrorKind::Unsupported.into()),
        _ => {}
    }
    let file = open_file(victim, transfer.fd)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    if flags.intersects(OFlags::DIRECT | OFlags::PATH) {
        return Err(ErrorKind::Unsupported.into());
    }
    let kind = kind(&file)?;
    let is_socket = kind == Kind::Socket;
    let positioned = transfer.position != Position::Own || !transfer.flags.is_empty();
    if (transfer.socket.is_some() && !is_socket) || (positioned && kind != Kind::Seekable) {
        return Err(ErrorKind::Unsupported.into());
    }
    let appends = flags.contains(OFlags::APPEND) || transfer.flags.contains(ReadWriteFlags::APPEND);
    let mut job = Job {
        memory: Rc::clone(victim.memory()?),
        transfer,
        file,
        kind,
        appends,
    };
    let something = match kind {
        Kind::Seekable => job.has_bytes(victim)?,
        Kind::Device => true,
        Kind::Pipe | Kind::Socket => job.is_ready(flags.contains(OFlags::NONBLOCK))?,
    };
    if kind == Kind::Pipe {
        job.file = without_waiting(&job.file, job.transfer.moves)?;
    }
    Ok(something.then_some(job))
}

impl Job {
    /// Whether there is something to read or to write.
    fn has_bytes(&self, victim: &Victim) -> io::Result<bool> {
        if self.transfer.moves == Moves::Writes {
            // What is beyond the thread's own limit is its error, and its signal.
            return match victim.file_size_is_limited()? {
                true => Err(ErrorKind::Unsupported.into()),
                false => Ok(true),
            };
        }
        let stat = rustix::fs::fstat(&self.file)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
            return Ok(true);
        }
        let position = match self.transfer.position {
            Position::At(position) => position,
            Position::Own => rustix::fs::tell(&self.file)?,
        };
        Ok(i64::try_from(position).is_ok_and(|position| position < stat.st_size))
    }

    /// Whether bytes can be moved at once; an error if the thread would have to wait, or meets one.
    fn is_ready(&self, asks_only: bool) -> io::Result<bool> {
        let (wanted, bad) = match self.transfer.moves {
            Moves::Reads => (PollFlags::IN, PollFlags::ERR),
            Moves::Writes => (PollFlags::OUT, PollFlags::ERR | PollFlags::HUP),
        };
        let mut events = [PollFd::new(&self.file, wanted)];
        poll(&mut events, Some(&Timespec::default()))?;
        let events = events[0].revents();
        if events.intersects(bad) {
            return Err(ErrorKind::Unsupported.into());
        }
        if !events.contains(wanted) {
            let asks_only = asks_only
                || self
                    .transfer
                    .socket
                    .is_some_and(|flags| flags & libc::MSG_DONTWAIT != 0);
            return match asks_only || events.contains(PollFlags::HUP) {
                true => Ok(false),
                false => Err(ErrorKind::WouldBlock.into()),
            };
        }
        if self.kind == Kind::Socket && self.transfer.moves == Moves::Reads {
            let peeked = receive(&self.file, &mut [0], libc::MSG_PEEK)?;
            return Ok(peeked > 0);
        }
        Ok(true)
    }

    /// Does it, if the thread still waits. An error: nothing was done, and the thread's call is to go on.
    ///
    /// `flips` says which of so many bytes are to be others.
    pub(super) fn run(
        self,
        flips: impl FnOnce(usize) -> Vec<(usize, u8)>,
        still: impl Fn() -> bool,
    ) -> io::Result<Done> {
        let gone = || io::Error::from(ErrorKind::NotFound);
        if self.transfer.moves == Moves::Writes {
            let bytes = self.transfer.fetch(&self.memory)?;
            if !still() {
                return Err(gone());
            }
            let result = write_as_thread(|| self.write(&bytes));
            return self.done(result);
        }
        self.transfer.check_writable(&self.memory)?;
        let mut bytes = self.transfer.room();
        if !still() {
            return Err(gone());
        }
        let read = match self.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) => return self.done(Err(error)),
        };
        for (place, mask) in flips(read) {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= mask;
            }
        }
        bytes.truncate(read);
        let delivered = match still() {
            true => self.transfer.deliver(&self.memory, bytes.freeze()),
            false => Err(gone()),
        };
        let done = self.done(Ok(read))?;
        match delivered {
            Ok(()) => Ok(done),
            Err(error) => {
                done.undo();
                Err(error)
            }
        }
    }

    fn done(self, result: io::Result<usize>) -> io::Result<Done> {
        let result = match result {
            Ok(moved) => i64::try_from(moved).unwrap_or(i64::MAX),
            Err(error) => match error.raw_os_error() {
                // Not ready after all, or with a signal that the thread has to get.
                None | Some(libc::EAGAIN | libc::EINTR | libc::EPIPE | libc::EFBIG) => {
                    return Err(error);
                }
                // The kernel says some errors once: the thread must not miss it.
                Some(errno) => -i64::from(errno),
            },
        };
        let own = self.kind == Kind::Seekable && self.transfer.position == Position::Own;
        let back = own && !(self.appends && self.transfer.moves == Moves::Writes);
        Ok(Done {
            result,
            moved: (back && result > 0).then_some(self.file),
        })
    }

    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.kind == Kind::Socket {
            return receive(&self.file, bytes, self.transfer.socket.unwrap_or(0));
        }
        let read = match self.transfer.position {
            position if !self.transfer.flags.is_empty() => rustix::io::preadv2(
                &self.file,
                &mut [io::IoSliceMut::new(bytes)],
                number(position),
                self.transfer.flags,
            ),
            Position::Own => rustix::io::read(&self.file, bytes),
            Position::At(position) => rustix::io::pread(&self.file, bytes, position),
        };
        Ok(read?)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.kind == Kind::Socket {
            return send(&self.file, bytes, self.transfer.socket.unwrap_or(0));
        }
        let written = match self.transfer.position {
            position if !self.transfer.flags.is_empty() => rustix::io::pwritev2(
                &self.file,
                &[io::IoSlice::new(bytes)],
                number(position),
                self.transfer.flags,
            ),
            Position::Own => rustix::io::write(&self.file, bytes),
            Position::At(position) => rustix::io::pwrite(&self.file, bytes, position),
        };
        Ok(written?)
    }
}

/// As `preadv2` takes it.
fn number(position: Position) -> u64 {
    match position {
        Position::Own => u64::MAX,
        Position::At(position) => position,
    }
}

/// The thread's open file itself, not another opening of it.
fn open_file(victim: &Victim, fd: u32) -> io::Result<OwnedFd> {
    victim.thread()?.duplicate_fd(fd.cast_signed())
}

/// What it is; an error for what may wait or cannot be done in another's place.
fn kind(file: &OwnedFd) -> io::Result<Kind> {
    let stat = rustix::fs::fstat(file)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        // The type's width differs between architectures; the magic is 32 bits.
        FileType::RegularFile if PLAIN.contains(&(rustix::fs::fstatfs(file)?.f_type as u32)) => {
            Kind::Seekable
        }
        FileType::BlockDevice => Kind::Seekable,
        // null, zero, full, random, urandom (Documentation/admin-guide/devices.txt).
        FileType::CharacterDevice
            if rustix::fs::major(stat.st_rdev) == 1
                && [3, 5, 7, 8, 9].contains(&rustix::fs::minor(stat.st_rdev)) =>
        {
            Kind::Device
        }
        FileType::Fifo => Kind::Pipe,
        // A datagram that is read in part loses its rest, which no kernel does unasked.
        FileType::Socket
            if rustix::net::sockopt::socket_type(file)? == rustix::net::SocketType::STREAM =>
        {
            Kind::Socket
        }
        FileType::RegularFile
        | FileType::CharacterDevice
        | FileType::Socket
        | FileType::Directory
        | FileType::Symlink
        | FileType::Unknown => return Err(ErrorKind::Unsupported.into()),
    };
    Ok(kind)
}

/// Another opening of a pipe, which has no position: whether it waits is not the thread's business.
fn without_waiting(pipe: &OwnedFd, moves: Moves) -> io::Result<OwnedFd> {
    let way = match moves {
        Moves::Reads => OFlags::RDONLY,
        Moves::Writes => OFlags::WRONLY,
    };
    let flags = way | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        path_of_fd_here(pipe),
        flags,
        Mode::empty(),
    )?)
}

fn receive(socket: &impl AsFd, bytes: &mut [u8], flags: i32) -> io::Result<usize> {
    let (fd, flags) = (socket.as_fd().as_raw_fd(), flags | libc::MSG_DONTWAIT);
    // SAFETY: the kernel writes no more than the slice has room for.
    let read = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

fn send(socket: &impl AsFd, bytes: &[u8], flags: i32) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the slice.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
