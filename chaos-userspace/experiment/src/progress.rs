//! What an experiment tells while it goes on.

use std::sync::Arc;

use serde_json::Value;

use super::journal::Secrets;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The experiment began.
    Started {
        /// Its title.
        title: &'a str,
    },
    /// A phase began.
    Phase(Phase),
    /// An activity began.
    Activity {
        /// Its name.
        name: &'a str,
        /// Whether it is a rollback.
        background: bool,
    },
    /// An activity ended.
    Done {
        /// Its name.
        name: &'a str,
        /// What went wrong, if something did.
        failed: Option<&'a str>,
        /// Whether it stayed within its tolerance; absent where that was not asked.
        tolerance_met: Option<bool>,
    },
    /// What faults have done so far: reports of injections.
    Counters(&'a [Value]),
    /// Something the user should know.
    Notice(&'a str),
    /// A safety limit was crossed.
    Safety {
        /// The limit.
        limit: &'a str,
        /// By how much.
        text: &'a str,
    },
    /// The experiment ended.
    Ended {
        /// The journal's status.
        status: &'a str,
        /// Whether the steady state deviated.
        deviated: bool,
        /// What was measured.
        measured: Option<&'a Value>,
    },
}

/// Where an experiment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The hypothesis before the method.
    Before,
    /// The normal state is measured.
    Baseline,
    /// The method.
    Method,
    /// The hypothesis after the method.
    After,
    /// The rollbacks.
    Rollback,
    /// Waiting for the normal state to return.
    Recovery,
}

impl Phase {
    /// The word in logs and journals.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "steady_state_before",
            Self::Baseline => "baseline",
            Self::Method => "fault_injection",
            Self::After => "steady_state_after",
            Self::Rollback => "rollback",
            Self::Recovery => "recovery",
        }
    }
}

/// Whoever wants to know.
pub trait Observer: Send + Sync {
    /// Called on any thread.
    fn tell(&self, event: &Event<'_>);
}

/// Tells another observer everything but the secrets.
pub struct Redacted {
    to: Arc<dyn Observer>,
    secrets: Secrets,
}

impl Redacted {
    /// Keeps these secrets from an observer.
    pub fn new(to: Arc<dyn Observer>, secrets: Secrets) -> Self {
        Self { to, secrets }
    }
}

impl Observer for Redacted {
    fn tell(&self, event: &Event<'_>) {
        let text = |text: &str| self.secrets.out_of(text);
        match event {
            Event::Started { title } => self.to.tell(&Event::Started {
                title: &text(title),
            }),
            Event::Phase(phase) => self.to.tell(&Event::Phase(*phase)),
            Event::Activity { name, background } => self.to.tell(&Event::Activity {
                name: &text(name),
                background: *background,
            }),
            Event::Done {
                name,
                failed,
                tolerance_met,
            } => self.to.tell(&Event::Done {
                name: &text(name),
                failed: failed.map(text).as_deref(),
                tolerance_met: *tolerance_met,
            }),
            Event::Counters(reports) => {
                let mut reports = reports.to_vec();
                for report in &mut reports {
                    self.secrets.redact(report);
                }
                self.to.tell(&Event::Counters(&reports));
            }
            Event::Notice(said) => self.to.tell(&Event::Notice(&text(said))),
            Event::Safety { limit, text: said } => self.to.tell(&Event::Safety {
                limit,
                text: &text(said),
            }),
            Event::Ended {
                status,
                deviated,
                measured,
            } => {
                let mut measured = measured.cloned();
                if let Some(measured) = &mut measured {
                    self.secrets.redact(measured);
                }
                self.to.tell(&Event::Ended {
                    status,
                    deviated: *deviated,
                    measured: measured.as_ref(),
                });
            }
        }
    }
}

/// Nobody.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn tell(&self, _: &Event<'_>) {}
}
