//! What holds for every expression and every fault.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use chaos_common::decide::MAX_TIMES;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::TableFile;
use crate::netem::{Chance, Distribution, Gemodel, Netem, Rate, Reorder, Share, Slot};
use crate::registry::FaultKind;
use crate::who::{Aim, Selector};
use crate::{
    CallEffect, Count, Effect, EffectKey, Errno, FAULTS, Fault, FdKind, Filter, FilterKey, Glob,
    HostName, InterfaceGlob, Key, Level, Limit, NameGlob, Nanos, Net, Op, Ppm, Proto, Pulse,
    RateLimit, RateUnit, Rcode, Remote, Signal, Status, Trigger, Triggers, Unreachable, When, Wire,
    syscalls,
};

fn ppm() -> impl Strategy<Value = Ppm> {
    (1..=1_000_000_u32).prop_map(|ppm| Ppm::new(ppm).expect("in range"))
}

fn errno() -> impl Strategy<Value = Errno> {
    // Half of them with names.
    prop_oneof![1..=133_u16, 1..=Errno::MAX]
        .prop_map(|number| Errno::new(number).expect("in range"))
}

fn when() -> impl Strategy<Value = When> {
    let number = || prop_oneof![1..20_u64, 1..=u64::MAX];
    (number(), option::of(number()), number()).prop_map(|(first, last, step)| {
        let last = last.map(|last| last.max(first));
        When::new(first, last, step).expect("in range")
    })
}

fn nanos() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        0..10_000_u64,
        any::<u64>(),
        (0..9_000_u64).prop_map(|s| s * 1_000_000_000)
    ]
    .prop_map(Nanos)
}

fn pulse() -> impl Strategy<Value = Pulse> {
    (nanos(), nanos()).prop_map(|(on, off)| {
        let half = |part: Nanos| Nanos((part.0 / 2).max(1));
        Pulse::new(half(on), half(off)).expect("in range")
    })
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    select(RateUnit::ALL.to_vec())
        .prop_flat_map(|per| {
            let most = RateLimit::most(per);
            (prop_oneof![1..20_u64, 1..=most], Just(per))
        })
        .prop_map(|(count, per)| RateLimit::new(count, per).expect("in range"))
}

fn net() -> impl Strategy<Value = Net> {
    (any::<IpAddr>(), 0..=128_u8).prop_map(|(addr, prefix)| {
        let prefix = prefix.min(Net::width(addr));
        Net::new(Net::masked(addr, prefix), prefix).expect("masked")
    })
}

fn remote() -> impl Strategy<Value = Remote> {
    let name = r"[a-zA-Z0-9_-]{1,8}(\.[a-z]{1,3}){0,3}\.?"
        .prop_filter_map("a name", |text| HostName::new(&text).ok());
    prop_oneof![net().prop_map(Remote::Net), name.prop_map(Remote::Name)]
}

