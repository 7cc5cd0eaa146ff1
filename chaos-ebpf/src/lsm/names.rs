//! Which rules mean a file by where it is.
//!
//! A directory is known by the address of its inode, which user space learns by [`murphy_learn`] and keeps from being used
//! again by holding the directory open. No number that a file system gives is compared: on overlayfs and others
//! those that a program sees are not those of the inode.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::{lsm, map};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{HashMap, LpmTrie};
use aya_ebpf::programs::LsmContext;
use chaos_common::lsm::{NAME, NAME_KEY, TREE_DEPTH, folder};
use chaos_common::{bank, control, dims};
use chaos_ebpf::maps::{control as slot, set_control};

use crate::subject::{FILE_INODE, dentry_inode, read};

/// `struct dentry`: `d_parent`.
#[unsafe(no_mangle)]
static DENTRY_PARENT: Global<u32> = Global::new(0);
/// `struct dentry`: `d_name.name`.
#[unsafe(no_mangle)]
static DENTRY_NAME: Global<u32> = Global::new(0);

/// [`folder`], then the name of an entry with the 0 that ends it, or the beginning of one without → rules that mean it. Each
/// entry holds the union of those that cover it.
#[map]
static ENTRIES: LpmTrie<[u8; NAME_KEY], u64> = LpmTrie::with_max_entries(2048, BPF_F_NO_PREALLOC);

/// [`folder`] → rules that mean everything below it.
#[map]
static TREES: HashMap<u64, u64> = HashMap::with_max_entries(2048, 0);

#[repr(C)]
struct Entry {
    directory: u64,
    name: [u8; NAME],
}

/// Rules that mean an entry of a directory by where it is. A global function, which the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn murphy_named(entry: u64, dimensions: u64) -> u64 {
    let entry = entry as *const c_void;
    if entry.is_null() {
        return 0;
    }
    let Some(parent) = read::<*const c_void>(entry, DENTRY_PARENT.load()) else {
        return 0;
    };
    let mut key = Entry {
        directory: key_of(parent, dimensions),
        name: [0; NAME],
    };
    if let Some(name) = read::<*const c_void>(entry, DENTRY_NAME.load()) {
        // SAFETY: room for as many bytes as are said; a bad address gives an error.
        unsafe { bpf_probe_read_kernel_str(key.name.as_mut_ptr().cast(), NAME as u32, name) };
    }
    // SAFETY: as many bytes, without padding.
    let bytes: [u8; NAME_KEY] = unsafe { core::mem::transmute(key) };
    let rules = ENTRIES.get(Key::new(NAME_KEY as u32 * 8, bytes));
    let mut rules = rules.copied().unwrap_or(0);
    if dimensions & dims::TREES == 0 {
        return rules;
    }
    let mut at = entry;
    for _ in 0..TREE_DEPTH {
        let Some(parent) = read::<*const c_void>(at, DENTRY_PARENT.load()) else {
            break;
        };
        let directory = key_of(parent, dimensions);
        // SAFETY: values are u64s that user space replaces one entry at a time.
        rules |= unsafe { TREES.get(directory) }.copied().unwrap_or(0);
        if parent == at {
            break;
        }
        at = parent;
    }
    rules
}

/// How a folder stands in the keys of the bank in force; nothing stands there for one without an inode.
#[inline(always)]
fn key_of(directory: *const c_void, dimensions: u64) -> u64 {
    let inode = dentry_inode(directory).map_or(0, |inode| inode as u64);
    folder(inode, bank::of(dimensions))
}

/// Tells user space by which inode the kernel knows a directory that it opens.
#[lsm(hook = "file_open")]
pub(crate) fn murphy_learn(ctx: LsmContext) -> i32 {
    let process = bpf_get_current_pid_tgid() >> 32;
    if slot(control::LEARNED) == control::LEARN && process == slot(control::EXEMPT_TGID) {
        let inode = read::<u64>(ctx.arg(0), FILE_INODE.load()).unwrap_or(0);
        set_control(control::LEARNED, inode);
    }
    0
}
