//! The second holder of the listener: it lets every system call go on when the supervisor is dead, stopped or stuck.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::notify::{Answer, Listener};
use super::page::{HOLDER, Page};
use super::take::take;
use murphy_sys::clock::boot_ns;
use murphy_sys::helper::has_ended;

/// How many notifications the supervisor can have received without having noted them: one, and some room.
const UNNOTED: u64 = 8;

/// Holds, until nobody is left under the filter.
pub(super) fn hold(page: &Page, murphy: &OwnedFd, supervisor: &OwnedFd, lease: Duration) {
    let Some((listener, marker)) = take(page, murphy, HOLDER) else {
        return;
    };
    drop(marker);
    let lease_ns = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX / 4);
    // No longer than it takes that the delay is not felt beyond the lease.
    let pause = (lease / 4).clamp(Duration::from_millis(20), Duration::from_millis(500));
    let pause = Timespec::try_from(pause).unwrap_or_default();
    loop {
        let dead = has_ended(supervisor);
        let late = boot_ns() > page.alive.load(Ordering::Acquire).saturating_add(lease_ns);
        let serving = dead || late;
        if serving {
            let_go(page, &listener);
        }
        let wanted = if serving {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut events = vec![PollFd::new(&listener, wanted)];
        if !dead {
            events.push(PollFd::new(supervisor, PollFlags::IN));
        }
        let _ = poll(&mut events, Some(&pause));
        if events[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
        {
            return;
        }
    }
}

/// Answers whatever waits: what the supervisor had received, and what nobody has.
fn let_go(page: &Page, listener: &Listener) {
    for place in &page.held {
        let id = place.swap(0, Ordering::AcqRel);
        if id != 0 {
            let _ = listener.answer(id, Answer::Continue);
        }
    }
    // Ids follow each other: the supervisor may have died between receiving one and noting it.
    let last = page.last.load(Ordering::Acquire);
    for id in 1..=UNNOTED {
        let _ = listener.answer(last.wrapping_add(id), Answer::Continue);
    }
    while listener.state().0 {
        match listener.receive() {
            Ok(Some(notification)) => {
                page.last.store(notification.id, Ordering::Release);
                let _ = listener.answer(notification.id, Answer::Continue);
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
