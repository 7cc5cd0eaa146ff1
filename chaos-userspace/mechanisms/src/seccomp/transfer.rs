//! What a call that reads or writes is to move: between which descriptor and which pieces of the thread's memory.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel has hundreds of calls, and those with a position are named"
)]

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::io::ReadWriteFlags;
use syscalls::Sysno;

use super::victim::Victim;
pub(super) use murphy_fault::syscall::Moves;
use murphy_sys::process::Memory;

/// The most pieces that a call may name (`UIO_MAXIOV`).
const PIECES: usize = 1024;
const PAGE: usize = 4096;

/// A piece of the thread's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    base: usize,
    len: usize,
}

/// Where the bytes come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The position that the open file has, which moves.
    Own,
    /// This one.
    At(u64),
}

/// A call that reads or writes.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) moves: Moves,
    /// The descriptor, as the thread numbers it.
    pub(super) fd: u32,
    pub(super) position: Position,
    /// Of `preadv2` and `pwritev2`.
    pub(super) flags: ReadWriteFlags,
    /// Of `recvfrom` and `sendto`, which work on sockets only.
    pub(super) socket: Option<i32>,
    /// Where the thread's bytes are; none of the pieces is empty.
    pieces: Vec<Piece>,
}

impl Transfer {
    /// What the thread's call is to move. An error if that cannot be done in its place.
    pub(super) fn of(victim: &Victim) -> io::Result<Self> {
        let call = victim.call();
        let [fd, place, length, fourth, fifth, sixth] = victim.arguments();
        let moves = Moves::of(call).ok_or(io::ErrorKind::Unsupported)?;
        let vectored = matches!(
            call,
            Sysno::readv
                | Sysno::writev
                | Sysno::preadv
                | Sysno::pwritev
                | Sysno::preadv2
                | Sysno::pwritev2
        );
        let pieces = match vectored {
            true => pieces(victim, place, length)?,
            false => vec![piece(place, length)],
        };
        let position = match call {
            // -1 is the file's own.
            Sysno::preadv2 | Sysno::pwritev2 if fourth == u64::MAX => Position::Own,
            Sysno::pread64
            | Sysno::pwrite64
            | Sysno::preadv
            | Sysno::pwritev
            | Sysno::preadv2
            | Sysno::pwritev2 => Position::At(fourth),
            _ => Position::Own,
        };
        let flags = match call {
            // The lower half is all that the kernel looks at.
            Sysno::preadv2 | Sysno::pwritev2 => sixth as u32,
            _ => 0,
        };
        let socket = match call {
            Sysno::recvfrom | Sysno::sendto => Some(socket_flags(moves, fourth, fifth)?),
            _ => None,
        };
        Ok(Self {
            moves,
            fd: fd as u32,
            position,
            flags: ReadWriteFlags::from_bits_retain(flags),
            socket,
            pieces: pieces.into_iter().filter(|piece| piece.len > 0).collect(),
        })
    }

    /// How many bytes.
    pub(super) fn length(&self) -> usize {
        let lengths = self.pieces.iter().map(|piece| piece.len);
        lengths.fold(0, usize::saturating_add)
    }

    /// Leaves out all but the first bytes.
    pub(super) fn shorten(&mut self, length: usize) {
        let mut left = length;
        self.pieces.retain_mut(|piece| {
            piece.len = piece.len.min(left);
            left -= piece.len;
            piece.len > 0
        });
    }

    /// Copies all of the thread's bytes.
    pub(super) fn fetch(&self, memory: &Memory) -> io::Result<Bytes> {
        let mut bytes = self.room();
        let mut rest = &mut bytes[..];
        for piece in &self.pieces {
            let (here, after) = rest.split_at_mut(piece.len);
            memory.read_exact(piece.base as u64, here)?;
            rest = after;
        }
        Ok(bytes.freeze())
    }

    /// Room for all of the thread's bytes.
    pub(super) fn room(&self) -> BytesMut {
        BytesMut::zeroed(self.length())
    }

    /// Copies these bytes, no more than there is room for, to the beginning of the thread's.
    pub(super) fn deliver(&self, memory: &Memory, mut bytes: Bytes) -> io::Result<()> {
        for piece in &self.pieces {
            let here = bytes.split_to(piece.len.min(bytes.len()));
            if here.is_empty() {
                break;
            }
            memory.write_all(piece.base as u64, &here)?;
        }
        Ok(())
    }

