//! System V shared memory, message queues and semaphores cannot be had or used.
//!
//! Kernel interface: BPF LSM hooks (5.7). What is made passes an `…_alloc_security` hook, what is found an
//! `…_associate` hook. `msgrcv` has a hook whose errno is not the call's: it skips the message.

hooks! {
    /// `shm_alloc_security(struct kern_ipc_perm *perm)`
    murphy_shmnew at "shm_alloc_security" = Shmget, Nothing;
    /// `shm_associate(struct kern_ipc_perm *perm, int shmflg)`
    murphy_shmget at "shm_associate" = Shmget, Nothing;
    /// `shm_shmat(struct kern_ipc_perm *perm, char *shmaddr, int shmflg)`
    murphy_shmat at "shm_shmat" = Shmat, Nothing;
    /// `shm_shmctl(struct kern_ipc_perm *perm, int cmd)`
    murphy_shmctl at "shm_shmctl" = Shmctl, Nothing;
    /// `msg_queue_alloc_security(struct kern_ipc_perm *perm)`
    murphy_msgnew at "msg_queue_alloc_security" = Msgget, Nothing;
    /// `msg_queue_associate(struct kern_ipc_perm *perm, int msqflg)`
    murphy_msgget at "msg_queue_associate" = Msgget, Nothing;
    /// `msg_queue_msgsnd(struct kern_ipc_perm *perm, struct msg_msg *msg, int msqflg)`, again after every wait for room.
    murphy_msgsnd at "msg_queue_msgsnd" = Msgsnd, Nothing;
    /// `msg_queue_msgctl(struct kern_ipc_perm *perm, int cmd)`
    murphy_msgctl at "msg_queue_msgctl" = Msgctl, Nothing;
    /// `sem_alloc_security(struct kern_ipc_perm *perm)`
    murphy_semnew at "sem_alloc_security" = Semget, Nothing;
    /// `sem_associate(struct kern_ipc_perm *perm, int semflg)`
    murphy_semget at "sem_associate" = Semget, Nothing;
    /// `sem_semop(struct kern_ipc_perm *perm, struct sembuf *sops, unsigned int nsops, int alter)`
    murphy_semop at "sem_semop" = Semop, Nothing;
    /// `sem_semctl(struct kern_ipc_perm *perm, int cmd)`
    murphy_semctl at "sem_semctl" = Semctl, Nothing;
}
