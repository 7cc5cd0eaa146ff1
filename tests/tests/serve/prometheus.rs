//! A real Prometheus scrapes the daemon; the rules and the dashboard in deploy ask for what there is.

use std::{collections::BTreeSet, fs, net::TcpListener};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{ChildGuard, Outcome, http, net::Echo, program, victim, wait_until};

use super::{Daemon, PATIENCE, connecting, sees};

const RULES: &str = include_str!("../../../deploy/alerts.yml");
const RULES_TEST: &str = include_str!("../../../deploy/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana.json");

/// Prometheus with the rules of deploy, scraping one address with a token, until dropped.
struct Prometheus {
    port: u16,
    // In this order: it is ended before its folder goes.
    _process: ChildGuard,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(scraped: &str, token_file: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("alerts.yml"), RULES)?;
        fs::write(
            path("prometheus.yml"),
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: murphy
    authorization: {{credentials_file: {token_file}}}
    static_configs: [{{targets: ['{scraped}']}}]
"
            ),
        )?;
        let port = free_port()?;
        let process = program("prometheus")
            .args([
                format!("--config.file={}", path("prometheus.yml")),
                format!("--storage.tsdb.path={}", path("data")),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--log.level=warn".into(),
            ])
            .spawn()?;
        let prometheus = Self {
            port,
            _process: process,
            _folder: folder,
        };
        wait_until(PATIENCE, || prometheus.ask("up").is_ok()).context("no Prometheus")?;
        Ok(prometheus)
    }

    /// The result of an instant query.
    fn ask(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = format!("/api/v1/query?query={query}");
        let answer = http::ask_tcp(&format!("127.0.0.1:{}", self.port), "GET", &path, "")?;
        let json = answer.json();
        ensure!(json["status"] == "success", "{answer:?}");
        Ok(json["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    /// The value of the only series of a query.
    fn value(&self, query: &str) -> Option<f64> {
        let found = self.ask(query).ok()?;
        found.first()?["value"][1].as_str()?.parse().ok()
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Both views once more, with a third beside them: what Prometheus has of it.
pub(crate) fn scrapes() -> Outcome {
    const TOKEN: &str = "correct horse battery";
    let secret = tempfile::NamedTempFile::new()?;
    fs::write(secret.path(), TOKEN)?;
    let file = secret.path().display().to_string();
    let address = format!("127.0.0.1:{}", free_port()?);
    let daemon = Daemon::with(&["--tcp", &address, "--token-file", &file])?;
    let prometheus = Prometheus::start(&address, &file)?;
    let echo = Echo::start()?;
    let victim = connecting(&echo)?;
    sees(&victim, "ok")?;
    let id = daemon.inject("connect:error=ECONNREFUSED:times=7", victim.pid(), "60s")?;
    let is = |query: &str, value: f64| {
        wait_until(PATIENCE, || prometheus.value(query) == Some(value))
            .with_context(|| format!("{query} is {:?}", prometheus.value(query)))
    };
    is(
        r#"murphy_injections_total{fault="connect",effect="error",job="murphy"}"#,
        7.0,
    )?;
    is(
        r#"ALERTS{alertname="FaultsInForce",alertstate="firing"}"#,
        1.0,
    )?;
    daemon.ask("DELETE", &format!("/v1/faults/{id}"), "")?;
    is(r#"murphy_reverts_total{reason="request"}"#, 1.0)?;
    is("murphy_active_faults", 0.0)?;
    wait_until(PATIENCE, || {
        prometheus
            .ask("ALERTS{alertname=\"FaultsInForce\"}")
            .is_ok_and(|found| found.is_empty())
    })
    .context("the alert goes on")?;
    let seen = victim::seen(&victim.stdout()?, "ECONNREFUSED");
    ensure!(seen == 7, "the victim saw {seen}");
    // What the dashboard asks is understood, and murphy's own part of it answered.
    for expression in expressions()? {
        let asked = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        prometheus.ask(&asked).context(expression)?;
    }
    let scraped: BTreeSet<String> = prometheus
        .ask(r#"count by (__name__) ({__name__=~"murphy_.*"})"#)?
        .iter()
        .filter_map(|series| series["metric"]["__name__"].as_str().map(str::to_owned))
        .collect();
    for text in [RULES, DASHBOARD] {
        for name in named(text) {
            // Series of a counter that counts by label appear with the first count.
            let later = name == "murphy_refusals_total";
            ensure!(
                later || scraped.contains(&name),
                "{name} is no metric: {scraped:?}"
            );
        }
    }
    drop(prometheus);
    daemon.end()
}

/// The rules fire when they are to, as promtool sees it.
pub(crate) fn rules() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("alerts.yml"), RULES)?;
    let test = folder.path().join("alerts.test.yml");
    fs::write(&test, RULES_TEST)?;
    let done = program("promtool")
        .args(["test", "rules"])
        .args([&test])
        .run()?;
    ensure!(
        done.code == Some(0) && done.stdout.contains("SUCCESS"),
        "{done}"
    );
    Ok(())
}

/// Every expression of the dashboard.
fn expressions() -> anyhow::Result<Vec<String>> {
    fn below(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| below(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| below(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    below(&serde_json::from_str(DASHBOARD)?, &mut found);
    ensure!(!found.is_empty(), "the dashboard asks nothing");
    Ok(found)
}

/// The metrics of murphy that a text names.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("murphy_"))
        .map(str::to_owned)
        .collect()
}
