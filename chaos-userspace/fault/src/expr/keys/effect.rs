//! Effects: what happens to an operation. Calls and packets share some words, which mean something
//! else for each, so a row has a part for either.

use std::sync::LazyLock;

use super::part::{Part, list, many_values, one_value};
use super::{Key, KeyDef, keys};
use crate::effect::CallEffect;
use crate::expr::filter::{errno, signal};
use crate::expr::netem::{
    chance, distribution, gemodel, list_value, rate, reorder, slot, small, state,
};
use crate::expr::number::{bytes, delay, duration, retval, share, short};
use crate::expr::resolve::{Misplaced, many, one};
use crate::expr::syntax::Argument;
use crate::expr::wire;
use crate::limit::{Level, Limit};
use crate::model::Op;
use crate::netem::Netem;
use crate::registry::Property;
use crate::wire::Wire;

/// What an operation must have, and the words for it.
const CALL: &[Property] = &[Property::Call];
const PACKET: &[Property] = &[Property::Packet];
const LEAVING: &[Property] = &[Property::Leaving];
const QUERY: &[Property] = &[Property::Query];
const LIMITS: &[Property] = &[Property::Limits];
const A_CALL: &str = "a system call";
const PACKETS: &str = "packets: egress, ingress or net";
const PACKETS_THAT_LEAVE: &str = "packets that leave: egress";
const QUERIES: &str = "DNS queries: dns";

/// Schemas that several have.
const NANOS: &str = r##"{"$ref":"#/$defs/nanos"}"##;
const CHANCE: &str = r##"{"$ref":"#/$defs/chance"}"##;

/// The row of an effect.
pub(crate) struct Row {
    pub(crate) def: KeyDef,
    /// What it is of a system call.
    pub(crate) of_calls: Option<Part<CallEffect>>,
    /// What it is of packets.
    pub(crate) of_packets: Option<OfPackets>,
}

/// What an effect is of packets.
pub(crate) enum OfPackets {
    /// A parameter of netem's, which go together.
    Netem(Part<Netem>),
    /// An effect of its own, which goes with no other.
    Wire(WirePart),
    /// A condition of its own, which goes with no other.
    Limit(LimitPart),
}

/// A condition that is one limit.
pub(crate) struct LimitPart {
    /// Makes it of its value.
    pub(crate) make: fn(Level) -> Limit,
    /// The schema of its value.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "docs/fault.schema.json is compared with it")
    )]
    pub(crate) schema: &'static str,
}

/// An effect on packets that goes with no other.
pub(crate) struct WirePart {
    /// What an operation must have for it, one of these.
    on: &'static [Property],
    /// Reads the argument.
    pub(crate) read: fn(Key, &Argument) -> Result<Wire, Misplaced>,
    /// The names in JSON without a value.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "docs/fault.schema.json is compared with it")
    )]
    pub(crate) words: &'static [&'static str],
    /// The schema of its value.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "docs/fault.schema.json is compared with it")
    )]
    pub(crate) schema: Option<&'static str>,
}

impl Row {
    /// What an operation must have for the key, one of these. It is empty if the row has no part for
    /// such operations, so that the key does not fit.
    pub(crate) fn on(&self, op: Op) -> &'static [Property] {
        match (op.call(), &self.of_calls, &self.of_packets) {
            (Some(_), Some(part), _) => part.on,
            (None, _, Some(OfPackets::Netem(part))) => part.on,
            (None, _, Some(OfPackets::Wire(part))) => part.on,
            (None, _, Some(OfPackets::Limit(_))) => LIMITS,
            (Some(_), None, _) | (None, _, None) => &[],
        }
    }
}

/// A parameter of netem's.
const fn netem(part: Part<Netem>) -> Option<OfPackets> {
    Some(OfPackets::Netem(part))
}

/// An effect without a value.
macro_rules! alone {
    ($on:expr, $wire:expr, $name:literal) => {
        Some(OfPackets::Wire(WirePart {
            on: $on,
            read: |key, argument| wire::alone(key, argument, $wire),
            words: &[$name],
            schema: None,
        }))
    };
}

