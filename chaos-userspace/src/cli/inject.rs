//! `murphy inject`: faults for processes that already run.

use nix::sys::signal::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::args::InjectArgs;
use super::failure::Failure;
use super::listen::{Listener, Sinks};
use super::output::{self, Outcome};
use super::run::faults;
use super::signals::{self, Signals};
use super::targets;
use super::{runtime, seed};
use crate::engine::{EngineError, Session, Settings};
use crate::plan::{Options, Plan, Target};

/// Injects until the time is over, the targets have ended, or somebody stops it.
pub(super) fn inject(args: &InjectArgs) -> Result<u8, Failure> {
    let faults = faults(&args.common.faults)?;
    let seed = seed(args.common.seed);
    let options = Options {
        limit: Some(args.limit),
        seed,
        skip_loader: false,
    };
    let plan = Plan::new(
        faults,
        Target::Running(targets::who(&args.targets)?),
        &options,
    )?;
    let file = output::file(&args.common)?;
    let sinks = Sinks::open(&args.common, &plan, seed, Some(args.limit))?;
    let settings = Settings {
        lease: args.common.lease,
        listen: sinks.listen(),
    };
    output::plan(&args.common, &plan);
    // From here on Ctrl-C ends with the result, however early it comes.
    signals::block().map_err(|error| Failure::Io {
        doing: "blocking signals",
        source: error.into(),
    })?;
    let mut session = Session::for_running(plan, settings)?;
    if !args.common.quiet {
        let targets = match session.members().len() {
            1 => "1 process".to_owned(),
            several => format!("{several} processes"),
        };
        output::tell(&format!(
            "murphy: armed against {targets} for {:?}; Ctrl-C undoes it",
            args.limit
        ));
    }
    runtime()?.block_on(async {
        let mut listener = Listener::new(session.take_events(), None, sinks)
            .map_err(Failure::io("listening to events"))?;
        let ended = watch(&mut session, &mut listener, args).await;
        let report = session.end()?;
        let outcome = Outcome {
            status: None,
            ended: ended?,
            seed,
            report: &report,
        };
        let written = listener.finish(outcome.ended, &report);
        output::result(&args.common, file, &outcome)?;
        written?;
        Ok(0)
    })
}

/// Renews the lease until it is to end; gives the reason.
async fn watch(
    session: &mut Session,
    listener: &mut Listener,
    args: &InjectArgs,
) -> Result<&'static str, Failure> {
    let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
    let mut renewal = interval(session.renew_every());
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = sleep(args.limit);
    tokio::pin!(over);
    loop {
        tokio::select! {
            _ = renewal.tick() => {
                session.renew().map_err(Failure::from)?;
                if session.targets_have_ended() {
                    return Ok("all targets have ended");
                }
            }
            listened = listener.next() => listened.map_err(EngineError::io("reading events"))?,
            () = &mut over => return Ok("the time is over"),
            arrived = signals.next() => {
                match arrived.map_err(EngineError::io("reading signals"))?.signal {
                    Signal::SIGCONT => session.renew()?,
                    Signal::SIGUSR1 | Signal::SIGUSR2 => {}
                    _ => return Ok("stopped by a signal"),
                }
            }
        }
    }
}
