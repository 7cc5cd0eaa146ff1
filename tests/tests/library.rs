//! Experiments of the library, against a real Redis: what each injects, what its probe says, that its rollback ends it.
//!
//! The commands are those of the files; who runs them in the end is the business of `murphy experiment` and `chaos`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::redis::Redis;
use tests::{Finished, Outcome, case, murphy, needs, program};

fn main() -> std::process::ExitCode {
    tests::run([
        case(
            "redis/connection-refused",
            needs![Root, Cgroup2, Bpf, Atomics, Tool("redis-server")],
            refused,
        ),
        case(
            "redis/partition",
            needs![Root, Cgroup2, Bpf, Atomics, Tool("redis-server")],
            partition,
        ),
        case(
            "redis/connection-timeout",
            needs![Root, Cgroup2, Bpf, Atomics, Tool("redis-server")],
            timeout,
        ),
        case(
            "redis/packet-loss",
            needs![Root, Cgroup2, Bpf, Atomics, Tool("redis-server")],
            loss,
        ),
        case(
            "redis/latency-500ms",
            needs![Root, Cgroup2, Bpf, Atomics, Netem, Tool("redis-server")],
            latency,
        ),
        case(
            "redis/bandwidth-100kb",
            needs![Root, Cgroup2, Bpf, Atomics, Netem, Tool("redis-server")],
            bandwidth,
        ),
    ])
}

/// The files themselves are in the test, so that it runs where the tree is not.
macro_rules! experiment {
    ($path:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../../experiments/", $path, ".json")))
    };
}

/// A Redis with an experiment, whose target is a client that bears a name of its own.
struct Scene {
    redis: Redis,
    file: Value,
    _folder: tempfile::TempDir,
    client: String,
}

impl Scene {
    fn new(file: Value) -> anyhow::Result<Self> {
        let redis = Redis::start([])?;
        // A copy under another name is the target, so that redis-cli itself is the neighbour.
        let folder = tempfile::tempdir()?;
        let client = folder.path().join("murphy-app");
        let original = ["/usr/bin/redis-cli", "/usr/local/bin/redis-cli"];
        let original = original
            .iter()
            .find(|path| std::path::Path::new(path).exists());
        std::fs::copy(original.context("no redis-cli")?, &client)?;
        let client = client.to_str().context("a strange folder")?.to_owned();
        Ok(Self {
            redis,
            file,
            _folder: folder,
            client,
        })
    }

    fn words(&self, activity: &Value) -> anyhow::Result<Vec<String>> {
        let words = activity["provider"]["arguments"]
            .as_array()
            .context("no arguments")?;
        let mut said = Vec::new();
        for word in words {
            let mut word = word.as_str().context("not a word")?.to_owned();
            for (name, value) in self.file["configuration"]
                .as_object()
                .context("no configuration")?
            {
                let value = match name.as_str() {
                    "target" => format!("--exe={}", self.client),
                    "redis_port" => self.redis.port().to_string(),
                    _ => value["default"].as_str().unwrap_or_default().to_owned(),
                };
                word = word.replace(&format!("${{{name}}}"), &value);
            }
            said.push(word);
        }
        Ok(said)
    }

    fn app(&self, words: &[&str]) -> anyhow::Result<Finished> {
        let port = self.redis.port().to_string();
        // redis-cli waits for ever.
        program("timeout")
            .args(["5", &self.client, "-h", "127.0.0.1", "-p", &port])
            .args(words)
            .run()
    }

    /// Works, fails as `check` expects while the neighbour works, was counted, works again.
    fn play(self, check: impl FnOnce(&Self) -> Outcome) -> Outcome {
        let pong = |done: &Finished| done.stdout.trim() == "PONG";
        let before = self.app(&["ping"])?;
        ensure!(pong(&before), "before: {before}");
        let injected = murphy(self.words(&self.file["method"][0])?).run()?;
        ensure!(injected.code == Some(0), "{injected}");
        let result = check(&self);
        let neighbour = self.redis.cli(["ping"])?;
        let active = murphy(self.words(&self.file["method"][1])?).run()?;
        // Whatever came of it, it is ended.
        let stopped = murphy(self.words(&self.file["rollbacks"][0])?).run()?;
        result?;
        ensure!(active.code == Some(0), "not active: {active}");
        ensure!(pong(&neighbour), "the neighbour: {neighbour}");
        ensure!(stopped.code == Some(0), "{stopped}");
        ensure!(
            counted(&stopped.stdout) > 0,
            "nothing was counted: {stopped}"
        );
        let after = self.app(&["ping"])?;
        ensure!(pong(&after), "after: {after}");
        Ok(())
    }
}

/// What `stop --json` says was injected, of all faults.
fn counted(text: &str) -> u64 {
    fn sum(value: &Value) -> u64 {
        match value {
            Value::Object(map) => match map.get("injected").and_then(Value::as_u64) {
                Some(injected) => injected,
                None => map.values().map(sum).sum(),
            },
            Value::Array(items) => items.iter().map(sum).sum(),
            _ => 0,
        }
    }
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|value: Value| sum(&value))
        .sum()
}

fn refused() -> Outcome {
    Scene::new(experiment!("redis/connection-refused")?)?.play(|scene| {
        let done = scene.app(&["ping"])?;
        ensure!(
            done.stderr.contains("refused") || done.stdout.contains("refused"),
            "{done}"
        );
        Ok(())
    })
}

/// timeout(1) ends what would wait for ever, with 124.
fn silent(file: Value) -> Outcome {
    Scene::new(file)?.play(|scene| {
        let done = scene.app(&["ping"])?;
        ensure!(
            done.code == Some(124) && !done.stdout.contains("PONG"),
            "{done}"
        );
        Ok(())
    })
}

fn partition() -> Outcome {
    silent(experiment!("redis/partition")?)
}

fn timeout() -> Outcome {
    silent(experiment!("redis/connection-timeout")?)
}

/// TCP sends again what is lost: all is answered, and something was lost.
fn loss() -> Outcome {
    Scene::new(experiment!("redis/packet-loss")?)?.play(|scene| {
        let port = scene.redis.port().to_string();
        let done = program(&scene.client)
            .args(["-h", "127.0.0.1", "-p", &port, "-r", "40", "ping"])
            .run()?;
        ensure!(
            done.stdout.lines().filter(|line| *line == "PONG").count() == 40,
            "{done}"
        );
        Ok(())
    })
}

fn latency() -> Outcome {
    Scene::new(experiment!("redis/latency-500ms")?)?.play(|scene| {
        let done = scene.app(&["ping"])?;
        // The handshake's packet and the request's, each 400 ms at least.
        ensure!(
            done.stdout.trim() == "PONG" && done.took > Duration::from_millis(800),
            "{done}"
        );
        Ok(())
    })
}

fn bandwidth() -> Outcome {
    Scene::new(experiment!("redis/bandwidth-100kb")?)?.play(|scene| {
        // 200 kB at 100 kB/s, less what the queue lets pass at first.
        scene.redis.cli(["setrange", "big", "200000", "x"])?;
        let port = scene.redis.port().to_string();
        let done = program(&scene.client)
            .args(["-h", "127.0.0.1", "-p", &port, "get", "big"])
            .run()?;
        ensure!(
            done.stdout.len() > 200_000 && done.took > Duration::from_secs(1),
            "took {:?}",
            done.took
        );
        Ok(())
    })
}
