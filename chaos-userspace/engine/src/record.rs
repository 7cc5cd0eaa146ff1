//! Decisions as people and scripts read them: lines of a trace, lines of an events file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chaos_common::event::{Event, kind, verdict};
use serde::{Deserialize, Serialize};

use murphy_fault::plan::{Plan, kind_of_type, operation_of};
use murphy_fault::{CallEffect, Effect, Errno, FdKind, Nanos};
use murphy_state::results::Report;

/// The version of the events file that this program writes and reads.
pub const FORMAT: u32 = 1;

/// One line of an events file: first the plan, then the matches, at last the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// What was to happen.
    Plan(Header),
    /// What became of one match.
    Match(Match),
    /// What came of it all. Missing if murphy was killed.
    End(End),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program that wrote the file.
    pub murphy: String,
    /// When the file was begun, in seconds since 1970.
    pub started_unix: u64,
    /// The same moment as boot time in ns: the clock of `time_ns`.
    pub started_ns: u64,
    /// Seed of the faults that have none of their own.
    pub seed: u64,
    /// Injections end this long after arming, in ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_ns: Option<u64>,
    /// The faults; a match's `rule` is an index into them.
    pub faults: Vec<HeaderFault>,
}

/// One fault of the first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderFault {
    /// As an expression.
    pub fault: String,
    /// Seed that repeats its decisions.
    pub seed: u64,
}

/// What became of one match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Boot time in ns.
    pub time_ns: u64,
    /// Time since arming in ns: what the decision was made with.
    pub elapsed_ns: u64,
    /// Which fault, from 0.
    pub rule: u32,
    /// The how-manieth match of that fault, from 1; 0 where the lease was over.
    pub n: u64,
    /// The operation.
    pub op: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Thread group, as the initial pid namespace numbers it. Packets have none; a connection that `reset=all` finds has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The thread's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Remote address of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Remote port of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What kind of file the call works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<FdKind>,
    /// Bytes of a packet, from its IP header on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// `IPv4`, `IPv6`, or the Ethernet protocol's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// What became of a match; the counters of the report under the same names, except
/// that the report's `expired` is the sum of `expired` and `lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The effect took place.
    Injected,
    /// The draw of `p` said no.
    Probability,
    /// Not one of the matches `when` names.
    When,
    /// `times` was used up.
    Times,
    /// `after` was not over.
    After,
    /// The fault's time was over.
    Expired,
    /// The injector's lease was over.
    Lease,
    /// The kernel program could not decide.
    Failed,
    /// `pulse` was in a quiet phase.
    Pulse,
    /// `rate_limit` was reached.
    RateLimit,
}

impl Verdict {
    fn of(wire: u32) -> Self {
        match wire {
            verdict::INJECTED => Self::Injected,
            verdict::PROBABILITY => Self::Probability,
            verdict::WHEN => Self::When,
            verdict::TIMES => Self::Times,
            verdict::AFTER => Self::After,
            verdict::EXPIRED => Self::Expired,
            verdict::LEASE => Self::Lease,
            verdict::PULSE => Self::Pulse,
            verdict::RATE_LIMIT => Self::RateLimit,
            _ => Self::Failed,
        }
    }

    /// The name in an events file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Probability => "probability",
            Self::When => "when",
            Self::Times => "times",
            Self::After => "after",
            Self::Expired => "expired",
            Self::Lease => "lease",
            Self::Failed => "failed",
            Self::Pulse => "pulse",
            Self::RateLimit => "rate_limit",
        }
    }

    /// Why an operation was let be, in words.
    const fn reason(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Probability => "p said no",
            Self::When => "not named by when",
            Self::Times => "times used up",
            Self::After => "after not over",
            Self::Expired => "time over",
            Self::Lease => "lease over",
            Self::Failed => "failed",
            Self::Pulse => "pulse is quiet",
            Self::RateLimit => "rate_limit reached, or not over",
        }
    }
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Why it ended.
    pub ended: String,
    /// Boot time in ns when the faults were armed; 0: never.
    pub armed_at_ns: u64,
    /// Decisions that found the buffer full and have no line here.
    pub lost: u64,
    /// The kernel's counters.
    pub report: Report,
}

