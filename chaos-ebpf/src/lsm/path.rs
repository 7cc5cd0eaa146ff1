//! Entries of directories cannot be made, renamed, or removed.
//!
//! Kernel interface: the `path_…` hooks (5.7 for BPF, `CONFIG_SECURITY_PATH`), called
//! once a call, when the parent directory is locked and before anything is changed.
//! A stacked file system does not call them again for the file system below.

hooks! {
    /// `path_rename(const struct path *old_dir, struct dentry *old_dentry,
    /// const struct path *new_dir, struct dentry *new_dentry, unsigned int flags)`; the
    /// flags since 5.19, before which an exchange called the hook twice.
    murphy_rename at "path_rename" = Rename, Dentry(1, 3);
    /// `path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`
    murphy_link at "path_link" = Link, Dentry(0, 2);
    /// `path_symlink(const struct path *dir, struct dentry *dentry, const char *old_name)`
    murphy_symlink at "path_symlink" = Symlink, Dentry(1);
    /// `path_mkdir(const struct path *dir, struct dentry *dentry, umode_t mode)`
    murphy_mkdir at "path_mkdir" = Mkdir, Dentry(1);
    /// `path_unlink(const struct path *dir, struct dentry *dentry)`
    murphy_unlink at "path_unlink" = Remove, Dentry(1);
    /// `path_rmdir(const struct path *dir, struct dentry *dentry)`
    murphy_rmdir at "path_rmdir" = Remove, Dentry(1);
    /// `path_mknod(const struct path *dir, struct dentry *dentry, umode_t mode, unsigned int dev)`;
    /// `O_CREAT` calls it too: the system call is checked.
    murphy_mknod at "path_mknod" = Mknod, Dentry(1);
}
