//! What a system call works on.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use chaos_common::{control, dims};
use chaos_ebpf::gate;
use chaos_ebpf::maps::{accept_remote4, accept_remote6, banked};
use chaos_ebpf::tell::Detail;

use crate::names::murphy_named;

/// `struct file`: `f_inode`.
#[unsafe(no_mangle)]
pub(crate) static FILE_INODE: Global<u32> = Global::new(0);
/// `struct file`: `f_path.dentry`.
#[unsafe(no_mangle)]
static FILE_DENTRY: Global<u32> = Global::new(0);
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

/// `AF_INET` (linux/socket.h).
const INET: u16 = 2;
/// `AF_INET6`.
const INET6: u16 = 10;

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
    /// A `struct sockaddr`, the remote end's.
    Address,
}

/// What the call works on, as far as a filter or an event asks.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    shape: u64,
    first: *const c_void,
    second: u64,
}

impl Subject {
    #[inline(always)]
    pub(crate) fn new(shape: u64, first: u64, second: u64) -> Self {
        Self {
            shape,
            first: first as *const c_void,
            second,
        }
    }

    /// Rules whose filters accept it.
    #[inline(always)]
    pub(crate) fn accept(&self, dimensions: u64) -> u64 {
        let mut rules = u64::MAX;
        if dimensions & dims::FD_KIND != 0 {
            let mode = self.mode();
            rules &= if mode & IS_FILE == 0 {
                gate::accept_no_file(dimensions)
            } else {
                gate::accept_file_mode(dimensions, mode as u16)
            };
        }
        if dimensions & dims::PATH != 0 {
            rules &= banked(dimensions, control::ANY_PATH)
                | murphy_named(self.dentry() as u64, dimensions)
                | murphy_named(self.second, dimensions);
        }
        if self.is(Shape::Address) {
            rules &= murphy_remote(self.first as u64, dimensions);
        }
        rules
    }

    /// What an event says of it.
    #[inline(always)]
    pub(crate) fn detail(&self) -> Detail {
        let mode = self.mode();
        Detail::file(mode as u16, (mode / IS_FILE) as u32)
    }

    #[inline(always)]
    fn is(&self, shape: Shape) -> bool {
        self.shape == shape as u64
    }

    /// See [`murphy_mode`].
    #[inline(always)]
    fn mode(&self) -> u64 {
        murphy_mode(self.shape, self.first as u64)
    }

    #[inline(always)]
    fn inode(&self) -> Option<*const c_void> {
        if self.first.is_null() || self.is(Shape::Address) {
            None
        } else if self.is(Shape::Inode) {
            Some(self.first)
        } else if self.is(Shape::File) {
            read(self.first, FILE_INODE.load())
        } else {
            dentry_inode(self.dentry())
        }
    }

    /// The entry of a directory; null if none is known.
    #[inline(always)]
    fn dentry(&self) -> *const c_void {
        let found = if self.is(Shape::File) {
            read(self.first, FILE_DENTRY.load())
        } else if self.is(Shape::Path) {
            read(self.first, PATH_DENTRY.load())
        } else if self.is(Shape::Dentry) {
            Some(self.first)
        } else {
            None
        };
        found.unwrap_or(core::ptr::null())
    }
}

/// Rules that accept a remote end; none does if it is neither of IPv4 nor of IPv6. A global function, which the verifier looks
/// at once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_remote(address: u64, dimensions: u64) -> u64 {
    // `sockaddr_in` and `sockaddr_in6` (linux/in.h, linux/in6.h): family, port, then the address or a label before it.
    let address = address as *const c_void;
    let (Some(family), Some(port)) = (read::<u16>(address, 0), read::<u16>(address, 2)) else {
        return 0;
    };
    let mut rules = match family {
        INET | INET6 => gate::accept_remote_port(dimensions, u16::from_be(port)),
        _ => 0,
    };
    if dimensions & dims::REMOTE == 0 {
        return rules;
    }
    if family == INET6 {
        let bytes = read::<[u8; 16]>(address, 8).unwrap_or_default();
        rules &= accept_remote6(dimensions, &bytes);
    } else {
        let bytes = read::<[u8; 4]>(address, 4).unwrap_or_default();
        rules &= accept_remote4(dimensions, bytes);
    }
    rules
}

/// Bit beside the `i_mode` that [`murphy_mode`] gives: there is a file.
const IS_FILE: u64 = 1 << 16;

/// `i_mode` of what a hook is handed, with [`IS_FILE`]; 0 if that is no file. A global function, which the verifier looks at once and not on each way that
/// leads through [`gate::pass`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_mode(shape: u64, first: u64) -> u64 {
    let subject = Subject::new(shape, first, 0);
    if subject.is(Shape::Socket) {
        return IS_FILE | u64::from(SOCKET);
    }
    let mode = subject
        .inode()
        .and_then(|inode| read::<u16>(inode, INODE_MODE.load()));
    mode.map_or(0, |mode| IS_FILE | u64::from(mode))
}

/// The inode of an entry of a directory, if it has one.
#[inline(always)]
pub(crate) fn dentry_inode(dentry: *const c_void) -> Option<*const c_void> {
    let inode: *const c_void = read(dentry, DENTRY_INODE.load())?;
    (!inode.is_null()).then_some(inode)
}

/// Reads a member of a kernel structure; a bad address gives nothing.
#[inline(always)]
pub(crate) fn read<T>(structure: *const c_void, offset: u32) -> Option<T> {
    // SAFETY: a bad address gives an error.
    unsafe { bpf_probe_read_kernel(structure.cast::<u8>().add(offset as usize).cast::<T>()) }.ok()
}
