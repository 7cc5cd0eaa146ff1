//! The server's own process: it answers for pages when it is time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chaos_common::delay::{Held, SLOTS};
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, writev};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, WaitOptions, getpid, waitpid};

use super::fuse::{self, Asked, Read, Reply};
use super::page::{END, Page};
use super::{holder, step};
use murphy_sys::clock::boot_ns;
use murphy_sys::process::{ProcFolder, Process, kill_unreaped};

/// How long it does nothing at most: the holder looks whether it is alive.
const IDLE_NS: u64 = 500_000_000;

/// How often a thread that got a signal while it waits is looked at, whether it is to die.
const DYING_NS: u64 = 50_000_000;

/// How long after its answer a page is forgotten: by then its reader has it.
const FORGET_NS: u64 = 500_000_000;

/// Serves until murphy ends or says so.
pub(super) fn serve(page: &Page, murphy: OwnedFd, socket: OwnedFd, lease: Duration) {
    page.alive.store(boot_ns(), Ordering::Release);
    let (device, mount) = match mount() {
        Ok(both) => both,
        Err((step, error)) => return page.fail(step, &error.into()),
    };
    let server = getpid();
    // SAFETY: this process has one thread.
    let holder = match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // What else there is of the connection ends with it, and so do the waits.
            drop((device, murphy, socket));
            holder::hold(page, mount, server, lease);
            // SAFETY: `_exit` has no precondition. No destructor or exit handler of a copy runs.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => Pid::from_raw(child.as_raw()),
        Err(errno) => return page.fail(step::HOLDER, &errno.into()),
    };
    drop(mount);
    let mut server = Server {
        page,
        device,
        size: super::page::size() as u64,
        zeros: Bytes::from(vec![0; super::page::size()]),
        held: None,
        queue: BinaryHeap::new(),
        waiting: HashMap::new(),
        answered: VecDeque::new(),
    };
    if let Some(holder) = holder {
        // Cannot be another process by now: ours stays a zombie until it is waited for.
        match Process::open(holder.as_raw_nonzero().get().cast_unsigned()) {
            Ok(held) => server.run(&murphy, &socket, &held.into_pidfd()),
            Err(error) => page.fail(step::HOLDER, &error),
        }
        // Whoever waits goes on when the device is closed.
        drop(server);
        kill_unreaped(holder);
        let _ = waitpid(Some(holder), WaitOptions::empty());
    }
}

/// Mounts the file system, nowhere in the file tree. Needs `CAP_SYS_ADMIN` and Linux 5.2.
fn mount() -> Result<(OwnedFd, OwnedFd), (u32, Errno)> {
    // First: it loads the module.
    let context =
        fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| (step::MOUNT, error))?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = open("/dev/fuse", flags, Mode::empty()).map_err(|error| (step::DEVICE, error))?;
    let mount = || {
        let number = device.as_raw_fd().to_string();
        let parameters = [
            ("fd", number.as_str()),
            ("rootmode", "40000"),
            ("user_id", "0"),
            ("group_id", "0"),
        ];
        for (key, value) in parameters {
            fsconfig_set_string(&context, key, value)?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    let mount = mount().map_err(|error| (step::MOUNT, error))?;
    Ok((device, mount))
}

/// A thread that waits.
struct Waiting {
    read: Read,
    until_ns: u64,
    /// It got a signal, which may be its last.
    interrupted: bool,
}

struct Server<'a> {
    page: &'a Page,
    device: OwnedFd,
    /// Of a page.
    size: u64,
    /// What a page holds, for all answers.
    zeros: Bytes,
    held: Option<Table>,
    /// When to answer, and what.
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: HashMap<u64, Waiting>,
    /// Pages that were answered for, and when.
    answered: VecDeque<(u64, u64)>,
}

