//! What a cell is, which cells exist, and what is expected of each: data, without any behaviour.

use std::fmt;

use anyhow::{Context as _, Result};

macro_rules! axes {
    ($($(#[$doc:meta])* $axis:ident: $title:literal { $($(#[$of:meta])* $value:ident = $name:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub(super) enum $axis { $($(#[$of])* $value,)+ }

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

        /// The titles of the axes, and the names of their values.
        pub(super) const AXES: &[(&str, &[&str])] = &[$(($title, &[$($name,)+]),)+];
    };
}

axes! {
    /// What kind of socket the target has.
    Socket: "socket" {
        Tcp = "tcp",
        Mptcp = "mptcp",
        /// MPTCP whose other end speaks TCP only.
        Fallback = "mptcp-fallback",
        /// Connected, where it is the client's.
        Udp = "udp",
        Unconnected = "udp-unconnected",
        Raw = "raw",
        Unix = "unix",
    }
    /// How the target came by it.
    Origin: "origin" {
        /// It made it before the fault was armed, and its connections too.
        Before = "before",
        After = "after",
        /// The connection waited in the queue of its listener when the fault was armed; `accept` asks
        /// for the other end's address.
        Accepted = "accepted-address",
        /// The same, and `accept` asks for nothing.
        AcceptedPlain = "accepted-plain",
        /// Made by the process that executed it.
        Inherited = "inherited",
        /// Sent to it by another process (`SCM_RIGHTS`) when the fault was armed.
        Passed = "passed",
        /// A listener made by another process. The target joins its cgroup when connections wait.
        Activated = "activated",
    }
    Family: "family" {
        V4 = "ipv4",
        V6 = "ipv6",
        /// An IPv6 socket that speaks IPv4.
        Mapped = "mapped",
    }
    Side: "side" {
        Client = "client",
        Server = "server",
    }
    Way: "way" {
        Run = "run",
        Inject = "inject",
    }
    Fault: "fault" {
        Connect = "connect",
        Egress = "egress",
        Ingress = "ingress",
        Dns = "dns",
        Http = "http",
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
        use Origin::{Accepted, AcceptedPlain, Activated};
        matches!(self.origin, Accepted | AcceptedPlain | Activated)
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
        "MISSED: sockets that others made",
        |c| {
            use Origin::{Accepted, AcceptedPlain, Activated, Inherited, Passed};
            match (c.way, c.origin) {
                (Way::Run, Inherited | Passed | Activated) => true,
                (Way::Inject, Passed) => c.fault != Fault::Connect,
                (Way::Inject, Accepted | AcceptedPlain | Activated) => true,
                _ => false,
            }
        },
        Behaviour::Exempt,
    ),
];
