//! Everything that can be wrong with an expression, in the words that the person who typed it reads.

use super::keys::{Key, TargetKey};
use super::suggest::nearest;
use crate::call::Signal;
use crate::check::{Mismatch, wrong_key};
use crate::model::Op;
use crate::netem::Distribution;
use crate::registry;
use crate::syscalls;
use crate::values::{Errno, FdKind, OutOfRange, Proto};
use crate::wire::{Rcode, Status, Unreachable};

/// What is wrong at one place of an expression.
///
/// The text ([`std::fmt::Display`]) says what is wrong, [`Mistake::help`] what would be right. Texts that were typed are held as
/// they were, and shown with control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// Nothing was given.
    #[error("the expression is empty")]
    Empty,
    /// More than [`super::MAX_LENGTH`] bytes.
    #[error("the expression is too long, {} bytes at most", super::MAX_LENGTH)]
    TooLong,
    /// An operation was expected.
    #[error("an operation is missing")]
    NoOperation,
    /// A word that is no operation.
    #[error("no such operation `{}`", visible(.0))]
    UnknownOperation(String),
    /// A class that strace does not have, or a regular expression that finds nothing.
    #[error("no system call is in `{}`", visible(.0))]
    NoSuchSet(String),
    /// A set with nothing in it.
    #[error("no system call is left in this set")]
    EmptySet,
    /// `!` before what is no system call.
    #[error("`!` says which system calls are left out; `{0}` is none")]
    NoSetOf(Op),
    /// Not a regular expression.
    #[error("`{}` is no regular expression: {}", visible(regex), visible(problem))]
    BadRegex {
        /// Without the `/` before it.
        regex: String,
        /// What is wrong with it.
        problem: String,
    },
    /// strace's `fault=` has no effect but an error.
    #[error("`fault=` takes no `{0}`, as in strace")]
    NotInFault(Key),
    /// `KEY=` where an operation should be.
    #[error("an expression begins with an operation, not with `{}=`", visible(.0))]
    KeyFirst(String),
    /// The parts do not go together.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A key that the operation, as it was spelt, does not have.
    #[error("{}", wrong_key(*key, operation))]
    WrongKey {
        /// The key.
        key: Key,
        /// The operation's word.
        operation: &'static str,
    },
    /// A `:` with no key behind it.
    #[error("a key is missing after `:`")]
    NoKey {
        /// The keys that the operation takes.
        takes: Vec<&'static str>,
    },
    /// A word that is no key.
    #[error("no such key `{}`", visible(name))]
    UnknownKey {
        /// The word.
        name: String,
        /// The keys that the operation takes.
        takes: Vec<&'static str>,
    },
    /// A key that strace has and murphy has not.
    #[error("strace has the key `{name}`, murphy has not")]
    KeyOfStrace {
        /// The word.
        name: String,
        /// The keys that the operation takes.
        takes: Vec<&'static str>,
    },
    /// A value that names nobody.
    #[error("`{}` is no {}", visible(value), key.name())]
    NotTarget {
        /// What it should name.
        key: TargetKey,
        /// What was typed.
        value: String,
    },
    /// The same key again.
    #[error("`{0}` is given twice")]
    KeyTwice(Key),
    /// The same value again.
    #[error("`{}` is given twice", visible(.0))]
    ValueTwice(String),
    /// No `=`.
    #[error("`{0}` needs a value: `{0}=…`")]
    NoValue(Key),
    /// Nothing behind the `=`, or nothing between two commas.
    #[error("a value of `{0}` is empty")]
    EmptyValue(Key),
    /// A list where one value is meant.
    #[error("`{0}` takes one value")]
    OneValue(Key),
    /// No key says what shall happen.
    #[error("nothing says what shall happen: an effect is missing")]
    NoEffect(Vec<&'static str>),
    /// Two keys say what shall happen.
    #[error("only one effect at a time, and `{0}` is there already")]
    TwoEffects(Key),
    /// More values than the key has places for.
    #[error("`{0}` takes at most {1} values")]
    TooManyValues(Key, usize),
    /// Not the name of a distribution.
    #[error("no such distribution `{}`", visible(.0))]
    UnknownDistribution(String),
    /// Not a rate at all.
    #[error("`{}` is not a rate", visible(.0))]
    NotRate(String),
    /// `[` without `]`.
    #[error("`[` is not closed by `]`")]
    OpenBracket,
    /// A backslash at the very end.
    #[error("nothing follows the `\\`")]
    LoneBackslash,
    /// Not the name of an error.
    #[error("no such error `{}`", visible(.0))]
    UnknownErrno(String),
    /// An error number out of range.
    #[error("an error number is 1 to {}", Errno::MAX)]
    ErrnoRange,
    /// Not a number at all.
    #[error("`{}` is not a number", visible(.0))]
    NotNumber(String),
    /// More than fits.
    #[error("the number is too big, {0} at most")]
    TooBig(u64),
    /// 0 where 1 is the least.
    #[error("`{0}` is at least 1")]
    Zero(Key),
    /// Not a number of bytes.
    #[error("`{}` is not a number of bytes", visible(.0))]
    NotBytes(String),
    /// `short=0`, which is something else.
    #[error("a call that is short of all its bytes is at the end of the file")]
    ShortOfAll,
    /// Not a probability at all.
    #[error("`{}` is not a probability", visible(.0))]
    NotProbability(String),
    /// 0, or more than everything.
    #[error("a probability is more than 0 and at most 100 %")]
    ProbabilityRange,
    /// Less than one in a million, more than none.
    #[error("a probability below 1ppm is less than murphy can count")]
    ProbabilityTooSmall,
    /// `when` has another shape.
    #[error("`{}` is not a `when`", visible(.0))]
    NotWhen(String),
    /// `when` begins at 0, steps by 0 or ends before it begins.
    #[error("`when` counts from 1, steps by at least 1 and does not end before it begins")]
    WhenRange,
    /// Not a duration at all.
    #[error("`{}` is not a duration", visible(.0))]
    NotDuration(String),
    /// A bare number.
    #[error("`{}` has no unit; add a unit, e.g. {}s", visible(.0), visible(.0))]
    NoUnit(String),
    /// More than fits in 64 bits of nanoseconds.
    #[error("the duration is too long")]
    DurationTooLong,
    /// `pulse` has another shape.
    #[error("`{}` is not a pulse", visible(.0))]
    NotPulse(String),
    /// A part of `pulse` is nothing.
    #[error("both parts of a pulse are longer than 0")]
    PulseRange,
    /// `rate_limit` has another shape.
    #[error("`{}` is not a rate limit", visible(.0))]
    NotRateLimit(String),
    /// Not a number of 64 bits.
    #[error("`{}` is not a value of 64 bits", visible(.0))]
    NotRetval(String),
    /// Neither a signal's name nor its number.
    #[error("no such signal `{}`", visible(.0))]
    UnknownSignal(String),
    /// Not a descriptor.
    #[error("`{}` is not a descriptor's number", visible(.0))]
    NotFd(String),
    /// Not a pattern of paths.
    #[error("`{}` is not a pattern of absolute paths", visible(.0))]
    NotPath(String),
    /// Nothing that counts.
    #[error("`{}` does not count", visible(.0))]
    NotCount(String),
    /// Not a port.
    #[error("`{}` is not a port", visible(.0))]
    NotPort(String),
    /// A range that ends before it begins.
    #[error("the range of ports `{}` ends before it begins", visible(.0))]
    PortOrder(String),
    /// A name where an address should be.
    #[error("host names such as `{}` are not resolved here; give the address", visible(.0))]
    HostName(String),
    /// A name with a prefix behind it.
    #[error("`{}`: a host's name stands for its addresses, and has no prefix", visible(.0))]
    NamePrefix(String),
    /// Neither an address nor a name.
    #[error("`{}` is not an address", visible(.0))]
    NotAddress(String),
    /// A prefix that is no number or longer than the address.
    #[error("a prefix of this address is 0 to {0} bits")]
    PrefixRange(u8),
    /// Bits set beyond the prefix.
    #[error("the address has bits beyond its prefix; the network is {0}")]
    HostBits(String),
    /// Neither a protocol's name nor its number.
    #[error("no such protocol `{}`", visible(.0))]
    UnknownProto(String),
    /// Not a kind of file.
    #[error("no such kind of file `{}`", visible(.0))]
    UnknownKind(String),
    /// A value where none is meant.
    #[error("`{0}` takes no value")]
    TakesNoValue(Key),
    /// A value of `reset` that is none.
    #[error("`{}` does not say which connections are reset", visible(.0))]
    NotReset(String),
    /// Neither a number nor `used`.
    #[error("`{}` is no value for a limit", visible(.0))]
    NotLevel(String),
    /// Not a way for a packet not to arrive.
    #[error("no such ICMP error `{}`", visible(.0))]
    UnknownUnreachable(String),
    /// Neither the name of a DNS response code nor its number.
    #[error("no such DNS response code `{}`", visible(.0))]
    UnknownRcode(String),
    /// Not a status that a response can be given.
    #[error("`{}` is no status for a response", visible(.0))]
    NotStatus(String),
    /// Not a name that can be looked up.
    #[error("`{}` cannot be a name: {reason}", visible(text))]
    NotName {
        /// What was typed.
        text: String,
        /// What is allowed.
        reason: OutOfRange,
    },
    /// Not a name that an interface can have.
    #[error("`{}` cannot be an interface: {reason}", visible(text))]
    NotInterface {
        /// What was typed.
        text: String,
        /// What is allowed.
        reason: OutOfRange,
    },
    /// The words have no shape; every string has one, so this is not seen.
    #[error("this cannot be read")]
    Shapeless,
}

