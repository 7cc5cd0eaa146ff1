//! The time, and waiting for it.

use std::rc::Rc;
use std::time::Duration;

use jiff::Zoned;

use super::Ending;

/// The time, and waiting for it.
pub trait Clock {
    /// What time it is, where this machine is.
    fn now(&self) -> Zoned;
    /// Waits, less long if somebody wants an end.
    fn sleep(&self, time: Duration);
    /// Whether somebody wants an end.
    fn is_over(&self) -> bool;
}

/// The machine's clock.
#[derive(Clone, Debug)]
pub struct SystemClock {
    ending: Rc<Ending>,
}

impl SystemClock {
    /// A clock whose waits these signals end.
    pub fn new(ending: Rc<Ending>) -> Self {
        Self { ending }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Zoned {
        Zoned::now()
    }

    fn sleep(&self, time: Duration) {
        self.ending.sleep(time);
    }

    fn is_over(&self) -> bool {
        self.ending.is_over()
    }
}
