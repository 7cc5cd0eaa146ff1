//! Expressions that are right, and exactly what they mean.

use crate::faults::{
    Effect, Errno, FAULTS, Fault, FdKind, Filter, Nanos, Net, Op, Ppm, Proto, Pulse, RateLimit,
    RateUnit, Trigger, When,
};

fn fault(ops: &[Op], effect: Effect, filter: Filter, trigger: Trigger) -> Fault {
    Fault {
        ops: ops.to_vec(),
        effect,
        filter,
        trigger,
    }
}

fn error(name: &str) -> Effect {
    Effect::Error(Errno::by_name(name).expect("an error of the table"))
}

fn ppm(ppm: u32) -> Ppm {
    Ppm::new(ppm).expect("a probability of the table")
}

fn net(addr: &str, prefix: u8) -> Net {
    Net::new(addr.parse().expect("an address"), prefix).expect("a network of the table")
}

fn when(first: u64, last: Option<u64>, step: u64) -> Trigger {
    Trigger {
        when: When::new(first, last, step),
        ..Trigger::default()
    }
}

fn limited(count: u64, per: RateUnit) -> Trigger {
    Trigger {
        rate_limit: RateLimit::new(count, per),
        ..Trigger::default()
    }
}

const S: u64 = 1_000_000_000;
const BOTH: [Op; 2] = [Op::Egress, Op::Ingress];

/// The expression, and its canonical form where that is another.
fn table() -> Vec<(&'static str, Fault)> {
    let any = Filter::default;
    let always = Trigger::default;
    let on = |kinds: &[FdKind]| Filter {
        on: kinds.to_vec(),
        ..any()
    };
    let port = |first, last| Filter {
        port: vec![first..=last],
        ..any()
    };
    let p = |parts| Trigger {
        p: Some(ppm(parts)),
        ..always()
    };
    let write = |trigger| fault(&[Op::Write], error("EIO"), any(), trigger);
    let connect = |filter| fault(&[Op::Connect], error("ECONNREFUSED"), filter, always());
    let loss = |ops: &[Op], parts, filter| fault(ops, Effect::Loss(ppm(parts)), filter, always());
    vec![
        // What the README and the issues promise.
        ("connect:error=ECONNREFUSED", connect(any())),
        (
            "connect:error=ECONNREFUSED:port=6379",
            connect(port(6379, 6379)),
        ),
        (
            "connect:error=ECONNREFUSED:port=5432",
            connect(port(5432, 5432)),
        ),
        ("egress:loss=30%", loss(&[Op::Egress], 300_000, any())),
        (
            "write:error=ENOSPC:on=file",
            fault(&[Op::Write], error("ENOSPC"), on(&[FdKind::File]), always()),
        ),
        (
            "write:error=ENOSPC:p=5%",
            fault(&[Op::Write], error("ENOSPC"), any(), p(50_000)),
        ),
        (
            "openat:error=EACCES:p=50%",
            fault(&[Op::Openat], error("EACCES"), any(), p(500_000)),
        ),
        (
            "connect:error=ETIMEDOUT:port=5432",
            fault(
                &[Op::Connect],
                error("ETIMEDOUT"),
                port(5432, 5432),
                always(),
            ),
        ),
        (
            "egress:loss=10%:dst=10.0.0.0/8",
            loss(
                &[Op::Egress],
                100_000,
                Filter {
                    dst: vec![net("10.0.0.0", 8)],
                    ..any()
                },
            ),
        ),
        // Operations.
        ("ingress:loss=1ppm", loss(&[Op::Ingress], 1, any())),
        ("net:loss=100%", loss(&BOTH, 1_000_000, any())),
        ("egress,ingress:loss=1", loss(&BOTH, 1_000_000, any())),
        (
            "ingress,egress:loss=1",
            loss(&[Op::Ingress, Op::Egress], 1_000_000, any()),
        ),
        (
            "openat,open:error=EROFS:when=3..9+2",
            fault(
                &[Op::Openat, Op::Open],
                error("EROFS"),
                any(),
                when(3, Some(9), 2),
            ),
        ),
        (
            "read,write,openat:error=EIO:on=file",
            fault(
                &[Op::Read, Op::Write, Op::Openat],
                error("EIO"),
                on(&[FdKind::File]),
                always(),
            ),
        ),
        // strace's way to begin.
        (
            "inject=write:error=ENOSPC:when=3+2",
            fault(&[Op::Write], error("ENOSPC"), any(), when(3, None, 2)),
        ),
        ("fault=write:error=EIO", write(always())),
        (
            "fault=write",
            fault(&[Op::Write], Effect::Error(Errno::ENOSYS), any(), always()),
        ),
        (
            "fault=read:when=2",
            fault(
                &[Op::Read],
                Effect::Error(Errno::ENOSYS),
                any(),
                when(2, Some(2), 1),
            ),
        ),
        // Errors.
        ("write:error=5", write(always())),
        ("write:error=eio", write(always())),
        (
            "write:error=EWOULDBLOCK",
            fault(&[Op::Write], error("EAGAIN"), any(), always()),
        ),
        // The keys in another order; the effect last.
        (
            "write:when=1:p=5%:error=EIO",
            write(Trigger {
                p: Some(ppm(50_000)),
                ..when(1, Some(1), 1)
            }),
        ),
        // Filters.
        (
            "connect:error=ECONNREFUSED:port=80,443,6000-6010",
            connect(Filter {
                port: vec![80..=80, 443..=443, 6000..=6010],
                ..any()
            }),
        ),
        (
            "connect:error=ECONNREFUSED:dst=127.0.0.1,[::1],[fd00::]/8",
            connect(Filter {
                dst: vec![net("127.0.0.1", 32), net("::1", 128), net("fd00::", 8)],
                ..any()
            }),
        ),
        (
            r"connect:error=ECONNREFUSED:dst=\:\:1/128:port=1",
            connect(Filter {
                dst: vec![net("::1", 128)],
                ..port(1, 1)
            }),
        ),
        (
            "net:loss=5%:port=6379:sport=1-65535:proto=tcp,udp,132",
            loss(
                &BOTH,
                50_000,
                Filter {
                    sport: vec![1..=65535],
                    proto: vec![Proto::TCP, Proto::UDP, Proto(132)],
                    ..port(6379, 6379)
                },
            ),
        ),
        (
            "egress:loss=5%:proto=58",
            loss(
                &[Op::Egress],
                50_000,
                Filter {
                    proto: vec![Proto::ICMP6],
                    ..any()
                },
            ),
        ),
        (
            "pwritev2:error=EIO:on=file,dir,pipe,socket,chr,blk,other",
            fault(&[Op::Pwritev2], error("EIO"), on(&FdKind::ALL), always()),
        ),
        // Triggers, alone and together.
        ("write:error=EIO:p=0.05", write(p(50_000))),
        ("write:error=EIO:p=500ppm", write(p(500))),
        ("write:error=EIO:when=3", write(when(3, Some(3), 1))),
        ("write:error=EIO:when=3+", write(when(3, None, 1))),
        ("write:error=EIO:when=3..3+2", write(when(3, Some(3), 2))),
        ("write:error=EIO:when=3..9+", write(when(3, Some(9), 1))),
        (
            "write:error=EIO:times=18446744073709551615",
            write(Trigger {
                times: Some(u64::MAX),
                ..always()
            }),
        ),
        (
            "write:error=EIO:seed=0",
            write(Trigger {
                seed: Some(0),
                ..always()
            }),
        ),
        (
            "write:error=EIO:after=0s",
            write(Trigger {
                after: Some(Nanos(0)),
                ..always()
            }),
        ),
        (
            "write:error=EIO:p=1:when=2+:times=7:after=500ms:for=1.5s:seed=42",
            write(Trigger {
                p: Some(Ppm::ALWAYS),
                when: When::new(2, None, 1),
                times: Some(7),
                after: Some(Nanos(S / 2)),
                r#for: Some(Nanos(S + S / 2)),
                seed: Some(42),
                ..always()
            }),
        ),
        (
            "write:error=EIO:pulse=100ms/1.5s",
            write(Trigger {
                pulse: Pulse::new(Nanos(S / 10), Nanos(S + S / 2)),
                ..always()
            }),
        ),
        (
            "write:error=EIO:rate_limit=5/s",
            write(limited(5, RateUnit::Second)),
        ),
        (
            "write:error=EIO:rate_limit=007/m",
            write(limited(7, RateUnit::Minute)),
        ),
        (
            "write:error=EIO:rate_limit=360000000/h",
            write(limited(360_000_000, RateUnit::Hour)),
        ),
        // The pulse is active again at the very end of `after`.
        (
            "write:error=EIO:rate_limit=1/s:pulse=1s/9s:times=1048575:after=10s:for=11s",
            write(Trigger {
                times: Some(1_048_575),
                after: Some(Nanos(10 * S)),
                r#for: Some(Nanos(11 * S)),
                pulse: Pulse::new(Nanos(S), Nanos(9 * S)),
                ..limited(1, RateUnit::Second)
            }),
        ),
    ]
}