impl Mistake {
    /// What would be right, or what can stand there; one line.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Empty | Self::NoOperation | Self::KeyFirst(_) | Self::Shapeless => {
                "OPERATION:EFFECT=VALUE[:KEY=VALUE]…, for example `connect:error=ECONNREFUSED:port=5432`".to_owned()
            }
            Self::UnknownOperation(name) => {
                did_you_mean(name, registry::operation_names(), &operations())
            }
            Self::NoSuchSet(_) => format!("there are {}", listed(syscalls::class_names())),
            Self::NotInFault(_) => "write `inject=`, or neither".to_owned(),
            Self::NotRetval(_) => "a number such as 0, 42, -1 or 0xff".to_owned(),
            Self::UnknownSignal(name) => {
                let names: Vec<_> = Signal::names().map(|(name, _)| name).collect();
                did_you_mean(&name.to_uppercase(), names, "a name such as SIGTERM, or a number from 1 to 64")
            }
            Self::NotPath(_) => {
                "`/var/lib/app/**` or `/srv/*/wal/*.log`: it begins with `/` or `*`, and `**` is a folder's whole name".to_owned()
            }
            Self::NotCount(_) => "`thread`: each thread counts for itself; else the fault counts".to_owned(),
            Self::WrongKey { key, operation } => {
                let mut instead = key.def().instead.iter();
                match instead.find(|(of, _)| of == operation) {
                    Some((_, instead)) => (*instead).to_owned(),
                    None => {
                        let takes = registry::operations_named(operation);
                        format!("`{operation}` takes {}", listed(takes_all(&takes)))
                    }
                }
            }
            Self::UnknownKey { name, takes } => {
                did_you_mean(name, takes.iter().copied(), &format!("there are {}", listed(takes.iter().copied())))
            }
            Self::NoKey { takes } | Self::KeyOfStrace { takes, .. } => format!("there are {}", listed(takes.iter().copied())),
            Self::NotTarget { key, .. } => key.row().hint.to_owned(),
            Self::EmptyValue(key) => return key.def().empty.map(str::to_owned),
            Self::HostName(_) | Self::NamePrefix(_) | Self::NotAddress(_) => ADDRESSES.to_owned(),
            Self::NoEffect(possible) => {
                let keys = possible.iter().map(|key| format!("{key}=…")).collect::<Vec<_>>();
                format!("here it can be {}", keys.join(" or "))
            }
            Self::UnknownErrno(name) => {
                let names: Vec<_> = Errno::names().map(|(name, _)| name).collect();
                let usual = "a name such as ENOSPC or EIO, or a number from 1 to 4095";
                did_you_mean(&name.to_uppercase(), names, usual)
            }
            Self::NotBytes(_) => "a whole number, at least 1; how often is said by `p=5%`".to_owned(),
            Self::ShortOfAll => "`retval=0` says so; `short` is at least 1".to_owned(),
            Self::NotProbability(_) | Self::ProbabilityRange => {
                "5%, 0.05 or 500ppm (parts per million)".to_owned()
            }
            Self::ProbabilityTooSmall => "the smallest is 1ppm, that is 0.0001%".to_owned(),
            Self::NotWhen(_) | Self::WhenRange => {
                "F, F+, F+STEP, F..L or F..L+STEP; 3..9+2 is the 3rd, 5th, 7th and 9th match".to_owned()
            }
            Self::NotDuration(_) | Self::NoUnit(_) => "units are us, ms, s, m and h: 500ms, 1.5s, 2m".to_owned(),
            Self::NotPulse(_) | Self::PulseRange => {
                "ON/OFF, two durations: 100ms/900ms is active for the first tenth of every second".to_owned()
            }
            Self::NotRateLimit(_) => "N/s, N/m or N/h; 5/s is at most 5 injections in any second, 200 ms apart".to_owned(),
            Self::UnknownDistribution(name) => {
                let names = Distribution::NAMED.map(|(name, _)| name);
                let all = listed(names);
                did_you_mean(name, names, &format!("there are {all}, and tables: a file with a `/` in its path"))
            }
            Self::NotRate(_) => "bits or bytes a second in tc's units: 1mbit, 512kbit, 1.5gbit, 100kbps (bytes)".to_owned(),
            Self::NotPort(_) | Self::PortOrder(_) => "1 to 65535: 80, 6000-6010, or 80,443".to_owned(),
            Self::UnknownProto(name) => {
                let names = Proto::NAMED.iter().map(|(name, _)| *name);
                did_you_mean(name, names, "tcp, udp, icmp, icmp6, or a number from 0 to 255")
            }
            Self::UnknownKind(name) => {
                let names = FdKind::ALL.map(FdKind::name);
                did_you_mean(name, names, &format!("there are {}", listed(names)))
            }
            Self::NotReset(_) => {
                "`reset` alone: those that are used; `reset=all`: those that exist at the beginning too, idle or not".to_owned()
            }
            Self::NotLevel(_) => {
                "a whole number, or `used`: what the process has at that moment".to_owned()
            }
            Self::UnknownUnreachable(name) => {
                let names = Unreachable::ALL.map(Unreachable::name);
                did_you_mean(name, names, &format!("there are {}", listed(names)))
            }
            Self::UnknownRcode(name) => {
                let names = Rcode::NAMED.iter().map(|(name, _)| *name);
                did_you_mean(&name.to_uppercase(), names, "NXDOMAIN, SERVFAIL, REFUSED, or a number from 0 to 15")
            }
            Self::NotStatus(_) => format!("it can be {}", Status::ALLOWED),
            Self::NotInterface { .. } => INTERFACES.to_owned(),
            Self::NotName { .. } => {
                "db.example.com is that name; *.example.com every name below; *example.com every name that ends so".to_owned()
            }
            Self::TooLong
            | Self::EmptySet
            | Self::NoSetOf(_)
            | Self::BadRegex { .. }
            | Self::Mismatch(_)
            | Self::KeyTwice(_)
            | Self::ValueTwice(_)
            | Self::NoValue(_)
            | Self::OneValue(_)
            | Self::TwoEffects(_)
            | Self::TooManyValues(..)
            | Self::OpenBracket
            | Self::LoneBackslash
            | Self::ErrnoRange
            | Self::NotNumber(_)
            | Self::TooBig(_)
            | Self::Zero(_)
            | Self::DurationTooLong
            | Self::NotFd(_)
            | Self::PrefixRange(_)
            | Self::HostBits(_)
            | Self::TakesNoValue(_) => return None,
        })
    }
}

