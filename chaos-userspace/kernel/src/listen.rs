//! Which decisions an injection reports as events.

use chaos_common::control;

/// Which decisions are reported as events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// None.
    #[default]
    Nothing,
    /// Injections.
    Injections,
    /// Every match, whatever became of it.
    Matches,
}

impl Listen {
    pub(crate) const fn wire(self) -> u32 {
        match self {
            Self::Nothing => control::LISTEN_NOTHING,
            Self::Injections => control::LISTEN_INJECTIONS,
            Self::Matches => control::LISTEN_MATCHES,
        }
    }
}