impl Header {
    /// The line of a plan that is about to be put in force.
    pub fn new(plan: &Plan, seed: u64, limit: Option<std::time::Duration>) -> Self {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            format: FORMAT,
            murphy: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix: since_1970.as_secs(),
            started_ns: super::boot_ns(),
            seed,
            limit_ns: limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
            faults: plan
                .rules
                .iter()
                .map(|rule| HeaderFault {
                    fault: rule.fault.to_string(),
                    seed: rule.wire.seed,
                })
                .collect(),
        }
    }
}

impl Match {
    /// An event in words.
    pub fn new(event: &Event) -> Self {
        let known = event.pid != 0;
        let comm = event.comm.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let mut line = Self {
            time_ns: event.time_ns,
            elapsed_ns: event.elapsed_ns,
            rule: event.rule,
            n: event.n,
            op: operation_of(event.operation)
                .map_or_else(|| event.operation.to_string(), |op| op.name().to_owned()),
            verdict: Verdict::of(event.verdict),
            pid: known.then_some(event.pid),
            tid: known.then_some(event.tid),
            comm: known.then(|| String::from_utf8_lossy(comm).into_owned()),
            address: None,
            port: None,
            on: None,
            length: None,
            protocol: None,
        };
        let [first, second] = event.detail;
        match event.kind {
            kind::REMOTE4 => {
                let [a, b, c, d, ..] = first.to_ne_bytes();
                line.address = Some(Ipv4Addr::new(a, b, c, d).into());
                line.port = u16::try_from(event.port).ok();
            }
            kind::REMOTE6 => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&first.to_ne_bytes());
                octets[8..].copy_from_slice(&second.to_ne_bytes());
                line.address = Some(Ipv6Addr::from(octets).into());
                line.port = u16::try_from(event.port).ok();
            }
            kind::FILE => line.on = Some(kind_of_type(first >> 12)),
            kind::PACKET => {
                line.length = u32::try_from(first).ok();
                line.protocol = Some(match second {
                    0x0800 => "IPv4".to_owned(),
                    0x86dd => "IPv6".to_owned(),
                    other => format!("{other:#06x}"),
                });
            }
            _ => {}
        }
        line
    }

    /// The line of a trace, after strace's manner.
    pub fn trace<'a>(&'a self, plan: &'a Plan) -> impl fmt::Display + 'a {
        Trace { line: self, plan }
    }
}

struct Trace<'a> {
    line: &'a Match,
    plan: &'a Plan,
}

impl fmt::Display for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        let (seconds, nanos) = (
            line.elapsed_ns / 1_000_000_000,
            line.elapsed_ns % 1_000_000_000,
        );
        write!(f, "{seconds}.{:06} ", nanos / 1_000)?;
        match (&line.comm, line.pid) {
            // A name may hold anything, line feeds and escape sequences too.
            (Some(comm), Some(pid)) => write!(f, "{}[{pid}] ", comm.escape_debug())?,
            _ => f.write_str("- ")?,
        }
        f.write_str(&line.op)?;
        match (line.address, line.port, line.on, line.length) {
            (Some(IpAddr::V6(address)), Some(port), ..) => write!(f, "([{address}]:{port})")?,
            (Some(address), Some(port), ..) => write!(f, "({address}:{port})")?,
            (_, _, Some(kind), _) => write!(f, "(<{kind}>)")?,
            (.., Some(_)) => {}
            _ => f.write_str("()")?,
        }
        let effect = self
            .plan
            .rules
            .get(line.rule as usize)
            .map(|rule| &rule.fault.effect);
        match (line.verdict, effect) {
            (Verdict::Injected, Some(Effect::Error(errno))) => {
                let text = nix::errno::Errno::from_raw(i32::from(errno.get())).desc();
                write!(f, " = -1 {errno} ({text})")?;
            }
            (Verdict::Injected, Some(Effect::Call(call))) => {
                let seed = self.plan.rules[line.rule as usize].wire.seed;
                happened(f, call, seed, line.n)?;
            }
            (Verdict::Injected, Some(Effect::Loss(_))) => f.write_str(" lost")?,
            (Verdict::Injected, Some(Effect::Netem(netem))) => write!(f, " {netem}")?,
            _ => {}
        }
        if let (Some(length), Some(protocol)) = (line.length, &line.protocol) {
            write!(f, " ({protocol} {length} bytes)")?;
        }
        match line.verdict {
            Verdict::Injected => f.write_str(" (INJECTED)"),
            other => write!(f, " (let be: {})", other.reason()),
        }
    }
}

