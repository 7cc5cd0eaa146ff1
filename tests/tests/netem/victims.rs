//! Programs that people use.

use std::{fs, time::Instant};

use anyhow::{Context as _, ensure};
use tests::{Outcome, murphy, net::free_port, program, redis::Redis, wait_until};

use super::travel::PATIENCE;

pub(crate) fn ping() -> Outcome {
    let pinged = murphy(["run", "-q", "-e", "net:delay=50ms", "--"])
        .args(["ping", "-q", "-c", "5", "-i", "0.2", "127.0.0.1"])
        .run()?;
    // rtt min/avg/max/mdev = 50.1/…
    let least = pinged
        .stdout
        .split("mdev = ")
        .nth(1)
        .and_then(|times| times.split('/').next()?.parse::<f64>().ok())
        .with_context(|| pinged.to_string())?;
    // On its way in ICMP cannot be told whose it is.
    ensure!((50.0..150.0).contains(&least), "{pinged}");
    Ok(())
}

pub(crate) fn redis() -> Outcome {
    let redis = Redis::start([])?;
    let port = redis.port().to_string();
    let begun = Instant::now();
    let late = murphy(["run", "-q", "-e", "net:delay=150ms", "--"])
        .args(["redis-cli", "-p", &port, "ping"])
        .run()?;
    ensure!(late.stdout.trim() == "PONG", "{late}");
    // The handshake and the command, there and back each.
    ensure!(
        begun.elapsed().as_millis() >= 600,
        "it took {:?}",
        begun.elapsed()
    );
    let pid = redis.pid().to_string();
    let hit = murphy(["inject", "-e", "egress:delay=500ms", "--pid", &pid]).spawn()?;
    let took = || -> anyhow::Result<u128> {
        let begun = Instant::now();
        let done = redis.cli(["ping"])?;
        ensure!(done.stdout.trim() == "PONG", "{done}");
        Ok(begun.elapsed().as_millis())
    };
    // Its SYN,ACK belongs to a request and to no socket yet; what is late is the answer.
    wait_until(PATIENCE, || took().is_ok_and(|took| took >= 500))
        .context("the server answers late")?;
    hit.signal(libc::SIGINT)?;
    hit.finish(PATIENCE)?;
    ensure!(took()? < 500, "still late afterwards");
    Ok(())
}

pub(crate) fn curl() -> Outcome {
    const LENGTH: usize = 100_000;
    let folder = tempfile::tempdir()?;
    let (root, port) = (folder.path().display(), free_port()?);
    // Its workers are another user's.
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534))?;
    fs::write(folder.path().join("file"), vec![b'x'; LENGTH])?;
    let configuration = folder.path().join("nginx.conf");
    fs::write(
        &configuration,
        format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error; events {{}}
             http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
             fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
        ),
    )?;
    let _nginx = program("nginx")
        .args(["-c"])
        .args([&configuration])
        .spawn()?;
    let url = format!("http://127.0.0.1:{port}/file");
    let get = [
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download} %{speed_download}",
        &url,
    ];
    wait_until(PATIENCE, || {
        program("curl")
            .args(get)
            .run()
            .is_ok_and(|done| done.code == Some(0))
    })
    .context("nginx answers")?;
    let slow = murphy(["run", "-q", "-e", "ingress:rate=400kbit", "--", "curl"])
        .args(get)
        .limit(PATIENCE)
        .run()?;
    let words: Vec<f64> = slow
        .stdout
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [size, speed] = words[..] else {
        anyhow::bail!("{slow}");
    };
    // 50 000 bytes a second with all headers; the handshake takes its time too, and so does
    // a slow machine; faster than the rate it must not be.
    ensure!(
        size == LENGTH as f64 && (15_000.0..=50_000.0).contains(&speed),
        "{slow}"
    );
    Ok(())
}
