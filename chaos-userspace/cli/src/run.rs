//! `murphy run`: a command under faults.

use std::io;
use std::path::PathBuf;
use std::process::Child;

use super::args::{Orphans, RunArgs};
use super::child::{self, Identity};
use super::control::{Control, Stop};
use super::failure::{Failure, warn};
use super::lease::{change, renewals};
use super::listen::{Listener, Sinks};
use super::output::{self, Outcome};
use super::permit::{self, Permit};
use super::signals::{self, Arrived, Signals, pidfd};
use super::targets;
use super::{runtime, seed, status as code};
use murphy_engine::policy::Command;
use murphy_engine::{self as engine, Here, Session, Settings};
use murphy_fault::Fault;
use murphy_fault::plan::{Options, Plan, Target};
use murphy_kernel::privileges;
use murphy_mechanisms::seccomp::Health;
use murphy_state::{About, Claim};
use murphy_sys::process::{Process, kill_child, signal_child};
use nix::sys::signal::Signal;

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
    if args.allow_new_privileges {
        warn(
            "the command may gain privileges by set-user-ID programs, under the faults, and can \
             type into this terminal",
        );
    }
    let claim = Claim::new(
        &plan,
        About {
            name: args.common.name.clone(),
            command: "run",
            reason: args.common.noted_reason(),
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
        lines: args.common.wants_lines(),
    };

    let mut session = Session::for_command(plan, &command.program, settings, Some(claim))?;
    let entrance = session.entrance()?;
    runtime()?.block_on(async {
        let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
        let mut control = Control::start(&mut session, args.limit, None)?;
        let (events, told) = (session.take_events(), session.take_told());
        let mut listener = Listener::new(events, told, session.take_log(), sinks)
            .map_err(Failure::io("listening to events"))?;
        let started = child::start(
            &args.command,
            &command.program,
            entrance,
            command.identity.as_ref(),
            is_confined(args),
            signals.before(),
        );
        // What kept it from being executed may have been the filter.
        let mut child = started
            .map_err(|failure| session.refusal().map_or_else(Failure::from, |()| failure))?;
        if let Err(error) = session.started(child.id()) {
            // It must not go on without what was asked for.
            kill_child(&mut child);
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
            kill_child(&mut child);
        }
        let Watched { status, stop, .. } =
            watched.map_err(Failure::io("waiting for the command"))?;
        if stop.is_none() {
            left_over(&session, &mut listener, args).await;
        }
        let report = session.end();
        let mut ended = "the command ended".to_owned();
        if let Some(stop) = stop {
            ended.clone_from(&stop.ended);
            stop.done(control.id(), report.as_ref()).await;
            if status.is_none() && !args.common.quiet {
                listener.notice(&format!(
                    "murphy: {ended}; the command goes on without faults"
                ));
            }
        }
        let status = match status {
            Some(status) => status,
            None => outlive(&signals, &mut child, is_confined(args))
                .await
                .map_err(Failure::io("waiting for the command"))?,
        };
        let mut report = report?;
        permit.ended(&ended, &report);
        signals::release().map_err(Failure::io("unblocking signals"))?;
        let written = listener.finish(&ended, &mut report);
        let outcome = Outcome {
            status: Some(status),
            ended: &ended,
            seed,
            report: &report,
        };
        output::result(&args.common, file, &outcome)?;
        written?;
        // What is left on the machine is murphy's failure, whatever the command says.
        match report.not_undone.is_empty() {
            true => Ok(status),
            false => Ok(code::RUN),
        }
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
async fn left_over(session: &Session, listener: &mut Listener, args: &RunArgs) {
    let left = session.members();
    if !left.is_empty() && args.orphans == Orphans::Kill {
        end(session).await;
    } else if !left.is_empty() && !args.common.quiet {
        listener.notice(&format!(
            "murphy: {} of the command's processes outlive it and go on without faults",
            left.len()
        ));
    }
}

/// Waits for the command when its faults have ended before it.
async fn outlive(signals: &Signals, child: &mut Child, confined: bool) -> io::Result<u8> {
    let process = pidfd(child.id())?;
    loop {
        tokio::select! {
            arrived = signals.next() => hand_on(&arrived?, child, confined),
            ended = process.readable() => {
                drop(ended?);
                return Ok(child::exit_status(child.wait()?));
            }
        }
    }
}

/// Whether the command is another user's, and is to have no way to murphy's privileges.
fn is_confined(args: &RunArgs) -> bool {
    args.user.is_some() && !args.allow_new_privileges
}

/// Hands a signal on, unless the terminal has sent it to the command as well.
///
/// The terminal sends to its foreground process group, which the command shares unless it is
/// `confined`. When the terminal hangs up it sends SIGHUP to the leader of the session alone.
fn hand_on(arrived: &Arrived, child: &Child, confined: bool) {
    let alone = confined
        || arrived.signal == Signal::SIGHUP
            && nix::unistd::getsid(None) == Ok(nix::unistd::getpid());
    if (alone || !arrived.by_terminal) && arrived.signal != Signal::SIGCONT {
        // It may have ended this instant; then there is nobody to tell.
        let _ = signal_child(child, arrived.signal as i32);
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
        let change = change(session.next_change());
        tokio::select! {
            // The lease comes first, and events last: a flood of them delays nothing.
            biased;
            _ = renewal.tick() => {
                session.renew().map_err(io::Error::other)?;
                output::warnings(session, listener);
                watched.stop = Control::halted(session);
                if session.health() != watched.health {
                    watched.health = session.health();
                    supervised(session, listener, watched.health).await?;
                }
                if watched.stop.is_some()
                    || watched.status.is_some() && session.members().is_empty() {
                    break;
                }
            }
            () = change => session.follow_conditions().map_err(io::Error::other)?,
            arrived = signals.next() => {
                let arrived = arrived?;
                match arrived.signal {
                    // After a stop the lease has run out: renew at once.
                    Signal::SIGCONT => session.renew().map_err(io::Error::other)?,
                    _ if watched.status.is_some() => break,
                    _ => hand_on(&arrived, child, is_confined(args)),
                }
            }
            asked = control.next() => {
                watched.stop = control.answer(asked, session).await;
                if watched.stop.is_some() {
                    break;
                }
            }
            ended = process.readable(), if watched.status.is_none() => {
                drop(ended?);
                watched.status = Some(child::exit_status(child.wait()?));
                if args.orphans != Orphans::Wait || session.members().is_empty() {
                    break;
                }
                if !args.common.quiet {
                    listener.notice("murphy: the command ended; waiting for its descendants, Ctrl-C releases them");
                }
            }
            listened = listener.next() => listened?,
        }
    }
    Ok(watched)
}

/// Says what became of the supervisor. Without anybody to answer, the command's system calls fail or hang: it is ended.
async fn supervised(session: &Session, listener: &mut Listener, health: Health) -> io::Result<()> {
    match health {
        Health::Well => Ok(()),
        Health::Silent => {
            listener.notice(
                "murphy: its supervisor does not answer; the command goes on without the faults of seccomp until it does",
            );
            Ok(())
        }
        Health::Unsupervised => {
            listener.notice(
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
        let members: Vec<_> = session
            .members()
            .into_iter()
            .filter_map(|pid| Process::open(pid).ok())
            .collect();
        if members.is_empty() {
            return;
        }
        // One that ended between the two looks may have left its number to another process, which
        // the second look does not name.
        let still = session.members();
        for process in members {
            if still.contains(&process.id()) {
                let _ = process.signal(rustix::process::Signal::KILL);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