/// An effect with one value.
macro_rules! with_value {
    ($on:expr, $wire:path, $read:path, $schema:expr) => {
        Some(OfPackets::Wire(WirePart {
            on: $on,
            read: |key, argument| one(key, argument, $read).map($wire),
            words: &[],
            schema: Some($schema),
        }))
    };
}

keys! {
    /// An effect's key in an expression.
    EffectKey, Row {
        Error = "error" "=ERRNO,…"
            "The call fails with this error or one of these, and does nothing."
            { needs: A_CALL, examples: &["=EIO", "=EIO,EPERM"] }
            {
                of_calls: Some(many_values!(
                    CALL, error, errno,
                    r##"{"type":"array",
                        "items":{"$ref":"#/$defs/errno"},
                        "description":"It fails with one of these and does nothing."}"##
                )),
                of_packets: None,
            }
        Loss = "loss" "=P[,CORRELATION]" "The packet vanishes; the sender is not told."
            { needs: PACKETS, examples: &["=5%", "=5%,25%"] }
            {
                of_calls: None,
                of_packets: netem(Part {
                    after: Some(EffectKey::Distribution),
                    ..list_value!(PACKET, loss, 2, chance, CHANCE)
                }),
            }
        Blackhole = "blackhole" "" "Every packet vanishes."
            { needs: PACKETS, examples: &[""] }
            { of_calls: None, of_packets: alone!(PACKET, Wire::Blackhole, "blackhole") }
        Partition = "partition" "" "Every packet to or from the addresses of `dst` vanishes."
            { needs: PACKETS, examples: &[""] }
            { of_calls: None, of_packets: alone!(PACKET, Wire::Partition, "partition") }
        Reset = "reset" "[=all]" "The TCP connection is reset at both ends."
            { needs: PACKETS_THAT_LEAVE, examples: &["", "=all"] }
            {
                of_calls: None,
                of_packets: Some(OfPackets::Wire(WirePart {
                    on: LEAVING,
                    read: wire::reset,
                    words: &["reset", "reset_all"],
                    schema: None,
                })),
            }
        Unreachable = "unreachable" "=WHAT" "The sender gets this ICMP error."
            { needs: PACKETS_THAT_LEAVE, examples: &["=host"] }
            {
                of_calls: None,
                of_packets: with_value!(
                    LEAVING, Wire::Unreachable, wire::unreachable,
                    r#"{"enum":["net","host","port","admin"]}"#
                ),
            }
        Rcode = "rcode" "=CODE" "The DNS query is answered with this code."
            { needs: QUERIES, examples: &["=NXDOMAIN"] }
            {
                of_calls: None,
                of_packets: with_value!(
                    QUERY, Wire::Rcode, wire::rcode,
                    r#"{"type":"integer","minimum":0,"maximum":15,
                        "description":"A response code of RFC 1035, 4.1.1."}"#
                ),
            }
        Answer = "answer" "=ADDRESS" "The DNS query is answered with this address."
            { needs: QUERIES, examples: &["=192.0.2.1"] }
            {
                of_calls: None,
                of_packets: with_value!(
                    QUERY, Wire::Answer, wire::address,
                    r#"{"type":"string","description":"The address that is the answer."}"#
                ),
            }
        Drop = "drop" "" "The DNS query vanishes."
            { needs: QUERIES, examples: &[""] }
            { of_calls: None, of_packets: alone!(QUERY, Wire::Drop, "drop") }
        Status = "status" "=N" "The response by HTTP gets this status."
            { needs: "responses by HTTP: http", examples: &["=503"] }
            {
                of_calls: None,
                of_packets: with_value!(
                    &[Property::Response], Wire::Status, wire::status,
                    r#"{"type":"integer","minimum":200,"maximum":599,"not":{"enum":[204,304]},
                        "description":"The status of a response by HTTP (RFC 9110, 15)."}"#
                ),
            }
        Retval = "retval" "=N" "The call gives this and does nothing."
            { needs: A_CALL, examples: &["=0"] }
            {
                of_calls: Some(one_value!(
                    CALL, retval, retval,
                    r#"{"type":"integer","description":"It gives this and does nothing."}"#
                )),
                of_packets: None,
            }
        Signal = "signal" "=NAME|N" "The calling thread gets this signal."
            { needs: A_CALL, examples: &["=SIGTERM"] }
            {
                of_calls: Some(one_value!(
                    CALL, signal, signal,
                    r#"{"type":"integer","minimum":1,"maximum":64,
                        "description":"The calling thread gets this signal."}"#
                )),
                of_packets: None,
            }
        DelayEnter = "delay_enter" "=D[!]" "The calling thread sleeps before the call."
            { needs: A_CALL, examples: &["=10ms", "=10ms!"] }
            {
                of_calls: Some(Part {
                    on: CALL,
                    take: |to, key, argument| {
                        let (wait, long) = one(key, argument, |text| match text.strip_suffix('!') {
                            Some(text) => Ok((delay(text)?, true)),
                            None => Ok((delay(text)?, false)),
                        })?;
                        (to.delay_enter, to.long) = (Some(wait), long);
                        Ok(())
                    },
                    is_given: |of| of.delay_enter.is_some(),
                    print: |of| match of.long {
                        true => list(of.delay_enter.as_slice()) + "!",
                        false => list(of.delay_enter.as_slice()),
                    },
                    schema: &[
                        (
                            "delay_enter",
                            r##"{"$ref":"#/$defs/nanos",
                                "description":"The calling thread sleeps before the call."}"##,
                        ),
                        (
                            "long",
                            r#"{"type":"boolean",
                                "description":"The delay is meant although it holds up processes that are no targets; `!` behind `delay_enter`."}"#,
                        ),
                    ],
                    after: None,
                }),
                of_packets: None,
            }
        DelayExit = "delay_exit" "=D" "The calling thread sleeps after the call."
            { needs: A_CALL, examples: &["=10ms"] }
            {
                of_calls: Some(one_value!(
                    CALL, delay_exit, delay,
                    r##"{"$ref":"#/$defs/nanos",
                        "description":"The calling thread sleeps after the call."}"##
                )),
                of_packets: None,
            }
        Jitter = "jitter" "=D" "Each delay is up to this much longer or shorter."
            { needs: "a delay: of a system call, or of packets", examples: &["=5ms"] }
            {
                of_calls: Some(one_value!(
                    CALL, jitter, delay,
                    r##"{"$ref":"#/$defs/nanos",
                        "description":"How much longer or shorter each delay is at most."}"##
                )),
                of_packets: netem(Part {
                    after: Some(EffectKey::Delay),
                    ..one_value!(PACKET, jitter, duration, NANOS)
                }),
            }
        Short = "short" "=BYTES" "The call reads or writes at most so many bytes."
            {
                needs: "a call that reads or writes a buffer: read, pread64, readv, preadv, \
                        preadv2, recvfrom, write, pwrite64, writev, pwritev, pwritev2 or sendto",
                examples: &["=1"],
            }
            {
                of_calls: Some(one_value!(
                    &[Property::Reads, Property::Writes], short, key short,
                    r#"{"type":"integer","minimum":1,"maximum":4294967295,
                        "description":"It reads or writes at most so many bytes; goes with `corrupt` only."}"#
                )),
                of_packets: None,
            }
        Delay = "delay" "=D" "Packets are held this long."
            {
                needs: PACKETS,
                examples: &["=10ms"],
                instead: &[
                    ("dns", "net:delay=200ms:port=53 holds queries and answers"),
                    ("http", "net:delay=200ms:port=80 holds requests and responses"),
                ],
            }
            { of_calls: None, of_packets: netem(one_value!(PACKET, delay, duration, NANOS)) }
        Correlation = "correlation" "=P" "How much a delay depends on the one before."
            { needs: PACKETS, examples: &["=25%"] }
            {
                of_calls: None,
                of_packets: netem(one_value!(
                    PACKET, correlation, share,
                    r##"{"$ref":"#/$defs/share"}"##
                )),
            }
        Distribution = "distribution" "=NAME|FILE" "How the delay varies."
            { needs: PACKETS, examples: &["=normal"] }
            {
                of_calls: None,
                of_packets: netem(one_value!(
                    PACKET, distribution, distribution,
                    r#"{"oneOf":[{"enum":["uniform","normal","pareto","paretonormal"]},
                        {"type":"object","additionalProperties":false,
                        "properties":{"table":{"type":"string","pattern":"/",
                        "description":"A file with a table as iproute2 has them, which murphy reads; not over the API of murphy serve."}},
                        
                        "required":["table"]}]}"#
                )),
            }
        Gemodel = "gemodel" "=P[,R[,1-H[,1-K]]]"
            "Packets are lost in bursts, after Gilbert and Elliott."
            { needs: PACKETS, examples: &["=1%,25%"] }
            {
                of_calls: None,
                of_packets: netem(list_value!(
                    PACKET, gemodel, 4, gemodel,
                    r##"{"type":"object","additionalProperties":false,
                        "properties":{"p":{"$ref":"#/$defs/ppm"},"r":{"$ref":"#/$defs/share"},
                        "bad":{"$ref":"#/$defs/share"},"good":{"$ref":"#/$defs/share"}},
                        "required":["p"],"description":"Gilbert and Elliott's two states."}"##
                )),
            }
        State = "state" "=P13[,P31[,P32[,P23[,P14]]]]"
            "Packets are lost after a Markov chain of four states."
            { needs: PACKETS, examples: &["=1%,25%"] }
            {
                of_calls: None,
                of_packets: netem(list_value!(
                    PACKET, state, 5, state,
                    r##"{"type":"object","additionalProperties":false,
                        "properties":{"p13":{"$ref":"#/$defs/ppm"},"p31":{"$ref":"#/$defs/share"},
                        "p32":{"$ref":"#/$defs/share"},"p23":{"$ref":"#/$defs/share"},
                        "p14":{"$ref":"#/$defs/share"}},"required":["p13"],
                        "description":"A Markov chain of four states."}"##
                )),
            }
        Duplicate = "duplicate" "=P[,CORRELATION]" "Packets arrive twice."
            { needs: PACKETS, examples: &["=1%"] }
            { of_calls: None, of_packets: netem(list_value!(PACKET, duplicate, 2, chance, CHANCE)) }
        Corrupt = "corrupt" "=P[,CORRELATION]|BYTES"
            "One bit of a packet is wrong, or so many bytes of what a call reads are."
            {
                needs: "packets, or a call that reads into a buffer: read, pread64, readv, preadv, \
                        preadv2 or recvfrom",
                examples: &["=1"],
            }
            {
                of_calls: Some(one_value!(
                    &[Property::Reads], corrupt, key bytes,
                    r#"{"type":"integer","minimum":1,"maximum":65536,
                        "description":"So many bytes of what it reads are others; goes with `short` only."}"#
                )),
                of_packets: netem(list_value!(PACKET, corrupt, 2, chance, CHANCE)),
            }
        Reorder = "reorder" "=P[,CORRELATION[,GAP]]"
            "Packets are not delayed and so overtake others."
            { needs: PACKETS, examples: &["=25%,50%"] }
            {
                of_calls: None,
                of_packets: netem(list_value!(
                    PACKET, reorder, 3, reorder,
                    r##"{"type":"object","additionalProperties":false,
                        "properties":{"p":{"$ref":"#/$defs/ppm"},
                        "correlation":{"$ref":"#/$defs/share"},"gap":{"type":"integer","minimum":0,
                        "maximum":4294967295}},"required":["p"]}"##
                )),
            }
        Rate = "rate" "=RATE[,OVERHEAD[,CELL[,CELLOVERHEAD]]]" "How fast packets leave."
            { needs: PACKETS, examples: &["=1mbit"] }
            {
                of_calls: None,
                of_packets: netem(list_value!(
                    PACKET, rate, 4, rate,
                    r#"{"type":"object","additionalProperties":false,
                        "properties":{"bits":{"type":"integer","minimum":8,
                        "description":"Bits a second."},"overhead":{"type":"integer",
                        "minimum":-2147483648,"maximum":2147483647},"cell":{"type":"integer",
                        "minimum":0,"maximum":4294967295},"cell_overhead":{"type":"integer",
                        "minimum":-2147483648,"maximum":2147483647}},"required":["bits"]}"#
                )),
            }
        Slot = "slot" "=MIN[,MAX[,PACKETS[,BYTES]]]"
            "Packets wait for the next slot and leave in a bunch."
            { needs: PACKETS, examples: &["=1ms,2ms"] }
            {
                of_calls: None,
                of_packets: netem(list_value!(
                    PACKET, slot, 4, slot,
                    r##"{"type":"object","additionalProperties":false,
                        "properties":{"min":{"$ref":"#/$defs/nanos"},"max":{"$ref":"#/$defs/nanos"},
                        "packets":{"type":"integer","minimum":0,"maximum":4294967295},
                        "bytes":{"type":"integer","minimum":0,"maximum":4294967295}},
                        "required":["min"]}"##
                )),
            }
        Limit = "limit" "=PACKETS" "How many packets are held at most."
            { needs: PACKETS, examples: &["=1000"] }
            {
                of_calls: None,
                of_packets: netem(one_value!(
                    PACKET, limit, small,
                    r#"{"type":"integer","minimum":0,"maximum":4294967295,
                        "description":"How many packets are held at most."}"#
                )),
            }
        Nofile = "nofile" "=N|used"
            "The soft limit of descriptors: with `used`, no new ones."
            { needs: "resource limits: limit", examples: &["=used", "=64"] }
            {
                of_calls: None,
                of_packets: Some(OfPackets::Limit(LimitPart {
                    make: Limit::Nofile,
                    schema: r#"{"oneOf":[{"const":"used"},{"type":"integer","minimum":0}],
                        "description":"The soft limit of descriptors; used: no new ones."}"#,
                })),
            }
    }
}

