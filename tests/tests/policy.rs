//! What may be injected here, shown beforehand, and noted: policies, `--dry-run`, the audit log.

#[rustfmt::skip]
#[expect(clippy::unwrap_used, reason = "what it reads is written by this test")]
mod evaluator;
mod random;
mod roads;
#[expect(clippy::expect_used, reason = "what it reads is written by this test")]
mod triple;

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    Finished, Group, Outcome, case, leftovers::Snapshot, murphy, murphy_path, needs, program,
};

const REFUSED: &str = "connect:error=ECONNREFUSED";

/// Not allowed here.
const NOT_ALLOWED: i32 = 77;

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "murphy decides as the page says, a thousand times",
            needs![],
            random::agrees,
        ),
        case(
            "what is allowed is done, and nothing beyond it",
            needs![Root, Cgroup2, Atomics],
            random::injects,
        ),
        case(
            "files and programs are known under any name",
            needs![Root, Cgroup2, Tool("unshare")],
            roads::names,
        ),
        case(
            "a fault that leaves open what it reaches is refused",
            needs![Root, Cgroup2],
            roads::reach,
        ),
        case(
            "a label that cannot be read is a refusal",
            needs![Root, Cgroup2, Tool("unshare")],
            roads::labels,
        ),
        case(
            "a flag's policy cannot widen the machine's",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            roads::flags,
        ),
        case(
            "every rule refuses by its line",
            needs![Root, Cgroup2],
            rules,
        ),
        case(
            "what is allowed is done",
            needs![Root, Cgroup2, Atomics],
            allowed,
        ),
        case(
            "a policy that means nothing is refused",
            needs![Root],
            mistakes,
        ),
        case(
            "the machine's policy is root's, and holds beside others",
            needs![Root, Cgroup2, Atomics, Tool("unshare")],
            machine,
        ),
        case(
            "nothing where it says production",
            needs![Root, Cgroup2],
            production,
        ),
        case(
            "--dry-run shows everything and does nothing",
            needs![Root, Cgroup2],
            dry_run,
        ),
        case("the audit log", needs![Root, Cgroup2, Atomics], audit),
        case(
            "an audit log that cannot be written",
            needs![Root, Cgroup2],
            no_audit,
        ),
    ])
    // Rules are no kernel's business.
    .host_only()
    .role("policy-victim", random::victim)
}

/// A rule; what is asked against it; and what of its line and of the request is said.
const RULES: [(&str, &[&str], &[&str]); 14] = [
    (
        "[limits]\nmax_duration = \"1m\"",
        &["--for", "2m"],
        &[":2: max_duration = \"1m\"", "120s", "--for 60s"],
    ),
    (
        "[limits]\nmax_faults = 1",
        &["-e", REFUSED],
        &[":2: max_faults", "2 faults"],
    ),
    (
        "[limits]\nmax_processes = 0",
        &[],
        &[":2: max_processes", "1 processes"],
    ),
    (
        "[limits]\nmax_share = \"0.01%\"",
        &[],
        &[":2: max_share", "1 of"],
    ),
    (
        "[limits]\nrequire_reason = true",
        &[],
        &[":2: require_reason", "--reason"],
    ),
    (
        "[targets]\nallow = [\"comm:redis*\"]",
        &[],
        &[":2: allow", "sleep", "comm:redis*"],
    ),
    (
        "[targets]\nallow = [\"comm:sleep\"]",
        &["--uid", "4242"],
        &[":2: allow", "user 4242"],
    ),
    (
        "[targets]\nforbid = [\n \"comm:x\",\n \"comm:sle*\"]",
        &[],
        &[":4: \"comm:sle*\"", "sleep"],
    ),
    (
        "[faults]\nallow = [\"egress:loss\", \"open*\"]",
        &[],
        &[":2: allow", REFUSED],
    ),
    (
        "[faults]\nforbid = [\"connect:error\"]",
        &[],
        &[":2: forbid", REFUSED],
    ),
    (
        "[network]\nforbid_ports = [22]",
        &[],
        &[":2: forbid_ports", "port 22", "port="],
    ),
    (
        "[network]\nallow_ports = [\"6000-6999\"]",
        &[],
        &[":2: allow_ports", "port 0"],
    ),
    (
        "[network]\nforbid_interfaces = [\"l*\"]",
        &["-e", "egress:loss=1%"],
        &[":2: forbid_interfaces", "lo"],
    ),
    (
        "[environment]\nrequire = [\"staging\"]",
        &[],
        &[":2: require", "staging"],
    ),
];