/// What happened to a system call, after strace's manner.
fn happened(f: &mut fmt::Formatter<'_>, call: &CallEffect, seed: u64, n: u64) -> fmt::Result {
    match call.answer(seed, n) {
        Some(value @ -4095..=-1) => {
            let number = i32::try_from(-value).unwrap_or_default();
            let errno = u16::try_from(number).ok().and_then(Errno::new);
            let text = nix::errno::Errno::from_raw(number).desc();
            let name = errno.map_or_else(|| number.to_string(), |errno| errno.to_string());
            write!(f, " = -1 {name} ({text})")?;
        }
        Some(value) => write!(f, " = {value}")?,
        None => {}
    }
    if let Some(signal) = call.signal {
        write!(f, " ({signal})")?;
    }
    match call.delay(seed, n) {
        Nanos(0) => Ok(()),
        delay => write!(f, " (DELAYED {delay})"),
    }
}

#[cfg(test)]
mod tests {
    use chaos_common::ops;

    use super::*;
    use murphy_fault::plan::{Options, Target};

    fn plan() -> Plan {
        let faults = ["connect:error=ECONNREFUSED", "egress:loss=1%"];
        let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        Plan::new(faults, Target::Command, &Options::default()).unwrap()
    }

    fn connect() -> Event {
        Event {
            time_ns: 99_000_000_000,
            elapsed_ns: 12_345_678_901,
            n: 3,
            pid: 4711,
            tid: 4712,
            operation: ops::CONNECT,
            verdict: verdict::INJECTED,
            kind: kind::REMOTE4,
            detail: [u64::from(u32::from_ne_bytes([127, 0, 0, 1])), 0],
            port: 6379,
            comm: *b"redis-cli\0\0\0\0\0\0\0",
            ..Event::default()
        }
    }

    fn trace(event: &Event) -> String {
        Match::new(event).trace(&plan()).to_string()
    }

    #[test]
    fn a_trace_line_is_straces() {
        assert_eq!(
            trace(&connect()),
            "12.345678 redis-cli[4711] connect(127.0.0.1:6379) = -1 ECONNREFUSED \
             (Connection refused) (INJECTED)"
        );
    }

    #[test]
    fn ipv6_and_what_was_let_be() {
        let mut detail = [0; 2];
        detail[1] = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
        let event = Event {
            kind: kind::REMOTE6,
            detail,
            verdict: verdict::PROBABILITY,
            comm: *b"a\x1b[31m\n\0\0\0\0\0\0\0\0\0",
            ..connect()
        };
        assert_eq!(
            trace(&event),
            "12.345678 a\\u{1b}[31m\\n[4711] connect([::1]:6379) (let be: p said no)"
        );
    }

    #[test]
    fn a_packet_belongs_to_nobody_by_name() {
        let event = Event {
            elapsed_ns: 1_000,
            rule: 1,
            operation: ops::EGRESS,
            kind: kind::PACKET,
            detail: [84, 0x0800],
            ..Event::default()
        };
        assert_eq!(
            trace(&event),
            "0.000001 - egress lost (IPv4 84 bytes) (INJECTED)"
        );
    }

    #[test]
    fn lines_survive_json() {
        let lines = [
            Line::Plan(Header::new(&plan(), u64::MAX, None)),
            Line::Match(Match::new(&connect())),
        ];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
        let text = serde_json::to_string(&Line::Match(Match::new(&connect()))).unwrap();
        assert_eq!(
            text,
            "{\"event\":\"match\",\"time_ns\":99000000000,\"elapsed_ns\":12345678901,\"rule\":0,\"n\":3,\
             \"op\":\"connect\",\"verdict\":\"injected\",\"pid\":4711,\"tid\":4712,\"comm\":\"redis-cli\",\
             \"address\":\"127.0.0.1\",\"port\":6379}"
        );
    }
}