impl Server<'_> {
    /// Answers until it is over, or somebody has ended without whom nobody can wait.
    fn run(&mut self, murphy: &OwnedFd, socket: &OwnedFd, holder: &OwnedFd) {
        let mut request = vec![0; fuse::REQUEST];
        loop {
            let now = boot_ns();
            self.page.alive.store(now, Ordering::Release);
            let over = self.page.over.load(Ordering::Acquire);
            if over == END {
                return;
            }
            self.answer_due(match over {
                0 if now <= self.page.lease_until.load(Ordering::Acquire) => now,
                _ => u64::MAX,
            });
            self.let_die();
            self.forget(now);
            let pause = Timespec::try_from(Duration::from_nanos(self.pause(now)));
            let mut events = [
                PollFd::new(&self.device, PollFlags::IN),
                PollFd::new(murphy, PollFlags::IN),
                PollFd::new(holder, PollFlags::IN),
                PollFd::new(socket, PollFlags::IN),
            ];
            if poll(&mut events, Some(&pause.unwrap_or_default())).is_err() {
                continue;
            }
            let [asked, ended, let_go, told] = events.map(|event| !event.revents().is_empty());
            if ended || let_go || told && !self.listen(socket) {
                return;
            }
            if asked && !self.hear(&mut request) {
                return;
            }
        }
    }

    /// How long there is nothing to do, unless somebody speaks.
    fn pause(&self, now: u64) -> u64 {
        let mut pause = IDLE_NS;
        if let Some(Reverse((until, _))) = self.queue.peek() {
            let lease = self.page.lease_until.load(Ordering::Acquire);
            let next = (*until).min(lease.saturating_add(1));
            pause = pause.min(next.saturating_sub(now));
        }
        if self.waiting.values().any(|waiting| waiting.interrupted) {
            pause = pause.min(DYING_NS);
        }
        pause
    }

    /// Takes what murphy hands over. `false`: it is gone.
    fn listen(&mut self, socket: &OwnedFd) -> bool {
        let mut byte = [0; 8];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut parts, &mut ancillary, flags) {
            Ok(message) if message.bytes == 0 => return false,
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for map in descriptors {
                    self.held = Table::map(&map).ok();
                }
            }
        }
        true
    }

    /// Reads what the kernel asks, all of it. `false`: the file system is gone.
    fn hear(&mut self, request: &mut [u8]) -> bool {
        loop {
            let length = match read(&self.device, &mut *request) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return true,
                // ENOENT: the request was taken back meanwhile.
                Err(Errno::INTR | Errno::NOENT) => continue,
                Err(_) => return false,
            };
            match fuse::understand(&request[..length], self.size) {
                Asked::Reply(reply) => self.say(&reply),
                Asked::Read(read) => self.hold_back(read),
                Asked::Interrupted(unique) => {
                    if let Some(waiting) = self.waiting.get_mut(&unique) {
                        waiting.interrupted = true;
                    }
                }
                Asked::Nothing => {}
            }
        }
    }

    /// Writes a reply. One that is not taken is for a thread that is gone.
    fn say(&self, reply: &Reply) {
        let _ = writev(&self.device, &reply.parts());
    }

    /// Notes a thread that waits. A page that nobody holds back is answered for in the next turn.
    fn hold_back(&mut self, read: Read) {
        let held = self.held.as_ref();
        let held = held.map_or_else(Held::default, |held| held.of(read.offset / self.size));
        let until_ns = match held.page == read.offset / self.size {
            true => held.until_ns,
            false => 0,
        };
        self.queue.push(Reverse((until_ns, read.unique)));
        let waiting = Waiting {
            read,
            until_ns,
            interrupted: false,
        };
        self.waiting.insert(read.unique, waiting);
    }

    /// Answers whoever is to go on by then.
    fn answer_due(&mut self, by: u64) {
        while let Some(Reverse((until, unique))) = self.queue.peek().copied() {
            if until > by {
                return;
            }
            self.queue.pop();
            // One that has died was answered before.
            if let Some(waiting) = self.waiting.remove(&unique) {
                self.answer(&waiting);
            }
        }
    }

    /// Answers threads that were killed: they wait for nothing else.
    fn let_die(&mut self) {
        let dead = |waiting: &Waiting| waiting.interrupted && is_dying(waiting.read.thread);
        let dying: Vec<_> = self.waiting.iter().filter(|(_, one)| dead(one)).collect();
        let dying: Vec<_> = dying.into_iter().map(|(unique, _)| *unique).collect();
        for unique in dying {
            if let Some(waiting) = self.waiting.remove(&unique) {
                self.queue
                    .retain(|Reverse(one)| *one != (waiting.until_ns, unique));
                self.answer(&waiting);
            }
        }
    }

    fn answer(&mut self, waiting: &Waiting) {
        let size = waiting.read.size as usize;
        if size > self.zeros.len() {
            self.zeros = Bytes::from(vec![0; size]);
        }
        self.say(&Reply::new(
            waiting.read.unique,
            0,
            self.zeros.slice(..size),
        ));
        let page = waiting.read.offset / self.size;
        self.answered.push_back((boot_ns(), page));
    }

    /// Has the kernel forget pages, so that they can be waited for again and take no memory. One that is waited for is locked,
    /// and never among them.
    fn forget(&mut self, now: u64) {
        while let Some((at, page)) = self.answered.front().copied() {
            if now < at + FORGET_NS {
                return;
            }
            self.answered.pop_front();
            let again = |waiting: &Waiting| waiting.read.offset / self.size == page;
            if !self.waiting.values().any(again) {
                self.say(&fuse::forget(page, self.size));
            }
        }
    }
}

/// Whether a thread has been killed, or does not exist any more.
fn is_dying(thread: u32) -> bool {
    let Ok(status) = ProcFolder::open(thread).and_then(|folder| folder.read_text("status")) else {
        return true;
    };
    // proc_pid_status(5): signals that are pending for the thread itself, where the kernel puts SIGKILL for whatever ends a process.
    let mut lines = status.lines();
    let pending = lines.find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    pending.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

/// The map `HELD`, in memory.
struct Table(NonNull<Held>);

impl Table {
    const LENGTH: usize = SLOTS as usize * size_of::<Held>();

    fn map(map: &OwnedFd) -> io::Result<Self> {
        // SAFETY: a new mapping touches no memory that is in use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LENGTH,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(io::Error::last_os_error)
    }

    /// What is said of a page, or of another that shares its entry.
    fn of(&self, page: u64) -> Held {
        let entry = usize::try_from(page % u64::from(SLOTS)).unwrap_or(0);
        // SAFETY: within the mapping, which lasts as long as this process. The kernel programs wrote the entry before this
        // page was asked for.
        unsafe { self.0.add(entry).read_volatile() }
    }
}
