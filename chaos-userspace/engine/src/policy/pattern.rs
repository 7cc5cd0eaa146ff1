//! Targets as a policy names them: `comm:redis*`, `unit:shop-*.service`, `uid:1000`.
//!
//! A pattern is a key of the fault expression and a value, which may have wildcards. It is compared with processes that are
//! hit now, and with selectors, which also stand for processes that come later. Whatever has no meaning is an error.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::file::parse_text;
use super::place;
use crate::{self as engine, Process};
use murphy_fault::expr::{nearest, policy::Wrong, policy::pattern};
use murphy_fault::plan::{Selector, Who};
use murphy_fault::{EXEMPT, TargetKey};
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::users;

/// What of a process is compared.
const KINDS: [TargetKey; 6] = [
    TargetKey::Comm,
    TargetKey::Exe,
    TargetKey::Uid,
    TargetKey::Unit,
    TargetKey::Container,
    TargetKey::Cgroup,
];

/// The longest name of a process, in bytes (`TASK_COMM_LEN`).
const COMM: usize = 15;

/// Types of units that have processes.
const UNIT_TYPES: [&str; 4] = ["service", "scope", "slice", "socket"];

/// Types of units that have none.
const OTHER_UNIT_TYPES: [&str; 7] = [
    "automount",
    "device",
    "mount",
    "path",
    "swap",
    "target",
    "timer",
];

/// A set of processes: a kind, and a pattern for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    key: TargetKey,
    /// As it stands in the file.
    said: String,
    /// What is compared: normalised.
    value: String,
    glob: glob::Pattern,
}

