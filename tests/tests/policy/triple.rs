//! Random policies, faults and targets, as values and in murphy's words.

use std::fmt::Write as _;
use std::path::Path;

use murphy_engine::{Process, Survey};
use murphy_fault::plan::{Selector, Who};

pub(crate) type Words = Vec<String>;
/// The first and the last port.
pub(crate) type Ports = (u16, u16);
/// A kind of target, and a value.
pub(crate) type Fact = (&'static str, String);

/// What a policy says; of the pairs the first is what is allowed, if that is said, and the second what is forbidden.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub max_seconds: Option<u64>,
    pub targets: (Option<Words>, Words),
    pub faults: (Option<Words>, Words),
    pub ports: (Option<Vec<Ports>>, Vec<Ports>),
    pub interfaces: Words,
    pub restricted: Words,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    /// `OPERATIONS:EFFECT=…`
    pub head: &'static str,
    pub ops: Words,
    pub effects: Words,
    pub port: Vec<Ports>,
    pub on: Words,
    pub path: Words,
    pub interface: Words,
    pub seconds: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    /// What is known of each process that is hit now.
    pub processes: Vec<Vec<Fact>>,
    /// Selectors; none of `run`.
    pub hit: Vec<Fact>,
    /// Exclusions.
    pub spare: Vec<Fact>,
}

/// Pseudo-random numbers (xorshift64*), the same for the same seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// One or two of these.
    fn some<T: Clone + PartialEq>(&mut self, from: &[T]) -> Vec<T> {
        let mut some = vec![self.pick(from)];
        let more = self.pick(from);
        if self.chance(40) && !some.contains(&more) {
            some.push(more);
        }
        some
    }

    /// What is allowed, at times, and what is forbidden, at times.
    fn pair<T: Clone + PartialEq>(&mut self, from: &[T]) -> (Option<Vec<T>>, Vec<T>) {
        let allowed = self.chance(25).then(|| self.some(from));
        let forbidden = match self.chance(35) {
            true => self.some(from),
            false => Vec::new(),
        };
        (allowed, forbidden)
    }
}

fn owned(words: &[&str]) -> Words {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Operations and an effect, as an expression and taken apart; every effect can be told from what happens by itself.
const HEADS: [(&str, &[&str], &[&str]); 26] = [
    ("connect:error=ENOANO", &["connect"], &["error"]),
    ("bind:error=ENOANO", &["bind"], &["error"]),
    ("sendto:error=ENOANO", &["sendto"], &["error"]),
    ("recvfrom:error=ENOANO", &["recvfrom"], &["error"]),
    ("shutdown:error=ENOANO", &["shutdown"], &["error"]),
    ("connect:retval=0", &["connect"], &["retval"]),
    (
        "connect,bind:delay_enter=1ms",
        &["connect", "bind"],
        &["delay_enter"],
    ),
    ("read:error=ENOANO", &["read"], &["error"]),
    ("read:short=1", &["read"], &["short"]),
    ("write:error=ENOANO", &["write"], &["error"]),
    (
        "read,write:delay_enter=2ms:jitter=1ms",
        &["read", "write"],
        &["delay_enter", "jitter"],
    ),
    ("close:error=ENOANO", &["close"], &["error"]),
    ("fsync:error=ENOANO", &["fsync"], &["error"]),
    ("sendfile:error=ENOANO", &["sendfile"], &["error"]),
    ("splice:error=ENOANO", &["splice"], &["error"]),
    ("poll:error=ENOANO", &["poll"], &["error"]),
    ("openat:error=ENOANO", &["openat"], &["error"]),
    (
        "openat,unlinkat:error=ENOANO",
        &["openat", "unlinkat"],
        &["error"],
    ),
    ("unlinkat:error=ENOANO", &["unlinkat"], &["error"]),
    ("getpid:retval=7", &["getpid"], &["retval"]),
    ("futex:delay_enter=1ms", &["futex"], &["delay_enter"]),
    ("egress:loss=1ppm", &["egress"], &["loss"]),
    ("ingress:loss=1ppm", &["ingress"], &["loss"]),
    ("net:loss=1ppm", &["egress", "ingress"], &["loss"]),
    ("dns:drop", &["dns"], &["drop"]),
    ("http:status=500", &["http"], &["status"]),
];

/// A machine of random triples: a folder with files, some of them restricted, and two ports.
pub(crate) struct Place<'a> {
    pub folder: &'a Path,
    pub ports: [u16; 2],
}

