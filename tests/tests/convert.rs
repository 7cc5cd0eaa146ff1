//! `murphy convert`: the command around what the unit tests of `convert` hold.

use std::fs;

use anyhow::{Context as _, ensure};
use tests::{Group, Outcome, case, murphy, needs};

pub(crate) fn group() -> Group {
    tests::group([
        case(
            "a script becomes faults, its mistakes are told",
            needs![],
            script,
        ),
        case(
            "presets become experiments, a file each",
            needs![],
            experiments,
        ),
        case("what is not known is refused", needs![], refusals),
    ])
    // Formats are no kernel's business.
    .host_only()
}

const SCRIPT: &str = "\
# 10% packet loss to PostgreSQL
toxiproxy-cli toxic add postgres --type=slicer --toxicName=pg_packet_loss --toxicity=0.1
# Connection refused
iptables -A OUTPUT -p tcp --dport 6379 -j DROP
toxiproxy-cli reset
";

fn script() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("chaos.sh");
    fs::write(&file, SCRIPT)?;
    let file = file.to_str().context("a strange folder")?;
    let done = murphy(["convert", file]).run()?;
    ensure!(done.code == Some(0), "{done}");
    for line in [
        "net:loss=10%:port=5432",
        "egress:loss=100%:port=6379:proto=tcp",
    ] {
        ensure!(done.stdout.lines().any(|l| l == line), "{line}: {done}");
    }
    for words in [
        "chaos.sh:2: slicer",
        "toxic add --type=slicer --toxicName=pg_packet_loss --toxicity=0.1 postgres",
        "connect:error=ECONNREFUSED:port=6379",
        "/reset",
    ] {
        ensure!(done.stderr.contains(words), "{words}: {done}");
    }
    // What is printed is taken by murphy itself.
    let lost = done
        .stdout
        .lines()
        .find(|l| l.starts_with("net:loss"))
        .context("no loss")?;
    let again = murphy(["doctor", "-e", lost, "--json"]).run()?;
    ensure!(again.code != Some(2), "{again}");
    Ok(())
}

fn experiments() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("presets.json");
    fs::write(
        &file,
        r#"{"loss": {"type": "slicer", "toxicity": 0.3}, "gone": {"type": "timeout", "attributes": {"timeout": 0}}}"#,
    )?;
    let file = file.to_str().context("a strange folder")?;
    let several = murphy(["convert", file, "--to", "experiment"]).run()?;
    ensure!(
        several.code == Some(2) && several.stderr.contains("-o FOLDER"),
        "{several}"
    );
    let to = folder.path().join("out");
    let done = murphy([
        "convert",
        file,
        "--to",
        "experiment",
        "--upstream",
        "127.0.0.1:6379",
        "-o",
    ])
    .args([&to])
    .run()?;
    ensure!(done.code == Some(0), "{done}");
    let text = fs::read_to_string(to.join("loss.json"))?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    let arguments = &value["method"][0]["provider"]["arguments"];
    ensure!(
        arguments[2] == "net:loss=30%:port=6379:dst=127.0.0.1",
        "{text}"
    );
    ensure!(to.join("gone.json").is_file(), "{done}");
    Ok(())
}

fn refusals() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).map(|()| file)
    };
    let prose = path("prose", "nothing here\n")?;
    let broken = path("broken.json", "{\n \"a\": ,\n}")?;
    for (file, words) in [
        (&prose, &["prose", "nothing in it is known", "help: "][..]),
        (&broken, &["broken.json", "line 2"]),
        (&folder.path().join("missing"), &["missing", "No such file"]),
    ] {
        let done = murphy(["convert"]).args([file]).run()?;
        ensure!(done.code == Some(2) && done.stdout.is_empty(), "{done}");
        for word in words {
            ensure!(done.stderr.contains(word), "{word}: {done}");
        }
    }
    let known = path("x.json", r#"{"type": "noop"}"#)?;
    let done = murphy(["convert", "--upstream", "db"])
        .args([&known])
        .run()?;
    ensure!(
        done.code == Some(2) && done.stderr.contains("HOST:PORT"),
        "{done}"
    );
    let done = murphy(["convert"]).args([&known]).run()?;
    ensure!(
        done.code == Some(1) && done.stderr.contains("noop"),
        "{done}"
    );
    Ok(())
}
