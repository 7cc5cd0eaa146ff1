//! What can be said on the command line. Help, man page and completions come from here.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use murphy_fault::plan::{Backend, Choice};

/// Make things go wrong for the processes you name, and nobody else.
#[derive(Debug, Parser)]
#[command(
    name = "murphy",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What murphy can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command under faults; the exit status is the command's
    #[command(after_long_help = FAULTS)]
    Run(RunArgs),
    /// Inject faults into processes that already run; Ctrl-C undoes it
    #[command(after_long_help = FAULTS)]
    Inject(InjectArgs),
    /// Repeat the decisions of an events file, or run a command under its faults and seed
    Replay(ReplayArgs),
    /// Show what is active on this machine; with --id, the exit status says whether that is
    Status(StatusArgs),
    /// End injections by their ids, and return when they are reverted
    Stop(StopArgs),
    /// Let an injection that was started with --keepalive go on
    Renew(RenewArgs),
    /// Undo what injectors left that died together with their guardians
    Recover(RecoverArgs),
    /// Stop every injection on this machine, and refuse new ones until `murphy resume`
    Panic(PanicArgs),
    /// Allow injections again after `murphy panic`
    Resume(ResumeArgs),
    /// Serve faults over HTTP at a Unix socket, and metrics; what clients do not renew ends
    Serve(super::serve::ServeArgs),
    /// Say what this kernel can do, what serves each fault, and what is missing
    Doctor(DoctorArgs),
    /// Run, check and list experiments in Chaos Toolkit's format
    Experiment(super::experiment::args::ExperimentArgs),
    /// Play an experiment step by step, harder while its hypothesis holds
    Gameday(super::suite::GamedayArgs),
    /// Play experiments by the clock, as cron says it
    Schedule(super::suite::ScheduleArgs),
    /// Play experiments at random, in business hours
    Monkey(super::suite::MonkeyArgs),
    /// Report on experiments as a page, Markdown, XML for CI, or JSON; two journals are compared
    Report(super::report::ReportArgs),
    /// Say Toxiproxy's toxics, and the lines of chaos scripts, as faults or experiments
    Convert(super::convert::ConvertArgs),
    /// Print the man page, in roff
    #[command(hide = true)]
    Man {
        /// Of which command; murphy itself if none is named.
        #[arg(value_name = "COMMAND")]
        of: Option<String>,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

const FAULTS: &str = "\
A fault is OPS[:KEY=VALUE]…

  connect:error=ECONNREFUSED:port=5432     connections to port 5432 are refused
  egress:loss=10%:dst=10.0.0.0/8,cache     a tenth of the packets sent there, and to the host `cache`, is lost
  net:loss=5%                              the same in both directions, to anybody
  dns:rcode=NXDOMAIN:name=*.example.com    these names cannot be resolved
  http:status=503:path=/api/*:p=20%        a fifth of these responses says 503
  write:error=ENOSPC:on=file               the disk is full
  openat:error=EACCES:p=50%                every second open is denied, at random
  read:error=EIO:when=3..9+2               the 3rd, 5th, 7th and 9th read fail

  write:error=EIO:comm=redis,!sh           of a redis, whomever else the command hits; not of a sh

  targets:  pid=N comm=NAME exe=PATH uid=USER cgroup=PATH container=ID unit=NAME; !X spares X
  triggers: p=5%  when=F..L+S (as strace)  times=N  after=D  for=D  seed=N
            pulse=ON/OFF (active ON, quiet OFF, by turns)  rate_limit=N/s (or /m, /h)  over=N/s

Exit status of `run`: the command's; 125 if murphy itself fails, 126 and 127 if the
command cannot be executed or found, 128+n if signal n ended it. Of the others: 0, 1 failed,
2 usage, 75 somebody else is in the way, 77 a privilege or kernel feature is missing.";

/// What `run` and `inject` have in common.
#[derive(Debug, Args)]
pub struct FaultArgs {
    /// A fault, for example connect:error=ECONNREFUSED:port=5432; may be repeated
    #[arg(short = 'e', long = "fault", value_name = "FAULT", required = true)]
    pub faults: Vec<String>,
    /// Seed of all random decisions; printed at the end, so that a run can be repeated
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long injections go on if murphy itself hangs or is stopped
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s", hide_short_help = true)]
    pub lease: Duration,
    /// The name by which `murphy stop` and `status` know it, instead of one of murphy's choice
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Why, for whoever looks at `murphy status` or the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who wants it, where the daemon injects for a client: noted beside the reason
    #[arg(long, value_name = "TEXT", hide = true)]
    pub asked_by: Option<String>,
    /// Show what would be attached, who would be hit, and what a policy refuses; do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// A policy that must allow it too, beside /etc/murphy/policy.toml; may be repeated
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub policy: Vec<PathBuf>,
    /// Append who does what to whom, and how it ended, to FILE, or to journald; may be repeated
    #[arg(long, value_name = "FILE|journald", hide_short_help = true)]
    pub audit: Vec<String>,
    /// Write the result as JSON, in one line
    #[arg(long)]
    pub json: bool,
    /// Write the result to a file instead of standard error
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write a line for each injection as it happens, as strace does, on standard error or to
    /// FILE; with -v also for matches that were left alone
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub trace: Option<PathBuf>,
    /// Write every match and what became of it to FILE, a JSON object a line; `murphy replay`
    /// reads it
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Count also what callers saw: the calls that came back with the error that was injected. Every
    /// process on the machine pays for it, at each of its system calls
    #[arg(long)]
    pub observe: bool,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say what is being done; -vvv also what becomes of each connect and packet, and why
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl FaultArgs {
    /// Whether lines of the kernel programs are wanted.
    pub const fn wants_lines(&self) -> bool {
        self.verbose >= 3
    }

    /// The reason with the client that asked, for records and audit logs. A policy that requires a reason does not look at this.
    pub fn noted_reason(&self) -> Option<String> {
        match (&self.reason, &self.asked_by) {
            (Some(reason), Some(by)) => Some(format!("{reason} ({by})")),
            (reason, by) => reason.as_ref().or(by.as_ref()).cloned(),
        }
    }
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Faults and output.
    #[command(flatten)]
    pub common: FaultArgs,
    /// Inject for this long after the command has started, then let it run on
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub limit: Option<Duration>,
    /// Run the command as this user: a name or an id. It gains no privileges by set-user-ID
    /// programs, and has no controlling terminal
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// With -u: let the command use sudo and other set-user-ID programs, and keep this terminal.
    /// DANGEROUS with a user who is not trusted: under injected faults such a program may not give
    /// its privileges up, and the command can type into this terminal as you
    #[arg(long, requires = "user")]
    pub allow_new_privileges: bool,
    /// What carries the faults out; auto takes the first that can, fault by fault
    #[arg(long, value_enum, default_value_t = BackendArg::Auto, value_name = "WHAT")]
    pub backend: BackendArg,
    /// Spare the dynamic loader: arm when the command reaches its entry point, not at its exec
    #[arg(long)]
    pub skip_loader: bool,
    /// What becomes of processes that outlive the command
    #[arg(long, value_enum, default_value_t = Orphans::Release, value_name = "WHAT")]
    pub orphans: Orphans,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What carries faults out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// bpf where this machine has it and it has the fault, else override, else uprobe or, of run, seccomp
    Auto,
    /// Programs in the kernel; needs root
    Bpf,
    /// Probes on the functions of system calls; needs root and a kernel with error injection
    Override,
    /// Probes in the code of what already runs; needs root and a kernel that lets them write registers
    Uprobe,
    /// A filter and a supervisor; any user, system calls only
    Seccomp,
    /// Probes that keep a processor busy; needs root; delays of 10 ms at most
    Spin,
}

impl From<BackendArg> for Choice {
    fn from(said: BackendArg) -> Self {
        match said {
            BackendArg::Auto => Self::Auto,
            BackendArg::Bpf => Self::Only(Backend::Bpf),
            BackendArg::Override => Self::Only(Backend::Override),
            BackendArg::Uprobe => Self::Only(Backend::Uprobe),
            BackendArg::Seccomp => Self::Only(Backend::Seccomp),
            BackendArg::Spin => Self::Only(Backend::Spin),
        }
    }
}

/// What becomes of processes that outlive the command of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Orphans {
    /// The faults end with the command; the processes go on without
    Release,
    /// The faults go on until the last of them has ended
    Wait,
    /// They are killed
    Kill,
}

/// Arguments of `inject`.
#[derive(Debug, Args)]
pub struct InjectArgs {
    /// Faults and output.
    #[command(flatten)]
    pub common: FaultArgs,
    /// Whom to hit.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// What carries the faults out; auto takes the first that can, fault by fault
    #[arg(long, value_enum, default_value_t = BackendArg::Auto, value_name = "WHAT")]
    pub backend: BackendArg,
    /// Inject for this long, then undo everything and exit
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub limit: Duration,
    /// Return once everything is armed, print the id, and go on in the background
    #[arg(long)]
    pub detach: bool,
    /// End unless `murphy renew` comes at least this often
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub keepalive: Option<Duration>,
}

/// Whom `inject` hits: the union of all that is named, without what has a `!` before it.
#[derive(Debug, Args)]
#[group(multiple = true)]
#[command(next_help_heading = "Targets (may be repeated; '!VALUE' spares instead)")]
pub struct TargetArgs {
    /// This process and all its descendants
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<Picked<u32>>,
    /// This thread alone (system calls; packets have no thread)
    #[arg(long = "tid", value_name = "TID")]
    pub threads: Vec<Picked<u32>>,
    /// This cgroup and those below it: absolute, or below the cgroup2 mount
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<Picked<String>>,
    /// Processes of this user (real user id), by name or number
    #[arg(long = "uid", value_name = "USER")]
    pub users: Vec<Picked<String>>,
    /// Processes of this name, exactly; the kernel keeps 15 characters
    #[arg(long = "comm", value_name = "NAME")]
    pub comms: Vec<Picked<String>>,
    /// Processes that execute this file, whatever they are called; it need not run yet
    #[arg(long = "exe", value_name = "PATH")]
    pub exes: Vec<Picked<String>>,
    /// This container, by id, beginning of its id, or name (docker, podman, cri-o; containerd by id)
    #[arg(long = "container", value_name = "ID")]
    pub containers: Vec<Picked<String>>,
    /// This systemd unit; without a type, a service
    #[arg(long = "unit", value_name = "NAME")]
    pub units: Vec<Picked<String>>,
    /// Processes in this network namespace: a name of `ip netns`, a path, or the id of a process that is in it
    #[arg(long = "netns", value_name = "NAME|PATH|PID")]
    pub namespaces: Vec<Picked<String>>,
    /// Every process that is not exempt
    #[arg(long)]
    pub all: bool,
    /// Hit sshd, container runtimes and systemd's own processes too, if they are named
    #[arg(long)]
    pub no_exempt: bool,
}

/// A value that is named to be hit, or with `!` before it to be spared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked<T> {
    /// Whether it is spared.
    pub spared: bool,
    /// The value.
    pub value: T,
}

impl<T: FromStr> FromStr for Picked<T>
where
    T::Err: Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (spared, value) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if value.is_empty() {
            return Err("a value is missing".to_owned());
        }
        match value.parse() {
            Ok(value) => Ok(Self { spared, value }),
            Err(error) => Err(T::Err::to_string(&error)),
        }
    }
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A file that `run` or `inject` wrote with --events. Each of its decisions is made again
    /// from fault, seed, match number and time; the status is 0 if all agree, 1 if not
    #[arg(value_name = "EVENTS")]
    pub events: PathBuf,
    /// Run this command under the file's faults with its seed instead: decisions repeat by
    /// match number, the program's own timing does not
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this injection; the status is 0 if it is active, 1 if not
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The injections, as `murphy status` names them
    #[arg(
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub ids: Vec<String>,
    /// Every one that is active
    #[arg(long)]
    pub all: bool,
    /// Why, for whoever started it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long an injector may take to revert; then it is killed, and its guardian reverts
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// The injection, as `murphy status` names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Say what would be undone, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `panic`.
#[derive(Debug, Args)]
pub struct PanicArgs {
    /// Why, for whoever is refused
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Write JSON, in one line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Say it of these faults only; may be repeated
    #[arg(short = 'e', long = "fault", value_name = "FAULT")]
    pub faults: Vec<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// A duration as in fault expressions, longer than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = murphy_fault::expr::duration(text).map_err(|mistake| mistake.to_string())?;
    match nanos.0 {
        0 => Err("a duration is longer than nothing".to_owned()),
        _ => Ok(nanos.into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_after_the_command_are_its_own() {
        let cli = Cli::parse_from([
            "murphy",
            "run",
            "-e",
            "net:loss=1%",
            "--",
            "ls",
            "-l",
            "--json",
        ]);
        let Command::Run(args) = cli.command else {
            panic!()
        };
        assert_eq!(args.command, ["ls", "-l", "--json"]);
        assert!(!args.common.json);
    }

    #[test]
    fn an_exclamation_mark_spares() {
        let picked = |text: &str| text.parse::<Picked<u32>>();
        let value = |spared| Ok(Picked { spared, value: 12 });
        assert_eq!(picked("12"), value(false));
        assert_eq!(picked("!12"), value(true));
        assert!(picked("!").is_err() && picked("").is_err() && picked("x").is_err());
    }

    #[test]
    fn targets_combine() {
        let parse = |args: &[&str]| {
            let args = ["murphy", "inject", "-e", "net:loss=1%"].iter().chain(args);
            Cli::try_parse_from(args).is_ok()
        };
        // A fault may say it itself.
        assert!(parse(&[]) && parse(&["--all"]));
        assert!(parse(&["--uid", "me", "--comm", "!sh", "--pid", "1"]));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").is_err());
        assert!(duration("0s").is_err());
    }
}
