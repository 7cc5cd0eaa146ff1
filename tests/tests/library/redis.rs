//! Redis, and redis-cli as the application.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use tests::{Finished, Outcome, program, redis::Redis};

use super::scene::{Apps, experiment, play};

struct Cache {
    redis: Redis,
    app: PathBuf,
    port: String,
    _apps: Apps,
}

impl Cache {
    fn open() -> Result<Self> {
        let (redis, apps) = (Redis::start([])?, Apps::new()?);
        Ok(Self {
            app: apps.copy("redis-cli")?,
            port: redis.port().to_string(),
            redis,
            _apps: apps,
        })
    }

    fn app(&self, words: &[&str]) -> Result<Finished> {
        // redis-cli waits for ever; timeout(1) ends it with 124.
        program("timeout")
            .args(["4"])
            .args([&self.app])
            .args(["-h", "127.0.0.1", "-p", &self.port])
            .args(words)
            .run()
    }

    fn play(self, file: (&str, &str), look: impl FnOnce(&Self) -> Outcome) -> Outcome {
        let pong = |done: Finished| {
            ensure!(done.stdout.trim() == "PONG", "{done}");
            Ok(())
        };
        play(
            file,
            &self.app,
            &[("REDIS_PORT", &self.port)],
            || pong(self.app(&["ping"])?),
            || {
                look(&self)?;
                pong(self.redis.cli(["ping"])?)
            },
        )?;
        Ok(())
    }
}

pub(crate) fn refused() -> Outcome {
    Cache::open()?.play(experiment!("redis/connection-refused"), |cache| {
        let done = cache.app(&["ping"])?;
        ensure!(
            done.stderr.contains("refused") || done.stdout.contains("refused"),
            "{done}"
        );
        Ok(())
    })
}

fn silent(file: (&str, &str)) -> Outcome {
    Cache::open()?.play(file, |cache| {
        let done = cache.app(&["ping"])?;
        ensure!(
            done.code == Some(124) && !done.stdout.contains("PONG"),
            "{done}"
        );
        Ok(())
    })
}

pub(crate) fn partition() -> Outcome {
    silent(experiment!("redis/partition"))
}

pub(crate) fn timeout() -> Outcome {
    silent(experiment!("redis/connection-timeout"))
}

/// TCP sends again what is lost: all is answered, and something was lost.
pub(crate) fn loss() -> Outcome {
    Cache::open()?.play(experiment!("redis/packet-loss"), |cache| {
        let done = program(&cache.app)
            .args(["-h", "127.0.0.1", "-p", &cache.port, "-r", "40", "ping"])
            .run()?;
        ensure!(done.stdout == "PONG\n".repeat(40), "{done}");
        Ok(())
    })
}

pub(crate) fn latency() -> Outcome {
    Cache::open()?.play(experiment!("redis/latency-500ms"), |cache| {
        let done = cache.app(&["ping"])?;
        // The handshake's packet and the request's, each 400 ms at least.
        ensure!(
            done.stdout.trim() == "PONG" && done.took > Duration::from_millis(800),
            "{done}"
        );
        Ok(())
    })
}

pub(crate) fn bandwidth() -> Outcome {
    Cache::open()?.play(experiment!("redis/bandwidth-100kb"), |cache| {
        // 200 kB at 100 kB/s, less what the queue lets pass at first.
        cache.redis.cli(["setrange", "big", "200000", "x"])?;
        let done = program(&cache.app)
            .args(["-h", "127.0.0.1", "-p", &cache.port, "get", "big"])
            .run()?;
        ensure!(
            done.stdout.len() > 200_000 && done.took > Duration::from_secs(1),
            "took {:?}",
            done.took
        );
        Ok(())
    })
}
