//! Processes cannot be made, executed, signalled, traced, or told how to behave.
//!
//! Kernel interface: BPF LSM hooks (5.7 unless said otherwise), called before anything is changed.

hooks! {
    /// `task_alloc(struct task_struct *task, u64 clone_flags)`
    murphy_newtask at "task_alloc" = Fork, Nothing;
    /// `bprm_creds_for_exec(struct linux_binprm *bprm)` (5.8), once an `execve`, before the point of no return.
    murphy_execve at "bprm_creds_for_exec" = Exec, Nothing;
    /// `task_kill(struct task_struct *p, struct kernel_siginfo *info, int sig, const struct cred *cred)`, for every process that is meant.
    murphy_kill at "task_kill" = Kill, Nothing;
    /// `ptrace_access_check(struct task_struct *child, unsigned int mode)`. `/proc` and others call it too: the system call is checked.
    murphy_ptrace at "ptrace_access_check" = Ptrace, Nothing;
    /// `ptrace_traceme(struct task_struct *parent)`
    murphy_traceme at "ptrace_traceme" = Ptrace, Nothing;
    /// `task_prctl(int option, unsigned long arg2, …)`. A program's 0 lets the kernel's own answer be, `-ENOSYS`, which means "not mine";
    /// so that errno is the one that cannot be injected.
    murphy_prctl at "task_prctl" = Prctl, Nothing;
    /// `task_setrlimit(struct task_struct *p, unsigned int resource, struct rlimit *new_rlim)`
    murphy_rlimit at "task_setrlimit" = Rlimit, Nothing;
    /// `task_setnice(struct task_struct *p, int nice)`, for every process that is meant.
    murphy_nice at "task_setnice" = Nice, Nothing;
    /// `task_setscheduler(struct task_struct *p)`
    murphy_setschd at "task_setscheduler" = Setscheduler, Nothing;
    /// `task_getscheduler(struct task_struct *p)`
    murphy_getschd at "task_getscheduler" = Getscheduler, Nothing;
    /// `task_setioprio(struct task_struct *p, int ioprio)`, for every process that is meant.
    murphy_setiopr at "task_setioprio" = Setioprio, Nothing;
    /// `task_setpgid(struct task_struct *p, pid_t pgid)`
    murphy_setpgid at "task_setpgid" = Setpgid, Nothing;
    /// `task_fix_setuid(struct cred *new, const struct cred *old, int flags)`
    murphy_setuid at "task_fix_setuid" = Setuid, Nothing;
    /// `task_fix_setgid(struct cred *new, const struct cred *old, int flags)` (5.9)
    murphy_setgid at "task_fix_setgid" = Setgid, Nothing;
    /// `task_fix_setgroups(struct cred *new, const struct cred *old)` (6.0)
    murphy_setgrps at "task_fix_setgroups" = Setgroups, Nothing;
    /// `capset(struct cred *new, const struct cred *old, …)`
    murphy_capset at "capset" = Capset, Nothing;
}
