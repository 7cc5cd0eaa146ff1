//! A service over HTTP: nginx, and curl as the application.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tests::{Finished, Outcome, nginx::Nginx, program};

use super::scene::{Apps, experiment, play};

/// What bandwidth is measured with, in bytes.
const BIG: usize = 150_000;

struct Shop {
    nginx: Nginx,
    app: PathBuf,
    port: String,
    _apps: Apps,
}

impl Shop {
    fn open() -> Result<Self> {
        let big = "x".repeat(BIG);
        let nginx = Nginx::start(&[("small", "hello"), ("big", &big)])?;
        let apps = Apps::new()?;
        Ok(Self {
            app: apps.copy("curl")?,
            port: nginx.port().to_string(),
            nginx,
            _apps: apps,
        })
    }

    fn variables(&self) -> [(&'static str, &str); 1] {
        [("SERVICE_PORT", &self.port)]
    }

    /// The application asks.
    fn app(&self, name: &str) -> Result<Finished> {
        let url = self.nginx.url(name);
        program(&self.app)
            .args(["-sS", "--max-time", "8", &url])
            .run()
    }

    fn works(&self) -> Outcome {
        let done = self.app("small")?;
        ensure!(done.stdout == "hello", "{done}");
        Ok(())
    }

    /// Somebody else's curl. It says itself how long it took: starting it takes emulated machines longer.
    fn neighbour(&self) -> Outcome {
        let url = self.nginx.url("small");
        let done = program("curl")
            .args(["-sS", "-w", " %{time_total}", &url])
            .run()?;
        let said = done.stdout.split_once(' ');
        let (text, time) = said.with_context(|| done.to_string())?;
        ensure!(
            text == "hello" && time.parse::<f64>()? < 0.8,
            "the neighbour: {done}"
        );
        Ok(())
    }
}

pub(crate) fn latency() -> Outcome {
    let shop = Shop::open()?;
    let injected = play(
        experiment!("network/latency-500ms"),
        &shop.app,
        &shop.variables(),
        || shop.works(),
        || {
            let done = shop.app("small")?;
            // The handshake's packet and the request's, each 400 ms at least.
            ensure!(
                done.stdout == "hello" && done.took > Duration::from_millis(800),
                "{done}"
            );
            shop.neighbour()
        },
    )?;
    ensure!(injected >= 2, "{injected}");
    Ok(())
}

pub(crate) fn bandwidth() -> Outcome {
    let shop = Shop::open()?;
    play(
        experiment!("network/bandwidth-100kb"),
        &shop.app,
        &shop.variables(),
        || shop.works(),
        || {
            let done = shop.app("big")?;
            // At 100 kB/s, less what the queue lets pass at first.
            ensure!(
                done.stdout.len() == BIG && done.took > Duration::from_secs(1),
                "{} bytes in {:?}",
                done.stdout.len(),
                done.took
            );
            shop.neighbour()
        },
    )?;
    Ok(())
}

pub(crate) fn gone() -> Outcome {
    let shop = Shop::open()?;
    let injected = play(
        experiment!("service/unavailable"),
        &shop.app,
        &shop.variables(),
        || shop.works(),
        || {
            let done = shop.app("small")?;
            // curl's word for a connection that could not be made.
            ensure!(done.code == Some(7) && done.stdout.is_empty(), "{done}");
            shop.neighbour()
        },
    )?;
    ensure!(injected == 1, "one connection, refused {injected} times");
    let mut variables = shop.variables().to_vec();
    variables.push(("FAULT_SHARE", "100%"));
    play(
        experiment!("network/reset"),
        &shop.app,
        &variables,
        || shop.works(),
        || {
            let done = shop.app("small")?;
            // 56: "failure in receiving network data"; 55 if the RST was there before the request was written; 7 if
            // it met the handshake.
            ensure!(
                matches!(done.code, Some(7 | 55 | 56)) && done.stdout.is_empty(),
                "{done}"
            );
            shop.neighbour()
        },
    )?;
    Ok(())
}

pub(crate) fn errors() -> Outcome {
    let shop = Shop::open()?;
    let mut variables = shop.variables().to_vec();
    variables.push(("FAULT_SHARE", "100%"));
    let injected = play(
        experiment!("service/api-failure"),
        &shop.app,
        &variables,
        || shop.works(),
        || {
            let url = shop.nginx.url("small");
            let done = program(&shop.app)
                .args(["-sS", "-w", " %{http_code}", &url])
                .run()?;
            ensure!(done.stdout == "hello 500", "{done}");
            shop.neighbour()
        },
    )?;
    ensure!(injected == 1, "one response, answered {injected} times");
    Ok(())
}

/// TCP sends again what is lost: what arrives is whole, and some of it late.
pub(crate) fn lossy() -> Outcome {
    let shop = Shop::open()?;
    play(
        experiment!("network/packet-loss-20"),
        &shop.app,
        &shop.variables(),
        || shop.works(),
        || {
            let url = format!("{}?[1-4]", shop.nginx.url("small"));
            let (mut whole, mut late) = (0, 0);
            for _ in 0..20 {
                let done = program(&shop.app)
                    .args(["-sS", "--max-time", "5", "-w", " %{time_total}\n", &url])
                    .run()?;
                // "hello 0.203518": TCP waits 200 ms at least before it sends again. Five losses in a row are more
                // than five seconds.
                for line in done.stdout.lines() {
                    let (text, time) = line.split_once(' ').with_context(|| done.to_string())?;
                    whole += u32::from(text == "hello");
                    late += u32::from(time.parse::<f64>()? >= 0.2);
                }
                if whole > 0 && late > 0 {
                    return shop.neighbour();
                }
            }
            bail!("{whole} whole, {late} late")
        },
    )?;
    Ok(())
}
