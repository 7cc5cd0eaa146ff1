//! Whom a fault hits: processes, by the ways in which they are named.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use chaos_common::dims;
use serde::{Deserialize, Serialize};

use super::expr::keys::TargetKey;

/// One way to name processes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Every process that is not exempt.
    All,
    /// A process and all its descendants; the id as this process sees it.
    Pid(u32),
    /// A cgroup with those below it: absolute, or below the cgroup2 mount.
    Cgroup(PathBuf),
    /// A real user id.
    Uid(u32),
    /// A user's name, to be looked up before there is a plan.
    User(String),
    /// The name of a process, exactly; longer ones are cut as the kernel cuts them.
    Comm(String),
    /// The file that is executed.
    Exe(PathBuf),
    /// A container, by its id, the beginning of its id, or its name.
    Container(String),
    /// A systemd unit.
    Unit(String),
    /// A network namespace, as it was said.
    Netns(Namespace),
    /// One thread; the id as this process sees it.
    Tid(u32),
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Namespace {
    /// The one that a process is in when the fault begins.
    Of(u32),
    /// One that has a name, as ip-netns(8) gives it, or a path.
    At(PathBuf),
}

/// Where namespaces have names (ip-netns(8)).
const NAMED_NAMESPACES: &str = "/run/netns";

impl Namespace {
    /// A number is a process, what has a `/` in front a path, anything else a name.
    pub(super) fn of(text: &str) -> Option<Self> {
        if let Ok(pid) = text.parse() {
            return (pid != 0).then_some(Self::Of(pid));
        }
        let is_name = !text.contains('/') && text != "." && text != "..";
        (is_name || text.starts_with('/')).then(|| Self::At(text.into()))
    }

