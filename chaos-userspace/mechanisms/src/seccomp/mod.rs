//! The seccomp backend: the command of `run` and its descendants hand their system calls to a supervisor of ours, which answers.
//!
//! It needs neither root nor BPF, and serves any effect on any system call of Linux 5.9 and later. A filter cannot be taken off
//! again, and without anybody to answer, calls fail or hang. So there are two processes beside murphy, each in its own session and
//! with nothing of murphy's but what it needs: the *supervisor* decides and answers; the *holder* has the listener too and lets
//! everything go on when the supervisor is dead, stopped or stuck. Neither is under the filter. Both end when nobody is left who is.
//!
//! Architecture invariant: pure user space. What decides is [`chaos_common::decide`], as in the kernel programs.

mod carry;
mod child;
mod filter;
mod holder;
mod hosts;
mod mechanism;
mod notify;
mod page;
mod privileges;
mod rules;
mod supervisor;
mod take;
mod tell;
mod transfer;
mod victim;
mod wait;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chaos_common::counters::Counters;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::getpid;

use murphy_fault::plan::{Names, Plan};
use murphy_kernel::listen::Listen;
use murphy_sys::clock::boot_ns;
use murphy_sys::helper::Helper;
use murphy_sys::process::Process;
use page::Shared;
use rules::Rules;
use supervisor::Supervisor;
use tell::Teller;

pub(crate) use mechanism::Seccomp;
pub use tell::Told;

/// Steps that can fail, as [`page::Page::step`] numbers them.
mod step {
    pub(super) const MARKER: u32 = 0;
    pub(super) const FILTER: u32 = 1;
    pub(super) const FETCH: u32 = 2;
}

/// What a step is, in words.
const STEPS: [&str; 3] = [
    "making a pipe in the command's process",
    "putting the command under a seccomp filter",
    "fetching the filter's listener from the command's process",
];

/// Why the backend cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A step of putting the command under the filter.
    #[error("{step}: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something else the operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl SeccompError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// What its user can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        let Self::Step { step, source } = self else {
            return None;
        };
        Some(match source.raw_os_error() {
            Some(libc::EBUSY) => {
                "murphy itself runs under a supervised seccomp filter, and the kernel has one supervisor at most: do not nest"
            }
            Some(libc::EINVAL | libc::ENOSYS) => {
                "it needs Linux 5.9 or later with CONFIG_SECCOMP_FILTER"
            }
            Some(libc::EPERM | libc::EACCES) if *step == STEPS[step::FETCH as usize] => {
                "kernel.yama.ptrace_scope of 2 or 3, or a container's rules, keep a process from looking into its own child"
            }
            _ => return None,
        })
    }

    /// Whether the machine lacks something, as opposed to an accident.
    pub fn is_missing_feature(&self) -> bool {
        self.remedy().is_some()
    }
}

/// How supervisor and holder are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Both are there, or are not needed any more.
    #[default]
    Well,
    /// The supervisor is stopped or stuck: the holder lets everything go on until it is back.
    Silent,
    /// The supervisor is dead: the holder lets everything go on.
    Unsupervised,
    /// Both are dead: nobody answers the command's system calls.
    Abandoned,
}

/// A command under supervision, from murphy's side.
#[derive(Debug)]
pub struct Supervision {
    page: Arc<Shared>,
    program: Arc<[libc::sock_filter]>,
    supervisor: Helper,
    holder: Helper,
    bell: OwnedFd,
    told: Option<Told>,
    lease: Duration,
    /// What the supervisor was told last of names of hosts.
    names: Names,
    over: bool,
}

/// What the child needs to put itself under the filter.
#[derive(Clone, Debug)]
pub struct Entrance {
    page: Arc<Shared>,
    program: Arc<[libc::sock_filter]>,
    /// Murphy's process.
    parent: libc::pid_t,
    supervisor: libc::pid_t,
}

impl Entrance {
    /// Puts this process, and whatever it becomes and starts, under the filter. Faults are armed when it executes something.
    /// To be called between fork and exec: it makes system calls only.
    ///
    /// # Errors
    ///
    /// It could not; [`Supervision::failure`] says why.
    pub fn enter(&self) -> io::Result<()> {
        child::enter(&self.page, &self.program, self.parent, self.supervisor)
    }
}