impl Pattern {
    /// From `KIND:VALUE`.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let kinds = KINDS.map(TargetKey::name);
        let form = format!("KIND:PATTERN, KIND one of {}", kinds.join(" "));
        let no_kind = |kind: &str| match nearest(kind, kinds) {
            Some(near) => format!("did you mean `{near}`?"),
            None => form.clone(),
        };
        let (kind, value) = text
            .split_once(':')
            .ok_or_else(|| Wrong::new(format!("`{text}` is no target"), form.clone()))?;
        let key = KINDS
            .into_iter()
            .find(|key| key.name() == kind)
            .ok_or_else(|| Wrong::new(format!("`{kind}` is no kind of target"), no_kind(kind)))?;
        if value.is_empty() || value.trim() != value {
            return Err(Wrong::new(
                format!("`{text}` names nothing"),
                format!("write {kind}:PATTERN without spaces around PATTERN"),
            ));
        }
        let value = normal(key, value)?;
        let mut value_of_glob = value.clone();
        if key == TargetKey::Comm && !has_wildcards(&value) {
            value_of_glob.truncate(value.floor_char_boundary(COMM));
        }
        let glob = pattern(&value_of_glob)?;
        if key == TargetKey::Comm && shortest(&value_of_glob) > COMM {
            return Err(Wrong::new(
                format!("no process has a name as long as `{value}`"),
                "names have at most 15 bytes; the kernel cuts longer ones",
            ));
        }
        Ok(Self {
            key,
            said: text.to_owned(),
            value: value_of_glob,
            glob,
        })
    }

    fn is_literal(&self) -> bool {
        !has_wildcards(&self.value)
    }

    /// Whether a process is meant.
    pub(super) fn has(&self, process: &Process) -> bool {
        let is = |value: &str| self.glob.matches(value);
        match self.key {
            TargetKey::Comm => is(&process.comm),
            TargetKey::Exe => process
                .exe
                .as_deref()
                .is_some_and(|exe| self.has_exe(exe, process.exe_id)),
            TargetKey::Uid => process.uid.is_some_and(|uid| is(&uid.to_string())),
            TargetKey::Unit => process.units.iter().any(|unit| is(unit)),
            TargetKey::Container => process.container.as_deref().is_some_and(|id| {
                is(id)
                    || self.is_literal() && id.starts_with(&self.value)
                    || engine::container_names(id).iter().any(|name| is(name))
            }),
            TargetKey::Cgroup | TargetKey::Pid | TargetKey::Netns | TargetKey::Tid => process
                .cgroup
                .as_deref()
                .is_some_and(|path| self.has_cgroup(path)),
        }
    }

    /// Whether an executable is meant, under whatever name: by its path, by its folder's identity, by its own.
    fn has_exe(&self, exe: &Path, id: Option<place::Id>) -> bool {
        let is = |path: &Path| path.to_str().is_some_and(|path| self.glob.matches(path));
        // What the kernel adds to the name of a file that was deleted while it is executed.
        let text = exe.to_string_lossy();
        let undeleted = text.strip_suffix(" (deleted)").map(Path::new);
        if is(exe) || undeleted.is_some_and(is) {
            return true;
        }
        let real = place::resolve(exe);
        let id = id.or_else(|| place::id(exe));
        if is(&real.path) {
            return true;
        }
        if self.is_literal() {
            let own = place::id(Path::new(&self.value));
            return own.is_some() && own == id;
        }
        let folder = place::literal_folder(&self.value);
        let of_folder = place::id(&folder);
        // The same folder under another name: a link to it, a mount of it.
        let renamed = exe
            .ancestors()
            .chain(real.path.ancestors())
            .skip(1)
            .any(|above| {
                of_folder.is_some()
                    && place::id(above) == of_folder
                    && [exe, &real.path]
                        .iter()
                        .filter_map(|path| path.strip_prefix(above).ok())
                        .any(|below| is(&folder.join(below)))
            });
        // A file of that folder under another name: a hard link, a mount of it.
        renamed
            || id.is_some()
                && place::entries(&folder).any(|entry| is(&entry) && place::id(&entry) == id)
    }

    /// Whether a cgroup or one above it is meant: a cgroup stands for those below it too.
    fn has_cgroup(&self, path: &str) -> bool {
        Path::new(path)
            .ancestors()
            .filter_map(Path::to_str)
            .any(|path| self.glob.matches(path))
    }

    /// Whether everything that a selector names, now and later, is meant.
    pub(super) fn covers(&self, selector: &Selector) -> bool {
        let is = |value: &str| self.glob.matches(value);
        self.speaks_of(selector)
            && match selector {
                Selector::Comm(name) => is(cut(name)),
                Selector::Exe(path) => self.has_exe(&place::resolve(path).path, None),
                Selector::Uid(id) => is(&id.to_string()),
                Selector::Unit(name) => is(&engine::unit_name(name)),
                Selector::Container(name) => {
                    is(name) || self.is_literal() && name.starts_with(&self.value)
                }
                Selector::Cgroup(path) => self.has_cgroup(&cgroup(path)),
                Selector::All
                | Selector::Pid(_)
                | Selector::Tid(_)
                | Selector::User(_)
                | Selector::Netns(_) => false,
            }
    }

    /// Whether a process that a selector comes to name later may be meant. It may unless both speak of the same thing, and
    /// say different things of it.
    pub(super) fn may_meet(&self, selector: &Selector) -> bool {
        if let Selector::Pid(_) | Selector::Tid(_) = selector {
            // Descendants of what is looked at now; the page says so.
            return false;
        }
        let is_apart = || match selector {
            Selector::Comm(_) | Selector::Exe(_) | Selector::Uid(_) | Selector::Container(_) => {
                !self.covers(selector)
            }
            Selector::Unit(name) => {
                // Other units are below slices and the services of users' own managers.
                let name = engine::unit_name(name);
                let leaf = !name.ends_with(".slice") && !name.starts_with("user@");
                leaf && !self.covers(selector)
            }
            Selector::Cgroup(path) => {
                let path = format!("{}/", cgroup(path).trim_end_matches('/'));
                let begins = format!("{}/", literal(&self.value).trim_end_matches('/'));
                let begins = match self.is_literal() {
                    true => begins.as_str(),
                    false => literal(&self.value),
                };
                !path.starts_with(begins) && !begins.starts_with(&path)
            }
            Selector::All
            | Selector::Pid(_)
            | Selector::Tid(_)
            | Selector::User(_)
            | Selector::Netns(_) => false,
        };
        !(self.speaks_of(selector) && is_apart())
    }

    /// Whether a selector says the same kind of thing of a process.
    fn speaks_of(&self, selector: &Selector) -> bool {
        let key = match selector {
            Selector::Comm(_) => TargetKey::Comm,
            Selector::Exe(_) => TargetKey::Exe,
            Selector::Uid(_) | Selector::User(_) => TargetKey::Uid,
            Selector::Unit(_) => TargetKey::Unit,
            Selector::Container(_) => TargetKey::Container,
            Selector::Cgroup(_) => TargetKey::Cgroup,
            Selector::Pid(_) => TargetKey::Pid,
            Selector::Tid(_) => TargetKey::Tid,
            Selector::Netns(_) => TargetKey::Netns,
            Selector::All => return false,
        };
        self.key == key
    }

    /// Whether processes that are meant are spared by name. Exclusions have no wildcards.
    pub(super) fn is_spared(&self, who: &Who) -> bool {
        let is_exempt =
            who.exempt && self.key == TargetKey::Comm && EXEMPT.contains(&self.value.as_str());
        let is_spared = |selector: &Selector| match selector {
            Selector::Cgroup(path) => {
                self.speaks_of(selector) && Path::new(&self.value) == Path::new(&cgroup(path))
            }
            Selector::Container(name) => self.speaks_of(selector) && *name == self.value,
            Selector::All
            | Selector::Pid(_)
            | Selector::Tid(_)
            | Selector::Uid(_)
            | Selector::User(_)
            | Selector::Comm(_)
            | Selector::Exe(_)
            | Selector::Unit(_)
            | Selector::Netns(_) => self.covers(selector),
        };
        self.is_literal() && (is_exempt || who.spare.iter().any(is_spared))
    }

    /// The option that spares what is meant; `None` where no exclusion can say it.
    pub(super) fn exclusion(&self) -> Option<String> {
        let kind = KINDS.into_iter().find(|key| *key == self.key)?;
        self.is_literal()
            .then(|| format!("--{} '!{}'", kind.name(), self.value))
    }
}

