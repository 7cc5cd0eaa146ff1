//! Users by their names, as the system's name service knows them.

use std::process::Command;

/// What `id OPTION NAME` prints: the user's id with `-u`, all group ids with `-G`. `None` if there is no such user.
///
/// Not libc: its user database loads plug-ins (NSS), which a statically linked murphy cannot.
pub fn ids(option: &str, name: &str) -> Option<Vec<u32>> {
    let output = Command::new("id")
        .args([option, "--", name])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout)
        .ok()?
        .split_whitespace()
        .map(|id| id.parse().ok())
        .collect()
}

/// A user's id: a number, which need not be in the user database, or a name that is in it.
pub fn id(name: &str) -> Option<u32> {
    match name.parse() {
        Ok(id) => Some(id),
        Err(_) if name.is_empty() => None,
        Err(_) => ids("-u", name)?.first().copied(),
    }
}
