//! A toxic as faults. What each toxic does: <https://github.com/Shopify/toxiproxy#toxics>, and its `toxics/` folder.

use serde_json::{Map, Value};

use super::{Conversion, Converted, Missing, Mistake, Upstream};

/// A toxic as it was said, wherever.
#[derive(Debug, Default)]
pub(super) struct Toxic {
    pub(super) name: String,
    /// Of Toxiproxy's types.
    pub(super) kind: String,
    /// From the client to the service; else the other way.
    pub(super) upstream: bool,
    /// Share of the connections that are hit.
    pub(super) toxicity: Option<f64>,
    pub(super) attributes: Map<String, Value>,
    pub(super) service: Option<Upstream>,
    pub(super) line: Option<usize>,
    /// What was said about it: the comment above a line.
    pub(super) comment: String,
}

/// All types that Toxiproxy has.
pub(super) const KINDS: &[&str] = &[
    "latency",
    "down",
    "bandwidth",
    "slow_close",
    "timeout",
    "reset_peer",
    "slicer",
    "limit_data",
    "noop",
];

/// What a type gives.
struct Said {
    what: String,
    faults: Vec<String>,
    differences: Vec<String>,
}

impl Toxic {
    /// Adds what it is in murphy's words.
    pub(super) fn convert(self, done: &mut Conversion) {
        let filter = self
            .service
            .as_ref()
            .map(Upstream::filter)
            .unwrap_or_default();
        let direction = if self.upstream { "egress" } else { "ingress" };
        let said = match self.kind.as_str() {
            "latency" => Ok(self.latency(direction, &filter)),
            "bandwidth" => Ok(self.bandwidth(direction, &filter)),
            "timeout" => Ok(self.timeout(direction, &filter)),
            "reset_peer" => Ok(self.reset(&filter, done)),
            "down" => Ok(down(&filter)),
            "slicer" => self.slicer(direction, &filter, done),
            "slow_close" => Err((
                "it keeps the proxy's connection open for a while after the service has closed its own; the kernel has no \
                 connection in the middle"
                    .to_owned(),
                "close:delay_enter=DURATION makes the program's own closing slow".to_owned(),
            )),
            "limit_data" => Err((
                "it closes after a number of bytes; faults count packets and calls, not bytes".to_owned(),
                format!("net:reset{filter}:when=N+ resets from the Nth packet on"),
            )),
            "noop" => Err(("it does nothing".to_owned(), "nothing".to_owned())),
            other => {
                done.mistakes.push(Mistake {
                    line: self.line,
                    said: format!("type {other}"),
                    wrong: "Toxiproxy has no such toxic".to_owned(),
                    right: format!("one of {}", KINDS.join(", ")),
                });
                return;
            }
        };
        match said {
            Ok(said) => {
                let mut differences = said.differences;
                differences.extend(self.share_of_connections(&said.faults));
                match &self.service {
                    None => differences.push(
                        "it does not say which service: every connection of the target is hit; name it with --upstream \
                         HOST:PORT"
                            .to_owned(),
                    ),
                    Some(service) => differences.extend(service.name_looked_up()),
                }
                done.faults.push(Converted {
                    name: self.name,
                    what: said.what,
                    line: self.line,
                    faults: said.faults,
                    differences,
                });
            }
            Err((why, nearest)) => done.without_equivalent.push(Missing {
                name: format!("{} ({})", self.name, self.kind),
                line: self.line,
                why,
                nearest,
            }),
        }
    }

    fn number(&self, key: &str) -> u64 {
        let value = self.attributes.get(key);
        let text = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        value
            .and_then(|value| value.as_u64().or_else(|| text(value)))
            .unwrap_or(0)
    }

    fn latency(&self, direction: &str, filter: &str) -> Said {
        let (delay, jitter) = (self.number("latency"), self.number("jitter"));
        let mut said = Said {
            what: format!("{} later", milliseconds(delay)),
            faults: vec![format!("{direction}:delay={}{filter}", milliseconds(delay))],
            differences: Vec::new(),
        };
        if jitter > 0 {
            let jitter = milliseconds(jitter);
            said.what = format!("{} ± {jitter} later", milliseconds(delay));
            said.faults = vec![format!(
                "{direction}:delay={}:jitter={jitter}{filter}",
                milliseconds(delay)
            )];
            said.differences.push(
                "Toxiproxy keeps the order of what it delays; packets with jitter may overtake each other, and TCP puts them in \
                 order again"
                    .to_owned(),
            );
        }
        said.differences.push(
            "the handshake is delayed too; Toxiproxy accepts connections at once and delays the data".to_owned(),
        );
        said
    }

