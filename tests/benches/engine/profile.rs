//! Where a classifier's time goes: `perf record` by the CPU's clock, while a target sends packets that no rule matches.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use tests::program;

use crate::load::Load;
use crate::rows::{Row, end, line};

/// Packets a repetition: some seconds of them.
const PACKETS: u32 = 2_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the time goes to, by the ends of symbols. Those of programs begin with `bpf_prog_` and a hash.
const PARTS: [(&str, &[&str]); 4] = [
    ("the classifier itself", &["_murphy_egress"]),
    (
        "headers and filters",
        &[
            "_accept4",
            "_murphy_accept",
            "_memset",
            "bpf_skb_load_bytes_relative",
        ],
    ),
    (
        "the socket's owner",
        &["bpf_sk_storage_get", "bpf_sk_fullsock"],
    ),
    ("the owner's rules", &["_murphy_rules"]),
];

/// Shares of the sender's time, in %.
pub(crate) fn profile(repetitions: usize) -> Result<()> {
    let mut load = Load::start("udp", 0)?;
    let pid = load.pid();
    let row = Row::new(
        "",
        vec!["egress:loss=100%:port=1".to_owned()],
        &["--pid", &pid],
    );
    let mut shares = PARTS.map(|_| Vec::new());
    for _ in 0..repetitions {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("perf.data");
        let murphy = row.arm()?;
        let perf = program("perf")
            .args([
                "record",
                "-q",
                "-e",
                "cpu-clock",
                "-F",
                "4000",
                "-p",
                &pid,
                "-o",
            ])
            .args([&file])
            .args(["--", "sleep", "5"])
            .spawn()?;
        sleep(Duration::from_millis(500));
        load.run(PACKETS)?;
        let done = perf.finish(PATIENCE)?;
        ensure!(done.code == Some(0), "{done}");
        end(murphy)?;
        let said = program("perf")
            .args(["report", "--stdio", "--sort", "symbol", "-i"])
            .args([&file])
            .limit(PATIENCE)
            .run()?;
        for (shares, (_, symbols)) in shares.iter_mut().zip(&PARTS) {
            shares.push(share(&said.stdout, symbols));
        }
    }
    for (shares, (part, _)) in shares.iter().zip(&PARTS) {
        line("profile", "share of a sendto", part, "%", shares);
    }
    Ok(())
}

/// Of lines like `1.82%  [k] bpf_prog_ef748388790a7a01_murphy_egress`.
fn share(report: &str, symbols: &[&str]) -> f64 {
    let lines = report.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let share: f64 = words.next()?.strip_suffix('%')?.parse().ok()?;
        let symbol = words.nth(1)?;
        let ours = symbols.iter().any(|end| match end.strip_prefix('_') {
            Some(_) => symbol.starts_with("bpf_prog_") && symbol.ends_with(end),
            None => symbol == *end,
        });
        ours.then_some(share)
    });
    lines.sum()
}
