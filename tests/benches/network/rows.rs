//! The rows: what is asked of both netems, and what is made of the figures.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tests::{murphy_path, program};

use crate::http;

/// How long one load may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// What is asked for, in both tongues; `murphy` has no words for nothing.
struct Ask {
    tc: &'static str,
    murphy: &'static str,
}

/// Who does it.
#[derive(Clone, Copy)]
enum By {
    Netem,
    Murphy,
    /// nftables: a share of what arrives is dropped. It knows nothing of processes.
    Nft,
}

const BOTH: [(By, &str); 2] = [(By::Netem, "plain netem"), (By::Murphy, "murphy")];

/// Measures a group.
pub(crate) fn group(name: &str, repetitions: usize) -> Result<()> {
    match name {
        "delay" => delay(repetitions),
        "jitter" => jitter(repetitions),
        "loss" => loss(repetitions),
        "rate" => bulk(
            repetitions,
            "rate",
            &[(
                "of 20 Mbit/s",
                Ask {
                    tc: "rate 20mbit",
                    murphy: "egress:rate=20mbit",
                },
            )],
        ),
        "bulk" => bulk(
            repetitions,
            "bulk",
            &[
                (
                    "at 1 ms",
                    Ask {
                        tc: "delay 1ms limit 100000",
                        murphy: "egress:delay=1ms:limit=100000",
                    },
                ),
                (
                    "at 10 ms",
                    Ask {
                        tc: "delay 10ms limit 100000",
                        murphy: "egress:delay=10ms:limit=100000",
                    },
                ),
                (
                    "at 100 ms",
                    Ask {
                        tc: "delay 100ms limit 100000",
                        murphy: "egress:delay=100ms:limit=100000",
                    },
                ),
                (
                    "at 1 ms, 1 % lost",
                    Ask {
                        tc: "delay 1ms loss 1% limit 100000",
                        murphy: "egress:delay=1ms:loss=1%:limit=100000",
                    },
                ),
            ],
        ),
        "http" => http::idle(repetitions),
        "late" => http::late(repetitions),
        _ => bail!("no group {name}: delay, jitter, loss, rate, bulk, http, late"),
    }
}

/// Lets a load run under what was asked for; what it printed.
fn measure(by: By, ask: &Ask, load: &[&str]) -> Result<Vec<String>> {
    let this = std::env::current_exe()?;
    let mut words = vec!["load"];
    words.extend(load);
    let done = match by {
        By::Netem => {
            tc(&format!("qdisc add dev lo root netem {}", ask.tc))?;
            let done = program(&this).args(words).limit(LIMIT).run();
            tc("qdisc del dev lo root")?;
            done?
        }
        By::Nft => {
            let rule = "meta l4proto udp iifname lo numgen random mod 100 < 5 drop";
            run("nft", "add table inet bench")?;
            run(
                "nft",
                "add chain inet bench in { type filter hook input priority 0 ; }",
            )
            .and_then(|()| run("nft", &format!("add rule inet bench in {rule}")))?;
            let done = program(&this).args(words).limit(LIMIT).run();
            run("nft", "delete table inet bench")?;
            done?
        }
        By::Murphy => program(murphy_path())
            .args(["run", "-q", "-e", ask.murphy, "--"])
            .args([&this])
            .args(words)
            .limit(LIMIT)
            .run()?,
    };
    ensure!(done.code == Some(0), "{done}");
    Ok(done.stdout.lines().map(str::to_owned).collect())
}

pub(crate) fn tc(words: &str) -> Result<()> {
    run("tc", words)
}

