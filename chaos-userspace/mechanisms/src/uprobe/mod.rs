//! Answers system calls in the targets' own code: a uprobe before each `syscall` instruction that may
//! make such a call. Files that targets have mapped are decoded once, and probed where they make the
//! calls of some rules.
//!
//! Probes belong to files: a process that maps one later has them from the beginning. Files that no
//! target had mapped are found by looking again. Relies on uprobes that write registers
//! (`x86_64`); everything ends with the descriptors of links.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syscalls::Sysno;

use super::{
    Asked, Bench, Command, Context, Declaration, Exercise, MatrixRow, Mechanism, MechanismError,
    Offer, Offered, Result,
};
use crate::code::{self, Calls};
use murphy_fault::plan::{Backend, Hook, Target, Who};
use murphy_kernel::{Kernel, KernelError, Place};
use murphy_state::results::Report;
use murphy_sys::process::{Identity, ProcFolder, path_of_fd_here};
use murphy_sys::stat;
use rustix::fs::OFlags;

/// How often the targets' mappings are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Device and inode, as `/proc/PID/maps` spells them.
type FileId = (String, u64);

/// A file that a process has mapped to execute it.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    id: FileId,
    /// Of its first mapping, as `/proc/PID/map_files` names it.
    range: String,
    name: String,
}

static DECLARATION: Declaration = Declaration {
    backend: Some(Backend::Uprobe),
    summary: "inject, by root, where uprobes may write registers; every system call but few",
    owns: |hook| matches!(hook, Hook::Uprobe(_)),
    examples: &[Hook::UPROBE],
    lacks: "this kernel's uprobes may not write registers",
    rows: &[MatrixRow::of(
        "any system call in the caller's code, for running processes (`uprobe`)",
        &[Hook::UPROBE],
    )],
    exercises: &[Exercise {
        faults: &[
            "fsync,fdatasync:error=EIO,ENOSPC:p=1ppm",
            "getppid:signal=USR1:retval=1:comm=!nobody",
        ],
        backend: Backend::Uprobe,
        observe: false,
        command: Command::Inject,
    }],
    ..Declaration::new("uprobe", "faults/syscall.md", "uprobe")
};

/// The mechanism.
#[derive(Default)]
pub(crate) struct Uprobe {
    files: BTreeMap<FileId, Calls>,
    probed: BTreeSet<(FileId, u64)>,
    looked: Option<Instant>,
    warnings: Vec<String>,
}

impl Mechanism for Uprobe {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let hooks = match asked {
            Asked::Fault(fault) => {
                let refusal = Backend::Uprobe.refusal(fault, &Target::Running(Who::default()));
                refusal
                    .is_none()
                    .then(|| asked.hooks_of_calls(Hook::Uprobe))
            }
            Asked::Registry(_) | Asked::Own(_) => {
                asked.is_answered().then(|| vec![vec![Hook::UPROBE]])
            }
        };
        Offer::for_inject(Offered::Programs(hooks?))
    }

    /// The child's code is ours.
    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        let Hook::Uprobe(call) = hook else {
            return Err("it is no hook of code".to_owned());
        };
        let call = u16::try_from(call.id()).map_err(|error| error.to_string())?;
        let this = Identity::of(std::process::id()).ok();
        let covered = self.cover(bench.kernel, this, &[call]);
        covered.map_err(|error| error.to_string())
    }

    fn arm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.replace(cx)
    }

    fn follow(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let calls = cx.plan.in_code();
        if !calls.is_empty() && self.is_due() {
            // What cannot be probed now makes its calls as before; the rest has its answers.
            let _ = self.probe(cx, &calls);
        }
        Ok(())
    }

    fn replace(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let calls = cx.plan.in_code();
        if calls.is_empty() {
            return Ok(());
        }
        self.probe(cx, &calls)?;
        self.notice_missing(&calls);
        Ok(())
    }

    fn report(&mut self, _: &mut Context<'_>, report: &mut Report) -> Result<()> {
        report.warnings.extend_from_slice(&self.warnings);
        Ok(())
    }
}

impl Uprobe {
    /// Probes the code of the targets, and of children of theirs that the kernel has found.
    fn probe(&mut self, cx: &mut Context<'_>, calls: &[u16]) -> Result<()> {
        let mut members: Vec<_> = (cx.members)().into_iter().map(|(one, _)| one).collect();
        let kernel = cx.kernel()?;
        let found = kernel.targets().into_keys();
        members.extend(found.filter_map(|pid| Identity::of(pid).ok()));
        self.cover(kernel, members, calls)
    }

