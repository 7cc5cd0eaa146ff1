//! Patterns of paths as the kernel programs match them.
//!
//! They know a file by the directories it is in, not by a string: a pattern is a folder, and what is meant in it. So mounts,
//! links and relative paths lead to the same place; what cannot be said in this form is refused.

use std::path::PathBuf;

use crate::Glob;

/// The longest name, or beginning of one, that is compared, in bytes.
const LONGEST: usize = chaos_common::lsm::NAME - 2;

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The folder, without wildcards.
    pub folder: PathBuf,
    /// What is meant in it.
    pub entry: Entry,
}

/// What of a folder is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The entry of this name, whether it is there or not: `/etc/passwd`.
    Named(String),
    /// Entries that begin like this; empty: every entry. `/var/log/app*`, `/tmp/*`.
    Begins(String),
    /// Everything below, at any depth: `/srv/**`.
    Below,
}

impl Pattern {
    /// Takes a pattern apart.
    ///
    /// # Errors
    ///
    /// Why it cannot be matched in the kernel.
    pub fn new(glob: &Glob) -> Result<Self, String> {
        let text = glob.as_str();
        let problem = |why: &str| format!("`path={text}`: {why}");
        let (folder, last) = match text.rsplit_once('/') {
            Some(("", last)) => ("/", last),
            Some(parts) => parts,
            None => {
                return Err(problem(
                    "it is matched from a folder, so it begins with `/`",
                ));
            }
        };
        if folder.contains(['*', '?', '[']) {
            return Err(problem(
                "kernel programs have wildcards in the last name only; `/folder/**` is everything below a folder",
            ));
        }
        let folder = PathBuf::from(folder);
        let entry = match last {
            "**" => Entry::Below,
            "" | "." | ".." => return Err(problem("its last name says nothing")),
            _ if last.trim_end_matches('*').contains(['*', '?', '[']) => {
                return Err(problem(
                    "kernel programs have one `*`, at the end of the last name",
                ));
            }
            _ => match last.strip_suffix('*') {
                Some(beginning) => Entry::Begins(beginning.to_owned()),
                None => Entry::Named(last.to_owned()),
            },
        };
        if let Entry::Named(name) | Entry::Begins(name) = &entry
            && name.len() > LONGEST
        {
            return Err(problem(
                "its last name is too long for kernel programs, which compare 62 bytes",
            ));
        }
        Ok(Self { folder, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, String> {
        Pattern::new(&Glob::new(text).unwrap())
    }

    #[test]
    fn a_folder_and_what_is_meant_in_it() {
        let is = |text: &str, folder: &str, entry: Entry| {
            let folder = folder.into();
            assert_eq!(pattern(text), Ok(Pattern { folder, entry }), "{text}");
        };
        is("/etc/passwd", "/etc", Entry::Named("passwd".into()));
        is("/x", "/", Entry::Named("x".into()));
        is("/tmp/*", "/tmp", Entry::Begins(String::new()));
        is("/var/log/app*", "/var/log", Entry::Begins("app".into()));
        is("/srv/**", "/srv", Entry::Below);
        is("/**", "/", Entry::Below);
    }

    #[test]
    fn what_the_kernel_cannot_match_is_refused() {
        for text in [
            "/a/*/c", "/a/**/c", "/a/*.log", "/a/b?", "/a/[ab]", "*.so", "/a/",
        ] {
            let refusal = pattern(text).unwrap_err();
            assert!(refusal.contains(text), "{refusal}");
        }
        assert!(pattern(&format!("/{}", "x".repeat(62))).is_ok());
        assert!(pattern(&format!("/{}", "x".repeat(63))).is_err());
    }
}