/// A value as it is compared, if it means something.
fn normal(key: TargetKey, value: &str) -> Result<String, Wrong> {
    let same = || Ok(value.to_owned());
    match key {
        TargetKey::Exe if !value.starts_with(['/', '*']) || value.ends_with('/') => {
            Err(Wrong::new(
                format!("`{value}` is no absolute path of a program"),
                "write the whole path of the program, such as exe:/usr/sbin/nginx, or exe:*/nginx",
            ))
        }
        TargetKey::Cgroup => {
            if !value.starts_with(['/', '*']) {
                return Err(Wrong::new(
                    format!("`{value}` is no absolute path of a cgroup"),
                    "write the path that /proc/PID/cgroup shows, such as cgroup:/system.slice/*",
                ));
            }
            let path = cgroup(Path::new(value));
            Ok(path)
        }
        TargetKey::Uid
            if value
                .bytes()
                .all(|byte| b"0123456789*?[]-!".contains(&byte)) =>
        {
            if has_wildcards(value) {
                return same();
            }
            let id: u32 = value.parse().map_err(|_| {
                Wrong::new(format!("`{value}` is no user"), "a number up to 4294967295")
            })?;
            Ok(id.to_string())
        }
        TargetKey::Uid => {
            if has_wildcards(value) {
                return Err(Wrong::new(
                    format!("`{value}` is a pattern of names"),
                    "users are compared by number: write a name, a number, or a pattern of numbers such as uid:10??",
                ));
            }
            let id = users::id(value).ok_or_else(|| {
                Wrong::new(
                    format!("no user is called {value}"),
                    "a name or a number that `getent passwd` lists",
                )
            })?;
            Ok(id.to_string())
        }
        TargetKey::Unit => {
            let kind = value.rsplit_once('.').map(|(_, kind)| kind);
            match kind {
                Some(kind) if OTHER_UNIT_TYPES.contains(&kind) => Err(Wrong::new(
                    format!("a unit of the type {kind} has no processes"),
                    format!("name a unit of the type {}", UNIT_TYPES.join(", ")),
                )),
                Some(kind) if UNIT_TYPES.contains(&kind) => same(),
                _ if has_wildcards(value) => same(),
                _ => Ok(engine::unit_name(value)),
            }
        }
        TargetKey::Exe
        | TargetKey::Comm
        | TargetKey::Container
        | TargetKey::Pid
        | TargetKey::Netns
        | TargetKey::Tid => same(),
    }
}

/// The path of a cgroup as `/proc/PID/cgroup` has it.
fn cgroup(path: &Path) -> String {
    let mount = Cgroup2::find().ok().flatten().map(|found| found.mount);
    let mount = mount.unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
    let below = path.strip_prefix(mount).unwrap_or(path);
    let text = below.to_string_lossy();
    match text.starts_with(['/', '*']) {
        true => text.into_owned(),
        false => format!("/{text}"),
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(COMM)]
}

fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// What stands before the first wildcard.
fn literal(text: &str) -> &str {
    text.split(['*', '?', '[']).next().unwrap_or_default()
}

