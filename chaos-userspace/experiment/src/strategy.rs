//! When the hypothesis is checked, and when rollbacks are played.

use serde_json::Value;

/// The words for [`Rollbacks`].
pub const ROLLBACKS: [&str; 4] = ["default", "always", "never", "deviated"];
/// The words for [`Hypothesis`]; the last is an old misspelling, and `skip` is for experiments' own use.
pub const HYPOTHESES: [&str; 7] = [
    "default",
    "before-method-only",
    "after-method-only",
    "during-method-only",
    "continuously",
    "continously",
    "skip",
];

/// When rollbacks are played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollbacks {
    /// Unless the experiment failed or was interrupted.
    #[default]
    Default,
    /// Whatever happened.
    Always,
    /// Whatever happened, not.
    Never,
    /// If the steady state has deviated.
    Deviated,
}

/// When the hypothesis is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hypothesis {
    /// Before the method, as a gate, and after it.
    #[default]
    Default,
    /// Only before.
    Before,
    /// Only after.
    After,
    /// Only during the method, again and again.
    During,
    /// Before, during, and after.
    Continuously,
    /// Not at all.
    Skip,
}

impl Rollbacks {
    /// The strategy of a word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "default" => Some(Self::Default),
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            "deviated" => Some(Self::Deviated),
            _ => None,
        }
    }
}

impl Hypothesis {
    /// The strategy of a word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "default" => Some(Self::Default),
            "before-method-only" => Some(Self::Before),
            "after-method-only" => Some(Self::After),
            "during-method-only" => Some(Self::During),
            "continuously" | "continously" => Some(Self::Continuously),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }

    /// Whether the gate is asked.
    pub fn before(self) -> bool {
        matches!(self, Self::Default | Self::Before | Self::Continuously)
    }

    /// Whether it is checked while the method goes on.
    pub fn during(self) -> bool {
        matches!(self, Self::During | Self::Continuously)
    }

    /// Whether it is checked after the method.
    pub fn after(self) -> bool {
        matches!(self, Self::Default | Self::After | Self::Continuously)
    }
}

/// The word for a strategy (`rollbacks` or `hypothesis`): the command line's, else the experiment's, else the
/// settings'. As in Chaos Toolkit, an experiment with a table `runtime` puts the settings aside even where
/// it says nothing.
pub fn word<'a>(
    part: &str,
    asked: Option<&'a str>,
    experiment: Option<&'a Value>,
    settings: Option<&'a Value>,
) -> &'a str {
    let of = |runtime: Option<&'a Value>| runtime?.get(part)?.get("strategy")?.as_str();
    let runtime = experiment.filter(|runtime| super::python_like::truthy(runtime));
    asked
        .or_else(|| match runtime {
            Some(runtime) => of(Some(runtime)),
            None => of(settings),
        })
        .unwrap_or("default")
}

/// What is not carried out, only written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dry {
    /// Probes.
    Probes,
    /// Actions.
    Actions,
    /// Both.
    Activities,
    /// Pauses.
    Pause,
}

impl Dry {
    /// What a word means.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Probes, Self::Actions, Self::Activities, Self::Pause]
            .into_iter()
            .find(|dry| dry.word() == word)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Actions => "actions",
            Self::Activities => "activities",
            Self::Pause => "pause",
        }
    }
}