/// `murphy inject` against a process of ours, under a policy.
fn inject(policy: &Path, pid: u32, args: &[&str]) -> anyhow::Result<Finished> {
    murphy(["inject", "-e", REFUSED, "--pid", &pid.to_string()])
        .args(["--policy".as_ref(), policy.as_os_str()])
        .args(args)
        .env("MURPHY_ENVIRONMENT", "")
        .run()
}

fn rules() -> Outcome {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let sleep = program("sleep").args(["600"]).spawn()?;
    for (rule, args, words) in RULES {
        fs::write(&policy, rule)?;
        let done = inject(&policy, sleep.pid(), args)?;
        ensure!(done.code == Some(NOT_ALLOWED), "{rule}: {done}");
        for word in words.iter().chain(&["policy.toml", "help: "]) {
            ensure!(done.stderr.contains(word), "{rule}: no `{word}` in {done}");
        }
        ensure!(!done.stderr.contains("armed"), "{rule}: {done}");
    }
    // Of run, too; and murphy's own rule needs no file.
    fs::write(
        &policy,
        "[targets]\nforbid = [\"exe:/*/true\", \"exe:/*/*/true\"]",
    )?;
    let run = murphy(["run", "-e", REFUSED, "--policy"])
        .args([&policy])
        .args(["--", "true"])
        .run()?;
    ensure!(
        run.code == Some(125) && run.stderr.contains("true would be hit"),
        "{run}"
    );
    let boot = murphy(["inject", "--all", "-e", "openat:error=EIO:path=/boot/**"]).run()?;
    ensure!(
        boot.code != Some(0) && !boot.stderr.contains("armed"),
        "{boot}"
    );
    Ok(())
}

fn allowed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    fs::write(
        &policy,
        "[limits]\nmax_duration = \"1m\"\nmax_faults = 2\nmax_processes = 3\nmax_share = \"99%\"\nrequire_reason = true\n\
         [targets]\nallow = [\"comm:sleep\"]\nforbid = [\"uid:1\"]\n\
         [faults]\nallow = [\"connect\"]\n[network]\nforbid_ports = [22]\n\
         [environment]\nrequire = [\"test\"]\n",
    )?;
    let sleep = program("sleep").args(["600"]).spawn()?;
    let done = murphy([
        "inject",
        "-e",
        "connect:error=EPERM:port=80",
        "--for",
        "300ms",
        "--policy",
    ])
    .args([&policy])
    .args(["--reason", "a test", "--pid", &sleep.pid().to_string()])
    .env("MURPHY_ENVIRONMENT", "test")
    .run()?;
    ensure!(
        done.code == Some(0) && done.stderr.contains("armed"),
        "{done}"
    );
    Ok(())
}

