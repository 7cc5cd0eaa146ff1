//! Mounts, the clock, BPF and other things of the whole system cannot be changed.
//!
//! Kernel interface: BPF LSM hooks (5.7), called before anything is changed, most of them after the capability was asked for.

hooks! {
    /// `sb_mount(const char *dev_name, const struct path *path, const char *type, unsigned long flags, void *data)`
    murphy_mount at "sb_mount" = Mount, Path(1);
    /// `sb_umount(struct vfsmount *mnt, int flags)`
    murphy_umount at "sb_umount" = Umount, Nothing;
    /// `move_mount(const struct path *from_path, const struct path *to_path)`
    murphy_mvmount at "move_mount" = MoveMount, Path(1);
    /// `sb_pivotroot(const struct path *old_path, const struct path *new_path)`
    murphy_pivot at "sb_pivotroot" = PivotRoot, Path(1);
    /// `path_chroot(const struct path *path)`
    murphy_chroot at "path_chroot" = Chroot, Path(0);
    /// `bpf(int cmd, union bpf_attr *attr, unsigned int size[, bool kernel])`
    murphy_bpf at "bpf" = Bpf, Nothing;
    /// `perf_event_open([struct perf_event_attr *attr,] int type)`
    murphy_perf at "perf_event_open" = Perf, Nothing;
    /// `settime(const struct timespec64 *ts, const struct timezone *tz)`
    murphy_settime at "settime" = Settime, Nothing;
    /// `syslog(int type)`
    murphy_syslog at "syslog" = Syslog, Nothing;
}
