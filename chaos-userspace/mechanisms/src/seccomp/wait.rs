//! Threads that are to sleep: a queue in the order of their waking, not a sleep for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::notify::{Answer, Notification};
use super::rules::Decision;
use murphy_sys::process::Thread;

/// A thread that is to be answered later.
#[derive(Debug)]
pub(super) struct Wake {
    /// When, as boot time in ns.
    pub(super) at: u64,
    /// Whether its fault's time is over by then: its call goes on, and nothing else happens.
    pub(super) is_too_late: bool,
    /// What waits for the answer.
    pub(super) id: u64,
    /// Its place in the page.
    pub(super) place: usize,
    /// The call.
    pub(super) call: Notification,
    /// The answer.
    pub(super) answer: Answer,
    /// The descriptor that is closed before an answer to close(2): Linux frees it, whatever the
    /// call returns.
    pub(super) closes: Option<u32>,
    /// A signal that the thread gets with it, and the thread.
    pub(super) signal: Option<(Thread, i32)>,
    /// What is counted once the thread has its answer; `None` if that was done when it fell asleep.
    pub(super) pending: Option<Pending>,
}

/// A match whose outcome is known only when the thread wakes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// The rule, as the plan numbers it.
    pub(super) rule: usize,
    /// What was decided.
    pub(super) decision: Decision,
    /// When, as boot time in ns.
    pub(super) decided_at: u64,
    /// The thread's process and name at that time.
    pub(super) identity: (u32, [u8; 16]),
}

/// A call, told from others of the same thread.
type Key = (u32, u32, [u64; 6]);

/// The threads that sleep.
#[derive(Default)]
pub(super) struct Waiting {
    queue: BinaryHeap<Reverse<(u64, Key)>>,
    asleep: HashMap<Key, Wake>,
    /// Places in the page of calls that were interrupted: nothing waits in them any more.
    freed: Vec<usize>,
}

fn key(call: &Notification) -> Key {
    (call.tid, call.number, call.arguments)
}

impl Waiting {
    pub(super) fn add(&mut self, wake: Wake) {
        let key = key(&wake.call);
        self.queue.push(Reverse((wake.at, key)));
        if let Some(before) = self.asleep.insert(key, wake) {
            self.freed.push(before.place);
        }
    }

    /// Whether a call is one that sleeps: a signal interrupted it (before 5.19), and the kernel calls again. It
    /// sleeps on, and is no new match.
    pub(super) fn resumes(&mut self, call: &Notification, place: usize) -> bool {
        let Some(wake) = self.asleep.get_mut(&key(call)) else {
            return false;
        };
        self.freed.push(wake.place);
        (wake.id, wake.place, wake.call) = (call.id, place, *call);
        true
    }

    /// Takes a place that is free again.
    pub(super) fn freed(&mut self) -> Option<usize> {
        self.freed.pop()
    }

    /// When the next is to be woken.
    pub(super) fn next(&self) -> Option<u64> {
        match self.freed.is_empty() {
            true => self.queue.peek().map(|Reverse((at, _))| *at),
            false => Some(0),
        }
    }

    /// One that is to be woken by then.
    pub(super) fn due(&mut self, now: u64) -> Option<Wake> {
        loop {
            let Reverse((at, key)) = *self.queue.peek()?;
            if at > now {
                return None;
            }
            self.queue.pop();
            // One that was added again has a later entry.
            if self.asleep.get(&key).is_some_and(|wake| wake.at == at) {
                return self.asleep.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(at: u64, tid: u32, id: u64) -> Wake {
        Wake {
            at,
            is_too_late: false,
            id,
            place: 0,
            call: Notification {
                id,
                tid,
                number: 74,
                arguments: [0; 6],
            },
            answer: Answer::Continue,
            closes: None,
            signal: None,
            pending: None,
        }
    }

    #[test]
    fn they_wake_in_the_order_of_their_time() {
        let mut waiting = Waiting::default();
        for (at, tid) in [(30, 1), (10, 2), (20, 3)] {
            waiting.add(wake(at, tid, u64::from(tid)));
        }
        assert_eq!(waiting.next(), Some(10));
        let mut woken = Vec::new();
        while let Some(wake) = waiting.due(25) {
            woken.push(wake.call.tid);
        }
        assert_eq!(woken, [2, 3]);
        assert_eq!(waiting.due(u64::MAX).map(|wake| wake.at), Some(30));
        assert!(waiting.due(u64::MAX).is_none() && waiting.next().is_none());
    }

    #[test]
    fn an_interrupted_call_sleeps_on() {
        let mut waiting = Waiting::default();
        waiting.add(wake(50, 1, 7));
        let again = wake(0, 1, 8).call;
        assert!(waiting.resumes(&again, 3));
        assert!(!waiting.resumes(&wake(0, 2, 9).call, 4));
        // The place of the first is given back at once, the second wakes at the time of the first.
        assert_eq!((waiting.next(), waiting.freed()), (Some(0), Some(0)));
        assert_eq!((waiting.next(), waiting.freed()), (Some(50), None));
        assert!(waiting.due(49).is_none());
        let woken = waiting.due(50).unwrap();
        assert_eq!((woken.id, woken.place), (8, 3));
    }
}