    /// Whether it is time to look at the targets again.
    fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= EVERY)
    }

    /// Probes the code of processes where it makes some calls, and was not probed before.
    ///
    /// # Errors
    ///
    /// Some code could be neither read nor probed. What could be is.
    fn cover(
        &mut self,
        kernel: &mut Kernel,
        processes: impl IntoIterator<Item = Identity>,
        calls: &[u16],
    ) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut result = Ok(());
        for process in processes {
            // One that has ended has no code.
            let Ok(folder) = process.folder() else {
                continue;
            };
            let maps = folder.read_text("maps").unwrap_or_default();
            for mapped in mapped(&maps) {
                if !seen.insert(mapped.id.clone()) {
                    continue;
                }
                let covered = self.cover_file(kernel, &folder, &mapped, calls);
                if covered.is_err() && stat::runs(&folder) {
                    result = result.and(covered);
                }
            }
        }
        self.looked = Some(Instant::now());
        result
    }

    fn cover_file(
        &mut self,
        kernel: &mut Kernel,
        folder: &ProcFolder,
        mapped: &Mapped,
        calls: &[u16],
    ) -> Result<()> {
        let known = self.files.get(&mapped.id);
        let is_new = |(id, offset): (&FileId, u64)| !self.probed.contains(&(id.clone(), offset));
        let wants = |known: &Calls| {
            let mut places = known.making(calls);
            places.any(|place| is_new((&mapped.id, place.offset)))
        };
        if known.is_some_and(|known| !wants(known)) {
            return Ok(());
        }
        // The very file that is mapped, whatever has its name by now.
        let file = folder
            .open_file(format!("map_files/{}", mapped.range), OFlags::RDONLY)
            .map_err(MechanismError::io("opening the code of a target"))?;
        if known.is_none() {
            let found =
                code::calls(&file).map_err(MechanismError::io("reading the code of a target"))?;
            self.files.insert(mapped.id.clone(), found);
        }
        let Some(known) = self.files.get(&mapped.id) else {
            return Ok(());
        };
        let path = path_of_fd_here(&file);
        for place in known.making(calls) {
            // Not tried again if it fails.
            if !self.probed.insert((mapped.id.clone(), place.offset)) {
                continue;
            }
            let at = Place::Code {
                file: path.as_ref(),
                offset: place.offset,
                cookie: Some(place.site.to_cookie()),
            };
            kernel
                .attach(Hook::UPROBE, at)
                .map_err(|error| named(error, &mapped.name))?;
        }
        let mut warnings = Vec::new();
        for &call in calls {
            let of_call = |number: &&Option<u16>| **number == Some(call);
            let count = known.let_be.iter().filter(of_call).count();
            if count > 0 {
                let call = Sysno::new(call.into()).map_or("?", |call| call.name());
                let name = &mapped.name;
                warnings.push(format!(
                    "{count} of the instructions in {name} that make `{call}` cannot be answered and are let be"
                ));
            }
        }
        for warning in warnings {
            self.warn(warning);
        }
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Says so where nothing that was looked at makes a call.
    fn notice_missing(&mut self, calls: &[u16]) {
        for call in calls {
            let making = |known: &Calls| known.making(&[*call]).next().is_some();
            if self.files.is_empty() || self.files.values().any(making) {
                continue;
            }
            if let Some(call) = Sysno::new((*call).into()) {
                self.warn(format!(
                    "no code of the targets makes `{call}` where it could be answered"
                ));
            }
        }
    }
}

/// The error that names the file as the target does, not by our descriptor.
fn named(error: KernelError, name: &str) -> MechanismError {
    let mut error = error;
    if let KernelError::Attach { place, .. } = &mut error {
        *place = format!("{name}, before a system call");
    }
    MechanismError::Kernel(error)
}

/// The files that are executable in a process, each once, from the text of its `maps`.
fn mapped(maps: &str) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(access)) = (words.next(), words.next()) else {
            continue;
        };
        let (Some(_), Some(device), Some(inode)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let inode = inode.parse().unwrap_or(0);
        if inode == 0 || !access.contains('x') {
            continue;
        }
        let id = (device.to_owned(), inode);
        if found.iter().any(|known| known.id == id) {
            continue;
        }
        let name = words.collect::<Vec<_>>().join(" ");
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        // `maps` pads addresses with zeros, as those of programs that are not position independent; `map_files` does not.
        let [from, to] = [from, to].map(|address| address.trim_start_matches('0'));
        found.push(Mapped {
            id,
            range: format!("{from}-{to}"),
            name,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_files_are_found_once() {
        let maps = "\
0041f000-006f1000 r-xp 0001f000 08:01 130 /usr/bin/python3
55d0c1a00000-55d0c1a02000 r--p 00000000 08:01 131 /usr/bin/cat
55d0c1a02000-55d0c1a06000 r-xp 00002000 08:01 131 /usr/bin/cat
7f0000000000-7f0000010000 r-xp 00000000 00:00 0 
7f1000000000-7f1000010000 r-xp 00026000 08:01 77 /lib/x y.so (deleted)
7f1000020000-7f1000030000 r-xp 00126000 08:01 77 /lib/x y.so (deleted)
7ffc3bdb8000-7ffc3bdba000 r-xp 00000000 00:00 0 [vdso]
";
        let found = mapped(maps);
        let names: Vec<_> = found.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            ["/usr/bin/python3", "/usr/bin/cat", "/lib/x y.so (deleted)"]
        );
        assert_eq!(found[0].range, "41f000-6f1000");
        assert_eq!(found[1].range, "55d0c1a02000-55d0c1a06000");
        assert_eq!(found[2].id, ("08:01".to_owned(), 77));
    }
}