/// What helps with an address.
pub(super) const ADDRESSES: &str =
    "10.0.0.1, 10.0.0.0/8, [::1] or [fd00::]/8; IPv6 goes in brackets";

/// What helps with an interface.
pub(super) const INTERFACES: &str =
    "eth0, wlp3s0, or a pattern such as veth*; `ip link` lists them";

/// The nearest candidate, or all that can be said without one.
fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
    otherwise: &str,
) -> String {
    match nearest(word, candidates) {
        Some(near) => format!("did you mean `{near}`? {otherwise}"),
        None => otherwise.to_owned(),
    }
}

/// What operations there are, for a person to choose from.
fn operations() -> String {
    let is_of_net = |op: &&Op| registry::NET_OPS.contains(op);
    let of_net = Op::NOUNS.iter().filter(is_of_net);
    let others = Op::NOUNS.iter().filter(|op| !is_of_net(op));
    let nouns = of_net.map(|op| op.name()).chain([registry::NET]);
    let nouns = listed(nouns.chain(others.map(|op| op.name())));
    format!(
        "it can be {nouns}, a system call of this machine, or a set of them such as %file or /^open"
    )
}

/// The keys that all of these operations take. Packets and conditions have no thread: `Plan`
/// refuses `tid` of them.
pub(super) fn takes_all(ops: &[Op]) -> impl Iterator<Item = &'static str> {
    let takes = |key: Key, op: &Op| {
        key.fits(*op) && (key != Key::Target(TargetKey::Tid) || op.is_syscall())
    };
    Key::all()
        .filter(move |key| ops.iter().all(|op| takes(*key, op)))
        .map(Key::name)
}

fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// What was typed, fit for a line of a terminal: control and invisible characters escaped, and not endless.
pub(crate) fn visible(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MOST {
            shown.push('…');
            break;
        }
        match c {
            '\\' | '\'' | '"' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}
