//! Chaos Toolkit, started once for all cases.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::chaos_toolkit;

static ORACLE: Mutex<Option<Oracle>> = Mutex::new(None);

struct Oracle {
    /// Ends when its input does, which is when this process does.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Result<Self> {
        let python = chaos_toolkit()
            .context("no Chaos Toolkit")?
            .join("bin/python");
        let mut child = Command::new(&python)
            .args(["-c", include_str!("../../experiments/oracle.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            _child: child,
            input,
            output,
        })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the oracle said {line:?}"))
    }
}

/// Runs `chaos ARGS…` in a folder; `begun` gets its process. Gives its exit status.
pub(crate) fn chaos(
    folder: &Path,
    args: &[String],
    env: &Value,
    begun: impl FnOnce(u32) -> Result<()>,
) -> Result<i64> {
    let mut oracle = ORACLE.lock().unwrap_or_else(PoisonError::into_inner);
    let oracle = match &mut *oracle {
        Some(oracle) => oracle,
        none => none.insert(Oracle::start()?),
    };
    let job = json!({"cwd": folder, "args": args, "env": env});
    writeln!(oracle.input, "{job}")?;
    let pid = oracle.answer()?["pid"].as_u64().context("no pid")?;
    let told = begun(u32::try_from(pid)?);
    let code = oracle.answer()?["code"].as_i64().context("no code")?;
    told.map(|()| code)
}