/// Bytes of the shortest name that a pattern matches, at least.
fn shortest(pattern: &str) -> usize {
    let mut length = 0;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let step = match first {
            '*' => 1,
            '[' => {
                length += 1;
                rest.get(2..)
                    .and_then(|inside| inside.find(']'))
                    .map_or(rest.len(), |end| end + 3)
            }
            _ => {
                length += first.len_utf8();
                first.len_utf8()
            }
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    length
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|wrong| panic!("{wrong:?}"))
    }

    fn comm(name: &str) -> Selector {
        Selector::Comm(name.to_owned())
    }

    #[test]
    fn kinds_and_patterns() {
        assert!(pattern("comm:redis*").covers(&comm("redis-server")));
        assert!(!pattern("comm:redis*").covers(&comm("postgres")));
        assert!(!pattern("exe:/redis*").covers(&comm("redis-server")));
        assert!(pattern("unit:app").covers(&Selector::Unit("app.service".to_owned())));
        assert!(pattern("unit:app.service").covers(&Selector::Unit("app".to_owned())));
        assert!(pattern("uid:root").covers(&Selector::Uid(0)));
        assert!(pattern("uid:1???").covers(&Selector::Uid(1234)));
        assert!(pattern("cgroup:/a").covers(&Selector::Cgroup("a/b".into())));
        assert!(pattern("comm:a-very-long-name-of-15").covers(&comm("a-very-long-name-of-16")));
        assert!(!pattern("comm:*").covers(&Selector::All));
    }

    #[test]
    fn what_means_nothing_is_told() {
        for wrong in [
            "redis",
            "name:x",
            "Comm:x",
            "comm:[",
            "comm:",
            "comm: x",
            "comm:a-very-long-name-x*",
            "comm:a**",
            "",
            "pid:1",
            "exe:redis",
            "exe:./redis",
            "uid:no such user",
            "uid:ro*",
            "uid:-1",
            "uid:99999999999",
            "unit:shop.timer",
            "cgroup:system.slice",
        ] {
            let wrong = Pattern::parse(wrong).expect_err(wrong);
            assert!(!wrong.remedy.is_empty(), "{wrong:?}");
        }
    }

    #[test]
    fn what_may_come_later() {
        let unit = |name: &str| Selector::Unit(name.to_owned());
        let cgroup = |path: &str| Selector::Cgroup(path.into());
        for (text, selector, meets) in [
            ("comm:postgres", comm("redis"), false),
            ("comm:post*", comm("postgres"), true),
            ("comm:postgres", Selector::Uid(5), true),
            ("comm:postgres", Selector::All, true),
            ("comm:postgres", Selector::Pid(5), false),
            ("uid:0", Selector::Uid(5), false),
            ("unit:db", unit("shop"), false),
            ("unit:db", unit("shop.slice"), true),
            ("cgroup:/a/b", cgroup("/a"), true),
            ("cgroup:/a/b", cgroup("/a/b/c"), true),
            ("cgroup:/a/b", cgroup("/a/bc"), false),
            ("cgroup:/a/b*", cgroup("/a/bc"), true),
            ("cgroup:/x*", cgroup("/a"), false),
        ] {
            assert_eq!(
                pattern(text).may_meet(&selector),
                meets,
                "{text} {selector}"
            );
        }
    }

    #[test]
    fn exclusions_spare() {
        let who = |spare: Vec<Selector>, exempt| Who {
            hit: vec![Selector::All],
            spare,
            exempt,
        };
        let spared = who(vec![comm("postgres")], false);
        assert!(pattern("comm:postgres").is_spared(&spared));
        assert!(!pattern("comm:post*").is_spared(&spared));
        assert!(!pattern("comm:sshd").is_spared(&spared));
        assert!(pattern("comm:sshd").is_spared(&who(vec![], true)));
        assert_eq!(pattern("uid:root").exclusion().unwrap(), "--uid '!0'");
    }

    #[test]
    fn an_executable_is_a_file_and_not_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("bin")).unwrap();
        let program = real.join("bin/postgres");
        std::fs::write(&program, "").unwrap();
        std::os::unix::fs::symlink(&program, real.join("link")).unwrap();
        std::os::unix::fs::symlink(real.join("bin"), real.join("tools")).unwrap();
        std::fs::hard_link(&program, real.join("hard")).unwrap();
        let bin = real.join("bin");
        let exe = |path: &str| Selector::Exe(real.join(path));
        for text in [
            format!("exe:{}", program.display()),
            format!("exe:{}/post*", bin.display()),
            format!("exe:{}/tools/postgres", real.display()),
            format!("exe:{}/tools/*", real.display()),
        ] {
            for path in [
                "bin/postgres",
                "link",
                "tools/postgres",
                "hard",
                "bin/../link",
            ] {
                assert!(pattern(&text).covers(&exe(path)), "{text} {path}");
            }
            assert!(!pattern(&text).covers(&exe("other")), "{text}");
        }
    }
}
