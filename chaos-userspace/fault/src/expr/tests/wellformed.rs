//! Expressions that are right, and exactly what they mean.

use std::num::NonZeroU32;

use crate::{
    CallEffect, Count, Effect, Errno, FAULTS, Fault, FdKind, Filter, Glob, HostName, InterfaceGlob,
    Nanos, Net, Op, Ppm, Proto, Pulse, RateLimit, RateUnit, Remote, Signal, Trigger, When,
};

fn fault(ops: &[Op], effect: Effect, filter: Filter, trigger: Trigger) -> Fault {
    Fault {
        ops: ops.to_vec(),
        effect,
        filter,
        trigger: trigger.into(),
        target: crate::Aim::default(),
    }
}

fn call(name: &str) -> Op {
    Op::by_name(name).expect("a system call of the table")
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
    let write = |trigger| fault(&[call("write")], error("EIO"), any(), trigger);
    let connect = |filter| fault(&[call("connect")], error("ECONNREFUSED"), filter, always());
    let loss = |ops: &[Op], parts, filter| fault(ops, Effect::Loss(ppm(parts)), filter, always());
    let on_fsync = |effect| fault(&[call("fsync")], Effect::Call(effect), any(), always());
    let errno = |name| Errno::by_name(name).expect("an error of the table");
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
            fault(
                &[call("write")],
                error("ENOSPC"),
                on(&[FdKind::File]),
                always(),
            ),
        ),
        (
            "write:error=ENOSPC:p=5%",
            fault(&[call("write")], error("ENOSPC"), any(), p(50_000)),
        ),
        (
            "openat:error=EACCES:p=50%",
            fault(&[call("openat")], error("EACCES"), any(), p(500_000)),
        ),
        (
            "connect:error=ETIMEDOUT:port=5432",
            fault(
                &[call("connect")],
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
                    dst: vec![net("10.0.0.0", 8).into()],
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
                &[call("openat"), call("open")],
                error("EROFS"),
                any(),
                when(3, Some(9), 2),
            ),
        ),
        (
            "read,write,openat:error=EIO:on=file",
            fault(
                &[call("read"), call("write"), call("openat")],
                error("EIO"),
                on(&[FdKind::File]),
                always(),
            ),
        ),
        // strace's way to begin.
        (
            "inject=write:error=ENOSPC:when=3+2",
            fault(&[call("write")], error("ENOSPC"), any(), when(3, None, 2)),
        ),
        ("fault=write:error=EIO", write(always())),
        (
            "fault=write",
            fault(
                &[call("write")],
                Effect::Error(Errno::ENOSYS),
                any(),
                always(),
            ),
        ),
        (
            "fault=read:when=2",
            fault(
                &[call("read")],
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
            fault(&[call("write")], error("EAGAIN"), any(), always()),
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
                dst: vec![
                    net("127.0.0.1", 32).into(),
                    net("::1", 128).into(),
                    net("fd00::", 8).into(),
                ],
                ..any()
            }),
        ),
        (
            r"connect:error=ECONNREFUSED:dst=\:\:1/128:port=1",
            connect(Filter {
                dst: vec![net("::1", 128).into()],
                ..port(1, 1)
            }),
        ),
        (
            "connect:error=ECONNREFUSED:dst=db,Cache.example.internal.,10.0.0.0/8",
            connect(Filter {
                dst: vec![
                    Remote::Name(HostName::new("db").expect("a name")),
                    Remote::Name(HostName::new("Cache.example.internal.").expect("a name")),
                    net("10.0.0.0", 8).into(),
                ],
                ..any()
            }),
        ),
        (
            "net:loss=5%:src=10.0.0.0/8,[fd00::1]",
            loss(
                &BOTH,
                50_000,
                Filter {
                    src: vec![net("10.0.0.0", 8), net("fd00::1", 128)],
                    ..any()
                },
            ),
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
            "net:loss=5%:interface=eth0,veth*,wl[a-z]?,lo",
            loss(
                &BOTH,
                50_000,
                Filter {
                    interface: ["eth0", "veth*", "wl[a-z]?", "lo"]
                        .map(|name| InterfaceGlob::new(name).expect("a name"))
                        .to_vec(),
                    ..any()
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
            fault(
                &[call("pwritev2")],
                error("EIO"),
                on(&FdKind::ALL),
                always(),
            ),
        ),
        (
            r"openat,close:error=EIO:path=/a\:b/**,*/\[x\,y\]",
            fault(
                &[call("openat"), call("close")],
                error("EIO"),
                Filter {
                    path: vec![Glob::new("/a:b/**").unwrap(), Glob::new("*/[x,y]").unwrap()],
                    ..any()
                },
                always(),
            ),
        ),
        (
            "write:error=EIO:fd=0,2",
            fault(
                &[call("write")],
                error("EIO"),
                Filter {
                    fd: vec![0, 2],
                    ..any()
                },
                always(),
            ),
        ),
        // Effects on calls.
        (
            "fsync:error=EIO,ENOSPC",
            on_fsync(CallEffect {
                error: vec![errno("EIO"), errno("ENOSPC")],
                ..CallEffect::default()
            }),
        ),
        (
            "fsync:retval=-1:signal=term:delay_enter=5:delay_exit=1.5s:jitter=1ns",
            on_fsync(CallEffect {
                retval: Some(-1),
                signal: Signal::new(15),
                delay_enter: Some(Nanos(5_000)),
                delay_exit: Some(Nanos(S + S / 2)),
                jitter: Some(Nanos(1)),
                ..CallEffect::default()
            }),
        ),
        (
            "fsync:delay_enter=40s!:jitter=1s",
            on_fsync(CallEffect {
                delay_enter: Some(Nanos(40 * S)),
                long: true,
                jitter: Some(Nanos(S)),
                ..CallEffect::default()
            }),
        ),
        (
            "read:short=4096:corrupt=3",
            fault(
                &[call("read")],
                Effect::Call(CallEffect {
                    short: NonZeroU32::new(4096),
                    corrupt: NonZeroU32::new(3),
                    ..CallEffect::default()
                }),
                any(),
                always(),
            ),
        ),
        (
            "fsync:retval=0xffffffffffffffff",
            on_fsync(CallEffect {
                retval: Some(-1),
                ..CallEffect::default()
            }),
        ),
        (
            "write:error=EIO:count=thread",
            write(Trigger {
                count: Some(Count::Thread),
                ..always()
            }),
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
        (
            "connect:error=ECONNREFUSED:connlimit=10",
            connect(Filter {
                connlimit: NonZeroU32::new(10),
                ..any()
            }),
        ),
        (
            "connect:error=ECONNREFUSED:over=10/s",
            Fault {
                trigger: Trigger {
                    over: RateLimit::new(10, RateUnit::Second),
                    ..always()
                }
                .into(),
                ..connect(any())
            },
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
        // Sets.
        ("openat,read:error=EIO", "openat,read:error=EIO"),
        ("/^fsync$,read:error=EIO", "read,fsync:error=EIO"),
        ("1,0:error=EIO", "write,read:error=EIO"),
        ("%network:error=EIO", "%network:error=EIO"),
        ("%net:error=EIO", "%network:error=EIO"),
        ("network:error=EIO", "%network:error=EIO"),
        ("/^(set|get)xattr$:error=EIO", "setxattr,getxattr:error=EIO"),
        ("!write:error=EIO", "!write:error=EIO"),
        ("!!write:error=EIO", "write:error=EIO"),
        ("!!!write,read:error=EIO", "!read,write:error=EIO"),
        ("all:error=EIO", "all:error=EIO"),
        ("!none:error=EIO", "all:error=EIO"),
        ("/.:error=EIO", "all:error=EIO"),
        ("?banana,write:error=EIO", "write:error=EIO"),
        ("??write:error=EIO", "write:error=EIO"),
        ("?%nothing,?/^nothing$,write:error=EIO", "write:error=EIO"),
        (
            "inject=fsync:delay_exit=3:retval=0x10:delay_enter=2s:signal=9",
            "fsync:retval=16:signal=SIGKILL:delay_enter=2s:delay_exit=3us",
        ),
        ("fsync:error=5:signal=33", "fsync:error=EIO:signal=33"),
        (
            r"openat:error=EIO:path=/\[a\,b\]/x",
            r"openat:error=EIO:path=/\[a\,b]/x",
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
            assert!(fault.ops.iter().any(|op| row.covers(*op)), "{example}");
        }
    }
}

/// What strace takes in `-e inject=` and `-e fault=` (its `tests/qual_inject-*.test` and `qual_fault-*.test`), we take too.
#[test]
fn strace_takes_them_too() {
    for text in [
        "inject=chdir:error=ENOENT",
        "inject=chdir:error=enoent:when=3",
        "inject=chdir:when=2+3:error=EINVAL",
        "inject=chdir:error=22:when=1..65534+2",
        "inject=chdir:retval=0",
        "inject=chdir:retval=0x7fffffffffffffff",
        "inject=chdir:signal=SIGUSR1",
        "inject=chdir:signal=usr1:when=2",
        "inject=chdir:error=EPERM:signal=TERM:delay_enter=1000:delay_exit=1ms",
        "inject=all:error=EPERM",
        "inject=%file:error=EPERM",
        "inject=file,desc:error=EPERM",
        "inject=%%stat:error=EPERM",
        "inject=/open|^creat$:error=EPERM",
        "inject=!chdir:error=EPERM",
        "inject=80:error=EPERM",
        "inject=?nosuchcall,chdir:error=EPERM",
        "fault=chdir",
        "fault=chdir:when=3+",
        "fault=chdir:error=EPERM",
    ] {
        assert!(text.parse::<Fault>().is_ok(), "{:?}", text.parse::<Fault>());
    }
}