fn mistakes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    for (text, words) in [
        (
            "[limits]\nmax_duratoin = \"1m\"",
            &["line 2", "max_duratoin", "did you mean `max_duration`"][..],
        ),
        ("[limit]\n", &["line 1", "did you mean `limits`"]),
        ("[limits]\nmax_duration = \"soon\"", &["line 2", "soon"]),
        (
            "[targets]\nallow = [\"redis\"]",
            &["line 2", "KIND:PATTERN"],
        ),
        ("what", &["line 1"]),
        (
            "[faults]\nforbid = [\"conect\"]",
            &["line 2", "conect", "did you mean `connect`"],
        ),
        (
            "[faults]\nforbid = [\"connect:eror\"]",
            &["line 2", "eror", "error"],
        ),
        ("[faults]\nallow = [\"Connect\"]", &["line 2", "Connect"]),
        (
            "[faults]\nallow = [\n\"write\",\n\"%nothing\"]",
            &["line 4", "%network"],
        ),
        ("[faults]\nallow = [\"zz*\"]", &["line 2", "zz*"]),
        ("[faults]\nforbid = [\"a[\"]", &["line 2", "a["]),
        (
            "[targets]\nforbid = [\"uid:nobody-at-all\"]",
            &["line 2", "nobody-at-all", "getent passwd"],
        ),
        (
            "[targets]\nforbid = [\"exe:postgres\"]",
            &["line 2", "absolute"],
        ),
        (
            "[targets]\nforbid = [\"Comm:x\"]",
            &["line 2", "did you mean `comm`"],
        ),
        ("[paths]\nrestricted = [\"etc\"]", &["line 2", "absolute"]),
        (
            "[paths]\nrestricted = [\"/etc/*\"]",
            &["line 2", "wildcards"],
        ),
        ("[network]\nforbid_ports = [0]", &["line 2", "port"]),
        ("[network]\nforbid_ports = [\"ssh\"]", &["line 2", "ssh"]),
        (
            "[network]\nforbid_interfaces = [\"l[o\"]",
            &["line 2", "l[o"],
        ),
        (
            "[environment]\nrequire = [\"a b\"]",
            &["line 2", "one word"],
        ),
        ("[environment]\nhosts = [\"[\"]", &["line 2"]),
        ("[audit]\nto = \"log\"", &["line 2", "journald"]),
    ] {
        fs::write(&policy, text)?;
        let done = inject(&policy, 1, &[])?;
        ensure!(done.code == Some(2), "{text}: {done}");
        for word in words.iter().chain(&["help: "]) {
            ensure!(done.stderr.contains(word), "{text}: no `{word}` in {done}");
        }
    }
    // What an expression understands has its effect.
    for (rule, fault) in [
        ("net", "ingress:loss=1ppm"),
        ("%network", REFUSED),
        ("connect,bind", REFUSED),
        ("/^conn", REFUSED),
        ("con*:err*", REFUSED),
    ] {
        fs::write(&policy, format!("[faults]\nforbid = [\"{rule}\"]"))?;
        let done = murphy(["run", "-e", fault, "--policy"])
            .args([&policy])
            .args(["--", "true"])
            .run()?;
        ensure!(
            done.code == Some(125) && done.stderr.contains(":2: forbid"),
            "{rule}: {done}"
        );
    }
    let missing = inject(&folder.path().join("none"), 1, &[])?;
    ensure!(
        missing.code == Some(1) && missing.stderr.contains("none"),
        "{missing}"
    );
    Ok(())
}

/// A program in a mount namespace with an /etc of its own, in `folder`: with a policy, and after commands of a shell.
fn with_etc(folder: &Path, policy: &str, commands: &str) -> tests::Program {
    let script = format!(
        "set -e; cp -a /etc/. \"$0\"; mkdir -p \"$0/murphy\"; printf '%s\\n' \"$1\" > \"$0/murphy/policy.toml\"; \
         chmod 644 \"$0/murphy/policy.toml\"; mount --bind \"$0\" /etc; cd /etc/murphy; {commands}\n\
         cd /; shift 1; exec \"$@\""
    );
    program("unshare")
        .args(["-m", "sh", "-c", &script])
        .args([folder.as_os_str(), policy.as_ref()])
}

fn machine() -> Outcome {
    let folder = tempfile::tempdir()?;
    let with = |mode: &str, text: &str, rest: &[&str]| {
        with_etc(folder.path(), text, &format!("chmod {mode} policy.toml"))
            .args([murphy_path()])
            .args(["run", "-q", "-e", REFUSED])
            .args(rest)
            .args(["--", "true"])
            .run()
    };
    let strict = "[limits]\nmax_duration = \"1s\"";
    let refused = with("644", strict, &[])?;
    ensure!(refused.code == Some(125), "{refused}");
    for word in ["/etc/murphy/policy.toml:2: max_duration", "without an end"] {
        ensure!(refused.stderr.contains(word), "no `{word}` in {refused}");
    }
    let fine = with("644", strict, &["--for", "1s"])?;
    ensure!(fine.code == Some(0), "{fine}");
    // Another file narrows it, and cannot widen it.
    let other = folder.path().join("other.toml");
    let other = other.to_str().context("a strange folder")?;
    fs::write(other, "[limits]\nmax_duration = \"1h\"")?;
    let wider = with("644", strict, &["--for", "2s", "--policy", other])?;
    ensure!(
        wider.code == Some(125) && wider.stderr.contains("/etc/murphy"),
        "{wider}"
    );
    fs::write(other, "[limits]\nmax_duration = \"100ms\"")?;
    let narrower = with("644", strict, &["--for", "1s", "--policy", other])?;
    ensure!(
        narrower.code == Some(125) && narrower.stderr.contains("other.toml:2"),
        "{narrower}"
    );
    let open = with("666", strict, &["--for", "1s"])?;
    ensure!(open.code == Some(125), "{open}");
    for word in ["not to be trusted", "666", "chmod"] {
        ensure!(open.stderr.contains(word), "no `{word}` in {open}");
    }
    Ok(())
}

