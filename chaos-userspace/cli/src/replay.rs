//! `murphy replay`: the decisions of an events file again, or its faults on a command.

use std::io::{self, Write as _};

use super::args::{FaultArgs, Orphans, ReplayArgs, RunArgs};
use super::failure::Failure;
use super::{run, status};
use murphy_engine::replay::{header, replay as repeat};

/// How many differences are shown.
const SHOWN: usize = 10;

/// Repeats; gives the status to exit with.
pub(super) fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(&args.events).map_err(|source| Failure::Input {
        path: args.events.clone(),
        source,
    })?;
    let wrong = |source| Failure::Replay {
        path: args.events.clone(),
        source,
    };
    if !args.command.is_empty() {
        let header = header(&text).map_err(wrong)?;
        return run::run(&RunArgs {
            common: FaultArgs {
                faults: header.faults.into_iter().map(|said| said.fault).collect(),
                seed: Some(header.seed),
                lease: murphy_engine::Settings::default().lease,
                name: None,
                reason: None,
                asked_by: None,
                dry_run: false,
                policy: Vec::new(),
                audit: Vec::new(),
                json: false,
                output: None,
                trace: None,
                events: None,
                observe: false,
                quiet: false,
                verbose: 0,
            },
            limit: header.limit_ns.map(std::time::Duration::from_nanos),
            user: None,
            allow_new_privileges: false,
            skip_loader: false,
            backend: super::args::BackendArg::Auto,
            orphans: Orphans::Release,
            command: args.command.clone(),
        });
    }
    let replay = repeat(&text).map_err(wrong)?;
    let mut said = format!("{} decisions repeated", replay.repeated);
    if replay.undecided > 0 {
        said += &format!(", {} matches were never decided", replay.undecided);
    }
    if replay.lost > 0 {
        said += &format!(", {} are missing: they came too fast", replay.lost);
    }
    if !replay.complete {
        said += "; the file has no end, murphy was killed or still runs";
    }
    let verdict = match replay.differences.len() {
        0 => "all agree".to_owned(),
        several => format!("{several} differences"),
    };
    let mut out = io::stdout().lock();
    let mut lines = vec![format!("{said}: {verdict}")];
    for (line, problem) in replay.differences.iter().take(SHOWN) {
        lines.push(match line {
            0 => format!("  {problem}"),
            line => format!("  line {line}: {problem}"),
        });
    }
    match writeln!(out, "{}", lines.join("\n")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::io("writing the result")(error));
        }
        _ => {}
    }
    Ok(if replay.differences.is_empty() {
        0
    } else {
        status::FAILED
    })
}
