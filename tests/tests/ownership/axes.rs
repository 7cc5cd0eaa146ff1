//! What a cell is, which cells exist, and what is expected of each: data, without any behaviour.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};

macro_rules! axes {
    ($($axis:ident: $title:literal { $($value:ident = $name:literal: $meaning:literal,)+ })+) => {
        $(
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub(super) enum $axis { $($value,)+ }

            impl $axis {
                pub(super) const ALL: &'static [Self] = &[$(Self::$value,)+];

                pub(super) fn name(self) -> &'static str {
                    match self { $(Self::$value => $name,)+ }
                }

                fn parse(name: &str) -> Result<Self> {
                    let mut all = Self::ALL.iter().copied();
                    all.find(|value| value.name() == name)
                        .with_context(|| format!("no {} is called {name:?}", $title))
                }
            }
        )+

        /// The titles of the axes, the names of their values, and what these mean.
        pub(super) const AXES: &[(&str, &[(&str, &str)])] =
            &[$(($title, &[$(($name, $meaning),)+]),)+];
    };
}

axes! {
    Socket: "socket" {
        Tcp = "tcp": "TCP",
        Mptcp = "mptcp": "MPTCP, with an end that speaks it too",
        Fallback = "mptcp-fallback": "MPTCP, with an end that speaks TCP only",
        Udp = "udp": "UDP, connected",
        Unconnected = "udp-unconnected": "UDP, not connected",
        Raw = "raw": "raw, for ICMP",
        Unix = "unix": "a Unix socket",
    }
    Origin: "origin" {
        Before = "before": "made before the fault was armed, its connections too",
        After = "after": "made after the fault was armed",
        Accepted = "accepted-address": "accepted after arming, with the peer's address, from the queue of a listener of before",
        AcceptedPlain = "accepted-plain": "the same, without the peer's address",
        Inherited = "inherited": "made by the process that executed the target",
        Passed = "passed": "sent to the target by another process (`SCM_RIGHTS`) after arming",
        Activated = "activated": "a listener that another process made; the target joins its cgroup, or begins, when connections wait, and accepts them with the peer's address",
        Changed = "uid-changed": "a listener of the target's own; its user id changes when connections wait, and it accepts them with the peer's address",
    }
    Family: "family" {
        V4 = "ipv4": "IPv4",
        V6 = "ipv6": "IPv6",
        Mapped = "mapped": "an IPv6 socket that speaks IPv4",
    }
    Side: "side" {
        Client = "client": "the target asks",
        Server = "server": "the target answers",
    }
    Way: "way" {
        Run = "run": "`murphy run`",
        Inject = "inject": "`murphy inject`, by `--pid`, `--cgroup` or `--uid`",
    }
    Fault: "fault" {
        Connect = "connect": "`connect:error=` with `port=` and `dst=` of IPv4 or IPv6",
        Egress = "egress": "`egress:blackhole`",
        Ingress = "ingress": "`ingress:blackhole`",
        Dns = "dns": "`dns:rcode=`",
        Http = "http": "`http:status=`",
    }
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) fault: Fault,
    pub(super) way: Way,
    pub(super) side: Side,
    pub(super) socket: Socket,
    pub(super) origin: Origin,
    pub(super) family: Family,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [socket, origin, family, side, way, fault] = self.names();
        write!(f, "{socket},{origin},{family},{side},{way},{fault}")
    }
}

/// What a target sees of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Every operation is hit.
    Hit,
    /// Every operation is hit from at most six seconds on.
    Later,
    /// No operation is hit, and within six seconds murphy warns in these words.
    Warned(&'static str),
    /// No operation is hit: the fault is not about such sockets.
    Exempt,
}

impl Behaviour {
    /// In a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Later => "in 6 s",
            Self::Warned(_) => "warned",
            Self::Exempt => "exempt",
        }
    }
}

impl Cell {
    pub(super) fn names(self) -> [&'static str; 6] {
        [
            self.socket.name(),
            self.origin.name(),
            self.family.name(),
            self.side.name(),
            self.way.name(),
            self.fault.name(),
        ]
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split(',').collect();
        let [socket, origin, family, side, way, fault] = words[..] else {
            anyhow::bail!("{text:?} has not six values");
        };
        Ok(Self {
            socket: Socket::parse(socket)?,
            origin: Origin::parse(origin)?,
            family: Family::parse(family)?,
            side: Side::parse(side)?,
            way: Way::parse(way)?,
            fault: Fault::parse(fault)?,
        })
    }

