//! `murphy inject`: faults for processes that already run.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::args::InjectArgs;
use super::control::{Control, Stop, print, print_json};
use super::detach::{Armed, Injector, Role, detach};
use super::failure::Failure;
use super::lease::{change, renewals};
use super::listen::{Listener, Sinks};
use super::output::{self, Outcome};
use super::permit::{self, Permit};
use super::run::faults;
use super::signals::{self, Signals};
use super::targets;
use super::{runtime, seed, status as code};
use murphy_engine::{self as engine, EngineError, Here, Session, Settings};
use murphy_fault::plan::{Options, Plan, Target};
use murphy_kernel::privileges;
use murphy_state::{About, Claim, client};

/// How long a detached injector may take to end when its caller cannot use it.
const STOPPING: Duration = Duration::from_secs(10);

/// Injects until the time is over, the targets have ended, or somebody stops it.
pub(super) fn inject(args: &InjectArgs) -> Result<u8, Failure> {
    let faults = faults(&args.common.faults)?;
    let who = targets::who(&args.targets, &faults)?;
    let seed = seed(args.common.seed);
    let options = Options {
        limit: Some(args.limit),
        seed,
        skip_loader: false,
        observe: args.common.observe,
    };
    let here = Here::default();
    let plan = Plan::with(
        faults,
        Target::Running(who),
        &options,
        args.backend.into(),
        Some(&here),
    )?;
    let plan = engine::resolve(plan)?;
    let Some(mut permit) = permit::ask(&args.common, &plan, None)? else {
        return Ok(0);
    };
    let claim = Claim::new(
        &plan,
        About {
            name: args.common.name.clone(),
            command: "inject",
            reason: args.common.noted_reason(),
            seed,
            limit: Some(args.limit),
            lease: args.common.lease,
            words: Vec::new(),
        },
    )?;
    if args.detach {
        return match detach()? {
            Role::Caller(Ok(armed)) => {
                let told = if args.common.json {
                    print_json(&armed)
                } else {
                    print(&armed.id)
                };
                if told.is_err() {
                    // Nobody knows what to stop.
                    let (dir, record) = client::find(&armed.id)?;
                    client::stop(&dir, &record, Some("its id could not be told"), STOPPING)?;
                }
                told.map(|()| 0)
            }
            Role::Caller(Err(status)) => Ok(status),
            Role::Injector(injector) => {
                // It is another process now.
                let claim = claim.of_this_process();
                permitted(args, plan, claim, seed, Some(injector), &mut permit)
            }
        };
    }
    permitted(args, plan, claim, seed, None, &mut permit)
}

/// Notes its beginning and its end, however that comes about.
fn permitted(
    args: &InjectArgs,
    plan: Plan,
    claim: Claim,
    seed: u64,
    detached: Option<Injector>,
    permit: &mut Permit,
) -> Result<u8, Failure> {
    permit.started(claim.record())?;
    let done = carry_out(args, plan, claim, seed, detached, permit);
    let done = done.inspect_err(|failure| permit.failed(failure));
    permit.over();
    done
}

fn carry_out(
    args: &InjectArgs,
    plan: Plan,
    claim: Claim,
    seed: u64,
    detached: Option<Injector>,
    permit: &mut Permit,
) -> Result<u8, Failure> {
    let file = output::file(&args.common)?;
    let sinks = Sinks::open(&args.common, &plan, seed, Some(args.limit))?;
    let settings = Settings {
        lease: args.common.lease,
        listen: sinks.listen(),
        lines: args.common.wants_lines(),
    };
    output::plan(&args.common, &plan);
    // From here on Ctrl-C ends with the result, however early it comes.
    signals::block().map_err(|error| Failure::Io {
        doing: "blocking signals",
        source: error.into(),
    })?;
    let mut session = Session::for_running(plan, settings, Some(claim))?;
    let armed = (!args.common.quiet).then(|| armed(&mut session, args.limit, detached.is_some()));
    if let Some(injector) = detached {
        let id = session.entry().map(|entry| entry.record().id.clone());
        injector.armed(&Armed {
            id: id.unwrap_or_default(),
            pid: std::process::id(),
            processes: session.members().len(),
        })?;
    }
    privileges::drop_for(session.plan());
    runtime()?.block_on(async {
        let mut control = Control::start(&mut session, Some(args.limit), args.keepalive)?;
        let (events, log) = (session.take_events(), session.take_log());
        let mut listener =
            Listener::new(events, None, log, sinks).map_err(Failure::io("listening to events"))?;
        if let Some(armed) = armed {
            listener.notice(&armed);
        }
        listener.begin(&session.take_first_events());
        let stop = watch(&mut session, &mut listener, &mut control, args).await;
        let report = session.end();
        let stop = stop?;
        let ended = stop.ended.clone();
        stop.done(control.id(), report.as_ref()).await;
        let mut report = report?;
        permit.ended(&ended, &report);
        signals::release().map_err(Failure::io("unblocking signals"))?;
        let written = listener.finish(&ended, &mut report);
        let outcome = Outcome {
            status: None,
            ended: &ended,
            seed,
            report: &report,
        };
        output::result(&args.common, file, &outcome)?;
        written?;
        match report.not_undone.is_empty() {
            true => Ok(0),
            false => Ok(code::FAILED),
        }
    })
}

/// What is said once the faults are armed.
fn armed(session: &mut Session, limit: Duration, is_detached: bool) -> String {
    let targets = match session.members().len() {
        1 => "1 process".to_owned(),
        several => format!("{several} processes"),
    };
    let id = session.entry().map(|entry| entry.record().id.clone());
    let how = match id.filter(|_| is_detached) {
        Some(id) => format!("murphy stop {id}"),
        None => "Ctrl-C".to_owned(),
    };
    format!("murphy: armed against {targets} for {limit:?}; {how} undoes it")
}

/// Renews the lease until it is to end; gives the reason.
async fn watch(
    session: &mut Session,
    listener: &mut Listener,
    control: &mut Control,
    args: &InjectArgs,
) -> Result<Stop, Failure> {
    let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
    let mut renewal = renewals(session.lease());
    let over = sleep(args.limit);
    tokio::pin!(over);
    loop {
        let change = change(session.next_change());
        tokio::select! {
            // The lease comes first, and events last: a flood of them delays nothing.
            biased;
            _ = renewal.tick() => {
                session.renew().map_err(Failure::from)?;
                output::warnings(session, listener);
                if session.targets_have_ended() {
                    return Ok(Stop::because("all targets have ended"));
                }
                if let Some(stop) = Control::halted(session) {
                    return Ok(stop);
                }
            }
            () = change => session.follow_conditions()?,
            () = &mut over => return Ok(Stop::because("the time is over")),
            asked = control.next() => {
                if let Some(stop) = control.answer(asked, session).await {
                    return Ok(stop);
                }
            }
            arrived = signals.next() => {
                match arrived.map_err(EngineError::io("reading signals"))?.signal {
                    Signal::SIGCONT => session.renew()?,
                    Signal::SIGUSR1 | Signal::SIGUSR2 => {}
                    _ => return Ok(Stop::because("stopped by a signal")),
                }
            }
            listened = listener.next() => listened.map_err(EngineError::io("reading events"))?,
        }
    }
}
