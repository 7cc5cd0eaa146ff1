//! The supervisor: receives the command's system calls, decides, and answers, many threads at a time and none waiting for another.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos_common::event::{Event, kind, verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::carry::Done;
use super::notify::{Answer, Listener, Notification};
use super::page::{Counter, HELD, Page, SUPERVISOR};
use super::privileges;
use super::rules::{Decision, Found, Rules, told_as};
use super::take::take;
use super::tell::Teller;
use super::victim::{Closes, Victim};
use super::wait::{Pending, Waiting, Wake};
use murphy_sys::clock::boot_ns;
use murphy_sys::helper::has_ended;

/// What the supervisor is given.
pub(super) struct Supervisor<'p> {
    pub(super) page: &'p Page,
    pub(super) rules: Rules,
    pub(super) murphy: OwnedFd,
    /// Rung when the page has something new.
    pub(super) bell: OwnedFd,
    pub(super) teller: Option<Teller>,
    pub(super) lease: Duration,
}

/// At work: it has the listener.
struct Work<'p> {
    given: Supervisor<'p>,
    listener: Listener,
    /// Its other end closes when the child executes the command.
    marker: OwnedFd,
    waiting: Waiting,
    /// Free places of [`Page::held`].
    free: Vec<usize>,
    /// Nothing is decided any more.
    passing: bool,
    /// Whether a signal can be sent to a thread before its answer without interrupting its wait.
    killable: bool,
}

impl Supervisor<'_> {
    /// Supervises until nobody is left under the filter.
    pub(super) fn run(self) {
        self.page.alive.store(boot_ns(), Ordering::Release);
        let Some((listener, marker)) = take(self.page, &self.murphy, SUPERVISOR) else {
            return;
        };
        if privileges::drop_unneeded().is_err() {
            return;
        }
        let mut work = Work {
            killable: self.page.killable.load(Ordering::Relaxed) != 0,
            given: self,
            listener,
            marker,
            waiting: Waiting::default(),
            free: (0..HELD).rev().collect(),
            passing: false,
        };
        while work.turn() {}
    }
}

