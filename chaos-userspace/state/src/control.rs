//! What is said at an injector's control socket: one JSON line there, one back.

use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::Record;
use crate::results::Report;

/// What an injector can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is there to be seen now?
    Status {},
    /// Revert everything. Answered when it is done.
    Stop {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The client, where root or the injection's user asks for another: the daemon does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Go on: whoever wants this injection is still there (`inject --keepalive`).
    Renew {},
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Live>),
    /// To [`Request::Stop`].
    Stopped(Box<Stopped>),
    /// To [`Request::Renew`]: until when, in seconds from now.
    Renewed(f64),
    /// To anything.
    Error(String),
}

/// An injection as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Its record.
    #[serde(flatten)]
    pub record: Record,
    /// What came of the faults so far.
    pub report: Report,
    /// Processes that are hit.
    pub processes: usize,
    /// Seconds until it ends by itself; absent where it has no limit, or is not armed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_s: Option<f64>,
    /// Seconds until it would end if murphy hung from now on.
    pub lease_left_s: f64,
    /// Seconds until it ends unless it is renewed; absent without `--keepalive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_left_s: Option<f64>,
}

/// How an injection was ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// Its id.
    pub id: String,
    /// Why it ended.
    pub ended: String,
    /// What came of the faults; unknown where the injector had to be killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// Who asks, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// User id.
    pub uid: u32,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// By whom.
    pub by: By,
    stream: UnixStream,
}

/// How long somebody who asks may take to read the answer.
const READING: Duration = Duration::from_secs(1);

impl Asked {
    pub(super) fn new(request: Request, by: By, stream: UnixStream) -> Self {
        Self {
            request,
            by,
            stream,
        }
    }

    /// Answers. That nobody reads it is the asker's affair.
    pub async fn answer(self, reply: &Reply) {
        let _ = say(self.stream, reply).await;
    }
}

/// Writes an answer and ends the conversation.
pub(super) async fn say(mut stream: UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    tokio::time::timeout(READING, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_protocol() {
        let request = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(request(r#"{"op":"status"}"#).unwrap(), Request::Status {});
        assert_eq!(
            request(r#"{"op":"stop","reason":"lunch"}"#).unwrap(),
            Request::Stop {
                reason: Some("lunch".to_owned()),
                by: None,
            }
        );
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"op":"fly"}"#,
            r#"{"op":"stop","why":1}"#,
        ] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            serde_json::to_string(&Reply::Error("no".to_owned())).unwrap(),
            r#"{"error":"no"}"#
        );
    }
}