impl Place<'_> {
    fn at(&self, below: &str) -> String {
        format!("{}/{below}", self.folder.display())
    }

    pub(crate) fn policy(&self, random: &mut Random) -> Policy {
        let [a, b] = self.ports;
        let ports = [
            (a, a),
            (b, b),
            (a.min(b), a.max(b)),
            (1, 1023),
            (53, 53),
            (1, 65535),
        ];
        let restricted = ["secret", "link", "open/inner", "secret/file", "nowhere"];
        let restricted = restricted.map(|path| self.at(path));
        let targets = [
            "comm:worker",
            "comm:post*",
            "comm:*",
            "uid:root",
            "uid:70",
            "uid:7*",
            "unit:shop",
            "unit:db*",
            "cgroup:/shop.slice",
            "cgroup:/shop.slice/db",
        ];
        let mut targets = owned(&targets);
        let exes = [
            "bin/postgres",
            "bin/post*",
            "tools/postgres",
            "tools/*",
            "none/x",
        ];
        targets.extend(exes.map(|exe| format!("exe:{}", self.at(exe))));
        let faults = [
            "connect",
            "connect:error",
            "%network",
            "net",
            "net:loss",
            "*:error",
            "read,write",
            "unlink*",
            "!connect",
            "egress",
            "*",
            "open*:err*",
            "*:delay_*",
            "dns",
            "http:status",
            "futex,getpid",
        ];
        let some = |random: &mut Random, percent, from: &[String]| match random.chance(percent) {
            true => random.some(from),
            false => Vec::new(),
        };
        Policy {
            max_seconds: random.chance(20).then(|| random.pick(&[5, 60])),
            targets: random.pair(&targets),
            faults: random.pair(&owned(&faults)),
            ports: random.pair(&ports),
            interfaces: some(random, 20, &owned(&["lo", "eth*", "e*", "wlan0"])),
            restricted: some(random, 40, &restricted),
        }
    }

    /// A fault, as far as murphy's expression has such a one.
    pub(crate) fn fault(&self, random: &mut Random) -> Fault {
        loop {
            let (head, ops, effects) = random.pick(&HEADS);
            let [a, b] = self.ports;
            let paths = [
                "open/file",
                "open/*",
                "open/**",
                "secret/file",
                "secret/**",
                "link/file",
                "link/*",
                "s*/file",
                "**",
                "open/inner/file",
                "other/**",
                "open/../secret/*",
            ];
            let paths = paths.map(|path| self.at(path));
            let mut fault = Fault {
                head,
                ops: owned(ops),
                effects: owned(effects),
                seconds: random.pick(&[3, 30]),
                ..Fault::default()
            };
            if random.chance(50) {
                fault.port = random.some(&[(a, a), (b, b), (1, 80), (1, 65535)]);
            }
            if random.chance(25) {
                fault.on = random.some(&owned(&["file", "socket", "pipe", "other"]));
            }
            if random.chance(50) {
                fault.path = random.some(&paths);
            }
            if random.chance(30) {
                fault.interface = random.some(&owned(&["lo", "eth0", "eth*", "wl*"]));
            }
            // Filters that the operation does not have: another one.
            if fault.text().parse::<murphy_fault::Fault>().is_ok() {
                return fault;
            }
        }
    }

    /// Processes that run, and selectors.
    pub(crate) fn target(&self, random: &mut Random) -> Target {
        let processes = 1 + random.below(2);
        let processes = (0..processes).map(|_| {
            let exe = random.pick(&["bin/postgres", "bin/worker", "link-postgres"]);
            let unit = random.pick(&["shop.service", "db1.service", "cron.service"]);
            let cgroup = random.pick(&[
                "/shop.slice/db",
                "/shop.slice",
                "/other",
                "/shop.slice/db/inner",
            ]);
            vec![
                (
                    "comm",
                    random.pick(&["worker", "postgres", "cron"]).to_owned(),
                ),
                ("uid", random.pick(&["0", "70", "1000"]).to_owned()),
                ("exe", self.at(exe)),
                ("unit", unit.to_owned()),
                ("cgroup", cgroup.to_owned()),
            ]
        });
        let processes = processes.collect();
        let selectors = self.selectors();
        // An exclusion of a cgroup spares that one exactly; unit tests have it.
        let mut exclusions = selectors[3..].to_vec();
        exclusions.retain(|(kind, _)| *kind != "cgroup");
        let spare = match random.chance(30) {
            true => random.some(&exclusions),
            false => Vec::new(),
        };
        Target {
            processes,
            hit: random.some(&selectors),
            spare,
        }
    }

    fn selectors(&self) -> Vec<Fact> {
        let mut selectors: Vec<Fact> = [
            ("pid", "4711"),
            ("all", ""),
            ("netns", "blue"),
            ("comm", "worker"),
            ("comm", "postgres"),
            ("uid", "70"),
            ("uid", "0"),
            ("unit", "shop.service"),
            ("unit", "db1.service"),
            ("cgroup", "/shop.slice"),
            ("cgroup", "/shop.slice/db"),
            ("cgroup", "/other"),
        ]
        .map(|(kind, value)| (kind, value.to_owned()))
        .to_vec();
        selectors.extend(
            ["bin/postgres", "link-postgres", "bin/worker"].map(|exe| ("exe", self.at(exe))),
        );
        selectors
    }
}

