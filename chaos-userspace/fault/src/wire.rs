//! What can be done to packets without a queue: losing all of them, resetting their connection, answering them, writing over them.

use std::net::IpAddr;

use chaos_common::rule::{EFFECT_DNS_ANSWER, EFFECT_DNS_RCODE, EFFECT_OWN};
use serde::{Deserialize, Serialize};

use super::model::Op;
use super::values::OutOfRange;

/// Types of address records (RFC 1035, 3.2.2; RFC 3596, 2.1).
const A: i64 = 1;
const AAAA: i64 = 28;

/// An effect on packets that BPF alone brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// Every packet vanishes; the sender is not told.
    Blackhole,
    /// Every packet to or from the addresses of `dst` vanishes, as if the network between were cut.
    Partition,
    /// The TCP connection is reset at both ends.
    Reset,
    /// The same, and those that exist when the fault is armed at once, idle ones too.
    ResetAll,
    /// The sender gets an ICMP error.
    Unreachable(Unreachable),
    /// The DNS query is answered with a response code.
    Rcode(Rcode),
    /// The DNS query is answered with this address.
    Answer(IpAddr),
    /// The DNS query vanishes.
    Drop,
    /// The response by HTTP gets this status.
    Status(Status),
}

impl Wire {
    /// Effect and value as the kernel programs read them.
    pub(crate) fn rule(self) -> (u32, i64) {
        match self {
            Self::Blackhole | Self::Partition | Self::Drop | Self::Reset | Self::ResetAll => {
                (EFFECT_OWN, 0)
            }
            Self::Unreachable(kind) => (EFFECT_OWN, kind.codes()),
            Self::Rcode(code) => (EFFECT_DNS_RCODE, i64::from(code.0)),
            Self::Answer(IpAddr::V4(_)) => (EFFECT_DNS_ANSWER, A),
            Self::Answer(IpAddr::V6(_)) => (EFFECT_DNS_ANSWER, AAAA),
            Self::Status(status) => (EFFECT_OWN, i64::from(status.0)),
        }
    }

    /// The address to answer with, in network byte order; an IPv4 address in the first four bytes.
    pub fn address(self) -> Option<[u8; 16]> {
        match self {
            Self::Answer(IpAddr::V4(v4)) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&v4.octets());
                Some(bytes)
            }
            Self::Answer(IpAddr::V6(v6)) => Some(v6.octets()),
            Self::Blackhole
            | Self::Partition
            | Self::Reset
            | Self::ResetAll
            | Self::Unreachable(_)
            | Self::Rcode(_)
            | Self::Drop
            | Self::Status(_) => None,
        }
    }

    /// What is said of the operations. `net` is two directions, but a reset has both in it already: what the target
    /// sends next resets the connection at both ends.
    pub(crate) fn operations(self, ops: &mut Vec<Op>) {
        if matches!(self, Self::Reset | Self::ResetAll) && ops.contains(&Op::Egress) {
            ops.retain(|&op| op != Op::Ingress);
        }
    }
}

/// Why a packet could not be delivered, in the words of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// No route to the network.
    Net,
    /// The host does not answer.
    Host,
    /// Nobody listens.
    Port,
    /// Forbidden by an administrator.
    Admin,
}

impl Unreachable {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Net, Self::Host, Self::Port, Self::Admin];

    /// The name in an expression.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Host => "host",
            Self::Port => "port",
            Self::Admin => "admin",
        }
    }

    /// The one of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// ICMP's code (RFC 792; RFC 1812, 5.2.7.1), and above its eight bits `ICMPv6`'s (RFC 4443, 3.1).
    const fn codes(self) -> i64 {
        let (v4, v6) = match self {
            Self::Net => (0, 0),
            Self::Host => (1, 3),
            Self::Port => (3, 4),
            Self::Admin => (13, 1),
        };
        v4 | v6 << 8
    }
}

/// A DNS response code, 0 to 15 (RFC 1035, 4.1.1; RFC 2136, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Rcode(u8);

impl Rcode {
    /// The greatest that fits in a message's header.
    pub const MAX: u8 = 15;
    /// Those that have a name.
    pub const NAMED: [(&str, Self); 11] = [
        ("NOERROR", Self(0)),
        ("FORMERR", Self(1)),
        ("SERVFAIL", Self(2)),
        ("NXDOMAIN", Self(3)),
        ("NOTIMP", Self(4)),
        ("REFUSED", Self(5)),
        ("YXDOMAIN", Self(6)),
        ("YXRRSET", Self(7)),
        ("NXRRSET", Self(8)),
        ("NOTAUTH", Self(9)),
        ("NOTZONE", Self(10)),
    ];

    /// The name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        let named = Self::NAMED.iter().find(|(_, code)| *code == self);
        named.map(|(name, _)| *name)
    }

    /// The code of that name, without regard to case.
    pub fn by_name(name: &str) -> Option<Self> {
        let named = Self::NAMED
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, code)| *code)
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Rcode {
    type Error = OutOfRange;

    fn try_from(code: u8) -> Result<Self, OutOfRange> {
        if code > Self::MAX {
            return Err(OutOfRange::new("a DNS response code is 0 to 15"));
        }
        Ok(Self(code))
    }
}

impl From<Rcode> for u8 {
    fn from(code: Rcode) -> Self {
        code.0
    }
}

/// A status that a response by HTTP can be given, 200 to 599 (RFC 9110, 15). Not 204 and 304, nor 1xx: whoever gets
/// these expects no body, and would take that of the response for the beginning of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Status(u16);

impl Status {
    /// What is allowed.
    pub(crate) const ALLOWED: &str = "200 to 599, but not 204 and 304: these and 1xx have no body, and the response's would be taken for the next one";

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Status {
    type Error = OutOfRange;

    fn try_from(status: u16) -> Result<Self, OutOfRange> {
        match status {
            204 | 304 => Err(OutOfRange::new(Self::ALLOWED)),
            200..=599 => Ok(Self(status)),
            _ => Err(OutOfRange::new(Self::ALLOWED)),
        }
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Fault;

    #[test]
    fn words_are_printed_as_they_are_read() {
        for (text, canonical) in [
            ("net:reset:port=443", "egress:reset:port=443"),
            ("net:reset=all:p=5%", "egress:reset=all:p=5%"),
            ("egress,ingress:blackhole", "net:blackhole"),
            ("net:partition:dst=10.0.0.1", "net:partition:dst=10.0.0.1"),
            ("egress:unreachable=admin", "egress:unreachable=admin"),
            ("dns:rcode=3", "dns:rcode=NXDOMAIN"),
            ("dns:rcode=15:p=5%", "dns:rcode=15:p=5%"),
            (
                "dns:answer=[::1]:name=DB.,*.A",
                "dns:answer=[::1]:name=db,*.a",
            ),
            ("dns:drop:port=5353", "dns:drop:port=5353"),
            (
                "http:p=20%:path=/api/*,/health:status=503",
                "http:status=503:path=/api/*,/health:p=20%",
            ),
            (
                "http:status=429:sport=80:port=1-9:dst=[::1]",
                "http:status=429:port=1-9:sport=80:dst=[::1]",
            ),
        ] {
            let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(fault.to_string(), canonical);
            let json = serde_json::to_string(&fault).unwrap();
            assert_eq!(
                serde_json::from_str::<Fault>(&json).unwrap(),
                fault,
                "{json}"
            );
        }
    }
}
