//! The processes of a command that has no cgroup: our descendants.

use std::collections::HashMap;
use std::fs;
use std::io;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// From here on a descendant of ours whose parent has died becomes our child.
pub(super) fn adopt() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Our descendants that run, without `helpers`. What we adopted and has ended is reaped, but `command` is left to its owner.
pub(super) fn living(helpers: &[u32], command: Option<u32>) -> Vec<u32> {
    let processes = all();
    let me = std::process::id();
    let mut living = Vec::new();
    for (&id, process) in &processes {
        if helpers.contains(&id) || !descends(id, me, &processes) {
            continue;
        }
        if !process.ended {
            living.push(id);
        } else if process.parent == me && command != Some(id) {
            let _ = waitpid(Pid::from_raw(id.cast_signed()), Some(WaitPidFlag::WNOHANG));
        }
    }
    living
}

struct Process {
    parent: u32,
    ended: bool,
}

fn all() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, which may hold anything, ends with the last bracket.
            let mut fields = stat.rsplit(')').next()?.split_whitespace();
            let ended = fields.next()? == "Z";
            let parent = fields.next()?.parse().ok()?;
            Some((id, Process { parent, ended }))
        })
        .collect()
}

fn descends(id: u32, from: u32, processes: &HashMap<u32, Process>) -> bool {
    let mut at = id;
    // No chain is longer than there are processes, even if they change while they are read.
    for _ in 0..processes.len() {
        match processes.get(&at) {
            Some(process) if process.parent == from => return true,
            Some(process) => at = process.parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_a_stranger_is_not() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = living(&[], None);
        let without = living(&[child.id()], None);
        murphy_sys::process::kill_child(&mut child);
        child.wait().unwrap();
        assert!(found.contains(&child.id()) && !found.contains(&1));
        assert!(!without.contains(&child.id()));
    }
}
