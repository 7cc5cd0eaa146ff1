//! `--trace` and `--events`: writes down the decisions that the kernel programs tell.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use chaos_common::event::Event;
use tokio::io::unix::AsyncFd;

use super::args::FaultArgs;
use super::failure::Failure;
use super::signals::register;
use crate::engine::{End, Header, Line, Match, Report, Verdict};
use crate::kernel::{Events, Listen};
use crate::plan::Plan;
use crate::seccomp::Told;

/// How many events are read at a time, so that neither lease nor signals wait.
const AT_ONCE: usize = 1024;

/// Files and streams for events; made before anything is begun, so that one that cannot
/// be written is told in time.
pub(super) struct Sinks {
    trace: Option<Sink>,
    events: Option<Sink>,
    plan: Plan,
    /// Matches that were left alone are traced too.
    all: bool,
}

struct Sink {
    path: PathBuf,
    to: BufWriter<Box<dyn Write>>,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
}

impl Sink {
    fn new(path: PathBuf, to: Box<dyn Write>) -> Self {
        Self {
            path,
            to: BufWriter::new(to),
            failed: None,
        }
    }

    fn create(path: &PathBuf) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self::new(path.clone(), Box::new(file))),
            Err(source) => Err(Failure::Output {
                path: path.clone(),
                source,
            }),
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut self.to).err();
        }
    }

    /// Everything written is with the operating system now.
    fn flush(&mut self) {
        self.write(|to| to.flush());
    }

    fn result(&mut self) -> Result<(), Failure> {
        match self.failed.take() {
            None => Ok(()),
            Some(source) => Err(Failure::Output {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

fn json(line: &Line) -> impl FnOnce(&mut dyn Write) -> io::Result<()> + '_ {
    move |to| {
        serde_json::to_writer(&mut *to, line)?;
        to.write_all(b"\n")
    }
}

impl Sinks {
    /// What the arguments ask for. The events file has its first line by now.
    pub(super) fn open(
        args: &FaultArgs,
        plan: &Plan,
        seed: u64,
        limit: Option<std::time::Duration>,
    ) -> Result<Self, Failure> {
        let trace = match &args.trace {
            None => None,
            Some(path) if path.as_os_str() == "-" => {
                Some(Sink::new("standard error".into(), Box::new(io::stderr())))
            }
            Some(path) => Some(Sink::create(path)?),
        };
        let mut events = args.events.as_ref().map(Sink::create).transpose()?;
        if let Some(events) = &mut events {
            events.write(json(&Line::Plan(Header::new(plan, seed, limit))));
            events.flush();
            events.result()?;
        }
        Ok(Self {
            trace,
            events,
            plan: plan.clone(),
            all: args.verbose,
        })
    }

    /// What the kernel programs are to tell.
    pub(super) fn listen(&self) -> Listen {
        match (&self.trace, &self.events) {
            (_, Some(_)) => Listen::Matches,
            (Some(_), None) if self.all => Listen::Matches,
            (Some(_), None) => Listen::Injections,
            (None, None) => Listen::Nothing,
        }
    }

    fn write(&mut self, line: Match) {
        if let Some(trace) = &mut self.trace
            && (self.all || line.verdict == Verdict::Injected)
        {
            trace.write(|to| writeln!(to, "{}", line.trace(&self.plan)));
        }
        if let Some(events) = &mut self.events {
            events.write(json(&Line::Match(line)));
        }
    }

    fn flush(&mut self) {
        for sink in [&mut self.trace, &mut self.events].into_iter().flatten() {
            sink.flush();
        }
    }
}

/// Reads events and writes them down.
pub(super) struct Listener {
    events: Option<AsyncFd<Events>>,
    told: Option<AsyncFd<Told>>,
    sinks: Sinks,
}

impl Listener {
    /// Listens to kernel programs and to a supervisor, inside a tokio runtime.
    pub(super) fn new(
        events: Option<Events>,
        told: Option<Told>,
        sinks: Sinks,
    ) -> io::Result<Self> {
        Ok(Self {
            events: events.map(register).transpose()?,
            told: told.map(register).transpose()?,
            sinks,
        })
    }

    /// Writes down what happened before there was anything to listen to.
    pub(super) fn begin(&mut self, events: &[Event]) {
        for event in events {
            self.sinks.write(Match::new(event));
        }
        self.sinks.flush();
    }

    /// Waits for events and writes some down; for ever where nobody is to listen.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        let batch = tokio::select! {
            batch = some(&mut self.events, Events::take) => batch?,
            batch = some(&mut self.told, Told::take) => batch?,
        };
        for event in &batch {
            self.sinks.write(Match::new(event));
        }
        if batch.len() < AT_ONCE {
            // Caught up: who follows the trace sees it now.
            self.sinks.flush();
        }
        Ok(())
    }

    /// Writes down what is left once the session has ended, and the last line.
    ///
    /// # Errors
    ///
    /// The first thing that could not be written.
    pub(super) fn finish(mut self, ended: &str, report: &Report) -> Result<(), Failure> {
        if let Some(events) = &mut self.events {
            while let Some(event) = events.get_mut().take() {
                self.sinks.write(Match::new(&event));
            }
        }
        if let Some(told) = &mut self.told {
            while let Some(event) = told.get_mut().take() {
                self.sinks.write(Match::new(&event));
            }
        }
        if let Some(events) = &mut self.sinks.events {
            let end = Line::End(End {
                ended: ended.to_owned(),
                armed_at_ns: report.armed_at_ns,
                lost: report.events_lost.unwrap_or(0),
                report: report.clone(),
            });
            events.write(json(&end));
        }
        self.sinks.flush();
        if let Some(trace) = &mut self.sinks.trace
            && trace
                .failed
                .as_ref()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            // Whoever closed it does not want to read it.
            trace.failed = None;
        }
        for sink in [&mut self.sinks.trace, &mut self.sinks.events]
            .into_iter()
            .flatten()
        {
            sink.result()?;
        }
        Ok(())
    }
}

/// Waits for events of one source, and takes as many as there are, within bounds; for ever where there is no source.
async fn some<T: std::os::fd::AsRawFd>(
    source: &mut Option<AsyncFd<T>>,
    take: impl Fn(&mut T) -> Option<Event>,
) -> io::Result<Vec<Event>> {
    let Some(events) = source else {
        return std::future::pending().await;
    };
    let mut ready = events.readable_mut().await?;
    let over = ready.ready().is_read_closed();
    let mut batch = Vec::new();
    while batch.len() < AT_ONCE {
        let Some(event) = take(ready.get_inner_mut()) else {
            ready.clear_ready();
            break;
        };
        batch.push(event);
    }
    if over && batch.is_empty() {
        // Its writer has ended. It would be ready for ever, and nothing else would ever be waited for.
        *source = None;
    }
    Ok(batch)
}