impl Work<'_> {
    /// One turn of the loop; whether there is to be another.
    fn turn(&mut self) -> bool {
        let page = self.given.page;
        page.alive.store(boot_ns(), Ordering::Release);
        self.sleep();
        let now = boot_ns();
        page.alive.store(now, Ordering::Release);
        if !self.passing {
            let disarmed = page.disarmed.load(Ordering::Acquire) != 0;
            self.passing = disarmed || has_ended(&self.given.murphy);
        }
        self.armed(now);
        let mut left = 64;
        loop {
            let (ready, anybody) = self.listener.state();
            if !ready && !anybody {
                page.ended.store(1, Ordering::Release);
                page.settled.store(1, Ordering::Release);
                return false;
            }
            if !ready || left == 0 {
                break;
            }
            left -= 1;
            match self.listener.receive() {
                Ok(Some(notification)) => self.handle(&notification),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        let over = self.passing || now > page.lease_until.load(Ordering::Acquire);
        let due = if over { u64::MAX } else { boot_ns() };
        while let Some(place) = self.waiting.freed() {
            self.release(place);
        }
        while let Some(wake) = self.waiting.due(due) {
            self.wake(wake, over);
        }
        if self.passing {
            page.settled.store(1, Ordering::Release);
        }
        true
    }

    /// Until there is something to do, and no longer than others may take us for dead.
    fn sleep(&self) {
        let now = boot_ns();
        let mut longest = (self.given.lease / 8).min(Duration::from_millis(250));
        if let Some(next) = self.waiting.next() {
            let lease = self.given.page.lease_until.load(Ordering::Acquire) + 1;
            longest = longest.min(Duration::from_nanos(next.min(lease).saturating_sub(now)));
        }
        let mut events = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if !self.passing {
            events.push(PollFd::new(&self.given.murphy, PollFlags::IN));
            events.push(PollFd::new(&self.given.bell, PollFlags::IN));
        }
        if self.given.page.armed_at.load(Ordering::Relaxed) == 0 {
            events.push(PollFd::from_borrowed_fd(self.marker.as_fd(), PollFlags::IN));
        }
        let longest = Timespec::try_from(longest).unwrap_or_default();
        let _ = poll(&mut events, Some(&longest));
        // A rung bell need not be read: what it says is in the page, and it is rung once.
    }

    /// When the faults were armed; arms them if the child has executed the command by now. 0: it has not.
    fn armed(&self, now: u64) -> u64 {
        let at = self.given.page.armed_at.load(Ordering::Relaxed);
        if at != 0 || self.passing || !has_ended(&self.marker) {
            return at;
        }
        self.given.page.armed_at.store(now, Ordering::Release);
        now
    }

    fn handle(&mut self, notification: &Notification) {
        let page = self.given.page;
        let id = notification.id;
        page.last.store(id, Ordering::Release);
        let now = boot_ns();
        page.alive.store(now, Ordering::Release);
        let armed_at = self.armed(now);
        let Some(place) = self.free.pop() else {
            self.refuse(notification, now);
            return;
        };
        page.held[place].store(id, Ordering::Release);
        if self.waiting.resumes(notification, place) {
            return;
        }
        let wake = match armed_at {
            0 => None,
            _ if self.passing => None,
            _ => self.ask(notification, place, armed_at, now),
        };
        match wake {
            None => {
                let _ = self.listener.answer(id, Answer::Continue);
                self.release(place);
            }
            Some(Step::Over) => self.release(place),
            Some(Step::Sleeps(wake)) => self.waiting.add(*wake),
        }
    }

    /// Lets a call go on for which there is no room.
    fn refuse(&self, notification: &Notification, now: u64) {
        let mut naming = self.given.rules.naming(notification.number);
        while naming != 0 && !self.passing {
            let rule = &self.given.rules.all[naming.trailing_zeros() as usize];
            naming &= naming - 1;
            let identity = self.identity(Victim::new(notification).as_ref());
            self.conclude(notification, identity, rule.index, FAILED, now);
        }
        let _ = self.listener.answer(notification.id, Answer::Continue);
    }

    fn release(&mut self, place: usize) {
        self.given.page.held[place].store(0, Ordering::Release);
        self.free.push(place);
    }

    /// Asks the rules in their order; the first that injects wins. `None`: the call goes on.
    fn ask(
        &mut self,
        notification: &Notification,
        place: usize,
        armed_at: u64,
        now: u64,
    ) -> Option<Step> {
        let page = self.given.page;
        let in_lease = now <= page.lease_until.load(Ordering::Acquire);
        let elapsed = now.saturating_sub(armed_at);
        let mut naming = self.given.rules.naming(notification.number);
        let victim = Victim::new(notification);
        self.given.rules.hosts.refresh(&page.hosts);
        while naming != 0 {
            let at = naming.trailing_zeros() as usize;
            naming &= naming - 1;
            let rule = self.given.rules.all.get_mut(at)?;
            let index = rule.index;
            let names = &self.given.rules.hosts.names;
            let found = victim
                .as_ref()
                .and_then(|victim| rule.look(victim, names).ok());
            // All that is opened by the thread's number is opened before the check that it still
            // waits, and used after it.
            let identity = self.identity(victim.as_ref());
            let rule = self.given.rules.all.get_mut(at)?;
            let thread = match (rule.effect.signal, &victim) {
                (Some(signal), Some(victim)) => match victim.thread() {
                    Ok(thread) => Some((thread, i32::from(signal.get()))),
                    Err(_) => None,
                },
                _ => None,
            };
            let closes = match (&victim, rule.effect.answers()) {
                (Some(victim), true) => victim.closes(),
                _ => Ok(Closes::Nothing),
            };
            if !self.listener.is_valid(notification.id) {
                return Some(Step::Over);
            }
            if matches!(closes, Ok(Closes::NotOpen)) {
                // The kernel says EBADF, and nothing else can be.
                continue;
            }
            let (decision, job) = match found {
                Some(Found::Nothing) => continue,
                Some(Found::Match) => (rule.decide(notification.tid, in_lease, elapsed), None),
                Some(Found::Job(job)) => {
                    let decision = rule.decide(notification.tid, in_lease, elapsed);
                    (decision, Some(job))
                }
                None => (FAILED, None),
            };
            // An answer that would leave the descriptor open is none.
            let decision = if closes.is_err() { FAILED } else { decision };
            let closes = closes.unwrap_or(Closes::Nothing).open();
            if decision.verdict != verdict::INJECTED {
                self.conclude(notification, identity, index, decision, now);
                continue;
            }
            let seed = rule.wire.seed;
            if let Some(job) = job {
                let flips = |length| rule.effect.flips(seed, decision.n, length);
                let done = job.run(flips, || self.listener.is_valid(notification.id));
                let Ok(done) = done else {
                    self.conclude(notification, identity, index, FAILED, now);
                    continue;
                };
                let hit = self.hand_over(notification.id, done);
                let done = if hit { decision } else { FAILED };
                self.conclude(notification, identity, index, done, now);
                return Some(Step::Over);
            }
            let answer = rule.effect.answer(seed, decision.n);
            let at = now.saturating_add(rule.effect.delay(seed, decision.n).0);
            let end = armed_at.saturating_add(rule.wire.until_ns);
            let wake = Wake {
                at: at.min(end),
                is_too_late: at >= end,
                id: notification.id,
                place,
                call: *notification,
                answer: answer.map_or(Answer::Continue, Answer::Value),
                closes,
                signal: thread,
                // A thread that only sleeps is hit from now on. One that is to get an answer or a
                // signal is hit when it gets it, and not at all if the fault ends before.
                pending: (answer.is_some() || rule.effect.signal.is_some()).then_some(Pending {
                    rule: index,
                    decision,
                    decided_at: now,
                    identity,
                }),
            };
            if wake.at > now {
                if wake.pending.is_none() {
                    self.conclude(notification, identity, index, decision, now);
                }
                return Some(Step::Sleeps(Box::new(wake)));
            }
            let done = match self.act(&wake) {
                true => decision,
                // Interrupted in the meantime: it is made again, and evaluated again.
                false => FAILED,
            };
            self.conclude(notification, identity, index, done, now);
            return Some(Step::Over);
        }
        None
    }

    /// Answers with what was done in the thread's place; whether it was the effect, and the thread got it.
    fn hand_over(&self, id: u64, done: Done) -> bool {
        let moved = done.result > 0;
        let answered = self.listener.answer(id, Answer::Value(done.result)).is_ok();
        if !answered {
            done.undo();
        }
        answered && moved
    }

    /// Answers, and sends the signal; whether the thread got the answer.
    fn act(&self, wake: &Wake) -> bool {
        let signal = || match &wake.signal {
            Some((thread, signal)) => thread.signal(*signal).is_ok(),
            None => false,
        };
        // Before the answer, so that it is handled when the call returns. The thread still waits:
        // what the handle stands for has not become another program by execve(2).
        let killed = self.killable && self.listener.is_valid(wake.id) && signal();
        if let Some(fd) = wake.closes
            && matches!(wake.answer, Answer::Value(_))
            && self.close(wake.id, fd).is_err()
        {
            // Without it the answer would leave the descriptor open.
            let _ = self.listener.answer(wake.id, Answer::Continue);
            return killed;
        }
        let answered = self.listener.answer(wake.id, wake.answer).is_ok();
        if !self.killable && answered {
            signal();
        }
        // A signal that kills it does not wait for the answer.
        answered || killed
    }

    /// Closes a descriptor of a thread that waits, as far as that can be done from here: the file is
    /// let go, and the number stands for an end of a pipe that is closed at its other end. Reads see
    /// the end, writes are refused. Not `/dev/null`: a program may change the mode or the owner
    /// of what it has open, and that file is everybody's.
    fn close(&self, id: u64, fd: u32) -> io::Result<()> {
        let (read, _) = pipe_with(PipeFlags::CLOEXEC)?;
        self.listener.replace_fd(id, fd, &read)
    }

    /// Lets a thread go that slept. If everything is `over`, or its fault is, its call goes on without
    /// the answer and the signal that it was to get: nothing is injected after the end.
    fn wake(&mut self, mut wake: Wake, over: bool) {
        let (place, pending) = (wake.place, wake.pending);
        let over = over || wake.is_too_late;
        if over {
            (wake.answer, wake.signal) = (Answer::Continue, None);
        }
        let answered = self.act(&wake);
        if let Some(pending) = pending {
            let decision = match (over, answered) {
                (true, _) => OVER,
                (false, true) => pending.decision,
                (false, false) => FAILED,
            };
            let (rule, at) = (pending.rule, pending.decided_at);
            self.conclude(&wake.call, pending.identity, rule, decision, at);
        }
        self.release(place);
    }

    /// The thread's process and name, if an event would name them.
    fn identity(&self, victim: Option<&Victim>) -> (u32, [u8; 16]) {
        match (victim, &self.given.teller) {
            (Some(victim), Some(_)) => victim.identity(),
            _ => (0, [0; 16]),
        }
    }

    /// Counts a match and tells of it.
    fn conclude(
        &self,
        notification: &Notification,
        (pid, comm): (u32, [u8; 16]),
        rule: usize,
        decision: Decision,
        now: u64,
    ) {
        let page = self.given.page;
        page.count(rule, decision.counter);
        let Some(teller) = &self.given.teller else {
            return;
        };
        if !teller.hears(decision.verdict) {
            return;
        }
        let told = teller.tell(&Event {
            time_ns: now,
            elapsed_ns: now.saturating_sub(page.armed_at.load(Ordering::Relaxed)),
            n: decision.n,
            detail: [0; 2],
            pid,
            tid: notification.tid,
            rule: u32::try_from(rule).unwrap_or(u32::MAX),
            operation: told_as(notification.number),
            verdict: decision.verdict,
            kind: kind::NONE,
            port: 0,
            pad: 0,
            comm,
        });
        if !told {
            page.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of a call that a rule speaks of.
enum Step {
    /// The thread has its answer, or waits no more.
    Over,
    /// It is to wait.
    Sleeps(Box<Wake>),
}

/// The lease or the fault was over before the thread had its answer.
const OVER: Decision = Decision {
    counter: Counter::Expired,
    verdict: verdict::LEASE,
    n: 0,
};

/// Nothing could be decided.
const FAILED: Decision = Decision {
    counter: Counter::Failed,
    verdict: verdict::FAILED,
    n: 0,
};
