//! What the daemon answers.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{ChildGuard, Outcome, http, murphy, program, wait_until};

use super::compare::golden;

/// A daemon with a state folder of its own.
struct Daemon {
    folder: tempfile::TempDir,
    _process: ChildGuard,
}

impl Daemon {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = murphy(["serve"])
            .env("MURPHY_RUN_DIR", folder.path())
            .spawn()?;
        let daemon = Self {
            folder,
            _process: process,
        };
        wait_until(Duration::from_secs(60), || {
            daemon.ask("GET", "/healthz", "").is_ok()
        })
        .context("it does not serve")?;
        Ok(daemon)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let socket = self.folder.path().join("api.socket");
        let answer = http::ask(&socket, method, path, body.as_bytes())?;
        ensure!(answer.status < 300, "{answer:?}");
        Ok(answer.body)
    }
}

pub(crate) fn openapi() -> Outcome {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let answer = Daemon::start()?.ask("GET", "/openapi.json", "")?;
    // It is a file of the tree already, which is part of the program.
    ensure!(
        answer == fs::read_to_string(document)?,
        "not docs/openapi.json"
    );
    Ok(())
}

pub(crate) fn metrics() -> Outcome {
    let daemon = Daemon::start()?;
    let target = program("sleep").args(["60"]).spawn()?;
    let body = json!({
        "faults": ["connect:error=ECONNREFUSED:port=1"], "target": {"pid": target.pid()},
        "for": "60s", "lease": "60s", "seed": 7
    });
    daemon.ask("POST", "/v1/faults", &body.to_string())?;
    let page = daemon.ask("GET", "/metrics", "")?;
    golden("metrics.txt", &without_values(&page))
}

/// The page without values, and without the version.
fn without_values(page: &str) -> String {
    let page = page.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    page.lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((name, _)) if !line.starts_with('#') => format!("{name} <number>\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}