/// Keys with their parts, in the order in which they are printed.
type Parts<T> = Vec<(EffectKey, &'static Part<T>)>;

fn in_order<T>(part: fn(&'static Row) -> Option<&'static Part<T>>) -> Parts<T> {
    let keys = EffectKey::ALL.iter();
    let mut parts: Parts<T> = keys
        .filter_map(|key| Some((*key, part(key.row())?)))
        .collect();
    parts.sort_by_key(|(key, part)| (part.after.unwrap_or(*key), part.after.is_some()));
    parts
}

/// What can be said of a system call.
pub(crate) fn of_calls() -> impl Iterator<Item = (EffectKey, &'static Part<CallEffect>)> {
    static PARTS: LazyLock<Parts<CallEffect>> =
        LazyLock::new(|| in_order(|row| row.of_calls.as_ref()));
    PARTS.iter().copied()
}

/// netem's parameters.
pub(crate) fn of_netem() -> impl Iterator<Item = (EffectKey, &'static Part<Netem>)> {
    static PARTS: LazyLock<Parts<Netem>> = LazyLock::new(|| {
        in_order(|row| match &row.of_packets {
            Some(OfPackets::Netem(part)) => Some(part),
            Some(OfPackets::Wire(_) | OfPackets::Limit(_)) | None => None,
        })
    });
    PARTS.iter().copied()
}

impl CallEffect {
    /// The keys that say something.
    pub fn keys(&self) -> impl Iterator<Item = EffectKey> {
        of_calls().filter_map(|(key, part)| (part.is_given)(self).then_some(key))
    }
}

impl Netem {
    /// The keys that say something, in the order of printing.
    pub fn keys(&self) -> impl Iterator<Item = EffectKey> {
        of_netem().filter_map(|(key, part)| (part.is_given)(self).then_some(key))
    }
}
