//! Safety limits: when an experiment is stopped and rolled back by itself.

/// A limit that was crossed.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Its name, as in the file.
    pub limit: &'static str,
    /// What it allows and what was seen.
    pub text: String,
}
