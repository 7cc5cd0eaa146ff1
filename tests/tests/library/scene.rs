//! An experiment played by `murphy experiment run`, and a look at the middle of it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Outcome, murphy, murphy_path, wait_until};

/// Kernel and emulator together are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files themselves are in the test, so that it runs where the tree is not.
macro_rules! experiment {
    ($path:literal) => {
        (
            $path,
            include_str!(concat!("../../../experiments/", $path, ".json")),
        )
    };
}
pub(crate) use experiment;

/// A folder for copies of programs, which are the targets: the originals are the neighbours.
pub(crate) struct Apps(TempDir);

impl Apps {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A copy of a program under a name that nobody else's has.
    pub(crate) fn copy(&self, original: impl AsRef<Path>) -> Result<PathBuf> {
        let original = original.as_ref();
        let name = original.file_name().context("no program")?;
        let copy = self
            .path()
            .join(format!("app-{}", name.display().to_string().to_lowercase()));
        let folders = ["", "/usr/bin", "/usr/local/bin", "/usr/sbin"];
        let original = folders
            .iter()
            .map(|folder| Path::new(folder).join(original))
            .find(|path| path.is_file())
            .with_context(|| format!("no {}", original.display()))?;
        fs::copy(original, &copy)?;
        Ok(copy)
    }
}

/// Plays a file against `target`: `works` before and after, `look` while the fault is active. Gives what the kernel
/// counted as injected.
///
/// The file is played as it is, with the variables that it documents. Only its sampling is shortened: the library's
/// default measures the normal state for three seconds and waits for three good answers.
pub(crate) fn play(
    (name, text): (&str, &str),
    target: &Path,
    variables: &[(&str, &str)],
    works: impl Fn() -> Outcome,
    look: impl FnOnce() -> Outcome,
) -> Result<u64> {
    works().with_context(|| format!("{name}: before"))?;
    let folder = tempfile::tempdir()?;
    let (file, journal) = (folder.path().join("file.json"), folder.path().join("said"));
    let mut experiment: Value = serde_json::from_str(text)?;
    experiment["extensions"][0]["sample"] =
        json!({"interval": "100ms", "baseline": "100ms", "steady": 1});
    fs::write(&file, experiment.to_string())?;
    let gate = Gate::new(folder.path())?;
    let app = app()?;
    let path = env::var("PATH").unwrap_or_default();
    let mut runner = murphy(["experiment", "run"])
        .args([&file])
        .args(["--journal-path"])
        .args([&journal])
        .env(
            "PATH",
            format!("{}:{path}:/usr/sbin:/sbin", folder.path().display()),
        )
        .env("MURPHY_RUN_DIR", folder.path().join("run"))
        .env("MURPHY_TARGET", format!("--exe={}", target.display()))
        .env("MURPHY_HOLD", "0")
        .env("APP_URL", &app);
    for (variable, value) in variables {
        runner = runner.env(variable, value);
    }
    runner.command().current_dir(folder.path());
    let mut runner = runner.spawn()?;
    let mut over = false;
    let active = wait_until(PATIENCE, || {
        over = !runner.is_running().unwrap_or(false);
        over || gate.reached.exists()
    });
    let looked = if active.is_ok() && !over {
        Some(look())
    } else {
        None
    };
    // Whatever came of it, it is ended.
    fs::write(&gate.looked, "")?;
    let ended = runner.finish(PATIENCE)?;
    looked
        .with_context(|| format!("{name} was not active: {ended}"))?
        .with_context(|| format!("{name}: under the fault"))?;
    let journal = fs::read_to_string(&journal).with_context(|| format!("no journal: {ended}"))?;
    let journal: Value = serde_json::from_str(&journal)?;
    ensure!(
        ended.code == Some(0)
            && journal["status"] == "completed"
            && journal["deviated"] == false
            && journal["steady_states"]["after"]["steady_state_met"] == true
            && journal["run"][1]["output"]["status"] == 0,
        "{name}: {ended}\n{journal:#}"
    );
    let stopped = &journal["rollbacks"][0]["output"];
    ensure!(stopped["status"] == 0, "{name}: {journal:#}");
    works().with_context(|| format!("{name}: after"))?;
    let injected = counted(stopped["stdout"].as_str().unwrap_or_default());
    ensure!(injected > 0, "{name}: nothing was counted: {stopped:#}");
    Ok(injected)
}

/// What `stop --json` says was injected, of all faults.
fn counted(text: &str) -> u64 {
    fn sum(value: &Value) -> u64 {
        match value {
            Value::Object(map) => match map.get("injected").and_then(Value::as_u64) {
                Some(injected) => injected,
                None => map.values().map(sum).sum(),
            },
            Value::Array(items) => items.iter().map(sum).sum(),
            _ => 0,
        }
    }
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|value: Value| sum(&value))
        .sum()
}

/// The runner is held where the file asks whether the fault is active, until the test has looked: so no experiment has
/// to be given a time that suits all machines. That question comes when `inject --detach` has returned, armed.
struct Gate {
    reached: PathBuf,
    looked: PathBuf,
}

impl Gate {
    /// Puts a `murphy` into the folder that is the real one, but for its patience.
    fn new(folder: &Path) -> Result<Self> {
        let (reached, looked) = (folder.join("reached"), folder.join("looked"));
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = status ]; then\n: >'{}'\nuntil [ -e '{}' ]; do sleep 0.05; done\nfi\nexec '{}' \"$@\"\n",
            reached.display(),
            looked.display(),
            fs::canonicalize(murphy_path())?.display()
        );
        let path = folder.join("murphy");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { reached, looked })
    }
}

/// The application that the experiments ask for its health: its address. It is well; what becomes of the clients is
/// the business of whoever looks.
fn app() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/health", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream);
        }
    });
    Ok(url)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