fn production() -> Outcome {
    for label in ["production", "PROD"] {
        let done = murphy(["run", "-e", REFUSED, "--", "echo", "ran"])
            .env("MURPHY_ENVIRONMENT", label)
            .run()?;
        ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
        ensure!(
            done.stderr.contains("production") && done.stderr.contains(label),
            "{done}"
        );
    }
    Ok(())
}

fn dry_run() -> Outcome {
    let before = Snapshot::take();
    let sleep = program("sleep").args(["600"]).spawn()?;
    let pid = sleep.pid().to_string();
    let shown = murphy(["inject", "-e", REFUSED, "--pid", &pid, "--dry-run"]).run()?;
    ensure!(shown.code == Some(0), "{shown}");
    for word in [
        REFUSED,
        "murphy_connect4",
        "cgroup/connect4",
        "sleep",
        &pid,
        "1 of",
        "nothing was attached",
    ] {
        ensure!(shown.stdout.contains(word), "no `{word}` in {shown}");
    }
    let shown = murphy([
        "inject",
        "-e",
        REFUSED,
        "--pid",
        &pid,
        "--dry-run",
        "--json",
    ])
    .run()?;
    let plan: Value = serde_json::from_str(&shown.stdout).with_context(|| shown.to_string())?;
    ensure!(
        plan["blast_radius"]["processes"] == 1 && plan["processes"][0]["comm"] == "sleep",
        "{plan}"
    );
    ensure!(
        plan["refusals"].as_array().is_some_and(Vec::is_empty),
        "{plan}"
    );
    let shown = murphy([
        "run",
        "-e",
        REFUSED,
        "--dry-run",
        "--",
        "touch",
        "/nowhere/at/all",
    ])
    .run()?;
    ensure!(
        shown.code == Some(0) && shown.stdout.contains("touch"),
        "{shown}"
    );
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "[limits]\nmax_processes = 0")?;
    let refused = inject(&policy, sleep.pid(), &["--dry-run"])?;
    ensure!(
        refused.code == Some(NOT_ALLOWED) && refused.stdout.contains("refused on 1"),
        "{refused}"
    );
    drop(sleep);
    let left = before.settle();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn audit() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (log, policy) = (
        folder.path().join("audit.jsonl"),
        folder.path().join("policy.toml"),
    );
    fs::write(
        &policy,
        format!(
            "[limits]\nmax_faults = 1\n[audit]\nto = \"{}\"\n",
            log.display()
        ),
    )?;
    let run = |faults: &[&str]| {
        murphy(["run", "-q", "--name", "a", "--reason", "lunch", "--policy"])
            .args([&policy])
            .args(faults)
            .args(["--", "false"])
            .env("SUDO_UID", "1234")
            .run()
    };
    run(&["-e", REFUSED])?;
    run(&["-e", REFUSED, "-e", REFUSED])?;
    let text = fs::read_to_string(&log)?;
    let lines: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let operations: Vec<_> = lines
        .iter()
        .map(|line| line["operation"].as_str())
        .collect();
    ensure!(
        operations
            == [
                Some("chaos_experiment_started"),
                Some("chaos_experiment_completed"),
                Some("chaos_safety_refused")
            ],
        "{text}"
    );
    for line in &lines {
        ensure!(
            line["component"] == "murphy" && line["reason"] == "lunch",
            "{line}"
        );
        ensure!(line["uid"] == 0 && line["timestamp"].is_string(), "{line}");
    }
    ensure!(
        lines[0]["sudo_uid"] == 1234 && lines[0]["chaos_experiment"] == "a",
        "{text}"
    );
    ensure!(lines[1]["ended"] == "the command ended", "{text}");
    ensure!(
        lines[1]["report"]["faults"][0]["fault"] == REFUSED,
        "{text}"
    );
    ensure!(
        lines[2]["refusals"][0]["asked"] == "2 faults are asked",
        "{text}"
    );
    Ok(())
}

fn no_audit() -> Outcome {
    let done = murphy([
        "run",
        "-e",
        REFUSED,
        "--audit",
        "/nowhere/at/all",
        "--",
        "echo",
        "ran",
    ])
    .run()?;
    ensure!(done.code == Some(125) && done.stdout.is_empty(), "{done}");
    ensure!(
        done.stderr.contains("/nowhere/at/all") && done.stderr.contains("help: "),
        "{done}"
    );
    Ok(())
}