    fn bandwidth(&self, direction: &str, filter: &str) -> Said {
        match self.number("rate") {
            0 => Said {
                what: "no bandwidth: everything stalls".to_owned(),
                faults: vec![format!("{direction}:loss=100%{filter}")],
                differences: vec!["a rate of 0 stalls for ever in Toxiproxy; here packets are lost".to_owned()],
            },
            // Its KB are 1000 bytes.
            rate => Said {
                what: format!("at most {rate} kB/s"),
                faults: vec![format!("{direction}:rate={}kbit{filter}", rate.saturating_mul(8))],
                differences: vec![
                    "Toxiproxy limits each connection for itself; the fault limits all that it hits together".to_owned(),
                ],
            },
        }
    }

    fn timeout(&self, direction: &str, filter: &str) -> Said {
        let after = self.number("timeout");
        let silent = format!("{direction}:loss=100%{filter}");
        let mut said = Said {
            what: "silence".to_owned(),
            faults: vec![silent.clone()],
            differences: vec![
                "the handshake is lost too: new connections time out instead of hanging once they stand".to_owned(),
            ],
        };
        if after > 0 {
            let after = milliseconds(after);
            said.what = format!("silence, then a reset after {after}");
            // The first fault that injects wins.
            said.faults = vec![format!("net:reset{filter}:after={after}"), silent];
            said.differences.push(format!(
                "{after} are counted from arming, not per connection"
            ));
        }
        said
    }

    fn reset(&self, filter: &str, done: &mut Conversion) -> Said {
        let after = self.number("timeout");
        let silence = ["partition", "outage", "unreachable"];
        let comment = self.comment.to_ascii_lowercase();
        if let Some(meant) = silence.iter().find(|word| comment.contains(*word)) {
            done.mistakes.push(Mistake {
                line: self.line,
                said: self.comment.clone(),
                wrong: format!("reset_peer is no {meant}: the peer is told at once, where one that is cut off hears nothing"),
                right: format!("net:loss=100%{filter}"),
            });
        }
        let mut said = Said {
            what: "connections are reset".to_owned(),
            faults: vec![format!("net:reset{filter}")],
            differences: Vec::new(),
        };
        if after > 0 {
            let after = milliseconds(after);
            said.what += &format!(" after {after}");
            said.faults = vec![format!("net:reset{filter}:after={after}")];
            said.differences.push(format!(
                "{after} are counted from arming, not from a connection's first data"
            ));
        }
        said
    }

    /// The seeds say slicer, with a toxicity, where they mean that packets are lost.
    fn slicer(
        &self,
        direction: &str,
        filter: &str,
        done: &mut Conversion,
    ) -> Result<Said, (String, String)> {
        let said_of_it = format!("{} {}", self.name, self.comment).to_ascii_lowercase();
        let sliced = self.number("average_size") > 0;
        if !sliced || said_of_it.contains("loss") {
            let share = percent(self.toxicity.unwrap_or(1.0));
            done.mistakes.push(Mistake {
                line: self.line,
                said: format!("slicer, toxicity {}", self.toxicity.unwrap_or(1.0)),
                wrong: format!(
                    "a slicer cuts data into pieces and loses nothing, and toxicity is a share of the connections{}",
                    if sliced { "" } else { "; without average_size it crashes the server" }
                ),
                right: format!("net:loss={share}{filter}, which loses {share} of the packets"),
            });
            return Ok(Said {
                what: format!("{share} of the packets are lost"),
                faults: vec![format!("net:loss={share}{filter}")],
                differences: Vec::new(),
            });
        }
        let delay = self.number("delay");
        Err((
            "it cuts data into small pieces; nothing here cuts packets".to_owned(),
            match delay {
                0 => "nothing; programs that must bear short reads are tested by a small receive buffer".to_owned(),
                delay => format!("{direction}:delay={delay}us{filter} for its delay"),
            },
        ))
    }

    /// Toxicity is drawn per connection; `p` is not.
    fn share_of_connections(&self, faults: &[String]) -> Option<String> {
        let share = self.toxicity.filter(|share| *share < 1.0)?;
        if self.kind == "slicer" {
            return None;
        }
        Some(format!(
            "toxicity {share} hits {} of the connections; {} hits that share of the packets",
            percent(share),
            faults
                .iter()
                .map(|fault| format!("{fault}:p={}", percent(share)))
                .collect::<Vec<_>>()
                .join(" and "),
        ))
    }
}

/// A proxy that is switched off.
fn down(filter: &str) -> Said {
    Said {
        what: "connections are refused, those that stand are reset".to_owned(),
        faults: vec![
            format!("connect:error=ECONNREFUSED{filter}"),
            format!("net:reset{filter}"),
        ],
        differences: Vec::new(),
    }
}

/// The faults that stand for a proxy which is not enabled.
pub(super) fn disabled(name: &str, service: &Upstream, line: Option<usize>) -> Converted {
    let said = down(&service.filter());
    Converted {
        name: format!("{name}_down"),
        what: said.what,
        line,
        faults: said.faults,
        differences: service.name_looked_up().into_iter().collect(),
    }
}

fn milliseconds(ms: u64) -> String {
    if ms > 0 && ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

/// A share as an expression has it, to a part per million.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", share.clamp(0.0, 1.0) * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