fn port() -> impl Strategy<Value = RangeInclusive<u16>> {
    (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

/// At most `most` values, none twice; none at all where the key does not fit.
fn values<T: Clone + PartialEq + std::fmt::Debug + 'static>(
    one: impl Strategy<Value = T> + 'static,
    fits: bool,
) -> BoxedStrategy<Vec<T>> {
    let most = if fits { 3 } else { 0 };
    vec(one, 0..=most)
        .prop_map(|values| {
            let mut unique: Vec<T> = Vec::new();
            for value in values {
                if !unique.contains(&value) {
                    unique.push(value);
                }
            }
            unique
        })
        .boxed()
}

fn filter(row: &'static FaultKind) -> impl Strategy<Value = Filter> {
    let fits =
        move |key| !row.ops.is_empty() && row.ops.iter().all(|op| Key::Filter(key).fits(*op));
    (
        values(port(), fits(FilterKey::Port)),
        values(port(), fits(FilterKey::Sport)),
        values(remote(), fits(FilterKey::Dst)),
        values(net(), fits(FilterKey::Src)),
        (
            values(any::<u8>().prop_map(Proto), fits(FilterKey::Proto)),
            values(interface(), fits(FilterKey::Interface)),
        ),
        values(select(FdKind::ALL.to_vec()), fits(FilterKey::On)),
        values(0..=i32::MAX.cast_unsigned(), fits(FilterKey::Fd)),
        values(
            match row.ops.contains(&Op::Http) {
                true => url_path().boxed(),
                false => glob().boxed(),
            },
            fits(FilterKey::Path),
        ),
        values(name(), fits(FilterKey::Name)),
        any::<Option<NonZeroU32>>()
            .prop_map(move |limit| limit.filter(|_| fits(FilterKey::Connlimit))),
    )
        .prop_map(
            |(port, sport, dst, src, (proto, interface), on, fd, path, name, connlimit)| Filter {
                port,
                sport,
                dst,
                src,
                proto,
                interface,
                on,
                fd,
                path,
                name,
                connlimit,
            },
        )
}

fn interface() -> impl Strategy<Value = InterfaceGlob> {
    r"[a-z0-9.*?\\\[\]_é-]{1,12}".prop_filter_map("a name", |text| InterfaceGlob::new(&text).ok())
}

fn name() -> impl Strategy<Value = NameGlob> {
    r"\*?\.?[a-zA-Z0-9_-]{1,8}(\.[a-z]{1,3}){0,3}"
        .prop_filter_map("a name", |text| NameGlob::new(&text).ok())
}

/// Whether a row is about packets.
fn is_packets(row: &FaultKind) -> bool {
    row.ops.iter().any(|op| !op.is_syscall())
}

/// A limit, and what it is set to.
fn limit() -> impl Strategy<Value = Effect> {
    let level = prop_oneof![Just(Level::Used), any::<u64>().prop_map(Level::Number)];
    level.prop_map(|level| Effect::Limit(Limit::Nofile(level)))
}

/// What can happen to packets, as far as the operations have it.
fn packet_effect(ops: &[Op]) -> BoxedStrategy<Effect> {
    let wire = prop_oneof![
        select(Unreachable::ALL.to_vec()).prop_map(Wire::Unreachable),
        (0..=Rcode::MAX).prop_map(|code| Wire::Rcode(Rcode::try_from(code).expect("in range"))),
        any::<IpAddr>().prop_map(Wire::Answer),
        prop_oneof![200..=203_u16, 305..=599_u16]
            .prop_map(|status| Wire::Status(Status::try_from(status).expect("in range"))),
        select(vec![
            Wire::Blackhole,
            Wire::Reset,
            Wire::ResetAll,
            Wire::Drop
        ]),
    ];
    let ops = ops.to_vec();
    prop_oneof![
        ppm().prop_map(Effect::Loss),
        wire.prop_map(Effect::Wire),
        netem()
    ]
    .prop_filter("an effect of theirs", move |effect| {
        let keys = effect.keys();
        let fits = |key: &EffectKey| ops.iter().all(|op| Key::Effect(*key).fits(*op));
        keys.iter().all(fits)
    })
    .boxed()
}

fn glob() -> impl Strategy<Value = Glob> {
    r"[/*][a-z:,\\\[\]?*/é ]{0,12}".prop_filter_map("a pattern", |text| Glob::new(&text))
}

fn url_path() -> impl Strategy<Value = Glob> {
    r"/[a-z:,\\/%.]{0,12}\*?".prop_filter_map("a pattern", |text| Glob::new(&text))
}

fn signal() -> impl Strategy<Value = Signal> {
    (1..=64_u8).prop_map(|number| Signal::new(number).expect("in range"))
}

/// Anything that can happen to a system call, in its normal form.
fn call_effect() -> impl Strategy<Value = Effect> {
    let delay = || option::of((1..=CallEffect::LONGEST.0).prop_map(Nanos));
    (
        values(errno(), true),
        option::of(any::<i64>()),
        option::of(signal()),
        delay(),
        delay(),
        any::<bool>(),
    )
        .prop_map(|(error, retval, signal, delay_enter, delay_exit, jitter)| {
            let shortest = [delay_enter, delay_exit].into_iter().flatten().min();
            let retval = retval.filter(|_| error.is_empty());
            let nothing = shortest.is_none() && error.is_empty() && signal.is_none();
            Effect::Call(CallEffect {
                error,
                retval: retval.or(nothing.then_some(0)),
                signal,
                delay_enter,
                long: delay_enter.is_some_and(|delay| delay.0 % 2 == 0),
                delay_exit,
                jitter: shortest.filter(|_| jitter),
                short: None,
                corrupt: None,
            })
            .normal()
        })
}

/// Fewer bytes, or others, where these calls can have them.
fn carried(ops: &[Op]) -> Option<BoxedStrategy<Effect>> {
    let fits = |key| ops.iter().all(|op| Key::Effect(key).fits(*op));
    let corrupts = fits(EffectKey::Corrupt);
    let most = NonZeroU32::new(CallEffect::MOST_CORRUPT).expect("not 0");
    // A table of three: `or` and `then_some` on such numbers are none to an optimising rustc 1.95.
    let bytes = (any::<NonZeroU32>(), any::<NonZeroU32>(), 0..3_u8);
    let effects = bytes.prop_map(move |(short, corrupt, which)| {
        let corrupt = corrupt.min(most);
        let (short, corrupt) = match which {
            0 if corrupts => (None, Some(corrupt)),
            1 if corrupts => (Some(short), Some(corrupt)),
            _ => (Some(short), None),
        };
        Effect::Call(CallEffect {
            short,
            corrupt,
            ..CallEffect::default()
        })
    });
    fits(EffectKey::Short).then(|| effects.boxed())
}

/// Calls as a person names them: some of a row, a class, or all but some.
fn calls(row: &'static FaultKind) -> BoxedStrategy<Vec<Op>> {
    let some = match row.ops {
        [] => Op::calls().take(40).collect(),
        ops => ops.to_vec(),
    };
    let few = some.clone();
    let some = subsequence(some.clone(), 1..=some.len().min(12)).prop_shuffle();
    if !row.ops.is_empty() {
        return some.boxed();
    }
    let class = select(syscalls::class_names().collect::<Vec<_>>()).prop_map(|name| {
        let class = syscalls::class(name).unwrap_or_default();
        class.into_iter().map(Op::Call).collect()
    });
    let others = subsequence(few.clone(), 0..=few.len())
        .prop_map(|left: Vec<Op>| Op::calls().filter(|op| !left.contains(op)).collect());
    prop_oneof![some, class, others].boxed()
}

fn trigger() -> impl Strategy<Value = Trigger> {
    (
        option::of(ppm()),
        option::of(when()),
        option::of(1..=u64::MAX),
        option::of(nanos()),
        option::of(nanos()),
        option::of(pulse()),
        option::of(rate_limit()),
        option::of(rate_limit()),
        option::of(any::<u64>()),
    )
        .prop_map(
            |(p, when, times, after, length, pulse, rate_limit, over, seed)| {
                let mut trigger = Trigger {
                    p,
                    when,
                    times,
                    after,
                    r#for: length.filter(|length| *length > after.unwrap_or_default()),
                    pulse,
                    rate_limit,
                    over: over.filter(|_| times.is_none() && rate_limit.is_none()),
                    count: None,
                    seed,
                };
                if rate_limit.is_some() {
                    trigger.times = times.map(|times| times.min(MAX_TIMES));
                }
                // What is left does not go together: the pulse is quiet all the time.
                if trigger.problem().is_some() {
                    trigger.pulse = None;
                }
                trigger
            },
        )
}

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000_u32).prop_map(|ppm| Share::new(ppm).expect("in range"))
}

