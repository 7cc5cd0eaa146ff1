//! `murphy run`: a command under faults.

use std::io;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{MissedTickBehavior, interval};

use super::args::{Orphans, RunArgs};
use super::child::{self, Identity};
use super::failure::Failure;
use super::listen::{Listener, Sinks};
use super::output::{self, Outcome};
use super::signals::{Signals, pidfd};
use super::{runtime, seed};
use crate::engine::{EngineError, Here, Injection, Settings};
use crate::faults::Fault;
use crate::plan::{Options, Plan, Target};
use crate::seccomp::Health;

/// Runs the command; gives the status to exit with.
pub(super) fn run(args: &RunArgs) -> Result<u8, Failure> {
    // Everything that can be wrong with the words is found before anything is made.
    let faults = faults(&args.common.faults)?;
    let seed = seed(args.common.seed);
    let options = Options {
        limit: args.limit,
        seed,
        skip_loader: args.skip_loader,
    };
    let here = Here::default();
    let choice = args.backend.into();
    let plan = Plan::with(faults, Target::Command, &options, choice, Some(&here))?;
    let identity = args.user.as_deref().map(Identity::of).transpose()?;
    let program = child::find(args.command.first().map(AsRef::as_ref).unwrap_or_default())?;
    let file = output::file(&args.common)?;
    output::plan(&args.common, &plan);
    let sinks = Sinks::open(&args.common, &plan, seed, args.limit)?;
    let settings = Settings {
        lease: args.common.lease,
        listen: sinks.listen(),
    };

    let mut session = Injection::new(plan, &program, settings)?;
    let entry = session.entry()?;
    runtime()?.block_on(async {
        let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
        let (events, told) = (session.take_events(), session.take_told());
        let mut listener =
            Listener::new(events, told, sinks).map_err(Failure::io("listening to events"))?;
        let started = child::start(
            &args.command,
            &program,
            entry,
            identity.as_ref(),
            signals.before(),
        );
        let mut child = match started {
            Ok(child) => child,
            // What kept it from being executed may have been the filter.
            Err(failure) => return Err(session.refusal().map_or_else(Failure::from, |()| failure)),
        };
        if let Err(error) = session.started(child.id()) {
            let _ = child.wait();
            return Err(error.into());
        }
        let status = watch(&mut session, &signals, &mut listener, &mut child, args).await;
        if status.is_err() {
            // murphy cannot go on: neither can the command under faults that nobody counts.
            let _ = child.kill();
        }
        let status = status.map_err(Failure::io("waiting for the command"))?;
        let left = session.members();
        if !left.is_empty() && args.orphans == Orphans::Kill {
            end(&session).await;
        } else if !left.is_empty() && !args.common.quiet {
            output::tell(&format!(
                "murphy: {} of the command's processes outlive it and go on without faults",
                left.len()
            ));
        }
        let report = session.end()?;
        let outcome = Outcome {
            status: Some(status),
            ended: "the command ended",
            seed,
            report: &report,
        };
        let written = listener.finish(outcome.ended, &report);
        output::result(&args.common, file, &outcome)?;
        written?;
        Ok(status)
    })
}

/// Parses all expressions; the first mistake is told.
pub(super) fn faults(expressions: &[String]) -> Result<Vec<Fault>, Failure> {
    expressions
        .iter()
        .map(|text| text.parse::<Fault>().map_err(Failure::from))
        .collect()
}

/// Renews the lease and hands signals on until the command has ended, and with
/// `--orphans wait` all its descendants.
async fn watch(
    session: &mut Injection,
    signals: &Signals,
    listener: &mut Listener,
    child: &mut Child,
    args: &RunArgs,
) -> io::Result<u8> {
    let process = pidfd(child.id())?;
    let mut renewal = interval(session.renew_every());
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status = None;
    let mut health = Health::Well;
    loop {
        tokio::select! {
            _ = renewal.tick() => {
                session.renew().map_err(io::Error::other)?;
                if session.health() != health {
                    health = session.health();
                    supervised(session, health).await?;
                }
                if status.is_some() && session.members().is_empty() {
                    break;
                }
            }
            arrived = signals.next() => {
                let arrived = arrived?;
                match arrived.signal {
                    // After a stop the lease has run out: renew at once.
                    Signal::SIGCONT => session.renew().map_err(io::Error::other)?,
                    _ if status.is_some() => break,
                    _ if arrived.by_terminal => {}
                    signal => {
                        // It may have ended this instant; then there is nobody to tell.
                        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
                    }
                }
            }
            listened = listener.next() => listened?,
            ended = process.readable(), if status.is_none() => {
                drop(ended?);
                let code = child::exit_status(child.wait()?);
                status = Some(code);
                if args.orphans != Orphans::Wait || session.members().is_empty() {
                    break;
                }
                if !args.common.quiet {
                    output::tell("murphy: the command ended; waiting for its descendants, Ctrl-C releases them");
                }
            }
        }
    }
    Ok(status.unwrap_or(super::status::FAILED))
}

/// Says what became of the supervisor. Without anybody to answer, the command's system calls fail or hang: it is ended.
async fn supervised(session: &Injection, health: Health) -> io::Result<()> {
    match health {
        Health::Well => {}
        Health::Unsupervised => output::tell(
            "murphy: the supervisor was killed; the command goes on without the faults that seccomp carries out",
        ),
        Health::Abandoned => {
            end(session).await;
            let source = io::Error::other(
                "supervisor and holder were killed; nobody answers the command's system calls",
            );
            return Err(io::Error::other(EngineError::Io {
                doing: "supervising the command, which was ended",
                source,
            }));
        }
    }
    Ok(())
}

/// Kills what is left in the run cgroup: again and again, since it may fork.
async fn end(session: &Injection) {
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
