//! The guardian's own process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{chdir, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::{Answer, MESSAGE, Message, READY};
use crate::undo::Undo;
use murphy_state::cleanup::{self, Cleanup, Outcome};
use murphy_sys::clock::boot_ns;
use murphy_sys::helper::close_between;

/// What is to be undone, and the network namespace in which: its path may be gone by then.
struct Entry {
    undo: Undo,
    namespace: Option<File>,
    /// It was undone, or tried to be, when its time was over; not again before the next lease.
    tried: bool,
}

/// How long after the end of a condition's own time the guardian undoes it: the injector does so
/// itself, at that time.
const SLACK_NS: u64 = 200_000_000;

/// What the injector has said.
#[derive(Default)]
struct Journal {
    /// Newest last.
    entries: Vec<Entry>,
    /// Boot time in ns until which what ends with the lease stays in force; 0: no lease was given.
    lease_ns: u64,
}

impl Journal {
    /// Boot time in ns at which something is to be undone although the injector lives.
    fn next_end(&self) -> Option<u64> {
        self.entries
            .iter()
            .filter_map(|entry| self.end_of(entry))
            .min()
    }

    fn end_of(&self, entry: &Entry) -> Option<u64> {
        let cleanup = match &entry.undo {
            Undo::Cleanup(cleanup) if !entry.tried => cleanup,
            _ => return None,
        };
        let lease = (cleanup.ends_with_lease() && self.lease_ns != 0).then_some(self.lease_ns);
        let own = cleanup.until_ns();
        let own = own.map(|until| until.saturating_add(SLACK_NS));
        lease.into_iter().chain(own).min()
    }

    /// Undoes what has come to its end, newest first. What cannot be undone now is tried again at
    /// the very end.
    fn undo_ended(&mut self) {
        let now = boot_ns();
        let has_ended = |entry: &Entry| self.end_of(entry).is_some_and(|end| end <= now);
        let ended: Vec<_> = self.entries.iter().map(has_ended).collect();
        let entries = self.entries.iter_mut().zip(ended);
        let mut ended: Vec<_> = entries
            .filter_map(|(entry, ended)| ended.then_some(entry))
            .collect();
        // They stay until the injector forgets them: what was about to be made may be made yet.
        for entry in &mut ended {
            entry.tried = true;
        }
        let ended: Vec<_> = ended.iter().rev().map(|entry| &**entry).collect();
        undo_each(&ended);
    }
}

/// Runs the guardian and ends its process. Nothing of the injector's copy runs: no destructor, no exit handler, no buffer.
pub(super) fn main(socket: &OwnedFd, injector: &OwnedFd) -> ! {
    let code = catch_unwind(AssertUnwindSafe(|| {
        let (socket, injector) = detach(socket, injector)?;
        answer(&socket, &Answer::to(READY, Ok(())));
        let mut journal = Journal::default();
        listen(&socket, &injector, &mut journal);
        // Before the work: whoever waits for the answer to an entry need not wait for that.
        drop(socket);
        Ok::<_, io::Error>(undo_all(&journal.entries))
    }));
    let code = i32::from(!matches!(code, Ok(Ok(true))));
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(code) }
}

/// Lets go of everything that is the injector's: session, terminal, directory, and every descriptor but the two given, which
/// are given back under new numbers.
fn detach(socket: &OwnedFd, injector: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    setsid()?;
    chdir("/")?;
    rustix::thread::set_name(c"murphy-guard")?;
    // Somebody who reads the command's output to its end must not wait for us.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // Above every other, so that one range closes all others.
    let socket = fcntl_dupfd_cloexec(socket, 3)?;
    let injector = fcntl_dupfd_cloexec(injector, 3)?;
    let (low, high) = {
        let (a, b) = (socket.as_raw_fd(), injector.as_raw_fd());
        (a.min(b), a.max(b))
    };
    close_between(3, low - 1)?;
    close_between(low + 1, high - 1)?;
    close_between(high + 1, RawFd::MAX)?;
    // Its number is closed by now.
    std::mem::forget(null);
    Ok((socket, injector))
}

/// Keeps the journal until the injector closes its end or dies.
fn listen(socket: &OwnedFd, injector: &OwnedFd, journal: &mut Journal) {
    let mut buffer = vec![0; MESSAGE];
    loop {
        let mut events = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::from_borrowed_fd(injector.as_fd(), PollFlags::IN),
        ];
        let left = journal.next_end().map(|end| {
            let left = Duration::from_nanos(end.saturating_sub(boot_ns()));
            Timespec::try_from(left).unwrap_or_default()
        });
        if let Err(error) = poll(&mut events, left.as_ref())
            && error != Errno::INTR
        {
            return;
        }
        // What the injector said last comes before its end.
        match recv(socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return,
            Ok((length, _)) => {
                if let Some(reply) = record(&buffer[..length.min(MESSAGE)], journal) {
                    answer(socket, &reply);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                if !events[1].revents().is_empty() {
                    return;
                }
                // Not before everything is read: a lease may be among it.
                journal.undo_ended();
            }
            // Told once if the injector died without reading our last answer; what it said itself is still to be read.
            Err(Errno::CONNRESET) => {}
            Err(_) => return,
        }
    }
}