fn chance() -> impl Strategy<Value = Chance> {
    (ppm(), option::of(share())).prop_map(|(p, correlation)| Chance { p, correlation })
}

/// A table of the user's, in a file with whatever name.
fn table() -> impl Strategy<Value = Distribution> {
    "[a-z:,\\\\\\[\\]. ]{0,4}/[a-z:,\\\\\\[\\]. /]{0,8}"
        .prop_map(|path| Distribution::Table(TableFile::new(&path).expect("a path has a slash")))
}

/// Parameters of netem's, without those that would not go together.
fn netem() -> impl Strategy<Value = Effect> {
    let millis = |range| move |ms: u64| Nanos(range + ms * 1_000_000);
    let named = Distribution::NAMED.map(|(_, named)| named);
    let distribution = prop_oneof![select(named.to_vec()), table()];
    let held = (
        1..60_000_u64,
        1..2_000_u64,
        option::of(share()),
        distribution,
    )
        .prop_map(move |(delay, jitter, correlation, distribution)| Netem {
            delay: Some(millis(0)(delay)),
            jitter: Some(millis(0)(jitter.min(delay))),
            correlation,
            distribution: Some(distribution),
            ..Netem::default()
        });
    (
        option::of(held),
        option::of(chance()),
        option::of((ppm(), option::of(share()))),
        option::of((ppm(), option::of(share()))),
        option::of((8..u64::MAX / 2, option::of(-5000..5000_i32))),
        option::of((1..60_000_u64, 0..1000_u64)),
        option::of(1..100_000_u32),
    )
        .prop_map(
            move |(held, duplicate, reorder, gemodel, rate, slot, limit)| {
                let mut netem = held.unwrap_or_default();
                netem.duplicate = duplicate;
                netem.corrupt = duplicate.filter(|chance| chance.correlation.is_some());
                netem.reorder =
                    reorder
                        .filter(|_| netem.delay.is_some())
                        .map(|(p, correlation)| Reorder {
                            p,
                            correlation,
                            gap: correlation.and(limit),
                        });
                netem.gemodel = gemodel.map(|(p, r)| Gemodel {
                    p,
                    r,
                    bad: r,
                    good: None,
                });
                netem.rate = rate.map(|(bits, overhead)| Rate {
                    bits,
                    overhead,
                    cell: None,
                    cell_overhead: None,
                });
                netem.slot = slot.map(|(min, more)| Slot {
                    min: millis(0)(min),
                    max: Some(millis(0)((min + more).min(60_000))),
                    packets: limit,
                    bytes: None,
                });
                netem.limit = limit;
                if netem.problem().is_some() {
                    netem.delay = netem.delay.or(Some(Nanos(1)));
                }
                Effect::Netem(Box::new(netem))
            },
        )
}

