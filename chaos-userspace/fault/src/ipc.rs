//! `ipc`: System V shared memory, message queues and semaphores that cannot be had or used.
//!
//! `msgrcv`, `shmdt` and POSIX message queues have no hook whose errno the caller gets.

use super::arch::calls;
use super::registry::{Family, FaultKind};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "ipc",
    family: Some(Family::Lsm),
    ops: calls!(
        [] shmget shmat shmctl msgget msgsnd msgctl semget semop semtimedop semctl
    ),
    has: &[],
    filters: &[],
    summary: "System V IPC fails with an error",
    metric: "calls about System V IPC",
    examples: &[
        "shmget,semget:error=ENOSPC",
        "semop,semtimedop:error=EIDRM:when=5",
    ],
};