impl Supervision {
    /// Starts supervisor and holder for the rules of a plan that are this backend's. To be called while the program has one thread.
    ///
    /// # Errors
    ///
    /// Nothing is left.
    pub fn start(plan: &Plan, lease: Duration, listen: Listen) -> Result<Self, SeccompError> {
        let page = Arc::new(Shared::new().map_err(SeccompError::io("mapping shared memory"))?);
        let rules = Rules::of(plan);
        let program = filter::program(&rules.calls()).into();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| SeccompError::io("making an eventfd")(error.into()))?;
        let murphy = Process::this()
            .map_err(SeccompError::io("opening a pidfd"))?
            .into_pidfd();
        let pipe = match listen {
            Listen::Nothing => None,
            Listen::Injections | Listen::Matches => {
                Some(tell::pipe().map_err(SeccompError::io("making a pipe for events"))?)
            }
        };
        let (told, write) = pipe.unzip();
        let mut descriptors = vec![&murphy, &bell];
        descriptors.extend(&write);
        let shared = Arc::clone(&page);
        let supervisor = Helper::start(c"murphy-seccomp", &descriptors, move |kept| {
            let mut kept = kept.into_iter();
            let (Some(murphy), Some(bell)) = (kept.next(), kept.next()) else {
                return;
            };
            let supervisor = Supervisor {
                page: &shared,
                rules,
                murphy,
                bell,
                teller: kept.next().map(|pipe| Teller::new(pipe, listen)),
                lease,
            };
            supervisor.run();
        })
        .map_err(SeccompError::io("starting the supervisor"))?;
        let shared = Arc::clone(&page);
        let descriptors = [&murphy, &supervisor.pidfd];
        let holder = Helper::start(c"murphy-holder", &descriptors, move |kept| {
            if let [murphy, supervisor] = kept.as_slice() {
                holder::hold(&shared, murphy, supervisor, lease);
            }
        });
        let holder = match holder {
            Ok(holder) => holder,
            Err(source) => {
                page.disarmed.store(1, Ordering::Release);
                supervisor.reap(END);
                return Err(SeccompError::io("starting the holder")(source));
            }
        };
        let supervision = Self {
            page,
            program,
            supervisor,
            holder,
            bell,
            told,
            lease,
            names: plan.names.clone(),
            over: false,
        };
        supervision.renew();
        Ok(supervision)
    }

    /// What the child is to do between fork and exec.
    pub fn entrance(&self) -> Entrance {
        Entrance {
            page: Arc::clone(&self.page),
            program: Arc::clone(&self.program),
            parent: getpid().as_raw_nonzero().get(),
            supervisor: self.supervisor.pid.as_raw_nonzero().get(),
        }
    }

    /// Lets injections go on for another lease.
    pub fn renew(&self) {
        let lease = u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX / 2);
        let until = boot_ns().saturating_add(lease);
        self.page.lease_until.store(until, Ordering::Release);
    }

    /// Says what names of hosts stand for from now on; what is not said of one stays.
    pub fn readdress(&mut self, names: &Names) {
        for (name, addresses) in names.iter() {
            if self.names.get(name).is_some() {
                self.names.set(name.clone(), addresses.iter().copied());
            }
        }
        self.page.hosts.write(&self.names);
    }

    /// Boot time in ns until which injections go on without [`Supervision::renew`].
    pub fn lease_until(&self) -> u64 {
        self.page.lease_until.load(Ordering::Acquire)
    }

    /// Why the command could not be put under the filter, if that is so.
    pub fn failure(&self) -> Option<SeccompError> {
        let errno = self.page.errno.load(Ordering::Acquire);
        let step = self.page.step.load(Ordering::Acquire) as usize;
        (errno != 0).then(|| SeccompError::Step {
            step: STEPS.get(step).copied().unwrap_or("seccomp"),
            source: io::Error::from_raw_os_error(errno),
        })
    }

    /// How supervisor and holder are.
    pub fn health(&self) -> Health {
        if self.is_deserted() || self.page.listener.load(Ordering::Acquire) == 0 {
            return Health::Well;
        }
        match (self.supervisor.has_ended(), self.holder.has_ended()) {
            (false, _) if self.is_silent() => Health::Silent,
            (false, _) => Health::Well,
            (true, false) => Health::Unsupervised,
            (true, true) => Health::Abandoned,
        }
    }

    /// Whether the supervisor has done nothing for longer than a lease.
    fn is_silent(&self) -> bool {
        let lease = u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX / 4);
        boot_ns()
            > self
                .page
                .alive
                .load(Ordering::Acquire)
                .saturating_add(lease)
    }

    /// Whether nobody is left under the filter.
    pub fn is_deserted(&self) -> bool {
        self.page.ended.load(Ordering::Acquire) != 0
    }

    /// Boot time in ns since which the faults are armed; 0: they were not.
    pub fn armed_at(&self) -> u64 {
        self.page.armed_at.load(Ordering::Acquire)
    }

    /// What became of the matches of a rule.
    pub fn counters(&self, rule: usize) -> Counters {
        self.page.counters(rule)
    }

    /// Events that found no room.
    pub fn lost(&self) -> u64 {
        self.page.lost.load(Ordering::Relaxed)
    }

    /// The reading end of events; it can be taken once.
    pub fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }

    /// The processes of the backend itself.
    pub fn helpers(&self) -> [u32; 2] {
        [&self.supervisor, &self.holder].map(|one| one.pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Ends every injection; threads that sleep wake. What is left under the filter goes on without faults, and supervisor
    /// and holder stay as long as it does. Afterwards the counters stand still.
    pub fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        self.page.disarmed.store(1, Ordering::Release);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        let until = Instant::now() + END;
        let begun = self.page.listener.load(Ordering::Acquire) != 0;
        let settled = || self.page.settled.load(Ordering::Acquire) != 0;
        while begun && !settled() && !self.supervisor.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        if begun && !settled() {
            // It is stopped or stuck, and would stay. The holder does its work.
            self.supervisor.kill_now();
            self.supervisor.reap(END);
        }
        // What is left under the filter still needs them.
        if !begun || self.is_deserted() {
            self.supervisor.reap(END);
            self.holder.reap(END);
        }
    }
}

/// How long the supervisor is given to see that it is over.
const END: Duration = Duration::from_secs(2);

impl Drop for Supervision {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether this kernel has what the backend needs, as far as can be told without a filter.
///
/// # Errors
///
/// What is missing.
pub fn available() -> Result<(), String> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads the action and writes the sizes.
    let results = unsafe {
        [
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_GET_ACTION_AVAIL,
                0,
                &raw const action,
            ),
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_GET_NOTIF_SIZES,
                0,
                &raw mut sizes,
            ),
        ]
    };
    if results != [0, 0] {
        return Err(format!(
            "the kernel has no seccomp user notification: {}",
            io::Error::last_os_error()
        ));
    }
    Ok(())
}