    /// All that exist.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &fault in Fault::ALL {
            for &way in Way::ALL {
                for &side in Side::ALL {
                    for &socket in Socket::ALL {
                        for &origin in Origin::ALL {
                            for &family in Family::ALL {
                                let cell = Self {
                                    fault,
                                    way,
                                    side,
                                    socket,
                                    origin,
                                    family,
                                };
                                if ABSENT.iter().all(|(_, is_absent)| !is_absent(cell)) {
                                    all.push(cell);
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    /// Cells in which every pair of values occurs that occurs in any cell.
    pub(super) fn cover() -> Vec<Self> {
        let pairs = |cell: &Self| {
            let names = cell.names();
            let of = |first: usize| (first + 1..6).map(move |second| (first, second));
            let pairs = (0..6).flat_map(of);
            pairs
                .map(move |(one, other)| (names[one], names[other]))
                .collect::<BTreeSet<_>>()
        };
        let all = Self::all();
        let mut open: BTreeSet<_> = all.iter().flat_map(pairs).collect();
        let mut cover = Vec::new();
        while !open.is_empty() {
            let gain = |cell: &&Self| pairs(cell).intersection(&open).count();
            // Of several the first: the cover is the same each time.
            let best = all.iter().rev().max_by_key(gain);
            let Some(best) = best else { break };
            for pair in pairs(best) {
                open.remove(&pair);
            }
            cover.push(*best);
        }
        cover.sort();
        cover
    }

    pub(super) fn behaviour(self) -> Behaviour {
        let mut rows = BEHAVIOURS.iter();
        rows.find(|(_, is_so, _)| is_so(self))
            .map_or(Behaviour::Hit, |&(_, _, behaviour)| behaviour)
    }

    pub(super) fn is_stream(self) -> bool {
        use Socket::{Fallback, Mptcp, Tcp};
        matches!(self.socket, Tcp | Mptcp | Fallback)
    }

    /// Whether a connection waits in a listener's queue for the target.
    pub(super) fn is_queued(self) -> bool {
        use Origin::{Accepted, AcceptedPlain, Activated, Changed};
        matches!(self.origin, Accepted | AcceptedPlain | Activated | Changed)
    }
}

type Test = fn(Cell) -> bool;

/// Which combinations do not exist, and why.
pub(super) const ABSENT: &[(&str, Test)] = &[
    ("a server does not connect", |c| {
        c.side == Side::Server && c.fault == Fault::Connect
    }),
    ("a client does not accept", |c| {
        c.side == Side::Client && c.is_queued()
    }),
    ("only a stream is accepted", |c| {
        use Origin::{Accepted, AcceptedPlain};
        !c.is_stream() && matches!(c.origin, Accepted | AcceptedPlain)
    }),
    ("no socket of the command is older than `run`", |c| {
        c.way == Way::Run && c.origin == Origin::Before
    }),
    ("the command of `run` is hit whatever its user", |c| {
        c.way == Way::Run && c.origin == Origin::Changed
    }),
    ("a server's socket for datagrams is not connected", |c| {
        c.side == Side::Server && c.socket == Socket::Udp
    }),
    ("raw sockets and Unix sockets are clients here", |c| {
        use Socket::{Raw, Unix};
        c.side == Side::Server && matches!(c.socket, Raw | Unix)
    }),
    ("an unconnected or raw socket does not connect", |c| {
        use Socket::{Raw, Unconnected};
        c.fault == Fault::Connect && matches!(c.socket, Unconnected | Raw)
    }),
    (
        "Unix sockets send no packets and have no address family",
        |c| c.socket == Socket::Unix && (c.fault != Fault::Connect || c.family != Family::V4),
    ),
    (
        "raw sockets speak neither DNS nor HTTP, nor IPv4 by IPv6",
        |c| {
            c.socket == Socket::Raw
                && (matches!(c.fault, Fault::Dns | Fault::Http) || c.family == Family::Mapped)
        },
    ),
    ("a query leaves a client", |c| {
        c.side == Side::Server && c.fault == Fault::Dns
    }),
    ("HTTP is spoken over streams", |c| {
        c.fault == Fault::Http && !c.is_stream()
    }),
];

/// What is not simply hit. The first row that fits counts.
pub(super) const BEHAVIOURS: &[(&str, Test, Behaviour)] = &[
    (
        "`connect` faults do not see Unix sockets (docs/faults/connect.md)",
        |c| c.socket == Socket::Unix,
        Behaviour::Exempt,
    ),
    (
        "a program for a cgroup does not see a socket that was made in another one",
        |c| {
            let by_cgroup = matches!(c.fault, Fault::Connect | Fault::Ingress);
            c.way == Way::Run && c.origin == Origin::Passed && by_cgroup
        },
        Behaviour::Warned("was sent a socket that another process made"),
    ),
    (
        "no program sees who a descriptor is sent to: murphy looks each second",
        |c| {
            let connects = c.fault == Fault::Connect;
            // What it accepts is its own; what was sent before that has arrived.
            let accepts = c.side == Side::Server && c.is_stream() && c.way == Way::Inject;
            let accepts = accepts && c.fault != Fault::Ingress;
            c.origin == Origin::Passed && !connects && !accepts
        },
        Behaviour::Later,
    ),
    (
        "no program sees who accepts without asking for the address: murphy looks each second",
        |c| c.way == Way::Inject && c.origin == Origin::AcceptedPlain,
        Behaviour::Later,
    ),
    (
        "no program sees who joins a cgroup or changes its user id: murphy looks each second",
        |c| {
            let becomes = matches!(c.origin, Origin::Activated | Origin::Changed);
            c.way == Way::Inject && becomes && !c.is_stream()
        },
        Behaviour::Later,
    ),
];
