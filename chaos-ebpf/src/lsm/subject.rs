//! What a system call works on.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use chaos_common::dims;
use chaos_ebpf::gate;
use chaos_ebpf::tell::Detail;

/// `struct file`: `f_inode`.
#[unsafe(no_mangle)]
static FILE_INODE: Global<u32> = Global::new(0);
/// `struct path`: `dentry`.
#[unsafe(no_mangle)]
static PATH_DENTRY: Global<u32> = Global::new(0);
/// `struct dentry`: `d_inode`.
#[unsafe(no_mangle)]
static DENTRY_INODE: Global<u32> = Global::new(0);
/// `struct inode`: `i_mode`.
#[unsafe(no_mangle)]
static INODE_MODE: Global<u32> = Global::new(0);

/// `S_IFSOCK` (linux/stat.h).
const SOCKET: u16 = 0o14_0000;

/// What a hook is handed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Shape {
    /// Nothing that is a file.
    Nothing,
    /// A `struct file`; null for memory without one.
    File,
    /// A `struct path`.
    Path,
    /// A `struct dentry`, perhaps of what is not there yet.
    Dentry,
    /// A `struct inode`.
    Inode,
    /// A `struct socket`.
    Socket,
}

/// What the call works on, as far as a filter or an event asks.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    shape: u64,
    first: *const c_void,
}

impl Subject {
    #[inline(always)]
    pub(crate) fn new(shape: u64, first: u64, _second: u64) -> Self {
        Self {
            shape,
            first: first as *const c_void,
        }
    }

    /// Rules whose filters accept it.
    #[inline(always)]
    pub(crate) fn accept(&self, dimensions: u64) -> u64 {
        if dimensions & dims::FD_KIND == 0 {
            return u64::MAX;
        }
        match self.mode() {
            Some(mode) => gate::accept_file_mode(mode),
            None => gate::accept_no_file(),
        }
    }

    /// What an event says of it.
    #[inline(always)]
    pub(crate) fn detail(&self) -> Detail {
        self.mode().map_or(Detail::NONE, Detail::file)
    }

    /// `i_mode`; `None` if there is no file.
    #[inline(always)]
    fn mode(&self) -> Option<u16> {
        if self.shape == Shape::Socket as u64 {
            return Some(SOCKET);
        }
        let inode = self.inode()?;
        read(inode, INODE_MODE.load())
    }

    #[inline(always)]
    fn inode(&self) -> Option<*const c_void> {
        if self.first.is_null() {
            return None;
        }
        let inode = if self.shape == Shape::File as u64 {
            read(self.first, FILE_INODE.load())?
        } else if self.shape == Shape::Inode as u64 {
            self.first
        } else {
            let dentry = if self.shape == Shape::Path as u64 {
                read(self.first, PATH_DENTRY.load())?
            } else {
                self.first
            };
            read(dentry, DENTRY_INODE.load())?
        };
        (!inode.is_null()).then_some(inode)
    }
}

/// Reads a member of a kernel structure; a bad address gives nothing.
#[inline(always)]
pub(crate) fn read<T>(structure: *const c_void, offset: u32) -> Option<T> {
    // SAFETY: a bad address gives an error.
    unsafe { bpf_probe_read_kernel(structure.cast::<u8>().add(offset as usize).cast::<T>()) }.ok()
}
