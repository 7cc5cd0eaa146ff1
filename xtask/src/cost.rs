//! Measures what each step of a run costs: wall time and CPU time, in one table.
//!
//! A step is charged with the children that its thread waits for through [`try_wait`] and [`wait`],
//! and with their descendants. The time of xtask itself and of all other children is the row `other`,
//! so that the rows add up to what the kernel counted for this process. A daemon that outlives its
//! parent is in no row: the kernel charges its time to nobody.

use std::{
    cell::RefCell,
    fmt::Write as _,
    fs, io,
    process::{Child, ExitStatus},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Finished steps and steps under way, in the order in which they began.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

thread_local! {
    /// The step that this thread works on.
    static CURRENT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one step. Steps of the same name share a row.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let outer = CURRENT.replace(Some(name.to_owned()));
    charge(name, Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    let result = work();
    charge(name, begun.elapsed(), Duration::ZERO);
    CURRENT.set(outer);
    result
}

fn charge(name: &str, wall: Duration, cpu: Duration) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
        row.wall += wall;
        row.cpu += cpu;
    } else {
        rows.push(Row {
            name: name.to_owned(),
            wall,
            cpu,
        });
    }
}

/// Like [`Child::try_wait`]; charges the child's CPU time to the step of this thread.
pub(crate) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    charge_ended(child, WaitIdOptions::NOHANG);
    child.try_wait()
}

/// Like [`Child::wait`]; charges the child's CPU time to the step of this thread.
pub(crate) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    charge_ended(child, WaitIdOptions::empty());
    child.wait()
}

/// Reads the times of a child that has ended, while the kernel still keeps them.
fn charge_ended(child: &Child, options: WaitIdOptions) {
    let Some(step) = CURRENT.with_borrow(Clone::clone) else {
        return;
    };
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    // An error means that the child was waited for before, and charged then.
    if let Some(id) = id
        && let Ok(Some(_)) = waitid(WaitId::Pid(id), options)
    {
        charge(
            &step,
            Duration::ZERO,
            times(&child.id().to_string()).unwrap_or_default().cpu,
        );
    }
}

/// What the kernel knows of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// User and system time, with that of descendants that were waited for.
    cpu: Duration,
    /// When it started, since boot.
    start: Duration,
}

/// Reads `/proc/PROCESS/stat`.
fn times(process: &str) -> Option<Times> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc_pid_stat(5): the name in parentheses may hold any character; the state, field 3, follows.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<u64> = rest
        .split(' ')
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let ticks = rustix::param::clock_ticks_per_second();
    let time = |ticks_used: u64| Duration::from_millis(ticks_used * 1000 / ticks.max(1));
    Some(Times {
        cpu: time(fields.get(11..15)?.iter().sum()),
        start: time(*fields.get(19)?),
    })
}

/// The cost of a whole run.
#[derive(Debug)]
pub(crate) struct Cost {
    rows: Vec<Row>,
    /// From the start of this process until now; its CPU time and that of all its descendants.
    whole: Row,
}

/// Takes stock of the steps so far.
pub(crate) fn so_far(before: Row) -> Cost {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let rows = std::iter::once(before).chain(rows).collect();
    let whole = since_start("sum");
    Cost { rows, whole }
}

/// What this process has cost since its start. At the start of `main` that is the build of xtask:
/// `cargo run` becomes xtask by execve(2), which keeps the process and its times.
pub(crate) fn since_start(name: &str) -> Row {
    let own = times("self").unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let now = uptime
        .split(' ')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .map_or(own.start, Duration::from_secs_f64);
    Row {
        name: name.to_owned(),
        wall: now.saturating_sub(own.start),
        cpu: own.cpu,
    }
}

impl Cost {
    /// All CPU time, of this process and its descendants.
    pub(crate) fn cpu(&self) -> Duration {
        self.whole.cpu
    }

    /// The table: a row for each step, `other` and the sum.
    pub(crate) fn render(&self, limit: Duration) -> String {
        let known: Duration = self.rows.iter().map(|row| row.cpu).sum();
        let other = self.whole.cpu.saturating_sub(known);
        let width = self.rows.iter().map(|row| row.name.len()).max();
        let width = width.unwrap_or_default().max("other".len());
        let mut out = format!("\n{:width$}  {:>10}  {:>10}\n", "cost", "wall", "CPU");
        let mut line = |name: &str, wall: Option<Duration>, cpu: Duration| {
            let wall = wall.map_or(String::new(), |wall| format!("{:.1} s", wall.as_secs_f64()));
            let cpu = format!("{:.1} s", cpu.as_secs_f64());
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:width$}  {wall:>10}  {cpu:>10}");
        };
        for row in &self.rows {
            line(&row.name, Some(row.wall), row.cpu);
        }
        // xtask itself waits more than it works: its wall time says nothing.
        line("other", None, other);
        line("sum", Some(self.whole.wall), self.whole.cpu);
        let _ = writeln!(
            out,
            "{:.1} CPU-minutes; a whole run may cost {:.0}",
            minutes(self.whole.cpu),
            minutes(limit)
        );
        out
    }
}

/// A duration in minutes.
pub(crate) fn minutes(duration: Duration) -> f64 {
    duration.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    fn row(name: &str) -> Row {
        let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().find(|row| row.name == name).cloned().unwrap()
    }

    fn sh(script: &str) {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        while try_wait(&mut child).unwrap().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        // Waiting once more charges nothing.
        wait(&mut child).unwrap();
    }

    #[test]
    fn steps_side_by_side_are_charged_with_their_own_children() {
        const WORK: &str = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let before = since_start("before").cpu;
        thread::scope(|scope| {
            // The work is done by a child of the child.
            scope.spawn(|| step("busy", || sh(&format!("sh -c '{WORK}'; true"))));
            scope.spawn(|| step("idle", || sh("sleep 0.3")));
        });
        let (busy, idle) = (row("busy"), row("idle"));
        assert!(busy.cpu >= Duration::from_millis(50), "{busy:?}");
        assert!(idle.cpu <= Duration::from_millis(30), "{idle:?}");
        assert!(idle.wall >= Duration::from_millis(300), "{idle:?}");
        let whole = since_start("whole").cpu.saturating_sub(before);
        // The kernel's figures are rounded to ticks.
        let known = busy.cpu + idle.cpu;
        assert!(known <= whole + Duration::from_millis(40), "{whole:?}");
    }

    #[test]
    fn children_outside_of_steps_are_other() {
        let row = |name: &str, wall, cpu| Row {
            name: name.to_owned(),
            wall: Duration::from_secs(wall),
            cpu: Duration::from_secs(cpu),
        };
        let cost = Cost {
            rows: vec![row("clippy", 10, 20), row("kernel sid", 60, 70)],
            whole: row("sum", 75, 96),
        };
        let text = cost.render(Duration::from_secs(60));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text.lines().map(words).collect();
        assert_eq!(
            lines,
            [
                "",
                "cost wall CPU",
                "clippy 10.0 s 20.0 s",
                "kernel sid 60.0 s 70.0 s",
                "other 6.0 s",
                "sum 75.0 s 96.0 s",
                "1.6 CPU-minutes; a whole run may cost 1",
            ]
        );
    }
}
