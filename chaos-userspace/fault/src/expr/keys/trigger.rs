//! Triggers: when an operation that matches is hit.

use super::part::{Part, list, one_value};
use super::{Key, KeyDef, keys};
use crate::expr::filter::count;
use crate::expr::number::{duration, positive, probability, pulse, rate_limit, when, whole};
use crate::expr::resolve::one;
use crate::model::Trigger;
use crate::registry::Property;

/// Every operation, and conditions too.
const ALL: &[Property] = &[Property::Any];
/// Every operation that happens: of a condition there is none to choose.
const HAPPENS: &[Property] = &[Property::Happens];
const AN_OPERATION: &str = "an operation, and no condition";

/// The row of a trigger.
pub(crate) struct Row {
    pub(crate) def: KeyDef,
    pub(crate) part: Part<Trigger>,
}

keys! {
    /// A trigger's key in an expression. Every operation takes them all, but `count`, which is for
    /// system calls. A condition takes `after`, `for` and `pulse`.
    TriggerKey, Row {
        P = "p" "=P" "The probability of each match that the other triggers let through."
            { needs: AN_OPERATION, examples: &["=5%", "=100%"] }
            { part: one_value!(HAPPENS, p, probability, r##"{"$ref":"#/$defs/ppm"}"##) }
        When = "when" "=F[..L][+[S]]" "Which matches, counted from 1."
            { needs: AN_OPERATION, examples: &["=3+", "=1+"] }
            { part: one_value!(
                HAPPENS, when, when,
                r#"{"type":"object","additionalProperties":false,
                    "properties":{"first":{"type":"integer","minimum":1},"last":{"type":"integer",
                    "minimum":1},"step":{"type":"integer","minimum":1,
                    "description":"1 unless given."}},"required":["first"],
                    "description":"strace's when=: matches counted from 1."}"#
            ) }
        Times = "times" "=N" "At most this many injections."
            { needs: AN_OPERATION, examples: &["=1"] }
            { part: one_value!(
                HAPPENS, times, key positive,
                r#"{"type":"integer","minimum":1,"description":"At most this many injections."}"#
            ) }
        After = "after" "=D" "Nothing before this much time has passed since arming."
            { examples: &["=1s", "=0s"] }
            { part: one_value!(ALL, after, duration, r##"{"$ref":"#/$defs/nanos"}"##) }
        For = "for" "=D" "Nothing once this much time has passed since arming."
            { examples: &["=10s"] }
            { part: Part {
                schema: &[("for", r##"{"$ref":"#/$defs/nanos"}"##)],
                ..one_value!(ALL, r#for, duration, "")
            } }
        Pulse = "pulse" "=ON/OFF" "Active and quiet by turns, from arming on."
            { examples: &["=100ms/900ms"] }
            { part: one_value!(
                ALL, pulse, pulse,
                r##"{"type":"object","additionalProperties":false,
                    "properties":{"on":{"$ref":"#/$defs/nanos"},"off":{"$ref":"#/$defs/nanos"}},
                    "required":["on","off"]}"##
            ) }
        RateLimit = "rate_limit" "=N/UNIT"
            "At most so many injections in any second, minute or hour."
            { needs: AN_OPERATION, examples: &["=5/s"] }
            { part: one_value!(
                HAPPENS, rate_limit, key rate_limit,
                r#"{"type":"object","additionalProperties":false,
                    "properties":{"count":{"type":"integer","minimum":1},"per":{"enum":["s","m",
                    "h"]}},"required":["count","per"]}"#
            ) }
        Over = "over" "=N/UNIT" "Only what comes over so many matches a second, minute or hour."
            { needs: AN_OPERATION, examples: &["=10/s"] }
            { part: one_value!(
                HAPPENS, over, key rate_limit,
                r#"{"type":"object","additionalProperties":false,
                    "properties":{"count":{"type":"integer","minimum":1},"per":{"enum":["s","m",
                    "h"]}},"required":["count","per"]}"#
            ) }
        Count = "count" "=thread" "Each thread counts its own matches, as in strace."
            { needs: "a system call", examples: &["=thread"] }
            { part: one_value!(&[Property::Call], count, count, r#"{"enum":["thread"]}"#) }
        Seed = "seed" "=N" "The seed of the random decisions."
            { needs: AN_OPERATION, examples: &["=7", "=0"] }
            { part: one_value!(HAPPENS, seed, whole, r#"{"type":"integer","minimum":0}"#) }
    }
}
