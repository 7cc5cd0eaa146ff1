//! One boot: starts QEMU, carries the guest's streams, says how it ended, leaves nothing behind.

use std::{
    fs,
    io::Write,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    console,
    initrd::{self, Job},
    ports::{Event, Listeners, PORTS},
};
use crate::{cost, emulator::Emulator, kernels::Kernel, sh};

/// The machine to boot on.
pub(crate) struct Machine {
    pub(crate) emulator: Emulator,
    pub(crate) root_image: PathBuf,
    pub(crate) memory: String,
    pub(crate) cpus: u8,
    pub(crate) accel: String,
    /// From the start of QEMU to the end of the command.
    pub(crate) timeout: Duration,
    /// From the start of QEMU to the start of the command.
    pub(crate) boot_timeout: Duration,
    /// More of the kernel's command line.
    pub(crate) append: String,
}

/// Where the guest's streams go.
pub(crate) struct Streams {
    pub(crate) stdout: Box<dyn Write + Send>,
    pub(crate) stderr: Box<dyn Write + Send>,
    /// Lines written to `/murphy/events`.
    pub(crate) events: Box<dyn FnMut(&str) + Send>,
}

/// How a boot ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The command ran to its end.
    Exit(u8),
    /// The kernel died under it; what the console says.
    Panic(String),
    Timeout,
    Interrupted,
    /// It never came to the command, or the machine went away without a word.
    Runner(String),
}

/// How long each phase took.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    pub(crate) initrd: Duration,
    /// From QEMU's start to the command's.
    pub(crate) boot: Duration,
    pub(crate) command: Duration,
}

/// A finished boot.
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) phases: Phases,
    pub(crate) console: String,
}

/// QEMU, ended by its own pid whatever happens.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about other errors.
        let _ = self.0.kill();
        let _ = cost::wait(&mut self.0);
    }
}

/// Boots `kernel` and runs `job` in it. With `terminal` the job is a person's shell on hvc0.
pub(crate) fn boot(
    machine: &Machine,
    kernel: &Kernel,
    job: &Job,
    streams: Streams,
    terminal: Option<fn(UnixStream) -> Result<()>>,
) -> Result<Outcome> {
    sweep();
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir()?;
    let mut phases = Phases::default();
    let begun = Instant::now();
    let archive = dir.path().join("initrd");
    initrd::write(&archive, kernel, job)?;
    phases.initrd = begun.elapsed();

    let listeners = Listeners::open(dir.path(), terminal.is_some())?;
    let started = Instant::now();
    let mut qemu = Guard(start(machine, kernel, dir.path(), terminal.is_some())?);
    let (events, inbox) = channel();
    listeners.serve(&mut qemu.0, streams, &events, terminal)?;

    let (end, command_started) = follow(machine, &mut qemu.0, &inbox, started)?;
    if let Some(at) = command_started {
        phases.boot = at - started;
        phases.command = at.elapsed();
    }
    drop(qemu);
    let console = fs::read(dir.path().join("console")).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).replace('\r', "");
    let end = match end {
        Ending::Told(end) => end,
        Ending::Silent => match console::verdict(&console) {
            Some(verdict) if command_started.is_some() => End::Panic(verdict),
            _ if command_started.is_some() => End::Runner(format!(
                "the machine stopped without a word:\n{}",
                sh::tail(&console, 20)
            )),
            _ => {
                let said = fs::read_to_string(dir.path().join("qemu.log")).unwrap_or_default();
                End::Runner(format!(
                    "the boot never reached the command:\n{}\n{}",
                    sh::tail(&said, 10),
                    sh::tail(&console, 20)
                ))
            }
        },
    };
    Ok(Outcome {
        end,
        phases,
        console,
    })
}

/// What our scratch folders are called, before the pid.
const SCRATCH: &str = "murphy-vm-";

/// Removes the scratch folders of runners that were killed.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(SCRATCH)
            .and_then(|r| r.split_once('-')?.0.parse::<u32>().ok());
        if let Some(pid) = pid
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            // Somebody else's, or being removed by another runner just now.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The processor that is emulated. One with fewer instructions than `max` is faster: programs do not
/// pick AVX2, page tables have four levels. `rdrand` seeds the kernel's random numbers at boot.
const CPU: &str = "Nehalem,+rdrand";

