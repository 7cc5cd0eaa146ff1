//! `python`: a function of a module, called by a Python process that lives as long as the experiment.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Call, Failure};
use crate::model::{Experiment, Problem, join};
use crate::python_like;
use crate::stop::{Reason, Stop};
use murphy_sys::process::kill_child;

const SHIM: &str = include_str!("shim.py");
/// How often a call under way looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Callers that wait, by the ids of their requests; `None` once Python is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Value>>>>>;

/// Python, started with the first call.
#[derive(Debug, Default)]
pub struct Host(Mutex<Option<Shim>>);

#[derive(Debug)]
struct Shim {
    child: Child,
    input: ChildStdin,
    waiting: Waiting,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shim {
    fn start() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("python3 cannot be started: {error}");
        let mut child = Command::new("python3")
            .args(["-c", SHIM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("python3 has no standard streams".to_owned());
        };
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        let told = Arc::clone(&waiting);
        let listen = move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let id = answer["id"].as_u64().unwrap_or(u64::MAX);
                let waits = lock(&told).as_mut().and_then(|all| all.remove(&id));
                if let Some(waits) = waits {
                    // Whoever was stopped does not wait any more.
                    let _ = waits.send(answer);
                }
            }
            // Those who wait hear of it by the end of their channels.
            lock(&told).take();
        };
        std::thread::Builder::new()
            .name("python".to_owned())
            .spawn(listen)
            .map_err(failed)?;
        Ok(Self {
            child,
            input,
            waiting,
            next: 0,
        })
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // It may have ended by itself.
        kill_child(&mut self.child);
        let _ = self.child.wait();
    }
}

impl Host {
    /// Asks Python, and waits.
    fn ask(&self, mut request: Value, stop: &Stop) -> Result<Value, Failure> {
        let (give, take) = channel();
        {
            let mut shim = lock(&self.0);
            let shim = match &mut *shim {
                Some(shim) => shim,
                none => none.insert(Shim::start().map_err(Failure::Failed)?),
            };
            request["id"] = shim.next.into();
            if let Some(waiting) = lock(&shim.waiting).as_mut() {
                waiting.insert(shim.next, give);
            }
            shim.next += 1;
            writeln!(shim.input, "{request}")
                .map_err(|error| Failure::Failed(format!("python3 has ended: {error}")))?;
        }
        loop {
            match take.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Failed("python3 has ended".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(reason) = stop.reason() {
                        return Err(Failure::Stopped(reason));
                    }
                }
            }
        }
    }

    /// Calls a function of a control's module, if it is there. What a function of that name may ask for is in
    /// `offers`.
    ///
    /// # Errors
    ///
    /// It interrupts the experiment, or it failed.
    pub(crate) fn control(
        &self,
        provider: &Value,
        function: &str,
        arguments: &Value,
        offers: &Value,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let answer = self.ask(
            json!({
                "op": "control", "module": provider["module"], "func": function,
                "arguments": arguments, "offers": offers,
            }),
            stop,
        )?;
        if let Some(text) = answer["interrupt"].as_str() {
            return Err(Failure::Stopped(Reason::Control(text.to_owned())));
        }
        match answer["failed"].as_str().or(answer["broken"].as_str()) {
            Some(text) => Err(Failure::Failed(text.to_owned())),
            None => Ok(()),
        }
    }

    /// What is wrong with an activity of this kind: its module, function or arguments.
    pub(crate) fn check(
        &self,
        provider: &Map<String, Value>,
        field: &str,
        stop: &Stop,
    ) -> Option<Problem> {
        let text = |key: &str| provider.get(key).and_then(Value::as_str);
        let (module, function) = (text("module")?, text("func")?);
        let none = json!({});
        let arguments = provider.get("arguments").unwrap_or(&none);
        let request =
            json!({"op": "check", "module": module, "func": function, "arguments": arguments});
        let wrong = |key: &str, text: &str| Some(Problem::new(join(field, key), text));
        match self.ask(request, stop) {
            Ok(answer) => match (&answer["problem"], answer["broken"].as_str()) {
                (Value::Array(said), _) => match said.as_slice() {
                    [Value::String(key), Value::String(text)] => wrong(key, text),
                    _ => None,
                },
                (_, Some(text)) => wrong("module", text),
                _ => None,
            },
            Err(failure) => wrong("type", &failure.to_string()),
        }
    }
}

/// Calls the function.
pub(super) fn run(call: &Call<'_>) -> Result<Value, Failure> {
    let configuration = &call.names.configuration;
    let arguments = call.arguments().unwrap_or_else(|| json!({}));
    let secrets = call.provider.get("secrets").map(|groups| {
        let mut secrets = Map::new();
        for group in groups.as_array().into_iter().flatten() {
            let group = group.as_str().and_then(|name| call.names.secrets.get(name));
            secrets.extend(
                group
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        secrets
    });
    let request = json!({
        "op": "run", "module": call.provider.get("module"), "func": call.provider.get("func"),
        "arguments": arguments, "secrets": secrets, "configuration": configuration,
    });
    let answer = call.hosts.python.ask(request, call.stop)?;
    if let Some(text) = answer["failed"].as_str() {
        return Err(Failure::Failed(text.to_owned()));
    }
    match answer["broken"].as_str() {
        Some(text) => Err(Failure::Broken(text.to_owned())),
        None => Ok(answer["result"].clone()),
    }
}

/// Checks the provider's table; the module itself is looked at by [`Host::check`].
pub(super) fn check(provider: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    for (key, what) in [
        ("module", "the name of a module"),
        ("func", "the name of a function"),
    ] {
        if !provider.get(key).is_some_and(python_like::truthy) {
            problems.push(Problem::new(
                join(field, key),
                format!("a Python activity has {what}"),
            ));
        }
    }
}

/// Looks at the modules of all activities of an experiment that are in Python: they can be imported, have the
/// function, and it takes the arguments.
pub(crate) fn modules(experiment: &Experiment, problems: &mut Vec<Problem>) {
    let host = Host::default();
    let Ok(stop) = Stop::new() else { return };
    for (field, list) in [
        ("steady-state-hypothesis.probes", experiment.probes()),
        ("method", experiment.method()),
        ("rollbacks", experiment.rollbacks()),
    ] {
        for (i, activity) in list.iter().enumerate() {
            let field = format!("{field}[{i}]");
            let judge = activity
                .tolerance()
                .filter(|judge| judge["type"] == "probe")
                .and_then(|judge| judge["provider"].as_object());
            for (below, provider) in [
                ("provider", activity.provider()),
                ("tolerance.provider", judge),
            ] {
                if let Some(provider) = provider
                    && provider.get("type").is_some_and(|kind| kind == "python")
                {
                    problems.extend(host.check(provider, &join(&field, below), &stop));
                }
            }
        }
    }
}
