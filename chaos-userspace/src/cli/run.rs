//! `murphy run`: a command under faults.

use std::io;
use std::path::PathBuf;
use std::process::Child;

use super::args::{Orphans, RunArgs};
use super::child::{self, Identity};
use super::control::{Control, Stop};
use super::failure::Failure;
use super::lease::renewals;
use super::listen::{Listener, Sinks};
use super::output::{self, Outcome};
use super::permit::{self, Permit};
use super::signals::{Arrived, Signals, pidfd};
use super::targets;
use super::{runtime, seed};
use crate::engine::{self, Here, Session, Settings};
use crate::faults::Fault;
use crate::kernel::privileges;
use crate::plan::{Options, Plan, Target};
use crate::policy::Command;
use crate::seccomp::Health;
use crate::state::{About, Claim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs the command; gives the status to exit with.
pub(super) fn run(args: &RunArgs) -> Result<u8, Failure> {
    // Everything that can be wrong with the words is found before anything is made.
    let faults = faults(&args.common.faults)?;
    let seed = seed(args.common.seed);
    let options = Options {
        limit: args.limit,
        seed,
        skip_loader: args.skip_loader,
        observe: args.common.observe,
    };
    let choice = args.backend.into();
    let here = Here::default();
    let plan = Plan::with(faults, Target::Command, &options, choice, Some(&here))?;
    let plan = engine::resolve(plan)?;
    let identity = args.user.as_deref().map(Identity::of).transpose()?;
    let program = child::find(args.command.first().map(AsRef::as_ref).unwrap_or_default())?;
    let target = Command {
        program: &program,
        uid: identity
            .as_ref()
            .map_or_else(|| rustix::process::getuid().as_raw(), Identity::uid),
    };
    let Some(mut permit) = permit::ask(&args.common, &plan, Some(target))? else {
        return Ok(0);
    };
    let claim = Claim::new(
        &plan,
        About {
            name: args.common.name.clone(),
            command: "run",
            reason: args.common.reason.clone(),
            seed,
            limit: args.limit,
            lease: args.common.lease,
            words: args
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        },
    )?;
    permit.started(claim.record())?;
    let command = Found { program, identity };
    let done = carry_out(args, plan, claim, seed, &command, &mut permit);
    let done = done.inspect_err(|failure| permit.failed(failure));
    permit.over();
    done
}

/// The command of `run`, and whom it runs as.
struct Found {
    program: PathBuf,
    identity: Option<Identity>,
}

fn carry_out(
    args: &RunArgs,
    plan: Plan,
    claim: Claim,
    seed: u64,
    command: &Found,
    permit: &mut Permit,
) -> Result<u8, Failure> {
    let file = output::file(&args.common)?;
    output::plan(&args.common, &plan);
    let sinks = Sinks::open(&args.common, &plan, seed, args.limit)?;
    let settings = Settings {
        lease: args.common.lease,
        listen: sinks.listen(),
    };

    let mut session = Session::for_command(plan, &command.program, settings, Some(claim))?;
    let entrance = session.entrance()?;
    runtime()?.block_on(async {
        let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
        let mut control = Control::start(&mut session, args.limit, None)?;
        let mut listener = Listener::new(session.take_events(), session.take_told(), sinks)
            .map_err(Failure::io("listening to events"))?;
        let started = child::start(
            &args.command,
            &command.program,
            entrance,
            command.identity.as_ref(),
            signals.before(),
        );
        // What kept it from being executed may have been the filter.
        let mut child = started
            .map_err(|failure| session.refusal().map_or_else(Failure::from, |()| failure))?;
        if let Err(error) = session.started(child.id()) {
            let _ = child.wait();
            return Err(error.into());
        }
        privileges::drop_for(session.plan());
        let watched = watch(
            &mut session,
            &signals,
            &mut listener,
            &mut control,
            &mut child,
            args,
        )
        .await;
        if watched.is_err() {
            // murphy cannot go on: neither can the command under faults that nobody counts.
            let _ = child.kill();
        }
        let Watched { status, stop, .. } =
            watched.map_err(Failure::io("waiting for the command"))?;
        if stop.is_none() {
            left_over(&session, args).await;
        }
        let report = session.end();
        let mut ended = "the command ended".to_owned();
        if let Some(stop) = stop {
            ended.clone_from(&stop.ended);
            stop.done(control.id(), report.as_ref()).await;
            if status.is_none() && !args.common.quiet {
                output::tell(&format!(
                    "murphy: {ended}; the command goes on without faults"
                ));
            }
        }
        let status = match status {
            Some(status) => status,
            None => outlive(&signals, &mut child)
                .await
                .map_err(Failure::io("waiting for the command"))?,
        };
        let report = report?;
        let outcome = Outcome {
            status: Some(status),
            ended: &ended,
            seed,
            report: &report,
        };
        permit.ended(outcome.ended, &report);
        let written = listener.finish(outcome.ended, &report);
        output::result(&args.common, file, &outcome)?;
        written?;
        Ok(status)
    })
}

/// Why murphy no longer watches the command.
#[derive(Default)]
struct Watched {
    /// With which status the command has ended, if it has.
    status: Option<u8>,
    /// Somebody wants the faults to end.
    stop: Option<Stop>,
    /// How the command's supervisor was when last looked at.
    health: Health,
}

/// What becomes of processes that outlive the command, and is said of it.
async fn left_over(session: &Session, args: &RunArgs) {
    let left = session.members();
    if !left.is_empty() && args.orphans == Orphans::Kill {
        end(session).await;
    } else if !left.is_empty() && !args.common.quiet {
        output::tell(&format!(
            "murphy: {} of the command's processes outlive it and go on without faults",
            left.len()
        ));
    }
}

/// Waits for the command when its faults have ended before it.
async fn outlive(signals: &Signals, child: &mut Child) -> io::Result<u8> {
    let process = pidfd(child.id())?;
    loop {
        tokio::select! {
            arrived = signals.next() => hand_on(&arrived?, child),
            ended = process.readable() => {
                drop(ended?);
                return Ok(child::exit_status(child.wait()?));
            }
        }
    }
}

/// Hands a signal on, unless the terminal has sent it to the whole process group.
fn hand_on(arrived: &Arrived, child: &Child) {
    if !arrived.by_terminal && arrived.signal != Signal::SIGCONT {
        // It may have ended this instant; then there is nobody to tell.
        let _ = kill(Pid::from_raw(child.id().cast_signed()), arrived.signal);
    }
}

/// Parses all expressions; the first mistake is told.
pub(super) fn faults(expressions: &[String]) -> Result<Vec<Fault>, Failure> {
    let mut faults = expressions
        .iter()
        .map(|text| text.parse::<Fault>().map_err(Failure::from))
        .collect::<Result<Vec<_>, _>>()?;
    targets::look_up(&mut faults)?;
    Ok(faults)
}

/// Renews the lease and hands signals on until the command has ended, and with
/// `--orphans wait` all its descendants.
async fn watch(
    session: &mut Session,
    signals: &Signals,
    listener: &mut Listener,
    control: &mut Control,
    child: &mut Child,
    args: &RunArgs,
) -> io::Result<Watched> {
    let process = pidfd(child.id())?;
    let mut renewal = renewals(session.lease());
    let mut watched = Watched::default();
    loop {
        tokio::select! {
            _ = renewal.tick() => {
                session.renew().map_err(io::Error::other)?;
                output::warnings(session);
                watched.stop = Control::halted(session);
                if session.health() != watched.health {
                    watched.health = session.health();
                    supervised(session, watched.health).await?;
                }
                if watched.stop.is_some()
                    || watched.status.is_some() && session.members().is_empty() {
                    break;
                }
            }
            arrived = signals.next() => {
                let arrived = arrived?;
                match arrived.signal {
                    // After a stop the lease has run out: renew at once.
                    Signal::SIGCONT => session.renew().map_err(io::Error::other)?,
                    _ if watched.status.is_some() => break,
                    _ => hand_on(&arrived, child),
                }
            }
            asked = control.next() => {
                watched.stop = control.answer(asked, session).await;
                if watched.stop.is_some() {
                    break;
                }
            }
            listened = listener.next() => listened?,
            ended = process.readable(), if watched.status.is_none() => {
                drop(ended?);
                watched.status = Some(child::exit_status(child.wait()?));
                if args.orphans != Orphans::Wait || session.members().is_empty() {
                    break;
                }
                if !args.common.quiet {
                    output::tell("murphy: the command ended; waiting for its descendants, Ctrl-C releases them");
                }
            }
        }
    }
    Ok(watched)
}

/// Says what became of the supervisor. Without anybody to answer, the command's system calls fail or hang: it is ended.
async fn supervised(session: &Session, health: Health) -> io::Result<()> {
    match health {
        Health::Well => Ok(()),
        Health::Unsupervised => {
            output::tell(
                "murphy: its supervisor was killed; the command goes on without the faults of seccomp",
            );
            Ok(())
        }
        Health::Abandoned => {
            end(session).await;
            Err(io::Error::other(
                "supervisor and holder were killed, and nobody answers its system calls: it was ended",
            ))
        }
    }
}

/// Kills what is left of the command: again and again, since it may fork.
async fn end(session: &Session) {
    for _ in 0..100 {
        let members = session.members();
        if members.is_empty() {
            return;
        }
        for pid in members {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
