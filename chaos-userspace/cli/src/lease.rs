//! When an injector renews its lease, and when an injection ends because nobody keeps it alive.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// Renewals per lease: an injector may be late by three quarters of it.
const PER_LEASE: u32 = 4;

/// Ticks whenever a lease of this length is to be renewed, the first time at once.
pub(super) fn renewals(lease: Duration) -> Interval {
    let mut renewals = interval(lease / PER_LEASE);
    // After a stop once is enough.
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewals
}

/// Waits until something changes by itself; for ever, if nothing does.
pub(super) async fn change(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => pending().await,
    }
}

/// `--keepalive`: an injection that ends unless somebody renews it.
#[derive(Debug)]
pub(super) struct Keepalive {
    /// `None`: nobody has to.
    length: Option<Duration>,
    lapses: Instant,
}

impl Keepalive {
    pub(super) fn new(length: Option<Duration>) -> Self {
        Self {
            length,
            lapses: Instant::now() + length.unwrap_or_default(),
        }
    }

    /// Lets it go on; for how long, if it has to be renewed at all.
    pub(super) fn renew(&mut self) -> Option<Duration> {
        let length = self.length?;
        self.lapses = Instant::now() + length;
        Some(length)
    }

    /// How long it goes on without anybody's doing.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.lapses.saturating_duration_since(Instant::now());
        self.length.map(|_| left)
    }

    /// Waits until nobody has renewed it in time.
    pub(super) async fn lapsed(&self) {
        match self.length {
            Some(_) => sleep_until(self.lapses).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LEASE: Duration = Duration::from_secs(2);

    /// A number below `below` that looks like any other.
    fn any(turn: u32, below: Duration) -> Duration {
        below.mul_f64(f64::from(turn.wrapping_mul(2_654_435_769)) / f64::from(u32::MAX))
    }

    /// A day of renewals, each of which comes late by anything below three quarters of the lease.
    #[tokio::test(start_paused = true)]
    async fn a_lease_holds_for_a_day_and_not_a_moment_longer() {
        let begun = Instant::now();
        let mut renewals = renewals(LEASE);
        let mut until = begun + LEASE;
        let mut turns = 0;
        while begun.elapsed() < DAY {
            renewals.tick().await;
            // What murphy is busy with instead. Timers are exact to a millisecond.
            advance(any(turns, LEASE * 3 / 4 - Duration::from_millis(2))).await;
            assert!(Instant::now() <= until, "after {:?}", begun.elapsed());
            until = Instant::now() + LEASE;
            turns += 1;
        }
        assert!(turns > 40_000, "{turns}");
        // Murphy dies here; the kernel compares with the same number.
        let died = Instant::now();
        assert_eq!(until - died, LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_renewed_for_a_day_lapses_when_nobody_comes() {
        let begun = Instant::now();
        let length = Duration::from_secs(30);
        let mut keepalive = Keepalive::new(Some(length));
        let mut turns = 0;
        while begun.elapsed() < DAY {
            let client = any(turns, length - Duration::from_millis(2));
            let lapsed = timeout(client, keepalive.lapsed()).await.is_ok();
            assert!(!lapsed, "after {:?}", begun.elapsed());
            assert!(keepalive.left().is_some_and(|left| left > Duration::ZERO));
            assert_eq!(keepalive.renew(), Some(length));
            turns += 1;
        }
        assert!(turns > 2_000, "{turns}");
        let died = Instant::now();
        keepalive.lapsed().await;
        assert!(died.elapsed() - length <= Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_keepalive_nobody_has_to_come() {
        let mut keepalive = Keepalive::new(None);
        assert_eq!((keepalive.renew(), keepalive.left()), (None, None));
        assert!(timeout(DAY, keepalive.lapsed()).await.is_err());
    }
}
