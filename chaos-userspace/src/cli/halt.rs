//! `murphy panic` and `murphy resume`: one lever that stops everything and lets nothing begin.

use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{PanicArgs, ResumeArgs};
use super::control::{print, print_json};
use super::failure::Failure;
use super::lifecycle::{end, line};
use super::output::tell;
use super::status as code;
use crate::audit::{Audit, Operation};
use crate::kernel::programs_of_murphy;
use crate::policy::Policies;
use crate::state::halt::{self, Halt};
use crate::state::{StateDir, client};

/// How long an injector may take to revert before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the kernel may take to free programs, and injectors that are noted elsewhere to see the word.
const FREED: Duration = Duration::from_secs(5);

/// Refuses new injections first, then ends those there are.
pub(super) fn panic(args: &PanicArgs) -> Result<u8, Failure> {
    let dir = StateDir::own()?;
    let halt = Halt {
        uid: rustix::process::getuid().as_raw(),
        since: jiff::Timestamp::now().to_string(),
        reason: args.reason.clone(),
    };
    {
        // Whoever holds the lock has a record by the time we get it.
        let lock = dir.lock();
        halt::halt(&dir, &halt)?;
        drop(lock);
    }
    note(
        Operation::ChaosSafetyPanic,
        &json!({ "uid": halt.uid, "reason": halt.reason }),
    );
    let wanted = client::active();
    let (stopped, failed) = end(&wanted, Some("murphy panic"), PATIENCE);
    let left = await_programs();
    let everything = failed.is_empty() && left.is_empty();
    if args.json {
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        print_json(&json!({
            "panic": halt, "stopped": stopped, "failed": failed, "programs_left": left,
        }))?;
    } else {
        for stopped in &stopped {
            print(&line(stopped))?;
        }
        for error in &failed {
            tell(&format!("murphy: {error}"));
        }
        if !left.is_empty() {
            tell(&format!(
                "murphy: programs are still loaded, by an injector that is noted elsewhere: {}",
                left.join(", ")
            ));
        }
        print(match everything {
            true => {
                "nothing is injected on this machine, and nothing may be started: murphy resume allows it again"
            }
            false => "nothing may be started, but not everything has ended",
        })?;
    }
    Ok(if everything { 0 } else { code::FAILED })
}

/// Notes it where the machine's policy wants that. The lever works all the same if it cannot be.
fn note(operation: Operation, details: &serde_json::Value) {
    let policies = Policies::load(&[]).unwrap_or_default();
    let told = Audit::open(policies.audit()).and_then(|mut audit| audit.tell(operation, details));
    if let Err(error) = told {
        tell(&format!("murphy: {error}"));
    }
}

/// Programs of murphy's that are still loaded after a while.
fn await_programs() -> Vec<String> {
    let deadline = Instant::now() + FREED;
    loop {
        let left = programs_of_murphy();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes it back.
pub(super) fn resume(args: &ResumeArgs) -> Result<u8, Failure> {
    let dir = StateDir::own()?;
    let held = halt::resume(&dir)?;
    let uid = rustix::process::getuid().as_raw();
    if held {
        note(Operation::ChaosSafetyResumed, &json!({ "uid": uid }));
    }
    // Root's word is not a user's to take back.
    let other = halt::now(Some(&dir));
    if args.json {
        print_json(&json!({ "was_halted": held, "panic": other }))?;
    } else {
        match (&other, held) {
            (Some(halt), _) => tell(&format!("murphy: still nothing may be started: {halt}")),
            (None, true) => print("injections may be started again")?,
            (None, false) => print("injections may be started: nobody had called murphy panic")?,
        }
    }
    Ok(if other.is_some() { code::FAILED } else { 0 })
}