fn run(tool: &'static str, words: &str) -> Result<()> {
    let done = Command::new(tool)
        .args(words.split(' '))
        .output()
        .context(tool)?;
    ensure!(
        done.status.success(),
        "{tool} {words}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

fn numbers(lines: &[String]) -> Vec<f64> {
    let mut numbers: Vec<_> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

pub(crate) fn row(group: &str, case: &str, what: &str, unit: &str, values: &[f64]) {
    println!(
        "{}",
        json!({"group": group, "case": case, "what": what, "unit": unit, "values": values})
    );
}

/// How far delays are from what was asked for.
fn delay(repetitions: usize) -> Result<()> {
    for (name, wanted, ask) in [
        (
            "1 ms",
            1e3,
            Ask {
                tc: "delay 1ms",
                murphy: "egress:delay=1ms",
            },
        ),
        (
            "10 ms",
            1e4,
            Ask {
                tc: "delay 10ms",
                murphy: "egress:delay=10ms",
            },
        ),
        (
            "100 ms",
            1e5,
            Ask {
                tc: "delay 100ms",
                murphy: "egress:delay=100ms",
            },
        ),
    ] {
        let mut errors = [
            [Vec::new(), Vec::new()],
            [Vec::new(), Vec::new()],
            [Vec::new(), Vec::new()],
        ];
        for _ in 0..repetitions {
            for (place, (by, _)) in BOTH.into_iter().enumerate() {
                let times = numbers(&measure(by, &ask, &["latency", "400", "2000"])?);
                ensure!(times.len() == 400, "{} of 400 arrived", times.len());
                for (of, at) in errors.iter_mut().zip([200, 396, 399]) {
                    of[place].push(times[at] - wanted);
                }
            }
        }
        for (of, what) in errors.iter().zip(["p50", "p99", "max"]) {
            for (values, (_, case)) in of.iter().zip(BOTH) {
                row(
                    &format!("a delay of {name}"),
                    case,
                    &format!("error at {what}"),
                    "µs",
                    values,
                );
            }
        }
    }
    Ok(())
}

/// Whether delays that vary are distributed as netem's: the greatest distance of the two distribution functions
/// (Kolmogorov and Smirnov), beside that of two runs of plain netem.
fn jitter(repetitions: usize) -> Result<()> {
    for (name, ask) in [
        (
            "uniform",
            Ask {
                tc: "delay 20ms 5ms",
                murphy: "egress:delay=20ms:jitter=5ms",
            },
        ),
        (
            "normal",
            Ask {
                tc: "delay 20ms 5ms distribution normal",
                murphy: "egress:delay=20ms:jitter=5ms:distribution=normal",
            },
        ),
        (
            "pareto",
            Ask {
                tc: "delay 20ms 5ms distribution pareto",
                murphy: "egress:delay=20ms:jitter=5ms:distribution=pareto",
            },
        ),
        (
            "paretonormal",
            Ask {
                tc: "delay 20ms 5ms distribution paretonormal",
                murphy: "egress:delay=20ms:jitter=5ms:distribution=paretonormal",
            },
        ),
    ] {
        let mut distances = [Vec::new(), Vec::new()];
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..repetitions {
            let sample = |by| -> Result<_> {
                Ok(numbers(&measure(by, &ask, &["latency", "2000", "1000"])?))
            };
            let (one, murphy, other) =
                (sample(By::Netem)?, sample(By::Murphy)?, sample(By::Netem)?);
            distances[0].push(distance(&one, &other) * 1000.0);
            distances[1].push(distance(&one, &murphy) * 1000.0);
            seen[0].extend(one);
            seen[1].extend(murphy);
        }
        for (times, (_, case)) in seen.iter_mut().zip(BOTH) {
            times.sort_by(f64::total_cmp);
            curve(&format!("{name} jitter"), case, times);
        }
        // 1.63 √(2/n): exceeded by chance once in a hundred times.
        let group = format!("{name} jitter (1 % level: 51.5)");
        for (values, (_, case)) in distances.iter().zip(BOTH) {
            row(&group, case, "KS distance to plain netem", "1/1000", values);
        }
    }
    Ok(())
}

/// The distribution function of sorted µs, as ms and the share that came no later in %, at each half percent.
fn curve(group: &str, case: &str, sorted: &[f64]) {
    let points: Vec<_> = (0..=200)
        .map(|half| {
            let share = f64::from(half) / 200.0;
            let place = (share * (sorted.len() - 1) as f64) as usize;
            (sorted[place] / 1000.0, share * 100.0)
        })
        .collect();
    println!(
        "{}",
        json!({"group": group, "case": case, "what": "delay", "unit": "ms", "curve": points})
    );
}

/// Of two sorted samples.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let below =
        |sample: &[f64], x: f64| sample.partition_point(|y| *y <= x) as f64 / sample.len() as f64;
    one.iter()
        .chain(other)
        .map(|x| (below(one, *x) - below(other, *x)).abs())
        .fold(0.0, f64::max)
}

/// How many of 100 000 datagrams are lost, and how long bursts are.
fn loss(repetitions: usize) -> Result<()> {
    const SENT: f64 = 100_000.0;
    for (name, ask) in [
        // netem's own loss has no words in murphy without anything else; its own comes before netem.
        (
            "loss of 5 % (99 %: 4.82 to 5.18)",
            Ask {
                tc: "loss 5%",
                murphy: "egress:loss=5%",
            },
        ),
        (
            "loss of 5 % by netem (99 %: 4.82 to 5.18)",
            Ask {
                tc: "loss 5%",
                murphy: "egress:loss=5%,0%",
            },
        ),
        (
            "gemodel=1%,25%",
            Ask {
                tc: "loss gemodel 1% 25%",
                murphy: "egress:gemodel=1%,25%",
            },
        ),
    ] {
        let mut all = BOTH.to_vec();
        if ask.tc == "loss 5%" && !ask.murphy.contains(',') {
            all.push((By::Nft, "nft, numgen random"));
        }
        let mut lost = vec![Vec::new(); all.len()];
        let mut bursts = lost.clone();
        for _ in 0..repetitions {
            for (place, (by, _)) in all.iter().enumerate() {
                let arrived = measure(*by, &ask, &["received", "100000"])?.join("");
                let runs: Vec<_> = arrived
                    .split('1')
                    .map(str::len)
                    .filter(|length| *length > 0)
                    .collect();
                let gone = runs.iter().sum::<usize>() as f64;
                lost[place].push(gone * 100.0 / SENT);
                bursts[place].push(gone / runs.len().max(1) as f64);
            }
        }
        for (values, (_, case)) in lost.iter().zip(&all) {
            row(name, case, "lost", "%", values);
        }
        for (values, (_, case)) in bursts.iter().zip(&all) {
            row(name, case, "length of bursts", "packets", values);
        }
    }
    Ok(())
}

/// What a TCP connection gets through, and what it sends again.
fn bulk(repetitions: usize, group: &str, asks: &[(&str, Ask)]) -> Result<()> {
    for (name, ask) in asks {
        let mut rates = [Vec::new(), Vec::new()];
        let mut again = [Vec::new(), Vec::new()];
        for _ in 0..repetitions {
            for (place, (by, _)) in BOTH.into_iter().enumerate() {
                let lines = measure(by, ask, &["bulk", "5"])?;
                let [rate, resent] = &lines[..] else {
                    bail!("{lines:?}");
                };
                rates[place].push(rate.parse::<f64>()? * 8e-6);
                again[place].push(resent.parse()?);
            }
        }
        for (values, (_, case)) in rates.iter().zip(BOTH) {
            row(
                &format!("{group} {name}"),
                case,
                "throughput",
                "Mbit/s",
                values,
            );
        }
        if ask.tc.contains("loss") {
            for (values, (_, case)) in again.iter().zip(BOTH) {
                row(
                    &format!("{group} {name}"),
                    case,
                    "sent again",
                    "1/1000",
                    values,
                );
            }
        }
    }
    Ok(())
}
