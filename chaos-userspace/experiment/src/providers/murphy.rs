//! `murphy`: faults, injected by a murphy of their own that this experiment renews and ends.
//!
//! ```json
//! {"type": "murphy", "faults": ["connect:error=ECONNREFUSED:port=6379"], "target": {"unit": "shop"}, "for": "60s"}
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Map, Value, json};

use super::{Call, Failure, process};
use crate::journal::timestamp;
use crate::model::{Problem, join};
use crate::python_like;
use murphy_fault::{Fault, expr};
use murphy_state::{Live, client};

/// Faults end this long after an experiment that died.
const KEEPALIVE: &str = "10s";
/// How often they are renewed.
const RENEW: Duration = Duration::from_secs(2);
/// How long an injector may take to revert.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a fault lasts unless the file says otherwise.
const DEFAULT_FOR: &str = "5m";

/// Whom faults may hit: keys of `target` are the options of `murphy inject`.
const TARGETS: [&str; 10] = [
    "pid",
    "cgroup",
    "uid",
    "comm",
    "exe",
    "container",
    "unit",
    "netns",
    "tid",
    "all",
];

/// The injections of an experiment.
#[derive(Debug, Default)]
pub struct Faults {
    active: Mutex<Vec<Active>>,
    next: AtomicU32,
}

#[derive(Debug)]
struct Active {
    id: String,
    activity: String,
    from: SystemTime,
    /// Memory to which the injector writes its result if it ends by itself.
    result: File,
    /// Dropped when it is over.
    over: Option<Sender<()>>,
    renewal: Option<JoinHandle<()>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is injected.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Ends all of them; gives what came of each.
    pub fn end(&self, reason: &str) -> Vec<Value> {
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().map(|active| active.end(reason)).collect()
    }

    /// How many processes are hit now.
    pub fn processes(&self) -> u64 {
        self.live().iter().map(|live| live.processes as u64).sum()
    }

    /// The counters of what is active now, fault by fault.
    pub fn counters(&self) -> Vec<Value> {
        let live = self.live();
        live.iter()
            .filter_map(|live| serde_json::to_value(&live.report).ok())
            .collect()
    }

    fn live(&self) -> Vec<Live> {
        let ids: Vec<_> = self.lock().iter().map(|active| active.id.clone()).collect();
        ids.iter()
            .filter_map(|id| {
                let (dir, _) = client::find(id).ok()?;
                client::status(&dir, id).ok()
            })
            .collect()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.end("the experiment ended");
    }
}

impl Active {
    fn end(mut self, reason: &str) -> Value {
        self.over.take();
        if let Some(renewal) = self.renewal.take() {
            // A thread that panicked has said so.
            let _ = renewal.join();
        }
        let stopped = client::find(&self.id)
            .and_then(|(dir, record)| client::stop(&dir, &record, Some(reason), PATIENCE));
        let mut came = json!({
            "activity": self.activity, "id": self.id,
            "start": timestamp(self.from), "end": timestamp(SystemTime::now()),
        });
        match stopped {
            Ok(stopped) => {
                came["ended"] = stopped.ended.into();
                came["report"] = serde_json::to_value(stopped.report).unwrap_or_default();
            }
            Err(error) => came["ended"] = error.to_string().into(),
        }
        let mut text = String::new();
        if came["report"].is_null()
            && self.result.rewind().is_ok()
            && self.result.read_to_string(&mut text).is_ok()
            && let Ok(result) = serde_json::from_str::<Value>(&text)
        {
            // Its time was over, or its targets had ended.
            came["ended"] = result["ended"].clone();
            came["report"] = result;
        }
        came
    }
}

/// The arguments of `murphy inject` that say the same.
pub(crate) fn inject(provider: &Map<String, Value>) -> Vec<String> {
    let mut words = vec!["inject".to_owned()];
    let mut option =
        |name: &str, value: &Value| words.extend([format!("--{name}"), python_like::str(value)]);
    for fault in several(provider.get("faults")) {
        option("fault", fault);
    }
    for (name, value) in provider
        .get("target")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        match (name.as_str(), value) {
            ("all", Value::Bool(_)) => {}
            _ => several(Some(value)).for_each(|one| option(name, one)),
        }
    }
    if let Some(seed) = provider.get("seed") {
        option("seed", seed);
    }
    let limit = provider
        .get("for")
        .map_or_else(|| DEFAULT_FOR.to_owned(), time);
    option("for", &limit.into());
    if provider
        .get("target")
        .is_some_and(|target| target["all"] == true)
    {
        words.push("--all".to_owned());
    }
    if provider.get("observe") == Some(&Value::Bool(true)) {
        words.push("--observe".to_owned());
    }
    words
}

/// Seconds, or a duration with a unit.
fn time(said: &Value) -> String {
    match said {
        Value::Number(seconds) => format!("{seconds}s"),
        other => python_like::str(other),
    }
}

/// One value, or each of a list.
fn several(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(items)) => items.iter(),
        Some(one) => std::slice::from_ref(one).iter(),
        None => [].iter(),
    }
}