fn start(machine: &Machine, kernel: &Kernel, dir: &Path, terminal: bool) -> Result<Child> {
    let mut qemu = machine.emulator.command();
    let at = |name: &str| dir.join(name).display().to_string();
    qemu.args(["-accel", &machine.accel, "-cpu", CPU, "-m", &machine.memory])
        .args(["-smp", &machine.cpus.to_string()])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .args(["-serial", &format!("file:{}", at("console"))])
        .arg("-kernel")
        .arg(&kernel.image)
        .args(["-initrd", &at("initrd")])
        .args(["-append", &append(machine)])
        .args([
            "-drive",
            &disk(&machine.root_image, "root"),
            "-device",
            "virtio-blk-pci,drive=root",
        ])
        .args(["-device", "virtio-serial-pci,max_ports=8"]);
    if let Some(modules) = &kernel.modules {
        qemu.args([
            "-drive",
            &disk(modules, "modules"),
            "-device",
            "virtio-blk-pci,drive=modules",
        ]);
    }
    for port in PORTS {
        qemu.args(["-chardev", &format!("socket,id={port},path={}", at(port))])
            .args([
                "-device",
                &format!("virtserialport,chardev={port},name=murphy.{port}"),
            ]);
    }
    if terminal {
        qemu.args([
            "-chardev",
            &format!("socket,id=terminal,path={}", at("terminal")),
        ])
        .args(["-device", "virtconsole,chardev=terminal"]);
    }
    let log = fs::File::create(dir.join("qemu.log"))?;
    qemu.stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in the terminal is for us: we end QEMU when the streams are dealt with.
        .process_group(0);
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        qemu.pre_exec(|| {
            let signal = Some(rustix::process::Signal::KILL);
            Ok(rustix::process::set_parent_process_death_signal(signal)?)
        });
    }
    qemu.spawn()
        .with_context(|| format!("cannot start {}", qemu.get_program().display()))
}

fn append(machine: &Machine) -> String {
    // On a busy machine the emulated timer is late when the kernel looks whether it works; it does.
    // Stuck kernels panic, panics end QEMU (-no-reboot), and its end is what we wait for.
    format!(
        "console=ttyS0 loglevel=5 panic=-1 oops=panic softlockup_panic=1 hung_task_panic=1 \
         no_timer_check lsm=landlock,bpf nokaslr mitigations=off random.trust_cpu=on {}",
        machine.append
    )
}

fn disk(image: &Path, id: &str) -> String {
    // A comma in a path is written twice.
    let path = image.display().to_string().replace(',', ",,");
    format!("file={path},format=raw,if=none,readonly=on,id={id}")
}

enum Ending {
    Told(End),
    /// QEMU is gone and the guest had not said that it was done.
    Silent,
}

/// Follows the guest to its end. Also says when the command started.
fn follow(
    machine: &Machine,
    qemu: &mut Child,
    inbox: &Receiver<Event>,
    started: Instant,
) -> Result<(Ending, Option<Instant>)> {
    let mut command_started = None;
    loop {
        match inbox.recv_timeout(Duration::from_millis(20)) {
            Ok(Event::Control(line)) => {
                if line == "started" {
                    command_started = Some(Instant::now());
                } else if let Some(status) = line.strip_prefix("exit ") {
                    let status: i32 = status.trim().parse().context("a malformed status")?;
                    drain(qemu, inbox);
                    let status = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
                    return Ok((Ending::Told(End::Exit(status)), command_started));
                }
                continue;
            }
            Ok(Event::Closed) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(20)),
        }
        if sh::interrupted() {
            return Ok((Ending::Told(End::Interrupted), command_started));
        }
        if cost::try_wait(qemu)?.is_some() {
            return Ok((Ending::Silent, command_started));
        }
        if command_started.is_none() && started.elapsed() > machine.boot_timeout {
            return Ok((Ending::Silent, None));
        }
        if started.elapsed() > machine.timeout {
            return Ok((Ending::Told(End::Timeout), command_started));
        }
    }
}

/// The guest is done: what it wrote before is in QEMU's hands already. Ends QEMU in an orderly way, so
/// that the sockets deliver it, and waits for the readers.
fn drain(qemu: &mut Child, inbox: &Receiver<Event>) {
    if let Some(pid) = i32::try_from(qemu.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        // It may be gone; the guard looks after what remains.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let until = Instant::now() + Duration::from_secs(5);
    let mut open = 3;
    while open > 0 && Instant::now() < until {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok(Event::Closed) => open -= 1,
            Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Control(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