    /// The file that stands for it, unless it is that of a process.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Of(_) => None,
            // What begins with a `/` replaces the folder.
            Self::At(path) => Some(PathBuf::from(NAMED_NAMESPACES).join(path)),
        }
    }

    /// Whether it has no name of its own: it lives as long as something holds it.
    pub fn is_nameless(&self) -> bool {
        self.path().is_none_or(|path| path.starts_with("/proc"))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(pid) => write!(f, "{pid}"),
            Self::At(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Selector {
    /// The dimensions it may be looked up in.
    const fn dimensions(&self) -> u64 {
        match self {
            Self::All => dims::ALL,
            Self::Pid(_) => dims::PIDS,
            Self::Cgroup(_) => dims::CGROUPS,
            Self::Uid(_) | Self::User(_) => dims::UIDS,
            Self::Comm(_) => dims::COMMS,
            Self::Exe(_) => dims::PIDS | dims::EXES,
            // By the processes in it where it has no cgroup of the second version.
            Self::Container(_) | Self::Unit(_) => dims::CGROUPS | dims::PIDS,
            Self::Netns(_) => dims::NETNS,
            Self::Tid(_) => dims::TIDS,
        }
    }

    /// Whether who comes later is hit without being looked for, so that having no
    /// process at the moment is no end.
    pub const fn is_standing(&self) -> bool {
        matches!(
            self,
            Self::All | Self::Uid(_) | Self::User(_) | Self::Comm(_) | Self::Exe(_)
        )
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("every process"),
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Uid(id) => write!(f, "user {id}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Comm(name) => write!(f, "processes called {name}"),
            Self::Exe(path) => write!(f, "executable {}", path.display()),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::Tid(tid) => write!(f, "thread {tid}"),
            Self::Netns(Namespace::Of(pid)) => write!(f, "network namespace of process {pid}"),
            Self::Netns(name) => write!(f, "network namespace {name}"),
        }
    }
}

impl Selector {
    /// The selector that a key with this value means; `None` if it is no such value.
    pub fn of(key: TargetKey, value: &str) -> Option<Self> {
        if value.is_empty() {
            return None;
        }
        (key.row().select)(value)
    }

    /// The key and the value that mean it; `All` has none.
    pub fn spelling(&self) -> Option<(TargetKey, String)> {
        Some(match self {
            Self::All => return None,
            Self::Pid(pid) => (TargetKey::Pid, pid.to_string()),
            Self::Uid(id) => (TargetKey::Uid, id.to_string()),
            Self::User(name) => (TargetKey::Uid, name.clone()),
            Self::Comm(name) => (TargetKey::Comm, name.clone()),
            Self::Exe(path) => (TargetKey::Exe, path.display().to_string()),
            Self::Cgroup(path) => (TargetKey::Cgroup, path.display().to_string()),
            Self::Container(name) => (TargetKey::Container, name.clone()),
            Self::Unit(name) => (TargetKey::Unit, name.clone()),
            Self::Netns(name) => (TargetKey::Netns, name.to_string()),
            Self::Tid(tid) => (TargetKey::Tid, tid.to_string()),
        })
    }
}

/// Whom one fault is for, where it says so itself: the union of some without the union of
/// others. Without anybody to hit, those whom the command names, without the others.
///
/// In serde a map from keys to lists of values, as in an expression: `{"comm": ["redis", "!sh"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spelling", into = "Spelling")]
pub struct Aim {
    /// Who is hit.
    pub hit: Vec<Selector>,
    /// Who of them is spared.
    pub spare: Vec<Selector>,
}

type Spelling = BTreeMap<TargetKey, Vec<String>>;

impl Aim {
    /// One more, with `!` before it to be spared; `false` if it is no value of that key. What is
    /// there already under another spelling (`pid=1,01`) is there once.
    pub(crate) fn add(&mut self, key: TargetKey, value: &str) -> bool {
        let (list, value) = match value.strip_prefix('!') {
            Some(rest) => (&mut self.spare, rest),
            None => (&mut self.hit, value),
        };
        let Some(one) = Selector::of(key, value) else {
            return false;
        };
        if !list.contains(&one) {
            list.push(one);
        }
        true
    }

    /// Its keys with their values, as in an expression.
    pub fn spelling(&self) -> BTreeMap<TargetKey, Vec<String>> {
        let mut all = Spelling::new();
        let hit = self.hit.iter().map(|one| ("", one));
        let spare = self.spare.iter().map(|one| ("!", one));
        for (mark, one) in hit.chain(spare) {
            if let Some((key, value)) = one.spelling() {
                all.entry(key).or_default().push(format!("{mark}{value}"));
            }
        }
        all
    }

    /// The same in the order in which it is spelt.
    pub(crate) fn normal(mut self) -> Self {
        let key = |one: &Selector| one.spelling().map(|(key, _)| key);
        self.hit.sort_by_key(key);
        self.spare.sort_by_key(key);
        self
    }
}

impl From<Aim> for Spelling {
    fn from(aim: Aim) -> Self {
        aim.spelling()
    }
}

impl TryFrom<Spelling> for Aim {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<Self, String> {
        let mut aim = Self::default();
        for (key, values) in spelling {
            for value in values {
                if !aim.add(key, &value) {
                    return Err(format!("`{value}` is no {}", key.name()));
                }
            }
        }
        Ok(aim)
    }
}

/// A set of processes: the union of some without the union of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Who is hit.
    pub hit: Vec<Selector>,
    /// Who of them is spared.
    pub spare: Vec<Selector>,
    /// Whether [`EXEMPT`] holds too.
    pub exempt: bool,
}

impl Who {
    /// The dimensions in use.
    pub fn dimensions(&self) -> u64 {
        let named = self.hit.iter().chain(&self.spare);
        let dimensions = named.fold(0, |all, selector| all | selector.dimensions());
        if self.exempt {
            dimensions | dims::SPARED_COMMS
        } else {
            dimensions
        }
    }
}

/// Names of processes that are spared by default: those that let you in, and those
/// that hold containers. Cut to 15 characters, as the kernel does.
pub const EXEMPT: [&str; 25] = [
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dockerd",
    "containerd",
    "containerd-shim",
    "crio",
    "conmon",
    "conmonrs",
    "podman",
    "runc",
    "runc:[0:PARENT]",
    "runc:[1:CHILD]",
    "runc:[2:INIT]",
    "crun",
    "youki",
    "kubelet",
    "systemd",
    "systemd-journal",
    "systemd-logind",
    "systemd-udevd",
    "systemd-network",
    "systemd-resolve",
    "dbus-daemon",
    "dbus-broker",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_names_are_as_long_as_names_can_be() {
        assert!(EXEMPT.iter().all(|name| name.len() <= 15));
    }

    #[test]
    fn an_aim_is_a_map_in_json() {
        let text = r#"{"pid":["12"],"comm":["redis","!sh"]}"#;
        let aim: Aim = serde_json::from_str(text).unwrap();
        assert_eq!(aim.hit, [Selector::Pid(12), Selector::Comm("redis".into())]);
        assert_eq!(aim.spare, [Selector::Comm("sh".into())]);
        assert_eq!(serde_json::to_string(&aim).unwrap(), text);
        for wrong in [r#"{"pid":["x"]}"#, r#"{"comm":[""]}"#, r#"{"tty":["1"]}"#] {
            assert!(serde_json::from_str::<Aim>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn namespaces_have_numbers_names_and_paths() {
        for (text, path) in [
            ("12", None),
            ("blue", Some("/run/netns/blue")),
            ("/run/docker/netns/a", Some("/run/docker/netns/a")),
        ] {
            let Some(Selector::Netns(namespace)) = Selector::of(TargetKey::Netns, text) else {
                panic!("{text}");
            };
            assert_eq!(namespace.path(), path.map(PathBuf::from));
            assert_eq!(namespace.is_nameless(), path.is_none());
            assert_eq!(namespace.to_string(), text);
        }
        for text in ["0", "a/b", "..", ""] {
            assert_eq!(Selector::of(TargetKey::Netns, text), None, "{text}");
        }
    }

    #[test]
    fn one_selector_in_two_spellings_is_one() {
        let aim = |json: &str| serde_json::from_str::<Aim>(json).unwrap();
        let twice = aim(r#"{"pid": ["1", "01", "!2", "!02"]}"#);
        assert_eq!(twice, aim(r#"{"pid": ["1", "!2"]}"#));
        let fault: crate::Fault = "write:error=EIO:pid=1,01".parse().unwrap();
        assert_eq!(fault.to_string(), "write:error=EIO:pid=1");
    }

    #[test]
    fn only_the_dimensions_in_use() {
        let who = Who {
            hit: vec![Selector::Uid(1)],
            spare: vec![Selector::Comm("x".into())],
            exempt: false,
        };
        assert_eq!(who.dimensions(), dims::UIDS | dims::COMMS);
    }
}
