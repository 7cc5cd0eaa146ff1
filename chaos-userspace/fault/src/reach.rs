//! What an operation may act on: sockets, files, or neither.
//!
//! Policies protect ports and paths. They must know which operations reach them even where a fault has no filter that says
//! so. The answer errs on the side of "may": an operation that takes any descriptor may be given a socket.

use super::model::{Fault, Op};
use super::syscalls::{self, Argument};
use super::values::FdKind;

/// Calls that act on descriptors which none of their arguments holds directly: sets of descriptors and queues of requests.
const OF_SETS: [&str; 7] = [
    "io_getevents",
    "io_pgetevents",
    "io_submit",
    "poll",
    "ppoll",
    "pselect6",
    "select",
];

/// Calls whose one descriptor stands for a set of others or a queue of requests: what `on=` and `path=` look at is not what
/// they act on.
const OF_QUEUES: [&str; 6] = [
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "io_uring_enter",
    "io_uring_register",
];

/// Calls that act on files which they name in some other way than by a path or a descriptor.
const OF_FILES: [&str; 2] = ["open_by_handle_at", "sync"];

impl Op {
    /// Whether it may act on a socket: packets, strace's `%network`, and every call with a descriptor.
    pub fn may_use_sockets(self) -> bool {
        let Some(call) = self.call() else {
            return true;
        };
        syscalls::is_network(call)
            || syscalls::arguments(call).any(|argument| argument == Argument::Fd)
            || OF_SETS.contains(&self.name())
    }

    /// Whether it may act on a file or folder: every call with a descriptor or a path, but those of `%network`, which act on
    /// sockets alone; `sendfile` does both.
    pub fn may_use_files(self) -> bool {
        let Some(call) = self.call() else {
            return false;
        };
        let names_one = syscalls::arguments(call).any(|argument| {
            matches!(
                argument,
                Argument::Fd | Argument::Dir | Argument::Path | Argument::Cwd
            )
        });
        let only_sockets = syscalls::is_network(call) && self.name() != "sendfile";
        names_one && !only_sockets
            || OF_SETS.contains(&self.name())
            || OF_FILES.contains(&self.name())
    }

    /// Whether it may act on what `on=` and `path=` do not see: of two descriptors they are content with either.
    fn is_indirect(self) -> bool {
        let descriptors = self.call().map_or(0, |call| {
            let is_one = |argument: &Argument| *argument == Argument::Fd;
            syscalls::arguments(call).filter(is_one).count()
        });
        descriptors > 1 || OF_QUEUES.contains(&self.name()) || OF_SETS.contains(&self.name())
    }
}

impl Fault {
    /// Whether it may hit an operation on a socket. `on=` without `socket` and `path=` with absolute paths exclude them: a
    /// socket has no path.
    pub fn may_use_sockets(&self) -> bool {
        let filter = &self.filter;
        let not_on = !filter.on.is_empty() && !filter.on.contains(&FdKind::Socket);
        let on_paths = !self.files().is_empty()
            && self
                .files()
                .iter()
                .all(|glob| glob.as_str().starts_with('/'));
        let excluded = not_on || on_paths;
        let reaches = |op: &Op| op.may_use_sockets() && (!excluded || op.is_indirect());
        self.ops.iter().any(reaches)
    }

    /// Whether it may hit an operation on a file that has a path. `on=socket` and `on=other` exclude those; pipes and devices
    /// have paths.
    pub fn may_use_files(&self) -> bool {
        let on = &self.filter.on;
        let without_path = !on.is_empty()
            && on
                .iter()
                .all(|kind| matches!(kind, FdKind::Socket | FdKind::Other));
        let reaches = |op: &Op| op.may_use_files() && (!without_path || op.is_indirect());
        self.ops.iter().any(reaches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operations_reach() {
        for (name, sockets, files) in [
            ("egress", true, false),
            ("dns", true, false),
            ("connect", true, false),
            ("socket", true, false),
            ("shutdown", true, false),
            ("recvmsg", true, false),
            ("sendfile", true, true),
            ("read", true, true),
            ("writev", true, true),
            ("splice", true, true),
            ("close", true, true),
            ("poll", true, true),
            ("fsync", true, true),
            ("openat", false, true),
            ("unlink", false, true),
            ("getcwd", false, true),
            ("getpid", false, false),
            ("futex", false, false),
        ] {
            let op = Op::by_name(name).unwrap();
            assert_eq!(
                (op.may_use_sockets(), op.may_use_files()),
                (sockets, files),
                "{name}"
            );
        }
    }

    #[test]
    fn filters_exclude_sockets_and_files() {
        for (text, sockets, files) in [
            ("read:error=EIO", true, true),
            ("read:error=EIO:on=file", false, true),
            ("read:error=EIO:on=file,socket", true, true),
            ("read:error=EIO:on=socket", true, false),
            ("read:error=EIO:on=pipe", false, true),
            ("read:error=EIO:path=/srv/**", false, true),
            ("read:error=EIO:path=*", true, true),
            ("read:error=EIO:fd=3", true, true),
            ("openat:error=EIO:on=file", false, true),
            ("sendfile:error=EIO:on=file", true, true),
            ("splice:error=EIO:path=/srv/**", true, true),
            ("io_uring_enter:error=EIO:on=other", true, true),
            ("mmap:error=EIO:on=other", false, false),
            ("http:status=500:path=/a", true, false),
        ] {
            let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                (fault.may_use_sockets(), fault.may_use_files()),
                (sockets, files),
                "{text}"
            );
        }
    }

    /// The page has the lists, and policies are written from it.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_page_lists_them() {
        let page = include_str!("../../../docs/policy.md");
        let list = |name: &str| -> Vec<&str> {
            let (_, rest) = page.split_once(&format!("- *{name}*: `")).unwrap();
            rest.split('`').next().unwrap().split_whitespace().collect()
        };
        let [network, descriptor, path, sets, indirect] =
            ["network", "descriptor", "path", "sets", "indirect"].map(list);
        let (sockets, files) = ([&network, &descriptor, &sets], [&path, &descriptor, &sets]);
        for op in Op::calls() {
            let name = op.name();
            let is_in = |lists: [&Vec<&str>; 3]| lists.iter().any(|list| list.contains(&name));
            let file = is_in(files) || name == "sendfile" || OF_FILES.contains(&name);
            assert_eq!(op.may_use_sockets(), is_in(sockets), "{name}");
            assert_eq!(op.may_use_files(), file, "{name}");
            assert_eq!(op.is_indirect(), indirect.contains(&name), "{name}");
        }
    }
}
