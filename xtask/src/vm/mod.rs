//! `cargo xtask vm`: boots a kernel, runs a command in it, passes its output and its status through.

pub(crate) mod build;
pub(crate) mod console;
pub(crate) mod initrd;
mod ports;
mod prefix;
pub(crate) mod qemu;
mod terminal;

use std::{
    env, fs,
    io::{IsTerminal as _, read_to_string, stderr, stdin, stdout},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::{
    initrd::Job,
    prefix::Prefixed,
    qemu::{End, Machine, Outcome, Streams},
};
use crate::{
    cache::Cache,
    emulator, image,
    kernels::{self, Kernel},
};

/// Exit statuses of our own; everything else is the command's.
pub(crate) mod status {
    /// The runner failed: QEMU, an image or a kernel is missing, or the boot went nowhere.
    pub(crate) const RUNNER: u8 = 69;
    /// The kernel panicked or locked up.
    pub(crate) const PANIC: u8 = 70;
    /// As `timeout(1)` has it.
    pub(crate) const TIMEOUT: u8 = 124;
    /// As the shell has it for SIGINT.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Boot kernels and run a command in each, as root
///
/// The exit status is the command's; 69: the runner failed, 70: the kernel panicked, 124: timeout.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// bookworm, trixie, sid, bullseye, override, or the path of a vmlinuz (may be repeated)
    #[arg(long, default_value = "bookworm", value_name = "KERNEL")]
    kernel: Vec<String>,
    /// From the boot's start to the command's end
    #[arg(long, default_value = "300s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// The guest's memory
    #[arg(long, default_value = "2G", value_name = "SIZE")]
    mem: String,
    /// The guest's CPUs
    #[arg(long, default_value_t = 2, value_name = "N")]
    smp: u8,
    /// A file to put on the guest's PATH (may be repeated)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    payload: Vec<PathBuf>,
    /// Set a variable for the command (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Take the murphy that was built last time
    #[arg(long)]
    no_build: bool,
    /// A shell for a person
    #[arg(long, conflicts_with_all = ["command", "timeout"])]
    shell: bool,
    /// QEMU's accelerator
    #[arg(long, default_value = "tcg,thread=multi", value_name = "ACCEL")]
    accel: String,
    /// More words for the kernel's command line
    #[arg(long, default_value = "", value_name = "WORDS")]
    append: String,
    /// Say how long each phase took, and what the kernel warned about
    #[arg(short, long)]
    verbose: bool,
    /// The command; a single word is given to `sh -c`
    #[arg(last = true, required_unless_present = "shell")]
    command: Vec<String>,
}

/// Runs the command; the status to exit with.
pub(crate) fn run(args: &Args) -> u8 {
    run_all(args).unwrap_or_else(|error| {
        eprintln!("vm: {error:#}");
        status::RUNNER
    })
}

fn run_all(args: &Args) -> Result<u8> {
    let cache = Cache::open()?;
    // Everything that can be missing is looked for before anything is built.
    let kernels: Vec<Kernel> = args
        .kernel
        .iter()
        .map(|name| kernels::find(&cache, name))
        .collect::<Result<_>>()?;
    if args.shell && kernels.len() != 1 {
        bail!("--shell takes one --kernel");
    }
    let machine = Machine {
        emulator: emulator::find(&cache)?,
        root_image: image::find(&cache)?,
        memory: args.mem.clone(),
        cpus: args.smp,
        accel: args.accel.clone(),
        timeout: if args.shell {
            Duration::MAX
        } else {
            args.timeout
        },
        boot_timeout: BOOT_TIMEOUT.min(args.timeout),
        append: args.append.clone(),
    };
    let begun = Instant::now();
    let mut payload = args.payload.clone();
    let murphy = if args.no_build {
        build::murphy_as_built()
    } else {
        Some(build::murphy(build::Profile::Vm)?)
    };
    match murphy {
        Some(path) => payload.push(path),
        None => eprintln!("vm: no murphy was built before; going on without"),
    }
    if args.verbose {
        eprintln!("vm: build {:.1} s", begun.elapsed().as_secs_f64());
    }
    let mut first_bad = 0;
    for kernel in &kernels {
        let status = one(args, &cache, &machine, kernel, &payload, kernels.len() > 1)?;
        if first_bad == 0 {
            first_bad = status;
        }
        if status == status::INTERRUPTED {
            break;
        }
    }
    Ok(first_bad)
}

/// No kernel needs so long, even on a machine that is busy with something else.
pub(crate) const BOOT_TIMEOUT: Duration = Duration::from_secs(90);

fn one(
    args: &Args,
    cache: &Cache,
    machine: &Machine,
    kernel: &Kernel,
    payload: &[PathBuf],
    prefixed: bool,
) -> Result<u8> {
    let mut environment = environment(kernel);
    environment.extend(args.env.iter().cloned());
    // What is piped into `--shell` is a script; only a person needs a terminal.
    let terminal = args.shell && stdin().is_terminal();
    if terminal {
        let (rows, columns) = terminal::size();
        environment.push(("MURPHY_VM_SHELL".into(), "1".into()));
        environment.push(("MURPHY_VM_ROWS".into(), rows.to_string()));
        environment.push(("MURPHY_VM_COLS".into(), columns.to_string()));
        environment.push((
            "TERM".into(),
            env::var("TERM").unwrap_or_else(|_| "dumb".into()),
        ));
        environment.push(("PS1".into(), format!("{} \\w # ", kernel.name)));
    }
    let job = Job {
        command: if args.shell && !terminal {
            read_to_string(stdin())?
        } else {
            script(&args.command)
        },
        environment,
        payload,
    };
    let prefix = if prefixed {
        format!("{:<8} | ", kernel.name)
    } else {
        String::new()
    };
    let streams = if prefixed {
        Streams {
            stdout: Box::new(Prefixed::new(prefix.as_str(), stdout())),
            stderr: Box::new(Prefixed::new(prefix.as_str(), stderr())),
            events: Box::new(|_| {}),
        }
    } else {
        Streams {
            stdout: Box::new(stdout()),
            stderr: Box::new(stderr()),
            events: Box::new(|_| {}),
        }
    };
    let outcome = {
        let _raw = terminal.then(terminal::Raw::enter).transpose()?;
        qemu::boot(
            machine,
            kernel,
            &job,
            streams,
            terminal.then_some(terminal::join),
        )?
    };
    if args.verbose {
        let p = &outcome.phases;
        eprintln!(
            "vm: {} {}: initrd {:.1} s, boot {:.1} s, command {:.1} s",
            kernel.name,
            kernel.release,
            p.initrd.as_secs_f64(),
            p.boot.as_secs_f64(),
            p.command.as_secs_f64()
        );
        for line in console::warnings(&outcome.console) {
            eprintln!("vm: {}: {line}", kernel.name);
        }
    }
    report(cache, kernel, &outcome, args.timeout)
}

/// What every command in a guest finds in its environment.
pub(crate) fn environment(kernel: &Kernel) -> Vec<(String, String)> {
    vec![
        ("MURPHY_VM_KERNEL".into(), kernel.name.clone()),
        ("MURPHY_VM_RELEASE".into(), kernel.release.clone()),
        ("MURPHY_BIN".into(), "/murphy/bin/murphy".into()),
    ]
}

/// Says what went wrong, if it was not the command, and keeps the console then.
fn report(cache: &Cache, kernel: &Kernel, outcome: &Outcome, timeout: Duration) -> Result<u8> {
    let name = &kernel.name;
    let status = match &outcome.end {
        End::Exit(status) => return Ok(*status),
        End::Interrupted => return Ok(status::INTERRUPTED),
        End::Panic(text) => {
            eprintln!(
                "vm: {name}: the kernel died: {}\n{text}",
                console::headline(text)
            );
            status::PANIC
        }
        End::Timeout => {
            eprintln!("vm: {name}: timed out after {} s", timeout.as_secs());
            status::TIMEOUT
        }
        End::Runner(text) => {
            eprintln!(
                "vm: {name}: {text}\nvm: if this goes on, `cargo xtask setup --only vm --refresh` may help"
            );
            status::RUNNER
        }
    };
    eprintln!(
        "vm: {name}: console log: {}",
        keep_console(cache, kernel, outcome)?.display()
    );
    Ok(status)
}

/// Keeps the console of a boot that went wrong; one per kernel.
pub(crate) fn keep_console(cache: &Cache, kernel: &Kernel, outcome: &Outcome) -> Result<PathBuf> {
    fs::create_dir_all(cache.logs())?;
    let file = cache
        .logs()
        .join(format!("{}.log", kernel.name.replace('/', "_")));
    fs::write(&file, &outcome.console)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// One word is a script, several are a command and its arguments.
fn script(command: &[String]) -> String {
    match command {
        [one] => one.clone(),
        words => {
            let words: Vec<_> = words.iter().map(|w| initrd::quote(w)).collect();
            format!("exec {}", words.join(" "))
        }
    }
}

/// `300`, `300s`, `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a time such as 300s or 5m".to_owned())?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(format!("unknown unit {unit:?}: s or m")),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_scripts() {
        assert_eq!(script(&["a; b".into()]), "a; b");
        assert_eq!(script(&["echo".into(), "a b".into()]), "exec 'echo' 'a b'");
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5x").is_err());
        assert!(duration("soon").is_err());
    }
}
