//! `--trace` and `--events`: writes down the decisions that the kernel programs tell.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chaos_common::event::Event;
use chaos_common::log::LINES;
use tokio::io::unix::AsyncFd;

use super::args::FaultArgs;
use super::failure::Failure;
use super::signals::register;
use super::writer::Writer;
use murphy_engine::{End, Header, Line, Match, Report, Verdict};
use murphy_fault::plan::Plan;
use murphy_kernel::listen::Listen;
use murphy_kernel::{Events, Log};
use murphy_mechanisms::seccomp::Told;

/// How many events are read at a time, so that neither lease nor signals wait: on an emulated
/// processor an event takes a third of a millisecond.
const AT_ONCE: usize = 128;

/// What errors call it.
const STDERR: &str = "standard error";

/// Files and streams for events; made before anything is begun, so that one that cannot
/// be written is told in time.
pub(super) struct Sinks {
    trace: Option<Sink>,
    events: Option<Sink>,
    /// What murphy says meanwhile, on standard error.
    notices: Writer,
    plan: Plan,
    /// Matches that were left alone are traced too.
    all: bool,
    /// Lines about connects and packets are wanted.
    lines: bool,
}

struct Sink {
    path: PathBuf,
    to: Writer,
}

impl Sink {
    fn new(path: PathBuf, to: Box<dyn Write + Send>) -> Self {
        let to = Writer::new(to);
        Self { path, to }
    }

    fn create(path: &PathBuf) -> Result<File, Failure> {
        File::create(path).map_err(|source| Self::failure(path, source))
    }

    fn failure(path: &Path, source: io::Error) -> Failure {
        Failure::Output {
            path: path.to_owned(),
            source,
        }
    }

    /// Waits until everything is written.
    fn finish(&mut self) -> Result<(), Failure> {
        let written = self.to.finish();
        written.map_err(|source| Self::failure(&self.path, source))
    }
}

/// A line of the events file.
fn json(line: &Line) -> Vec<u8> {
    // Nothing in a line fails to be written as JSON.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
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
                Some(Sink::new(STDERR.into(), Box::new(io::stderr())))
            }
            Some(path) => Some(Sink::new(path.clone(), Box::new(Sink::create(path)?))),
        };
        let events = match &args.events {
            None => None,
            Some(path) => {
                let mut file = Sink::create(path)?;
                let header = json(&Line::Plan(Header::new(plan, seed, limit)));
                file.write_all(&header)
                    .map_err(|source| Sink::failure(path, source))?;
                Some(Sink::new(path.clone(), Box::new(file)))
            }
        };
        Ok(Self {
            trace,
            events,
            notices: Writer::new(Box::new(io::stderr())),
            plan: plan.clone(),
            all: args.verbose > 0,
            lines: args.wants_lines(),
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
            let text = format!("{}\n", line.trace(&self.plan));
            trace.to.line(text.as_bytes());
        }
        if let Some(events) = &mut self.events {
            events.to.line(&json(&Line::Match(line)));
        }
    }

    /// Says something on standard error, in the order of the trace if that is there too.
    fn notice(&mut self, text: &str) {
        let line = format!("{text}\n");
        let to = match &mut self.trace {
            Some(trace) if trace.path == Path::new(STDERR) => &mut trace.to,
            _ => &mut self.notices,
        };
        to.line(line.as_bytes());
        to.flush();
    }

    /// Hands over what was written.
    fn flush(&mut self) {
        for sink in [&mut self.trace, &mut self.events].into_iter().flatten() {
            sink.to.flush();
        }
    }

    /// How many lines found no room, as their reader did not read.
    fn lost(&self) -> u64 {
        let sinks = [&self.trace, &self.events].into_iter().flatten();
        sinks.map(|sink| sink.to.lost()).sum()
    }
}

/// Reads events and writes them down.
pub(super) struct Listener {
    events: Option<AsyncFd<Events>>,
    told: Option<AsyncFd<Told>>,
    log: Option<AsyncFd<Log>>,
    sinks: Sinks,
}

impl Listener {
    /// Listens to kernel programs and to a supervisor, inside a tokio runtime.
    pub(super) fn new(
        events: Option<Events>,
        told: Option<Told>,
        log: Option<Log>,
        mut sinks: Sinks,
    ) -> io::Result<Self> {
        if sinks.lines && log.is_none() {
            sinks.notice("murphy: -vvv adds nothing: no kernel program is on connects or packets");
        }
        Ok(Self {
            log: log.map(register).transpose()?,
            events: events.map(register).transpose()?,
            told: told.map(register).transpose()?,
            sinks,
        })
    }

    /// Says something on standard error. Never waits for its reader, unlike [`super::output::tell`],
    /// which must not be used while faults are armed.
    pub(super) fn notice(&mut self, text: &str) {
        self.sinks.notice(text);
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
            lines = some(&mut self.log, Log::take) => {
                for line in lines? {
                    self.sinks.notice(&line);
                }
                Vec::new()
            }
        };
        for event in &batch {
            self.sinks.write(Match::new(event));
        }
        self.sinks.flush();
        // A source that is ready again and again would keep the runtime from looking at its timers,
        // and so the lease from being renewed. Nothing is lost if this is not waited for.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Writes down what is left once the session has ended, and the last line. What was lost on
    /// the way is added to the report. Waits for readers: nothing is held up by it any more.
    ///
    /// # Errors
    ///
    /// The first thing that could not be written.
    pub(super) fn finish(mut self, ended: &str, report: &mut Report) -> Result<(), Failure> {
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
        if let Some(log) = &mut self.log {
            let log = log.get_mut();
            while let Some(line) = log.take() {
                self.sinks.notice(&line);
            }
            let more = log.left_out();
            if more > 0 {
                self.sinks.notice(&format!(
                    "murphy: {more} lines more: -vvv writes at most {LINES} a second"
                ));
            }
        }
        self.sinks.flush();
        let lost = self.sinks.lost();
        if lost > 0 {
            *report.events_lost.get_or_insert(0) += lost;
        }
        if let Some(events) = &mut self.sinks.events {
            let end = Line::End(End {
                ended: ended.to_owned(),
                armed_at_ns: report.armed_at_ns,
                lost: report.events_lost.unwrap_or(0),
                report: report.clone(),
            });
            events.to.last_line(&json(&end));
        }
        let trace = self.sinks.trace.as_mut().map_or(Ok(()), Sink::finish);
        let events = self.sinks.events.as_mut().map_or(Ok(()), Sink::finish);
        // A standard error that is closed or full does not change what came of the faults.
        let _ = self.sinks.notices.finish();
        match trace {
            // A reader that closed the trace does not want to read it.
            Err(Failure::Output { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        events
    }
}

/// Waits for events of one source, and takes as many as there are, within bounds; for ever where there is no source.
async fn some<T: std::os::fd::AsRawFd, E>(
    source: &mut Option<AsyncFd<T>>,
    take: impl Fn(&mut T) -> Option<E>,
) -> io::Result<Vec<E>> {
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