    /// Fails unless the thread can write to all of its pieces. Each page is read, so that it is
    /// there when bytes are delivered.
    pub(super) fn check_writable(&self, memory: &Memory) -> io::Result<()> {
        let ranges = memory.writable()?;
        let is_writable = |piece: &Piece| {
            let (from, to) = (
                piece.base as u64,
                piece.base.saturating_add(piece.len) as u64,
            );
            let at = ranges.partition_point(|range| range.1 <= from);
            ranges
                .get(at)
                .is_some_and(|range| range.0 <= from && to <= range.1)
        };
        if !self.pieces.iter().all(is_writable) {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        for byte in self.pieces.iter().flat_map(one_byte_per_page) {
            memory.read_exact(byte as u64, &mut [0])?;
        }
        Ok(())
    }
}

/// The address of a byte in each page of a piece.
fn one_byte_per_page(piece: &Piece) -> impl Iterator<Item = usize> {
    let (first, end) = (piece.base, piece.base.saturating_add(piece.len));
    let pages = (first / PAGE + 1..=(end - 1) / PAGE).map(|page| page * PAGE);
    std::iter::once(first).chain(pages)
}

fn piece(place: u64, length: u64) -> Piece {
    Piece {
        base: usize::try_from(place).unwrap_or(0),
        len: usize::try_from(length).unwrap_or(usize::MAX),
    }
}

/// The pieces that a vector of the thread's names.
fn pieces(victim: &Victim, place: u64, count: u64) -> io::Result<Vec<Piece>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > PIECES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = BytesMut::zeroed(count * size_of::<libc::iovec>());
    if count > 0 {
        victim.memory()?.read_exact(place, &mut bytes)?;
    }
    let each = (0..count).map(|_| piece(bytes.get_u64_ne(), bytes.get_u64_ne()));
    Ok(each.collect())
}

/// The flags of `recvfrom` or `sendto`, if there is no address with them and none changes what is moved.
fn socket_flags(moves: Moves, flags: u64, address: u64) -> io::Result<i32> {
    let known = match moves {
        Moves::Reads => libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_WAITALL,
        Moves::Writes => libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE,
    };
    let flags = (flags as u32).cast_signed();
    match address == 0 && flags & !known == 0 {
        true => Ok(flags),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn me(call: Sysno, arguments: [u64; 6]) -> Victim {
        Victim::of_this_thread(call, arguments)
    }

    #[test]
    fn a_vector_is_shortened_and_filled_in_its_order() {
        let mut pieces = [[b'.'; 4]; 3];
        let vector: Vec<_> = pieces
            .iter_mut()
            .flat_map(|piece| [piece.as_mut_ptr() as u64, 4])
            .collect();
        let arguments = [7, vector.as_ptr() as u64, 3, 100, 0, 0];
        let victim = me(Sysno::preadv, arguments);
        let memory = victim.memory().unwrap();
        let mut transfer = Transfer::of(&victim).unwrap();
        assert_eq!((transfer.fd, transfer.length()), (7, 12));
        assert_eq!(transfer.position, Position::At(100));
        transfer.shorten(6);
        assert_eq!(transfer.length(), 6);
        transfer.check_writable(memory).unwrap();
        let some = Bytes::from_static(b"abcde");
        transfer.deliver(memory, some).unwrap();
        assert_eq!(pieces.concat(), b"abcde.......");
        let whole = Transfer::of(&me(Sysno::writev, arguments)).unwrap();
        assert_eq!(whole.fetch(memory).unwrap(), b"abcde.......".as_slice());
    }

    #[test]
    fn what_is_not_there_is_noticed() {
        let victim = me(Sysno::read, [0, 8, 10, 0, 0, 0]);
        let memory = victim.memory().unwrap();
        assert!(
            Transfer::of(&victim)
                .unwrap()
                .check_writable(memory)
                .is_err()
        );
        let text = "constant";
        // Readable, but not to be written.
        let victim = me(Sysno::read, [0, text.as_ptr() as u64, 8, 0, 0, 0]);
        let transfer = Transfer::of(&victim).unwrap();
        assert_eq!(transfer.fetch(memory).unwrap(), b"constant".as_slice());
        assert!(transfer.check_writable(memory).is_err());
        assert!(Transfer::of(&me(Sysno::readv, [0, 8, 1, 0, 0, 0])).is_err());
        assert!(Transfer::of(&me(Sysno::readv, [0, 8, 1025, 0, 0, 0])).is_err());
        assert!(Transfer::of(&me(Sysno::recvfrom, [0, 0, 1, 0, 16, 0])).is_err());
        assert!(Transfer::of(&me(Sysno::sendfile, [0, 0, 1, 0, 0, 0])).is_err());
    }

    proptest! {
        #[test]
        fn each_page_is_read_once(base in 1..1_000_000_usize, len in 1..100_000_usize) {
            let bytes: Vec<_> = one_byte_per_page(&Piece { base, len }).collect();
            prop_assert!(bytes.iter().all(|byte| (base..base + len).contains(byte)));
            let pages: Vec<_> = bytes.iter().map(|byte| byte / PAGE).collect();
            prop_assert!(pages.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(pages.len(), (base + len - 1) / PAGE - base / PAGE + 1);
        }
    }
}
