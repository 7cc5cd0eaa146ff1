//! What others ask of a running injector, at its control socket.

use std::io;
use std::time::Duration;

use super::failure::Failure;
use super::lease::Keepalive;
use murphy_engine::{EngineError, Report, Session};
use murphy_state::{Asked, Reply, Request, Server, Stopped, halt};
use murphy_sys::printable;

/// The injector's side of its control socket, and what else may end an injection from outside.
pub(super) struct Control {
    id: String,
    server: Option<Server>,
    limit: Option<Duration>,
    keepalive: Keepalive,
}

/// An injection is to end, and somebody may wait for it.
pub(super) struct Stop {
    /// Why it ends.
    pub(super) ended: String,
    asked: Option<Asked>,
}

impl Stop {
    /// Nobody waits for it.
    pub(super) fn because(ended: impl Into<String>) -> Self {
        Self {
            ended: ended.into(),
            asked: None,
        }
    }

    /// Tells whoever asked that everything is reverted.
    pub(super) async fn done(self, id: &str, report: Result<&Report, &EngineError>) {
        let Some(asked) = self.asked else { return };
        let reply = match report {
            Ok(report) => Reply::Stopped(Box::new(Stopped {
                id: id.to_owned(),
                ended: self.ended,
                report: Some(report.clone()),
            })),
            Err(error) => Reply::Error(error.to_string()),
        };
        asked.answer(&reply).await;
    }
}

impl Control {
    /// Listens, inside a tokio runtime.
    pub(super) fn start(
        session: &mut Session,
        limit: Option<Duration>,
        keepalive: Option<Duration>,
    ) -> Result<Self, Failure> {
        let mut control = Self {
            id: String::new(),
            server: None,
            limit,
            keepalive: Keepalive::new(keepalive),
        };
        if let Some(entry) = session.entry() {
            let record = entry.record();
            control.id.clone_from(&record.id);
            let users = [Some(record.uid), record.sudo_uid]
                .into_iter()
                .flatten()
                .collect();
            let server = entry
                .take_listener()
                .map(|listener| Server::start(listener, users));
            control.server = server
                .transpose()
                .map_err(Failure::io("listening at the control socket"))?;
        }
        Ok(control)
    }

    /// The injection's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Waits for a request; `None` when nobody has renewed the injection in time.
    pub(super) async fn next(&mut self) -> Option<Asked> {
        let requests = async {
            match &mut self.server {
                Some(server) => server.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = requests => Some(asked),
            () = self.keepalive.lapsed() => None,
        }
    }

    /// Answers a request, unless it is that to end.
    pub(super) async fn answer(
        &mut self,
        asked: Option<Asked>,
        session: &mut Session,
    ) -> Option<Stop> {
        let Some(asked) = asked else {
            return Some(Stop::because("nobody renewed it in time"));
        };
        let reply = match &asked.request {
            Request::Status {} => match session.live(self.limit) {
                Ok(mut live) => {
                    live.keepalive_left_s = self.keepalive.left().map(|left| left.as_secs_f64());
                    Reply::Status(Box::new(live))
                }
                Err(error) => Reply::Error(error.to_string()),
            },
            Request::Renew {} => match self.keepalive.renew() {
                Some(length) => Reply::Renewed(length.as_secs_f64()),
                None => Reply::Error("it was started without --keepalive".to_owned()),
            },
            Request::Stop { reason, by } => {
                let mut ended = match by {
                    Some(by) => format!("stopped by {by}"),
                    None => format!("stopped by user {}", asked.by.uid),
                };
                if let Some(reason) = reason {
                    ended = format!("{ended}: {reason}");
                }
                return Some(Stop {
                    ended,
                    asked: Some(asked),
                });
            }
        };
        // Who reads its answer slowly delays no renewal of the lease.
        tokio::spawn(async move { asked.answer(&reply).await });
        None
    }

    /// Whether somebody has called `murphy panic`: looked for whenever the lease is renewed.
    pub(super) fn halted(session: &mut Session) -> Option<Stop> {
        let halt = halt::now(session.entry().map(|entry| entry.dir()))?;
        Some(Stop::because(format!("stopped: {halt}")))
    }
}

/// Writes something on standard output; a reader that went away is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write_line(&printable::lines(text))
}

fn write_line(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("writing the result")(error))
        }
        _ => Ok(()),
    }
}

/// As one line of JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::io("writing JSON")(error.into()))?;
    write_line(&printable::json(&text))
}