#[test]
fn mean_what_they_say() {
    for (text, expected) in table() {
        let parsed: Fault = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(parsed, expected, "{text}");
    }
}

#[test]
fn print_and_parse_again_to_the_same() {
    for (text, expected) in table() {
        let printed = expected.to_string();
        assert_eq!(
            printed.parse(),
            Ok(expected),
            "{text} was printed as {printed}"
        );
    }
}

#[test]
fn print_canonically() {
    for (text, canonical) in [
        ("egress,ingress:loss=0.5", "net:loss=50%"),
        ("ingress,egress:loss=0.5", "ingress,egress:loss=50%"),
        (
            "inject=write:when=3..3:error=28",
            "write:error=ENOSPC:when=3",
        ),
        ("write:error=4095:p=500ppm", "write:error=4095:p=0.05%"),
        (
            "write:error=EIO:when=3..9+1:after=60s",
            "write:error=EIO:when=3..9:after=1m",
        ),
        (
            "write:error=EIO:when=3+1:after=1500ms",
            "write:error=EIO:when=3+:after=1500ms",
        ),
        (
            "write:error=EIO:after=0.0015ms",
            "write:error=EIO:after=1.5us",
        ),
        (
            r"connect:dst=\:\:1/128,[0:0::]/0:error=EIO:port=80-80",
            "connect:error=EIO:port=80:dst=[::1],[::]/0",
        ),
        (
            "write:error=EIO:rate_limit=60/m:pulse=1000ms/0.5m",
            "write:error=EIO:pulse=1s/30s:rate_limit=60/m",
        ),
        (
            "egress:loss=100%:proto=6,132",
            "egress:loss=100%:proto=tcp,132",
        ),
    ] {
        let fault: Fault = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(fault.to_string(), canonical, "{text}");
    }
}

#[test]
fn examples_of_the_registry_parse_and_belong_to_their_row() {
    for row in FAULTS {
        for example in row.examples {
            let fault: Fault = example.parse().unwrap_or_else(|e| panic!("{e}"));
            assert!(fault.ops.iter().any(|op| row.ops.contains(op)), "{example}");
        }
    }
}