/// Injects: returns once everything is armed.
pub(super) fn run(call: &Call<'_>) -> Result<Value, Failure> {
    let provider = call.names.substitute(&Value::Object(call.provider.clone()));
    let none = Map::new();
    let provider = provider.as_object().unwrap_or(&none);
    let faults = &call.hosts.faults;
    let number = faults.next.fetch_add(1, Ordering::Relaxed);
    let id = format!("experiment-{}-{number}", std::process::id());
    // No file has a name that others could take before.
    let result = memfd_create("murphy-result", MemfdFlags::CLOEXEC)
        .map_err(|error| Failure::Broken(format!("making room for the result: {error}")))?;
    let murphy = std::env::current_exe()
        .map_err(|error| Failure::Broken(format!("finding murphy itself: {error}")))?;
    let mut command = Command::new(murphy);
    command
        .args(inject(provider))
        .args([
            "--detach",
            "--json",
            "--quiet",
            "--keepalive",
            KEEPALIVE,
            "--name",
            &id,
            "--reason",
        ])
        .arg(format!("experiment: {}", call.activity.name()))
        .arg("--output");
    inherit(&mut command, &result);
    let from = SystemTime::now();
    let (status, stdout, stderr) = process::output(command, None, call.stop)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        return Err(Failure::Failed(
            said.trim().trim_start_matches("murphy: ").to_owned(),
        ));
    }
    let armed = serde_json::from_slice::<Value>(&stdout).map_err(|error| {
        Failure::Failed(format!("murphy inject did not say what it armed: {error}"))
    })?;
    let (over, is_over) = channel::<()>();
    let renewed = id.clone();
    let renew = move || {
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(RENEW) {
            let renewed =
                client::find(&renewed).and_then(|(dir, record)| client::renew(&dir, &record.id));
            // It has ended by itself.
            if renewed.is_err() {
                return;
            }
        }
    };
    let renewal = std::thread::Builder::new()
        .name("renewal".to_owned())
        .spawn(renew);
    faults.lock().push(Active {
        id,
        activity: call.activity.name().to_owned(),
        from,
        result: result.into(),
        over: Some(over),
        renewal: renewal.ok(),
    });
    Ok(armed)
}

/// Hands an open file to a command, under the name that is its next argument.
fn inherit(command: &mut Command, file: &OwnedFd) {
    let number = file.as_raw_fd();
    command.arg(format!("/proc/self/fd/{number}"));
    let keep = move || {
        // SAFETY: between fork and exec the child has all descriptors of its parent, which holds this one until
        // the command was started.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(fcntl_setfd(file, FdFlags::empty())?)
    };
    // SAFETY: it makes one system call, which is safe after fork.
    unsafe { command.pre_exec(keep) };
}

/// Checks the provider's table: every fault, and that somebody is named.
pub(super) fn check(provider: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |key: &str, text: String| problems.push(Problem::new(join(field, key), text));
    if several(provider.get("faults")).next().is_none() {
        wrong(
            "faults",
            "expected a list of faults, for example \"connect:error=ECONNREFUSED:port=6379\""
                .to_owned(),
        );
    }
    let mut say_it_all = true;
    for (i, fault) in several(provider.get("faults")).enumerate() {
        let key = format!("faults[{i}]");
        match fault.as_str() {
            // It is known when its placeholders are filled in.
            Some(text) if text.contains('$') => {}
            Some(text) => match text.parse::<Fault>() {
                Ok(fault) => say_it_all &= !fault.target.hit.is_empty(),
                Err(error) => wrong(&key, error.to_string()),
            },
            None => wrong(&key, format!("expected a fault, not {fault}")),
        }
    }
    match provider.get("target") {
        Some(Value::Object(target)) if !target.is_empty() => {
            for key in target.keys().filter(|key| !TARGETS.contains(&key.as_str())) {
                wrong(
                    &format!("target.{key}"),
                    format!(
                        "nobody is found by `{key}`; expected {}",
                        TARGETS.join(", ")
                    ),
                );
            }
        }
        None if say_it_all => {}
        _ => wrong(
            "target",
            format!(
                "expected whom to hit: a table with {}; or say it in each fault",
                TARGETS.join(", ")
            ),
        ),
    }
    if let Some(said) = provider.get("observe")
        && !said.is_boolean()
    {
        wrong(
            "observe",
            format!("expected true, to count what callers saw, or false; not {said}"),
        );
    }
    if let Some(said) = provider.get("for") {
        let text = time(said);
        if !text.contains('$') && expr::duration(&text).is_err() {
            wrong(
                "for",
                format!("expected a duration such as 60s, not {said}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_named_by_the_target_or_by_each_fault() {
        let own = "write:error=EIO:comm=a";
        for (provider, wrong) in [
            (json!({"faults": own}), None),
            (json!({"faults": [own, "read:error=EIO"]}), Some("target")),
            (
                json!({"faults": [own, "read:error=EIO"], "target": {"pid": 1}}),
                None,
            ),
            (json!({"faults": [own], "target": {}}), Some("target")),
            (json!({"faults": "write:error=EIO:comm=!a"}), Some("target")),
            (
                json!({"faults": "write:error=EIO:comm="}),
                Some("faults[0]"),
            ),
        ] {
            let mut problems = Vec::new();
            check(provider.as_object().unwrap(), "", &mut problems);
            let fields: Vec<_> = problems
                .iter()
                .map(|problem| problem.field.as_str())
                .collect();
            assert_eq!(fields, Vec::from_iter(wrong), "{provider}");
        }
    }
}