fn quoted(words: &[String]) -> String {
    format!("{words:?}")
}

impl Policy {
    /// As a file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut table = |name: &str, keys: Vec<(&str, Option<String>)>| {
            let _ = writeln!(text, "[{name}]");
            for (key, value) in keys {
                if let Some(value) = value {
                    let _ = writeln!(text, "{key} = {value}");
                }
            }
        };
        let ports = |list: &Vec<Ports>| quoted(&list.iter().map(range).collect::<Words>());
        let words = |list: &Words| quoted(list);
        let allow = |list: &Option<Words>| list.as_ref().map(words);
        let max = self.max_seconds.map(|seconds| format!("\"{seconds}s\""));
        table("limits", vec![("max_duration", max)]);
        for (name, (allowed, forbidden)) in [("targets", &self.targets), ("faults", &self.faults)] {
            let forbidden = quoted(forbidden);
            table(
                name,
                vec![("allow", allow(allowed)), ("forbid", Some(forbidden))],
            );
        }
        table(
            "network",
            vec![
                ("allow_ports", self.ports.0.as_ref().map(ports)),
                ("forbid_ports", Some(ports(&self.ports.1))),
                ("forbid_interfaces", Some(quoted(&self.interfaces))),
            ],
        );
        table(
            "paths",
            vec![("restricted", Some(quoted(&self.restricted)))],
        );
        text
    }
}

fn range((first, last): &Ports) -> String {
    format!("{first}-{last}")
}

impl Fault {
    /// As an expression.
    pub(crate) fn text(&self) -> String {
        let mut text = self.head.to_owned();
        let ports: Words = self.port.iter().map(range).collect();
        for (key, values) in [
            ("port", &ports),
            ("on", &self.on),
            ("path", &self.path),
            ("interface", &self.interface),
        ] {
            if !values.is_empty() {
                let _ = write!(text, ":{key}={}", values.join(","));
            }
        }
        text
    }
}

impl Target {
    /// As the command line says it.
    pub(crate) fn who(&self) -> Who {
        let selector = |(kind, value): &Fact| match *kind {
            "all" => Selector::All,
            kind => {
                let aim = serde_json::json!({ kind: [value] });
                let aim: murphy_fault::Aim = serde_json::from_value(aim).expect("a selector");
                aim.hit[0].clone()
            }
        };
        Who {
            hit: self.hit.iter().map(selector).collect(),
            spare: self.spare.iter().map(selector).collect(),
            exempt: false,
        }
    }

    /// As murphy finds it on the machine.
    pub(crate) fn survey(&self) -> Survey {
        let process = |facts: &Vec<Fact>| {
            let of = |kind| {
                facts
                    .iter()
                    .find(|fact| fact.0 == kind)
                    .map(|fact| fact.1.clone())
            };
            Process {
                pid: 4711,
                comm: of("comm").unwrap_or_default(),
                exe: of("exe").map(Into::into),
                uid: of("uid").and_then(|uid| uid.parse().ok()),
                cgroup: of("cgroup"),
                units: of("unit").into_iter().collect(),
                ..Process::default()
            }
        };
        Survey {
            hit: self.processes.iter().map(process).collect(),
            all: 100,
            interfaces: Vec::new(),
        }
    }
}
