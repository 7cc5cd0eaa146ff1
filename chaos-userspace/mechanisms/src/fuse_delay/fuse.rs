//! The few words of FUSE's protocol that a file system with one file needs, as bytes (`include/uapi/linux/fuse.h`, 7.31).

use std::io::IoSlice;

use bytes::{BufMut as _, Bytes, BytesMut};
use chaos_common::delay::PAGES;

/// The kernel's name for the root.
const ROOT: u64 = 1;
/// Ours for the file.
pub(super) const FILE: u64 = 2;

/// Room for the largest request: the kernel wants 8 KiB and more at least.
pub(super) const REQUEST: usize = 64 * 1024;

/// `struct fuse_in_header`.
const HEADER: usize = 40;

/// Seconds for which the kernel need not ask again.
const FOREVER: u64 = 1 << 30;

/// Requests that the kernel hands over at once, in the background, at most (`u16`): each may be a thread that waits.
const BACKGROUND: u16 = 8192;

mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// `FUSE_NOTIFY_INVAL_INODE`.
const INVALIDATE: i32 = 2;

/// What a request asks of the server's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To write this reply.
    Reply(Reply),
    /// For these bytes of the file, in its own time.
    Read(Read),
    /// A thread got a signal while it waits for the answer to the request of this number.
    Interrupted(u64),
    /// Nothing.
    Nothing,
}

/// A thread that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Tells the request from others.
    pub(super) unique: u64,
    /// Where in the file.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) size: u32,
    /// The thread's id.
    pub(super) thread: u32,
}

/// Understands a request. `page` is the size of a page.
pub(super) fn understand(request: &[u8], page: u64) -> Asked {
    let (Some(opcode), Some(unique), Some(node)) =
        (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16))
    else {
        return Asked::Nothing;
    };
    let ok = |body| Asked::Reply(Reply::new(unique, 0, body));
    let failed = |errno: i32| Asked::Reply(Reply::new(unique, -errno, Bytes::new()));
    match opcode {
        opcode::INIT => ok(init()),
        opcode::LOOKUP if node == ROOT => {
            ok(attributes(&[FILE, 0, FOREVER, FOREVER, 0], FILE, page))
        }
        opcode::GETATTR => ok(attributes(&[FOREVER, 0], node, page)),
        opcode::OPEN => ok(Bytes::from_static(&[0; 16])),
        opcode::READ => {
            let offset = u64_at(request, HEADER + 8);
            let (Some(offset), Some(size)) = (offset, u32_at(request, HEADER + 16)) else {
                return failed(libc::EINVAL);
            };
            Asked::Read(Read {
                unique,
                offset,
                size,
                thread: u32_at(request, 32).unwrap_or(0),
            })
        }
        opcode::INTERRUPT => u64_at(request, HEADER).map_or(Asked::Nothing, Asked::Interrupted),
        // They want no reply.
        opcode::FORGET | opcode::BATCH_FORGET => Asked::Nothing,
        opcode::RELEASE | opcode::FLUSH | opcode::DESTROY => ok(Bytes::new()),
        opcode::LOOKUP => failed(libc::ENOENT),
        _ => failed(libc::ENOSYS),
    }
}

/// `struct fuse_out_header`, and what follows, which other replies may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    head: [u8; Self::HEAD],
    body: Bytes,
}

impl Reply {
    const HEAD: usize = 16;

    pub(super) fn new(unique: u64, error: i32, body: Bytes) -> Self {
        let mut head = [0; Self::HEAD];
        let length = u32::try_from(Self::HEAD + body.len()).unwrap_or(u32::MAX);
        let mut rest = head.as_mut_slice();
        rest.put_u32_ne(length);
        rest.put_i32_ne(error);
        rest.put_u64_ne(unique);
        Self { head, body }
    }

    /// What to write, all at once.
    pub(super) fn parts(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.body)]
    }
}

/// Has the kernel forget a page of the file (`struct fuse_notify_inval_inode_out`).
pub(super) fn forget(page: u64, size: u64) -> Reply {
    let mut body = BytesMut::with_capacity(24);
    for word in [FILE, page * size, size] {
        body.put_u64_ne(word);
    }
    Reply::new(0, INVALIDATE, body.freeze())
}

/// `struct fuse_init_out`: no readahead, no feature.
fn init() -> Bytes {
    let mut body = BytesMut::with_capacity(64);
    for word in [7, 31, 0, 0] {
        body.put_u32_ne(word);
    }
    body.put_u16_ne(BACKGROUND);
    body.put_u16_ne(BACKGROUND);
    // The largest write, and the granularity of times.
    body.put_u32_ne(4096);
    body.put_u32_ne(1);
    body.resize(64, 0);
    body.freeze()
}

/// Some words, and `struct fuse_attr`.
fn attributes(before: &[u64], node: u64, page: u64) -> Bytes {
    let size = if node == FILE { PAGES * page } else { 0 };
    let mode = match node {
        FILE => libc::S_IFREG | 0o400,
        _ => libc::S_IFDIR | 0o500,
    };
    let mut body = BytesMut::with_capacity(128);
    for word in before.iter().copied().chain([node, size, 0, 0, 0, 0]) {
        body.put_u64_ne(word);
    }
    // Times' nanoseconds, mode, links, owner, group, device, size of a block, flags.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        body.put_u32_ne(word);
    }
    body.freeze()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, node: u64, body: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&node.to_ne_bytes());
        bytes[32..36].copy_from_slice(&4711_u32.to_ne_bytes());
        bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    fn written(reply: &Reply) -> Vec<u8> {
        reply.parts().map(|part| part.to_vec()).concat()
    }

    #[test]
    fn replies_have_the_length_that_the_kernel_wants() {
        for (opcode, node, length) in [
            (opcode::INIT, 0, 16 + 64),
            (opcode::LOOKUP, ROOT, 16 + 128),
            (opcode::GETATTR, FILE, 16 + 104),
            (opcode::OPEN, FILE, 16 + 16),
            (opcode::RELEASE, FILE, 16),
            // SETATTR, as anything else.
            (4, FILE, 16),
        ] {
            let Asked::Reply(reply) = understand(&request(opcode, node, &[]), 4096) else {
                panic!("{opcode}");
            };
            let written = written(&reply);
            assert_eq!(written.len(), length, "{opcode}");
            assert_eq!(u32_at(&written, 0), u32::try_from(length).ok(), "{opcode}");
            assert_eq!(u64_at(&written, 8), Some(77), "{opcode}");
        }
        assert_eq!(written(&forget(3, 4096)).len(), 16 + 24);
    }

    #[test]
    fn a_read_says_where_and_who() {
        let read = understand(&request(opcode::READ, FILE, &[0, 8192, 4096, 0, 0]), 4096);
        let expected = Read {
            unique: 77,
            offset: 8192,
            size: 4096,
            thread: 4711,
        };
        assert_eq!(read, Asked::Read(expected));
        let interrupt = understand(&request(opcode::INTERRUPT, 0, &[5]), 4096);
        assert_eq!(interrupt, Asked::Interrupted(5));
    }

    #[test]
    fn what_is_cut_short_asks_for_nothing() {
        for length in 0..24 {
            assert_eq!(understand(&vec![1; length], 4096), Asked::Nothing);
        }
    }
}
