//! `murphy panic` and `murphy resume`: one lever that stops everything and lets nothing begin.

use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{PanicArgs, ResumeArgs};
use super::control::{print, print_json};
use super::failure::Failure;
use super::lifecycle::{said_of_all, show};
use super::output::tell;
use super::status as code;
use murphy_engine::audit::{Audit, Operation};
use murphy_engine::policy::Policies;
use murphy_kernel::programs_of_murphy;
use murphy_state::halt::{self, Halt};
use murphy_state::{StateDir, StateError, client};

/// How long an injector may take to revert before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a murphy that starts may take to note its injection, before panic goes on without waiting.
const LOCKED: Duration = Duration::from_millis(500);

/// How long the kernel may take to free programs, and injectors that are noted elsewhere to see the word.
const FREED: Duration = Duration::from_secs(5);

/// Refuses new injections first, then ends the active ones. That the word cannot be written keeps nothing going.
pub(super) fn panic(args: &PanicArgs) -> Result<u8, Failure> {
    let halt = Halt {
        uid: rustix::process::getuid().as_raw(),
        since: jiff::Timestamp::now().to_string(),
        reason: args.reason.clone(),
    };
    let written = write(&halt);
    note(
        Operation::ChaosSafetyPanic,
        &json!({ "uid": halt.uid, "reason": halt.reason }),
    );
    let ended = client::stop_all(Some("murphy panic"), PATIENCE);
    let left = await_programs();
    let everything = ended.failed.is_empty() && left.is_empty();
    if args.json {
        let unwritten = written.as_ref().err().map(ToString::to_string);
        print_json(&json!({
            "panic": halt, "stopped": ended.stopped, "failed": said_of_all(&ended),
            "unread": ended.unread, "programs_left": left, "not_written": unwritten,
        }))?;
    } else {
        show(&ended)?;
        if !left.is_empty() {
            tell(&format!(
                "murphy: programs are still loaded, by an injector that is noted elsewhere: {}",
                left.join(", ")
            ));
        }
        print(match (everything, written.is_ok()) {
            (true, true) => {
                "nothing is injected on this machine, and nothing may be started: murphy resume allows it again"
            }
            (false, true) => "nothing may be started, but not everything has ended",
            (true, false) => "nothing is injected on this machine, but injections may be started",
            (false, false) => "not everything has ended, and injections may be started",
        })?;
    }
    if !args.json
        && let Err(error) = &written
    {
        tell(&format!("murphy: {error}"));
        if let Some(remedy) = error.remedy() {
            tell(&format!("  help: {remedy}"));
        }
    }
    Ok(if everything && written.is_ok() {
        0
    } else {
        code::FAILED
    })
}

/// Writes the word that nothing may be started.
fn write(halt: &Halt) -> Result<(), StateError> {
    let dir = StateDir::own()?;
    // A process that holds the lock has written its record by the time we get it. One that keeps it longer sees the word when
    // it next renews its lease.
    let lock = dir.lock_within(LOCKED);
    let written = halt::halt(&dir, halt);
    drop(lock);
    written
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
