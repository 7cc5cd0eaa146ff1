//! Attributes of files cannot be read or changed.
//!
//! Kernel interface: BPF LSM hooks (5.7), called before anything is changed. A stacked
//! file system calls the `inode_…` and `sb_…` hooks again for the file system below.

use aya_ebpf::Global;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use chaos_common::lsm::Place;

use crate::subject::Shape;
use crate::syscall::ask;

/// Which argument of `inode_setattr` is the dentry.
#[unsafe(no_mangle)]
static SETATTR_DENTRY: Global<u32> = Global::new(0);

/// The path's last element is asked about with these: `MAY_ACCESS` by `access`, `MAY_CHDIR` by
/// `chdir` (include/linux/fs.h). The directories on the way are not.
const ASKED_FOR: i32 = 0x10 | 0x40;

hooks! {
    /// `path_chmod(const struct path *path, umode_t mode)`
    murphy_chmod at "path_chmod" = Chmod, Path(0);
    /// `path_chown(const struct path *path, kuid_t uid, kgid_t gid)`
    murphy_chown at "path_chown" = Chown, Path(0);
    /// `inode_getattr(const struct path *path)`
    murphy_getattr at "inode_getattr" = Getattr, Path(0);
    /// `inode_readlink(struct dentry *dentry)`
    murphy_readlnk at "inode_readlink" = Readlink, Dentry(0);
    /// `inode_setxattr(struct mnt_idmap *idmap, struct dentry *dentry, const char *name,
    /// const void *value, size_t size, int flags)`; the first argument since 5.12.
    murphy_setxatr at "inode_setxattr" = Setxattr, Dentry(1);
    /// `inode_getxattr(struct dentry *dentry, const char *name)`
    murphy_getxatr at "inode_getxattr" = Getxattr, Dentry(0);
    /// `inode_listxattr(struct dentry *dentry)`
    murphy_lsxattr at "inode_listxattr" = Listxattr, Dentry(0);
    /// `inode_removexattr(struct mnt_idmap *idmap, struct dentry *dentry, const char *name)`; the
    /// first argument since 5.12.
    murphy_rmxattr at "inode_removexattr" = Removexattr, Dentry(1);
    /// `sb_statfs(struct dentry *dentry)`
    murphy_statfs at "sb_statfs" = Statfs, Dentry(0);
    /// `path_notify(const struct path *path, u64 mask, unsigned int obj_type)`
    murphy_notify at "path_notify" = Notify, Path(0);
}

/// `inode_setattr([struct mnt_idmap *idmap,] struct dentry *dentry, struct iattr *attr)`; the
/// first argument since 6.9.
#[lsm(hook = "inode_setattr")]
pub(crate) fn murphy_setattr(ctx: LsmContext) -> i32 {
    if SETATTR_DENTRY.load() == 0 {
        ask(&ctx, Place::Setattr, Shape::Dentry, 0, None)
    } else {
        ask(&ctx, Place::Setattr, Shape::Dentry, 1, None)
    }
}

/// `inode_permission(struct inode *inode, int mask)`: every directory of every path of every process passes here, so
/// the mask is looked at first.
#[lsm(hook = "inode_permission")]
pub(crate) fn murphy_access(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) & ASKED_FOR == 0 {
        return 0;
    }
    ask(&ctx, Place::Access, Shape::Inode, 0, None)
}