/// If it does not arrive, the injector takes that as a refusal.
fn answer(socket: &OwnedFd, answer: &Answer) {
    if let Ok(bytes) = serde_json::to_vec(answer) {
        let _ = send(socket, &bytes, SendFlags::NOSIGNAL);
    }
}

/// Writes a message into the journal. The answer, if one is due.
fn record(message: &[u8], journal: &mut Journal) -> Option<Answer> {
    match serde_json::from_slice(message).ok()? {
        Message::Journal { entry, undo } => {
            let result = undo.namespace().map(|namespace| {
                journal.entries.push(Entry {
                    undo,
                    namespace,
                    tried: false,
                });
            });
            Some(Answer::to(entry, result))
        }
        Message::Forget { undo } => {
            for undo in undo {
                let mut entries = journal.entries.iter();
                if let Some(place) = entries.rposition(|entry| entry.undo == undo) {
                    journal.entries.remove(place);
                }
            }
            None
        }
        Message::Lease { until_ns } => {
            journal.lease_ns = until_ns;
            let now = boot_ns();
            for entry in &mut journal.entries {
                // What is over by its own time does not begin anew.
                let is_over = match &entry.undo {
                    Undo::Cleanup(cleanup) => cleanup.until_ns().is_some_and(|until| until <= now),
                    Undo::Record(_) => false,
                };
                entry.tried &= is_over;
            }
            None
        }
    }
}

/// Undoes the journal, newest first. One failure does not keep the others from being undone.
fn undo_all(journal: &[Entry]) -> bool {
    let (records, cleanups): (Vec<_>, Vec<_>) = journal
        .iter()
        .rev()
        .partition(|entry| entry.undo.is_record());
    // The record is the oldest. It stays for `murphy recover`, which tries again, if something
    // does.
    undo_each(&cleanups) && undo_each(&records)
}

/// Undoes some entries in this order, but limits next to each other together: processes are looked
/// at once for all of these. Returns whether all are undone.
fn undo_each(entries: &[&Entry]) -> bool {
    fn limit(entry: &Entry) -> Option<&Cleanup> {
        match &entry.undo {
            Undo::Cleanup(cleanup) if cleanup.ends_with_lease() => Some(cleanup),
            _ => None,
        }
    }
    let mut all = true;
    for group in entries.chunk_by(|one, next| limit(one).is_some() && limit(next).is_some()) {
        let limits: Vec<_> = group
            .iter()
            .filter_map(|entry| limit(entry).cloned())
            .collect();
        let outcomes: Vec<io::Result<Outcome>> = match limits.is_empty() {
            true => {
                let group = group.iter();
                group
                    .map(|entry| entry.undo.undo_in(entry.namespace.as_ref()))
                    .collect()
            }
            false => cleanup::undo_all(&limits),
        };
        for (entry, outcome) in group.iter().zip(outcomes) {
            if let Err(error) = outcome {
                all = false;
                let undo = &entry.undo;
                report(&format!("murphy-guard: could not undo {undo}: {error}"));
            }
        }
    }
    all
}

/// To the kernel's log: by now nobody else listens.
fn report(line: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(name: &str) -> Undo {
        Undo::from(Cleanup::Cgroup {
            path: name.into(),
            back_to: "/".into(),
        })
    }

    fn say(message: &Message, journal: &mut Journal) -> Option<Answer> {
        record(&serde_json::to_vec(message).unwrap(), journal)
    }

    #[test]
    fn forgets_the_newest_of_equals_and_nothing_else() {
        let mut journal = Journal::default();
        for (entry, name) in (1..).zip(["a", "b", "a"]) {
            let undo = cgroup(name);
            let answer = say(&Message::Journal { entry, undo }, &mut journal);
            assert_eq!(answer, Some(Answer { entry, error: None }));
        }
        for name in ["a", "never"] {
            let undo = cgroup(name);
            let undo = vec![undo];
            assert_eq!(say(&Message::Forget { undo }, &mut journal), None);
        }
        let left: Vec<_> = journal
            .entries
            .into_iter()
            .map(|entry| entry.undo)
            .collect();
        assert_eq!(left, [cgroup("a"), cgroup("b")]);
    }

    #[test]
    fn refuses_what_it_could_not_undo() {
        let mut journal = Journal::default();
        let undo = Undo::from(Cleanup::TcFilter {
            netns: Some("/nowhere/at/all".into()),
            ifindex: 1,
            interface: "lo".to_owned(),
            side: murphy_kernel::clsact::Side::Egress,
            priority: 1,
            made_clsact: false,
        });
        let answer = say(&Message::Journal { entry: 1, undo }, &mut journal).unwrap();
        assert!(
            answer
                .error
                .is_some_and(|error| error.contains("No such file"))
        );
        let unknown = br#"{"journal":{"entry":1,"undo":{"kind":"moon"}}}"#;
        assert_eq!(record(unknown, &mut journal), None);
        assert!(journal.entries.is_empty());
    }
}