/// Whom it is for: nobody in particular, or some of each kind.
fn target() -> impl Strategy<Value = Aim> {
    let names = || btree_set("[a-z:,\\[.]{1,6}", 0..3);
    (btree_set(1..9u32, 0..3), names(), names(), any::<bool>()).prop_map(
        |(pids, comms, exes, not)| {
            let mut aim = Aim::default();
            aim.hit.extend(pids.into_iter().map(Selector::Pid));
            aim.hit.extend(comms.into_iter().map(Selector::Comm));
            let list = if not { &mut aim.spare } else { &mut aim.hit };
            list.extend(exes.into_iter().map(|path| Selector::Exe(path.into())));
            aim
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    select(FAULTS.to_vec())
        .prop_flat_map(|row| {
            let packets = is_packets(row);
            let ops = match row.ops {
                [Op::Egress | Op::Ingress] => {
                    select(vec![row.ops.to_vec(), vec![Op::Egress, Op::Ingress]]).boxed()
                }
                _ if packets => Just(row.ops.to_vec()).boxed(),
                _ => calls(row),
            };
            let of_ops = ops.prop_flat_map(move |ops| {
                let effect = match packets {
                    true if ops.contains(&Op::Limit) => limit().boxed(),
                    true => packet_effect(&ops),
                    false => match carried(&ops) {
                        Some(carried) => prop_oneof![call_effect(), carried].boxed(),
                        None => call_effect().boxed(),
                    },
                };
                (Just(ops), effect)
            });
            (of_ops, filter(row), trigger(), target())
        })
        .prop_map(|((ops, effect), filter, trigger, target)| Fault {
            ops,
            effect,
            filter,
            trigger: trigger.into(),
            target,
        })
        .prop_map(|mut fault| {
            if fault.effect == Effect::Wire(Wire::ResetAll) {
                fault.filter.interface.clear();
                if let Triggers::Rule(trigger) = &mut fault.trigger {
                    trigger.after = None;
                }
            }
            fault.trigger = Triggers::of(&fault.ops, fault.trigger.spelled());
            let is_of_calls = fault.ops.iter().all(|op| op.is_syscall());
            if let Triggers::Rule(trigger) = &mut fault.trigger
                && is_of_calls
                && trigger.seed.is_some()
            {
                trigger.count = Some(Count::Thread);
            }
            fault
        })
}

/// Whatever the answer is, it must be one: no panic, a place inside the text, and both forms of the error.
fn ask(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Fault>() {
        Ok(fault) => {
            prop_assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        Err(error) => {
            prop_assert!(error.expression().get(error.span()).is_some(), "{error:?}");
            prop_assert!(!error.to_string().chars().any(char::is_control));
            prop_assert!(!error.render(false).is_empty() && !error.render(true).is_empty());
        }
    }
    Ok(())
}

/// docs/fault.schema.json.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = include_str!("../../../../../docs/fault.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is one")
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_fault_parses_to_itself(fault in fault()) {
        prop_assert_eq!(fault.check(), Ok(()));
        let printed = fault.to_string();
        prop_assert_eq!(printed.parse(), Ok(fault), "{}", printed);
    }

    #[test]
    fn a_fault_survives_json(fault in fault()) {
        let json = serde_json::to_string(&fault).expect("a fault is plain data");
        prop_assert_eq!(serde_json::from_str::<Fault>(&json).expect(&json), fault);
    }

    #[test]
    fn a_fault_is_as_the_schema_says(fault in fault()) {
        let json = serde_json::to_value(&fault).expect("a fault is plain data");
        let wrong: Vec<_> = SCHEMA.iter_errors(&json).map(|error| error.to_string()).collect();
        prop_assert!(wrong.is_empty(), "{json}: {wrong:?}");
    }

    /// The schema allows no word that is not read.
    #[test]
    fn what_the_schema_does_not_know_is_refused_by_both(fault in fault(), at in 0..4_usize) {
        let mut json = serde_json::to_value(&fault).expect("a fault is plain data");
        let place = ["", "/filter", "/trigger", "/effect"][at];
        if let Some(object) = json.pointer_mut(place).and_then(serde_json::Value::as_object_mut) {
            object.insert("colour".to_owned(), 1.into());
            prop_assert!(!SCHEMA.is_valid(&json), "{json}");
            prop_assert!(serde_json::from_value::<Fault>(json).is_err());
        }
    }

    #[test]
    fn no_string_panics(text in any::<String>()) {
        ask(&text)?;
    }

    #[test]
    fn no_string_of_our_alphabet_panics(text in r"(write|net|connect|inject=|%file|all|!|/|\?|path|signal|retval|delay_enter|dst|port|error|when|pulse|rate_limit|[:=,.+%0-9\\\[\]/é]){0,24}") {
        ask(&text)?;
    }

    #[test]
    fn no_mutation_panics(fault in fault(), at in any::<prop::sample::Index>(), with in any::<Option<char>>(), insert: bool) {
        let mut text: Vec<char> = fault.to_string().chars().collect();
        let at = at.index(text.len());
        match with {
            Some(c) if insert => text.insert(at, c),
            Some(c) => text[at] = c,
            None if insert => text.truncate(at),
            None => { text.remove(at); }
        }
        ask(&text.into_iter().collect::<String>())?;
    }
}
